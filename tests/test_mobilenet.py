"""MobileNetV2 as a chain: the application's function, split, thawed, saved and counted."""

import keras
import numpy as np
import pytest

from helpers import mobilenet, models, optimizers, source_weights


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3)).astype("uint8")


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """What Keras itself writes, in its application's layout, its statistics those of some noise."""
    path = tmp_path_factory.mktemp("weights") / "own.weights.h5"
    network, random = source_weights.convolutions("scratch", 64, "MobileNetV2"), np.random.default_rng(1)
    for layer in normalisations(network):
        layer.momentum = 0.0
        layer.gamma.assign(random.uniform(0.7, 1.3, layer.gamma.shape))
        layer.beta.assign(random.uniform(-0.3, 0.3, layer.beta.shape))
    network(random.uniform(-1, 1, (16, 64, 64, 3)), training=True)
    network.save_weights(path)
    return path


@pytest.fixture
def network(weights_file):
    return mobilenet.pretrained(str(weights_file), 7, resized_to=64)


def normalisations(network):
    found = models.flat_layers(network)
    return [layer for layer in found if isinstance(layer, keras.layers.BatchNormalization)]


def statistics(network):
    return [layer.get_weights()[2:] for layer in normalisations(network)]


def outputs(network, inputs):
    return keras.ops.convert_to_numpy(network(inputs, training=False))  # many networks: none worth compiling


def weights(network, name):
    return network.get_layer(name).get_weights()[0]


def fitted(network, pictures):
    rates = optimizers.LayerwiseAdam(0.01, slowed=mobilenet.slowed(0.9))
    network.compile(rates, keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    network.fit(pictures, np.arange(len(pictures)) % 7, verbose=0)


def test_the_chain_computes_what_keras_own_application_computes(network, weights_file, pictures):
    application = keras.applications.MobileNetV2(
        include_top=False, weights=weights_file, input_shape=(64, 64, 3), pooling="avg"
    )
    resized = keras.ops.image.resize(pictures.astype("float32"), (64, 64))
    preprocessed = keras.applications.mobilenet_v2.preprocess_input(np.array(resized))
    features, _ = models.split(network, "features")
    expected = outputs(application, preprocessed)
    np.testing.assert_allclose(outputs(features, pictures), expected, atol=3e-4)


@pytest.mark.parametrize("last", ["Conv1_relu", "block_5_add", "block_12_add", "block_13_project_BN"])
def test_split_and_joined_it_is_the_same_function(network, pictures, last):
    lower, upper = models.split(network, last)
    expected = outputs(network, pictures)
    between = outputs(lower, pictures)
    np.testing.assert_allclose(outputs(upper, between), expected, atol=1e-4)
    whole = outputs(models.joined(lower, upper), pictures)
    np.testing.assert_allclose(whole, expected, atol=1e-4)


def test_a_saved_model_opens_in_safe_mode_and_goes_on_as_a_chain(network, pictures, tmp_path):
    models.joined(*models.split(network, "block_12_add")).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    expected = outputs(network, pictures)
    np.testing.assert_array_equal(outputs(loaded, pictures), expected)
    lower, upper = models.split(loaded, "block_5_add")
    again = outputs(upper, outputs(lower, pictures))
    np.testing.assert_allclose(again, expected, atol=1e-4)
    assert models.multiply_adds(loaded) == models.multiply_adds(network)


def test_frozen_normalisation_keeps_its_statistics_while_kernels_move(network, pictures):
    lower, upper = models.split(models.thaw(network), "block_12_add")
    lower.trainable = False
    before, kernels = statistics(network), [weights(network, name) for name in ("Conv1", "Conv_1")]
    fitted(models.joined(lower, upper), pictures)
    np.testing.assert_equal(statistics(network), before)
    assert np.array_equal(weights(network, "Conv1"), kernels[0])
    assert not np.array_equal(weights(network, "Conv_1"), kernels[1])
    # Thawed, the lower part learns too, and its normalisation still does not change.
    fitted(models.thaw(network), pictures)
    np.testing.assert_equal(statistics(network), before)
    assert not np.array_equal(weights(network, "Conv1"), kernels[0])


def test_trained_normalisation_follows_the_batches(network, pictures):
    slow = statistics(network)
    fitted(models.thaw(network, norms=True, momentum=0.5), pictures)
    assert not any(np.array_equal(*pair) for pair in zip(statistics(network)[0], slow[0]))
    trained, in_all = models.count_parameters(network)
    assert in_all - trained == sum(mean.size + variance.size for mean, variance in slow)


def test_multiply_adds_are_the_paper_s(network):
    # Table 4 of arXiv:1801.04381: 300 million at 224 with 1000 classes. Keras counts 3.5 million parameters.
    large = mobilenet.pretrained("scratch", 1000, resized_to=224)
    assert models.multiply_adds(large)[0] == pytest.approx(300e6, rel=0.01)
    assert models.count_parameters(large)[0] == pytest.approx(3.5e6, rel=0.01)
    lower, upper = models.split(network, "block_12_add")
    lower.trainable = False
    parts = models.multiply_adds(lower)[1], models.multiply_adds(upper)[0]
    assert models.multiply_adds(network) == (parts[1], parts[0])
    assert sum(parts) == pytest.approx(300e6 * (64 / 224) ** 2, rel=0.05)


def test_earlier_blocks_learn_slower(network):
    rates = mobilenet.slowed(0.5)
    factors = {
        weight.path.split("/")[-2]: optimizers.factor(rates, weight) for weight in network.trainable_weights
    }
    assert factors["logits"] == factors["Conv_1"] == factors["block_16_project"] == 1
    assert factors["block_15_expand"] == 0.5 and factors["block_1_depthwise"] == 0.5**15
    assert factors["Conv1"] == factors["bn_Conv1"] == factors["expanded_conv_project"] == 0.5**16
