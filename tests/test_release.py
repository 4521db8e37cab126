"""The published model: its file is what is judged, and its card tells what the evidence tells."""

import json

import keras
import numpy as np
import pytest

from helpers import (
    calibration,
    cifar10,
    classifier,
    data,
    model_card,
    release,
    released,
    runs,
    tiny_imagenet,
    vgg16,
)
from helpers.cifar10 import CLASSES

PUBLISHED = released.FOLDER / "vgg16-cifar10.keras"


@pytest.fixture(scope="module")
def splits():
    return data.source("sample", train_images=400).load()


@pytest.fixture(scope="module")
def stored(tmp_path_factory, splits):
    """A file made from a network with a head that has learned something, and what was found of it."""
    keras.utils.set_random_seed(0)
    network = vgg16.unfold(vgg16.pretrained("tiny-imagenet", 10), splits.train.images[:100])
    for layer in network.layers[:-1]:
        layer.trainable = False
    network.compile(
        keras.optimizers.Adam(0.001), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    network.fit(splits.train.images, splits.train.labels, epochs=8, verbose=0)
    path = tmp_path_factory.mktemp("released") / "vgg16-cifar10.keras"
    release.store(network, path)
    return network, path, *release.judge(path, splits, release.others("sample", list("abcdefghij")))


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
    released.describe(path, **release.description(record, list("abcdefghij")))
    asked = classifier.Classifier(path)
    passing = (asked._familiarity(*asked.network.outputs(splits.test.images)) >= rule["threshold"]).mean()
    assert passing == pytest.approx(rule["true_accepts"], abs=0.01)


def test_others_of_tiny_imagenet_are_strangers_kin_or_neither():
    kin = {label for label in tiny_imagenet.KIN.values() if label}
    assert kin < set(CLASSES) and set(tiny_imagenet.KIN) < set(tiny_imagenet.CLASSES)
    assert not set(tiny_imagenet.KIN) & set(tiny_imagenet.HELD_OUT)


def test_strangers_that_do_not_go_with_the_classes_are_refused_at_once():
    release.check("tiny-imagenet", CLASSES)
    release.check("sample", ("cats", "dogs"))
    with pytest.raises(ValueError, match="known for CIFAR-10's classes only: give strangers=sample"):
        release.check("tiny-imagenet", ("cats", "dogs"))


def published():
    found = runs.RESULTS / model_card.EXPERIMENT / "seed-0/record.json"
    return json.loads(found.read_text()) if found.is_file() else pytest.skip("no model is published yet")


def test_the_card_is_that_of_the_evidence():
    record = published()
    card = (released.FOLDER / model_card.CARD).read_text(encoding="utf-8")
    assert card == model_card.current()
    assert f"{record['test']['correct']:,} of 10,000" in card


@pytest.mark.slow
def test_the_published_model_repeats_its_accuracy():
    record = published()
    if cifar10.find() is None:
        pytest.skip("CIFAR-10 is not at hand: set CIFAR10_DIR")
    images, labels = data.source("cifar10").load().test
    answers = keras.models.load_model(PUBLISHED, safe_mode=True).predict(images, batch_size=500, verbose=0)
    right = int((answers.argmax(axis=1) == labels).sum())
    assert abs(right - record["test_single_view"]["correct"]) <= 20
