"""The published model: a fine-tuned VGG16 as one file that takes pixels of any size, judged as it is stored.

All that is told of it is the file's, its numbers in half precision, asked as classify.py asks it.
"""

from typing import NamedTuple

import numpy as np

from helpers import (
    calibration,
    cifar10,
    data,
    devices,
    evaluation,
    inference,
    model_files,
    predictions,
    tiny_imagenet,
    training,
    vgg16,
)
from helpers.batches import spread

BATCH = 500
EVERY = 10  # of the source task's training images one in so many is enough
FEATURES = ("block4_pool", "features")  # layers that show whether a picture is strange


class Outputs(NamedTuple):
    logits: np.ndarray
    features: np.ndarray
    labels: np.ndarray


class Others(NamedTuple):
    """Pictures that are not of the data set: strangers to its classes, and kin, which belong to them."""

    exposed: data.Split  # labels: the class that a picture is kin to, -1 for a stranger
    chosen_by: np.ndarray  # strangers of other kinds
    measured_by: np.ndarray  # other strangers of those kinds
    kin: data.Split | None  # known of Tiny-ImageNet's pictures only


def store(network, path):
    """Write a batch-normed network with its normalisation folded in."""
    model_files.save(vgg16.for_pictures(vgg16.fold(network)), path)


def check(name, classes):
    """One clear line, before anything is trained, where these strangers don't go with these classes."""
    if name == "tiny-imagenet" and tuple(classes) != cifar10.CLASSES:
        told = "which of Tiny-ImageNet's pictures are strangers is known for CIFAR-10's classes only"
        raise ValueError(f"{told}: give strangers=sample, or a folder of labelled pictures of none of yours")
    data.source(name)  # refuses what isn't there


def others(name, classes):
    """Strangers from Tiny-ImageNet, the twenty held-out classes among them, or simply other data."""
    if name != "tiny-imagenet":
        splits = data.source(name).load()
        strange = splits.train._replace(labels=np.full(len(splits.train.labels), -1))
        return Others(strange, splits.validation.images, splits.test.images, None)
    place, held_out = tiny_imagenet.obtain(), tuple(tiny_imagenet.HELD_OUT)
    chosen_by, measured_by = (tiny_imagenet.read(place, part, held_out)[0] for part in ("train", "val"))
    clear = tuple(name for name in tiny_imagenet.CLASSES if tiny_imagenet.KIN.get(name, "") is not None)
    kind = [tiny_imagenet.KIN.get(name) for name in clear]
    akin = np.array([classes.index(label) if label else -1 for label in kind])
    images, labels = tiny_imagenet.read(place, "train", clear)
    exposed = data.Split(images[::EVERY], akin[labels[::EVERY]])
    images, labels = tiny_imagenet.read(place, "val", clear)
    kin = data.Split(images, akin[labels])
    kin = data.Split(*(part[kin.labels >= 0] for part in kin))
    return Others(exposed, chosen_by[::EVERY], measured_by, kin)


def judge(path, splits, strangers):
    """(record, arrays) of the file: its accuracy, its calibration, and when it should say "none of these".

    Temperature, floor and threshold come from validation images. The score of familiarity is chosen by some
    of the strangers that nothing was learned from, and measured on the others.
    """
    classes = len(np.unique(splits.train.labels))
    network = inference.Network(path, classes, FEATURES)
    parts = splits._replace(train=spread(splits.train, training.TRAIN_SCORED))._asdict()
    known = {part: outputs(network, part, *pair) for part, pair in parts.items()}
    kin = outputs(network, "kin", *strangers.kin) if strangers.kin else None
    exposed = outputs(network, "exposed", *strangers.exposed)
    chosen_by = outputs(network, "strangers", strangers.chosen_by)
    measured_by = outputs(network, "other strangers", strangers.measured_by)
    honest = calibration.fit(known["validation"].logits, known["validation"].labels)
    arrays = {part: answers(known[part], **honest) for part in ("validation", "test")}
    record = {
        **{part: evaluation.metrics(**told) for part, told in arrays.items()},
        "test_single_view": evaluation.metrics(**predictions.of(network.model, splits.test, "single")),
        "test_uncalibrated": evaluation.metrics(**answers(known["test"])),
        "confusion": evaluation.confusion(**arrays["test"]),
        "calibration": honest,
        "none_of_these": none_of_these(known, exposed, chosen_by, measured_by, kin),
        "bytes": path.stat().st_size,
        "measured": devices.circumstances(),
    }
    return record, arrays


def outputs(network, name, images, labels=None):
    batches = [network.outputs(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    print(f"{name}: {len(images):,} pictures looked at", flush=True)
    return Outputs(*map(np.concatenate, zip(*batches)), labels)


def answers(found, **honest):
    """What is kept, as of every run."""
    return predictions.kept(calibration.log_probabilities(found.logits, **honest), found.labels)


def none_of_these(known, exposed, chosen_by, measured_by, kin):
    """The score that tells strangers best from validation images, its threshold, and what both are worth."""
    train, validation, test = known["train"], known["validation"], known["test"]
    references = {
        "distance": calibration.class_means(train.features, train.labels),
        "learned": calibration.learn(*exposure(train, exposed)),
    }
    # As they will be read from the description.
    references = {score: calibration.packed(array) for score, array in references.items()}

    def familiarity(score, found):
        reference = calibration.unpacked(references[score]) if score in references else None
        return calibration.familiarity(score, found.logits, found.features, reference)

    tried = {
        score: calibration.separation(familiarity(score, validation), familiarity(score, chosen_by))
        for score in calibration.SCORES
    }
    score = max(tried, key=lambda score: tried[score]["auroc"])
    limit = calibration.threshold(familiarity(score, validation))
    separation = calibration.separation(familiarity(score, test), familiarity(score, measured_by))

    def passing(found):
        return float((familiarity(score, found) >= limit).mean())

    of_kin = {}
    if kin:
        right = int((kin.logits.argmax(axis=1) == kin.labels).sum())
        of_kin = {"kin_accepts": passing(kin), "kin": {"correct": right, "total": len(kin.labels)}}
    return {
        "score": score,
        "threshold": limit,
        **({"layers": FEATURES, "reference": references[score]} if score in references else {}),
        "tried": tried,
        "auroc": separation["auroc"],
        "true_accepts": passing(test),
        "false_accepts": passing(measured_by),
        "chosen_by": len(chosen_by.logits),
        "measured_by": len(measured_by.logits),
        "exposed": int((exposed.labels < 0).sum()),
        **of_kin,
    }


def exposure(train, exposed):
    """Features, whether they are of known classes, and weights: strangers weigh as much as known and kin do.

    Kin are among the known, so that what is learned is not which data set a picture comes from.
    """
    features = np.concatenate([train.features, exposed.features])
    group = np.concatenate([np.zeros(len(train.labels), int), np.where(exposed.labels < 0, 2, 1)])
    sizes = np.bincount(group, minlength=3)
    shares = np.array([1, 1, np.count_nonzero(sizes[:2])]) / np.maximum(sizes, 1)
    return features, group < 2, shares[group] * len(group) / 2


def description(record, classes):
    """What stands beside the file for whoever uses it."""
    rule = record["none_of_these"]
    return {
        "classes": list(classes),
        "input": {"size": 32, "pixels": "RGB, 0 to 255, uint8 or float, of any size"},
        **record["calibration"],
        "none_of_these": {
            key: rule[key] for key in ("score", "threshold", "layers", "reference") if key in rule
        },
        "validation": record["validation"],
        "test": record["test"],
        "test_single_view": record["test_single_view"],
        "source_weights": record["source_weights"],
        "evidence": f"results/{record['experiment']}/seed-{record['seed']}",
    }
