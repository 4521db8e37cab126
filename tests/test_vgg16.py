"""VGG16's two forms compute the same, and Keras's own VGG16 takes the convolutions."""

import keras
import numpy as np
import pytest

from helpers import models, optimizers, source_weights, vgg16


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3)).astype("uint8")


@pytest.fixture(scope="module")
def normed():
    """Batch-normed, with statistics, scales and offsets as a training leaves them: none is 0 or 1."""
    network, random = vgg16.batch_normed(7), np.random.default_rng(1)
    for name in vgg16.CONVOLUTIONS:
        norm = network.get_layer(f"{name}_norm")
        norm.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in norm.get_weights()])
    return network


def outputs(network, pictures, last=None):
    wanted = keras.Model(network.inputs, network.get_layer(last).output) if last else network
    return wanted.predict(pictures, verbose=0)


def test_folding_changes_nothing_at_the_border_or_inside(normed, pictures):
    folded = vgg16.fold(normed)
    for layer in ("block1_conv1_relu", "block2_conv2_relu", "block4_conv3_relu"):
        expected = outputs(normed, pictures, layer)
        np.testing.assert_allclose(outputs(folded, pictures, layer), expected, atol=1e-5 * expected.max())
    np.testing.assert_allclose(outputs(folded, pictures), outputs(normed, pictures), atol=1e-4)


def test_unfolding_changes_nothing_and_its_statistics_are_the_pictures_own(normed, pictures):
    folded = vgg16.fold(normed)
    unfolded = vgg16.unfold(folded, pictures, batch_size=16)
    expected = outputs(folded, pictures)
    np.testing.assert_allclose(outputs(unfolded, pictures), expected, atol=1e-4)
    # In training the batch's statistics count: the same ones, if the batch is all the pictures.
    training = keras.ops.convert_to_numpy(unfolded(pictures, training=True))
    np.testing.assert_allclose(training, expected, atol=1e-4)


def test_frozen_normalisation_keeps_its_statistics(normed, pictures):
    network = keras.models.clone_model(normed)
    network.set_weights(normed.get_weights())
    lower, upper = models.split(network, "block4_pool")
    lower.trainable = False
    model = models.joined(lower, upper)
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = [weight.copy() for weight in lower.get_weights()]
    above = upper.get_weights()
    model.fit(pictures, np.arange(40) % 7, verbose=0)
    assert all(map(np.array_equal, before, lower.get_weights()))
    assert not any(np.array_equal(*pair) for pair in zip(above, upper.get_weights()))


def test_keras_own_vgg16_computes_the_same_with_these_convolutions(normed, pictures):
    folded = vgg16.fold(normed)
    application = source_weights.as_application(folded)
    preprocessed = keras.applications.vgg16.preprocess_input(pictures.astype("float32"))
    expected = outputs(folded, pictures, "block5_pool")
    np.testing.assert_allclose(application.predict(preprocessed, verbose=0), expected, atol=1e-4)


def test_any_size_and_type_of_pixels(normed, pictures):
    folded = vgg16.fold(normed)
    model = vgg16.for_pictures(folded)
    expected = outputs(folded, pictures)
    np.testing.assert_allclose(model.predict(pictures, verbose=0), expected, atol=1e-5)
    np.testing.assert_allclose(model.predict(pictures.astype("float32"), verbose=0), expected, atol=1e-5)
    doubled = pictures.repeat(2, axis=1).repeat(2, axis=2)
    found = model.predict(doubled, verbose=0)
    assert found.shape == expected.shape and np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9
    # Lines finer than its pixels become grey; skipped over, they would be white or black.
    lined = np.zeros((1, 256, 256, 3), "uint8")
    lined[:, :, np.isin(np.arange(256) % 8, (3, 4))] = 255
    scaled = keras.ops.convert_to_numpy(model.get_layer("resizing")(lined))
    np.testing.assert_allclose(scaled, 255 / 4, atol=10)
    # The central square of a wide picture is what counts.
    wide = np.pad(doubled, [(0, 0), (0, 0), (30, 30), (0, 0)], constant_values=255)
    np.testing.assert_allclose(model.predict(wide, verbose=0), found, atol=1e-4)


def test_parameters_are_those_of_the_paper():
    assert models.count_parameters(source_weights.convolutions("scratch"))[0] == 14_714_688
    network = vgg16.pretrained("scratch", 10, resized_to=64)
    assert models.count_parameters(network)[0] == 14_714_688 + 513 * 10
    trained, _ = models.multiply_adds(network)
    assert trained > 3.9 * models.multiply_adds(vgg16.plain(10))[0]


def test_pictures_that_are_too_small_for_it_are_refused_in_one_line():
    for sizes in ({"image_size": 16}, {"resized_to": 16}):
        with pytest.raises(ValueError, match="^VGG16 halves pictures 5 times: 32 pixels at least, not 16$"):
            vgg16.plain(10, **sizes)


def test_earlier_blocks_learn_slower(normed):
    rates = vgg16.slowed(0.5)
    factors = {
        weight.path.split("/")[-2]: optimizers.factor(rates, weight) for weight in normed.trainable_weights
    }
    assert factors["logits"] == factors["block5_conv3"] == 1
    assert factors["block4_conv1_norm"] == 0.5 and factors["block1_conv2"] == 0.5**4
