"""The published model: its file is what is judged, and its card tells what the evidence tells."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

from helpers import (
    calibration,
    cifar10,
    classifier,
    data,
    evaluation,
    model_card,
    model_files,
    models,
    release,
    runs,
    tiny_imagenet,
    vgg16,
)
from helpers.cifar10 import CLASSES


@pytest.fixture(scope="module")
def splits():
    return data.source("sample", train_images=400).load()


@pytest.fixture(scope="module")
def stored(tmp_path_factory, splits):
    """A file made from a network with a head that has learned something, and what was found of it."""
    keras.utils.set_random_seed(0)
    network = vgg16.unfold(vgg16.pretrained("tiny-imagenet", 10), splits.train.images[:100])
    lower, head = models.split(network, "features")
    features = lower.predict(splits.train.images, verbose=0)
    head.compile(keras.optimizers.Adam(0.001), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    head.fit(features, splits.train.labels, epochs=8, verbose=0)
    path = tmp_path_factory.mktemp("released") / "vgg16-cifar10.keras"
    release.store(network, path)
    return network, path, *release.judge(path, splits, strangers(splits))


def strangers(splits):
    """As of Tiny-ImageNet, small: the test pictures stand for kin as well."""
    unknown = splits.train._replace(labels=np.full(len(splits.train.labels), -1))
    exposed, chosen_by, measured_by = unknown, splits.validation.images, splits.test.images
    return release.Others(exposed, chosen_by, measured_by, splits.test)


def test_the_file_is_small_and_answers_as_the_network_did(stored, splits):
    network, path, *_ = stored
    assert path.stat().st_size < 30e6
    images = splits.test.images
    found = keras.models.load_model(path, safe_mode=True).predict(images, verbose=0)
    np.testing.assert_allclose(found, network.predict(images, verbose=0), atol=0.03 * np.abs(found).max())


def test_what_is_recorded_is_what_the_stored_file_does(stored, splits):
    _, path, record, arrays = stored
    model = keras.models.load_model(path)
    images, labels = splits.test
    sides = [model.predict(side, verbose=0) for side in (images, images[:, :, ::-1])]
    logits = sum(sides) / 2
    assert record["test_single_view"]["correct"] == (sides[0].argmax(axis=1) == labels).sum()
    right = int((logits.argmax(axis=1) == labels).sum())
    assert record["test"]["correct"] == right > 0.3 * len(labels)
    assert np.trace(record["confusion"]) == right
    judged, known = splits.validation
    judged = sum(model.predict(side, verbose=0) for side in (judged, judged[:, :, ::-1])) / 2
    assert record["calibration"] == pytest.approx(calibration.fit(judged, known), rel=1e-2)
    expected = calibration.log_probabilities(logits, **record["calibration"])
    np.testing.assert_allclose(arrays["test"]["log_probabilities"], expected, rtol=2e-3, atol=2e-3)


def test_the_rule_lets_the_known_pass_and_the_classifier_follows_it(stored, splits, tmp_path):
    _, path, record, _ = stored
    rule = record["none_of_these"]
    assert rule["tried"].keys() == set(calibration.SCORES)
    assert rule["tried"][rule["score"]]["auroc"] == max(found["auroc"] for found in rule["tried"].values())
    # Strangers from the same source are no strangers: they pass as often as the known.
    assert abs(rule["true_accepts"] - rule["false_accepts"]) < 0.15 and 0.3 < rule["auroc"] < 0.7
    assert 0.3 * rule["kin"]["total"] < rule["kin"]["correct"] < rule["kin"]["total"]
    record |= {"source_weights": {"name": "tiny-imagenet", "sha256": "0"}, "experiment": "x", "seed": 0}
    model_files.describe(path, **release.description(record, list("abcdefghij")))
    asked = classifier.Classifier(path)
    passing = (asked._familiarity(*asked.network.outputs(splits.test.images)) >= rule["threshold"]).mean()
    assert passing == pytest.approx(rule["true_accepts"], abs=0.01)


def test_the_score_is_chosen_by_some_strangers_and_measured_on_others():
    random, labels, strange = np.random.default_rng(0), np.arange(200) % 10, np.full(200, -1)

    def outputs(height, lift=0.0, kind=labels):
        logits = height * np.eye(10)[labels] + lift + random.normal(0, 0.1, (200, 10))
        return release.Outputs(logits, random.normal(size=(200, 4)), kind)

    half_unsure = outputs(np.repeat([6, 3], 100)[:, None])
    known = {"train": outputs(6), "validation": outputs(6), "test": half_unsure}
    flat, faint = outputs(0, 3.7, strange), outputs(6, -4, strange)  # probability tells one, energy the other
    rule = release.none_of_these(known, outputs(6, 0, strange), flat, faint, kin=None)

    def sure(found):
        return calibration.familiarity("probability", found.logits)

    limit = calibration.threshold(sure(known["validation"]))
    assert rule["score"] == "probability" and rule["threshold"] == limit
    assert rule["auroc"] == calibration.separation(sure(known["test"]), sure(faint))["auroc"] < 0.6
    assert rule["true_accepts"] == (sure(known["test"]) >= limit).mean() < 0.6
    assert rule["false_accepts"] == (sure(faint) >= limit).mean() > 0.9


def test_strangers_weigh_as_much_as_known_and_kin_together():
    known = release.Outputs(None, np.zeros((30, 4)), np.zeros(30, int))
    exposed = release.Outputs(None, np.ones((70, 4)), np.repeat([-1, 3], [50, 20]))
    features, are_known, weights = release.exposure(known, exposed)
    assert features.shape == (100, 4) and are_known.tolist() == [True] * 30 + [False] * 50 + [True] * 20
    sums = [weights[part].sum() for part in (slice(30), slice(30, 80), slice(80, None))]
    assert sums == pytest.approx([50, 100, 50])


def test_others_of_tiny_imagenet_are_strangers_kin_or_neither(tmp_path, monkeypatch):
    """Of every class two pictures, as light as its place in the list, so that each can be told again."""
    everything = (*tiny_imagenet.CLASSES, *tiny_imagenet.HELD_OUT)
    for shade, name in enumerate(everything):
        for part in ("train", "val"):
            place = tmp_path / part / name
            place.mkdir(parents=True)
            for i in range(release.EVERY if part == "train" else 2):
                Image.new("RGB", (32, 32), (shade, shade, shade)).save(place / f"{i}.jpg", quality=100)
    monkeypatch.setenv("TINY_IMAGENET_DIR", str(tmp_path))
    found = release.others("tiny-imagenet", CLASSES)

    def named(images):
        return [everything[image[0, 0, 0]] for image in images]

    unclear = {name for name, label in tiny_imagenet.KIN.items() if label is None}
    assert unclear and set(named(found.exposed.images)) == set(tiny_imagenet.CLASSES) - unclear
    for part in (found.exposed, found.kin):
        said = [CLASSES[label] if label >= 0 else None for label in part.labels]
        assert said == [tiny_imagenet.KIN.get(name) for name in named(part.images)]
    assert (found.kin.labels >= 0).all() and len(found.kin.labels) == 2 * sum(
        map(bool, tiny_imagenet.KIN.values())
    )
    assert set(named(found.chosen_by)) == set(named(found.measured_by)) == set(tiny_imagenet.HELD_OUT)
    assert len(found.measured_by) == 2 * len(tiny_imagenet.HELD_OUT)  # of the other half of the data


def test_of_other_strangers_no_kin_are_known():
    others = release.others("sample", CLASSES)
    assert others.kin is None and set(others.exposed.labels) == {-1}
    random = np.random.default_rng(0)

    def outputs(labels):
        return release.Outputs(random.normal(size=(60, 10)), random.normal(size=(60, 4)), labels)

    known = {part: outputs(np.arange(60) % 10) for part in ("train", "validation", "test")}
    exposed, chosen_by, measured_by = (outputs(np.full(60, -1)) for _ in range(3))
    rule = release.none_of_these(known, exposed, chosen_by, measured_by, kin=None)
    assert 0 < rule["auroc"] < 1 and not {"kin", "kin_accepts"} & set(rule)


def test_strangers_that_do_not_go_with_the_classes_are_refused_at_once(tmp_path):
    release.check("tiny-imagenet", CLASSES)
    release.check("sample", ("cats", "dogs"))
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        release.check(str(tmp_path / "missing"), ("cats", "dogs"))
    with pytest.raises(ValueError, match="known for CIFAR-10's classes only: give strangers=sample"):
        release.check("tiny-imagenet", ("cats", "dogs"))


def test_the_card_is_that_of_the_evidence():
    record = runs.published(model_card.EXPERIMENT)
    card = model_card.CARD.read_text(encoding="utf-8")
    assert card == model_card.current()
    assert f"{record['test']['correct']:,} of 10,000" in card


def test_what_stands_beside_the_published_file_is_that_of_the_evidence():
    told = release.description(runs.published(model_card.EXPERIMENT), CLASSES)
    assert model_files.facts(model_files.MODEL).items() >= json.loads(json.dumps(told)).items()


@pytest.mark.slow
def test_the_published_model_repeats_its_accuracy():
    record = runs.published(model_card.EXPERIMENT)
    if cifar10.find() is None:
        pytest.skip("CIFAR-10 is not at hand: set CIFAR10_DIR")
    images, labels = data.source("cifar10").load().test
    asked = classifier.Classifier()

    def outputs(seen):
        found = [asked.network._outputs(seen[start : start + 500]) for start in range(0, len(seen), 500)]
        return [np.concatenate(part) for part in zip(*found)]

    one_side, other = outputs(images), outputs(images[:, :, ::-1])
    both = [(one + mirrored) / 2 for one, mirrored in zip(one_side, other)]
    for told, (logits, _) in (("test_single_view", one_side), ("test", both)):
        right = int((logits.argmax(axis=1) == labels).sum())
        assert abs(right - record[told]["correct"]) <= 20
    confident = calibration.log_probabilities(both[0], **asked.calibration)
    assert evaluation.ece(confident, labels) == pytest.approx(record["test"]["ece"], abs=2e-3)
    passing = (asked._familiarity(*both) >= asked.rule["threshold"]).mean()
    assert passing == pytest.approx(record["none_of_these"]["true_accepts"], abs=2e-3)
