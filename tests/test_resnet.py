"""ResNet50 as a chain: the application's function, its first stride, and a file that Keras loads."""

import os

import keras
import numpy as np
import pytest
from conftest import execute

from helpers import models, optimizers, pretraining, resnet, runs, source_weights


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("uint8")


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """What Keras itself writes, in its application's layout; no scale or offset is 1 or 0."""
    path = tmp_path_factory.mktemp("weights") / "own.weights.h5"
    network, random = source_weights.convolutions("scratch", 32, "ResNet50"), np.random.default_rng(1)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    network.save_weights(path)
    return path


def outputs(network, inputs):
    return keras.ops.convert_to_numpy(network(inputs, training=False))


def features(network, inputs):
    return outputs(models.split(network, "features")[0], inputs)


def test_the_chain_computes_what_keras_own_application_computes(weights_file, pictures):
    network = resnet.pretrained(str(weights_file), 7, resized_to=64)
    application = keras.applications.ResNet50(
        include_top=False, weights=weights_file, input_shape=(64, 64, 3), pooling="avg"
    )
    resized = np.array(keras.ops.image.resize(pictures.astype("float32"), (64, 64)))
    expected = outputs(application, keras.applications.resnet50.preprocess_input(resized))
    np.testing.assert_allclose(features(network, pictures), expected, rtol=1e-3, atol=1e-3 * expected.max())
    # Split where the last stage begins, it is the same function.
    lower, upper = models.split(network, "conv4_block6_out")
    np.testing.assert_allclose(
        outputs(upper, outputs(lower, pictures)), outputs(network, pictures), rtol=1e-3, atol=1e-3
    )


def test_a_first_stride_of_one_leaves_what_scaling_up_leaves(weights_file, pictures):
    scaled = resnet.pretrained(str(weights_file), 7, resized_to=64)
    strided = resnet.pretrained(str(weights_file), 7, first_stride=1)
    untrained = pretraining.resnet50(7, 32, first_stride=1)
    networks = (scaled, strided, untrained)
    shapes, *others = [[layer.output.shape for layer in network.layers[-3:]] for network in networks]
    assert shapes[0] == (None, 2, 2, 2048) and others == [shapes, shapes]
    assert models.multiply_adds(strided)[0] == models.multiply_adds(scaled)[0]
    for one, other in zip(scaled.get_weights()[:-2], strided.get_weights()[:-2]):
        np.testing.assert_array_equal(one, other)
    assert not np.allclose(features(scaled, pictures), features(strided, pictures), rtol=1e-3)


def test_multiply_adds_and_parameters_are_the_paper_s():
    # Table 1 of arXiv:1512.03385: 3.8 billion at 224 with 1000 classes. Keras counts 25.6 million parameters.
    large = resnet.pretrained("scratch", 1000, resized_to=224)
    assert models.multiply_adds(models.thaw(large))[0] == pytest.approx(3.8e9, rel=0.02)
    assert large.count_params() == pytest.approx(25.6e6, rel=0.01)


def test_earlier_stages_learn_slower(weights_file):
    network = models.thaw(resnet.pretrained(str(weights_file), 7), norms=True)
    rates = resnet.slowed(0.5)
    factors = {
        weight.path.split("/")[-2]: optimizers.factor(rates, weight) for weight in network.trainable_weights
    }
    assert factors["logits"] == factors["conv5_block3_3_conv"] == 1
    assert factors["conv4_block1_0_bn"] == 0.5 and factors["conv2_block3_1_conv"] == 0.5**3
    assert factors["conv1_conv"] == factors["conv1_bn"] == 0.5**4


@pytest.mark.parametrize("stem", [{"first_stride": 2}, {"first_stride": 1}], ids=str)
def test_what_is_pretrained_is_a_file_that_keras_loads(stem, tmp_path, monkeypatch, weights_file, pictures):
    monkeypatch.setattr("helpers.runs.RUNS", tmp_path)
    run = runs.Run("pretrain-resnet50", {"name": "sample"}, 0, {"network": "resnet50"}, None)
    run.make_room()
    trained = models.thaw(resnet.pretrained(str(weights_file), 10, resized_to=32, **stem), norms=True)
    assert models.count_parameters(trained)[0] == pytest.approx(23.5e6, rel=0.01)
    trained.save(run.model)
    file = pretraining.keras_file(run)
    assert file.stat().st_size < 50e6
    again = resnet.pretrained(str(file), 10, resized_to=32, **stem)
    expected = features(trained, pictures)
    np.testing.assert_allclose(features(again, pictures), expected, rtol=0.02, atol=0.02 * expected.max())


@pytest.mark.slow
def test_notebook_00_makes_the_source_weights_that_notebook_05_asks_for(tmp_path):
    """Both read the same published evidence: their settings are alike, to the last one."""
    notebook = runs.ROOT / "notebooks" / "00-pretrain-backbone.ipynb"
    words = ("-p", "backbone", "resnet50", "-p", "epochs", "3")
    status, error, said, _ = execute(notebook, tmp_path, os.environ | {"EVIDENCE": "read"}, *words)
    assert status == 0 and "pretrain-resnet50, seed 0: reads the published evidence" in said, error
