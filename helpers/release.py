"""The published model: a fine-tuned VGG16 as one file that takes pixels of any size, judged as it is stored.

All that is told of it is the file's: numbers in half precision, one look at each picture.
"""

from typing import NamedTuple

import numpy as np

from helpers import calibration, data, evaluation, inference, released, tiny_imagenet, training, vgg16

BATCH = 500


class Outputs(NamedTuple):
    logits: np.ndarray
    features: np.ndarray
    labels: np.ndarray | None = None


def store(network, path):
    """Write a batch-normed network with its normalisation folded in."""
    released.save(vgg16.for_pictures(vgg16.fold(network)), path)


def strangers(name):
    """Two sets of pictures of no known class: Tiny-ImageNet's held-out classes, or any other data."""
    if name == "tiny-imagenet":
        place, unseen = tiny_imagenet.obtain(), tuple(tiny_imagenet.HELD_OUT)
        return [tiny_imagenet.read(place, part, unseen)[0] for part in ("train", "val")]
    splits = data.source(name).load()
    return splits.validation.images, splits.test.images


def judge(path, splits, chosen_by, measured_by):
    """(record, arrays) of the file: its accuracy, its calibration, and when it should say "none of these".

    By the first set of strangers a score of familiarity is chosen, on the second it is measured. Temperature
    and threshold come from validation images.
    """
    network = inference.Network(path, len(np.unique(splits.train.labels)))
    parts = splits._replace(train=training.spread(splits.train, training.TRAIN_SCORED))._asdict()
    known = {part: outputs(network, images, labels, part) for part, (images, labels) in parts.items()}
    judged = known["validation"]
    temperature = round(calibration.fit_temperature(judged.logits, judged.labels), 4)
    unknown = [outputs(network, images, label="none of the classes") for images in (chosen_by, measured_by)]
    arrays = {part: answers(known[part], temperature) for part in ("validation", "test")}
    uncalibrated = answers(known["test"], temperature=1.0)
    record = {
        **{part: evaluation.metrics(**found) for part, found in arrays.items()},
        "confusion": evaluation.confusion(**arrays["test"]),
        "temperature": temperature,
        "ece_uncalibrated": evaluation.ece(**uncalibrated),
        "none_of_these": none_of_these(known, *unknown, temperature),
        "bytes": path.stat().st_size,
        "measured": training.circumstances(),
    }
    return record, arrays


def answers(found, temperature):
    """What is kept, as of every run: scores are computed from it."""
    log_probabilities = calibration.log_probabilities(found.logits, temperature)
    return {"log_probabilities": log_probabilities.astype("float16"), "labels": found.labels.astype("uint16")}


def outputs(network, images, labels=None, label=""):
    batches = [network.outputs(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    print(f"{label}: {len(images):,} pictures looked at", flush=True)
    return Outputs(*map(np.concatenate, zip(*batches)), labels)


def none_of_these(known, chosen_by, measured_by, temperature):
    """The score that tells strangers best from validation images, its threshold, and what both are worth."""
    packed = calibration.packed(calibration.class_means(known["train"].features, known["train"].labels))
    means = calibration.unpacked(packed, known["train"].logits.shape[1])

    def familiarity(score, found):
        return calibration.familiarity(score, found.logits, found.features, means, temperature)

    tried = {
        score: calibration.separation(familiarity(score, known["validation"]), familiarity(score, chosen_by))
        for score in calibration.SCORES
    }
    score = max(tried, key=lambda score: tried[score]["auroc"])
    limit = calibration.threshold(familiarity(score, known["validation"]))
    test, unknown = familiarity(score, known["test"]), familiarity(score, measured_by)
    return {
        "score": score,
        "threshold": limit,
        **({"class_means": packed} if score == "distance" else {}),
        "tried": tried,
        "chosen_by": len(chosen_by.logits),
        "measured_by": len(measured_by.logits),
        "auroc": calibration.separation(test, unknown)["auroc"],
        "true_accepts": float((test >= limit).mean()),
        "false_accepts": float((unknown >= limit).mean()),
    }


def description(record, classes):
    """What stands beside the file for whoever uses it."""
    rule = record["none_of_these"]
    return {
        "classes": list(classes),
        "input": {"size": 32, "pixels": "RGB, 0 to 255, uint8 or float, of any size"},
        "temperature": record["temperature"],
        "none_of_these": {key: rule[key] for key in ("score", "threshold", "class_means") if key in rule},
        "validation": record["validation"],
        "test": record["test"],
        "source_weights": record["source_weights"],
        "evidence": f"results/{record['experiment']}/seed-{record['seed']}",
    }
