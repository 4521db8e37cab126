"""Normalisation as one operation: what it computes and learns is what Keras's own layer does."""

import zipfile

import keras
import numpy as np
import pytest
from keras import layers

from helpers import models, normalization

PICTURES = np.random.default_rng(0).normal(3, 2, (6, 5, 5, 4)).astype("float32")
TARGETS = np.random.default_rng(1).normal(size=(6, 5, 5, 4)).astype("float32")


def network(precision="float32", **options):
    with models.precision(precision, emulated=True):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((5, 5, 4))
        block = keras.Model(inputs, layers.BatchNormalization(momentum=0.7, **options)(inputs))
        return keras.Sequential([keras.Input((5, 5, 4)), layers.Conv2D(4, 3, padding="same"), block])


def trained(model):
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    for _ in range(5):
        model.train_on_batch(PICTURES, TARGETS)
    return model


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}, {"trainable": False}])
def test_what_is_learned_is_what_keras_own_layer_learns(options):
    own, one = network(**options), network(**options)
    normalization.fuse(one)
    for expected, found in zip(trained(own).get_weights(), trained(one).get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one.predict(PICTURES), own.predict(PICTURES), rtol=1e-4, atol=1e-4)
    # Its statistics are those of the pictures, or the source task's where it is frozen.
    moved = not np.allclose(one.get_weights()[-1], 1, atol=0.05)
    assert moved == options.get("trainable", True)


def test_in_half_precision_outputs_are_in_half_precision_and_near():
    own, one = network("mixed_bfloat16"), network("mixed_bfloat16")
    normalization.fuse(one)
    trained(own), trained(one)
    outputs = one(PICTURES)
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    np.testing.assert_allclose(one.predict(PICTURES), own.predict(PICTURES), rtol=0.05, atol=0.05)


def test_a_saved_model_knows_nothing_of_it(tmp_path):
    model = network()
    normalization.fuse(model)
    trained(model).save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    with zipfile.ZipFile(tmp_path / "model.keras") as file:
        config = file.read("config.json")
    assert b"helpers" not in config and b"partial" not in config
    np.testing.assert_allclose(again.predict(PICTURES), model.predict(PICTURES), rtol=1e-4, atol=1e-4)


def test_layers_for_rows_of_numbers_stay_as_they_are():
    rows = keras.Sequential([keras.Input((4,)), layers.BatchNormalization()])
    normalization.fuse(rows)
    np.testing.assert_allclose(rows.predict(PICTURES[:, 0, 0]), PICTURES[:, 0, 0] / 1.001**0.5, rtol=1e-5)
