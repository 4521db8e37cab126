"""Models and the fast rung's parts, against plain numpy and against sums done by hand."""

import keras
import numpy as np
import pytest

from helpers import batches, data, files, models, optimizers, pixel_statistics, runs


@pytest.fixture(scope="module")
def sample():
    return data.source("sample", train_images=500).load()


def test_pixels_go_in_raw_and_logits_come_out(sample):
    for build in (models.naive_cnn, models.pooling_cnn, models.fast_cnn):
        logits = build(10).predict(sample.test.images[:4], verbose=0)
        assert logits.shape == (4, 10) and logits.dtype == np.float32
        assert logits.min() < 0


def test_pixels_are_normalised_by_what_the_training_images_have(sample):
    training = pixel_statistics.SETS.index("training")
    counted = files.load_arrays(runs.RESULTS / "eda" / "seed-0" / "pixels.npz")["histograms"][training]
    mean, std = np.transpose([pixel_statistics.mean_and_std(channel) for channel in counted])
    np.testing.assert_allclose([models.PIXEL_MEAN, models.PIXEL_STD], [mean, std], atol=0.06)
    images = sample.test.images[:2]
    for build in (models.naive_cnn, models.pooling_cnn, models.fast_cnn):
        found = keras.ops.convert_to_numpy(build(10).layers[1](images))
        expected = (images - np.array(models.PIXEL_MEAN)) / models.PIXEL_STD
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_multiply_adds_are_those_counted_by_hand():
    # airbench's network at 32x32: positions x kernel, layer by layer
    trained = 31 * 31 * 9 * 24 * 64 + 15 * 15 * 9 * 64 * 64
    trained += 15 * 15 * 9 * 64 * 256 + 7 * 7 * 9 * 256 * 256
    trained += 7 * 7 * 9 * 256 * 256 + 3 * 3 * 9 * 256 * 256 + 256 * 10
    assert models.multiply_adds(models.fast_cnn(10)) == (trained, 31 * 31 * 12 * 24)


def test_multiply_adds_of_depthwise_layers_and_models_inside_models():
    inside = keras.Sequential([keras.Input((8, 8, 4)), keras.layers.DepthwiseConv2D(3, padding="same")])
    outside = keras.Sequential(
        [keras.Input((8, 8, 4)), inside, keras.layers.Flatten(), keras.layers.Dense(5)]
    )
    assert models.multiply_adds(outside) == (8 * 8 * 9 * 4 + 8 * 8 * 4 * 5, 0)
    inside.trainable = False
    assert models.multiply_adds(outside) == (8 * 8 * 4 * 5, 8 * 8 * 9 * 4)


def test_the_first_layer_whitens(sample):
    """Patches leave it decorrelated, of unit variance where there is any, each with its negative."""
    model = models.fast_cnn(10)
    models.whiten(model, sample.train.images)
    whitening = keras.Model(model.inputs, model.get_layer("whitening").output)
    values = whitening.predict(sample.train.images, verbose=0).reshape(-1, 24)
    np.testing.assert_allclose(values[:, :12], -values[:, 12:], atol=1e-4)
    covariance = values[:, :12].T @ values[:, :12] / len(values)
    spread = np.diag(covariance)
    assert np.all(spread < 1.01) and np.sum(spread > 0.9) >= 6
    assert np.abs(covariance - np.diag(spread)).max() < 0.02


def test_convolutions_start_as_identities():
    kernel = keras.ops.convert_to_numpy(models.PartialIdentity()((3, 3, 4, 6)))
    images = np.random.default_rng(0).random((2, 8, 8, 4)).astype("float32")
    convolved = keras.ops.convert_to_numpy(keras.ops.conv(images, kernel, padding="same"))
    np.testing.assert_allclose(convolved[..., :4], images, rtol=1e-6)
    assert 0.03 < kernel[..., 4:].std() < 0.2


@pytest.mark.parametrize(
    ("machine_has_it", "emulated", "computes_in"),
    [(True, False, "bfloat16"), (False, False, "float32"), (False, True, "bfloat16")],
)
def test_precision_holds_inside_only(monkeypatch, machine_has_it, emulated, computes_in):
    monkeypatch.setattr(models.devices, "has_bfloat16", lambda: machine_has_it)
    with models.precision("mixed_bfloat16", emulated=emulated):
        model = models.fast_cnn(10)
    assert model.get_layer("whitening").compute_dtype == computes_in
    assert model.get_layer("logits").compute_dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"


def test_a_saved_model_loads_in_safe_mode_and_answers_the_same(sample, tmp_path):
    model = models.fast_cnn(10)
    models.whiten(model, sample.train.images)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    images = sample.test.images[:8]
    np.testing.assert_array_equal(model.predict(images, verbose=0), loaded.predict(images, verbose=0))


def test_orthogonalized_brings_singular_values_near_one():
    matrix = np.random.default_rng(0).standard_normal((64, 20)).astype("float32")
    for shape in (matrix, matrix.T):
        direction = keras.ops.convert_to_numpy(optimizers.orthogonalized(keras.ops.convert_to_tensor(shape)))
        singular = np.linalg.svd(direction, compute_uv=False)
        assert singular.min() > 0.4 and singular.max() < 1.6
        # The step keeps the directions of the singular vectors.
        u, _, v = np.linalg.svd(shape, full_matrices=False)
        core = u.T @ direction @ v.T
        np.testing.assert_allclose(core, np.diag(np.diag(core)), atol=1e-3)


def test_muon_keeps_kernels_at_their_norm_and_moves_biases_by_nesterov():
    kernel = keras.Variable(np.random.default_rng(1).standard_normal((3, 3, 4, 8)).astype("float32"))
    shapes = {"bias": (8,), "head": (4, 2), "whitening_bias": (8,)}
    others = [keras.Variable(np.zeros(shape, "float32"), name=name) for name, shape in shapes.items()]
    # Of these three: the rate for an image, and the steps in which it falls to zero.
    rates, steps = np.array([0.053, 0.67, 0.053]), np.array([10, 10, 5])
    optimizer = optimizers.Muon(steps=10, bias_steps=5, batch_size=40)
    optimizer.build([kernel, *others])
    gradients = [keras.ops.full(variable.shape, 0.5) for variable in others]
    expected, momentum = np.zeros(3), np.zeros(3)
    for step in range(7):
        optimizer.apply([keras.ops.ones(kernel.shape), *gradients])
        decayed = 0.5 + 2e-6 / rates * expected
        momentum = 0.85 * momentum + decayed
        expected -= 40 * rates * np.maximum(1 - step / steps, 0) * (decayed + 0.85 * momentum)
        # Before each step the norm is that of one a filter; a step of rate 0.24 can't move it far from there.
        assert abs(np.linalg.norm(keras.ops.convert_to_numpy(kernel)) - 8**0.5) < 0.75
    for variable, value in zip(others, expected):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), value, rtol=1e-5)


def test_muon_rises_and_falls_and_slows_the_parts_that_it_is_told_to():
    """A kernel's step is as long as its rate, whatever the gradient: so steps show the rates."""
    random = np.random.default_rng(0)
    start = random.normal(size=(3, 3, 8, 16)).astype("float32")
    kernels = [keras.Variable(start, name=name) for name in ("block1", "block5")]
    optimizer = optimizers.Muon(12, 0, 40, slowed={"block1": 0.5}, warmup_steps=4)
    optimizer.build(kernels)
    lengths = []
    for _ in range(12):
        scaled = [kernel * 4 / np.linalg.norm(kernel) for kernel in map(keras.ops.convert_to_numpy, kernels)]
        gradient = keras.ops.convert_to_tensor(random.normal(size=(3, 3, 8, 16)), "float32")
        optimizer.apply([gradient, gradient], kernels)
        lengths.append([np.linalg.norm(new.numpy() - old) for new, old in zip(kernels, scaled)])
    slow, full = np.array(lengths).T
    np.testing.assert_allclose(slow[1:], full[1:] / 2, rtol=1e-3)
    assert full[0] < 1e-5  # rates rise from nothing
    assert full[1] < full[2] < full[3] < full[4] and full[5] > full[8] > full[11]


def test_a_run_s_muon_rises_for_a_share_and_averages_over_a_share():
    rates = {"kernel_rate": 0.03, "bias_rate": 1e-4, "head_rate": 2e-5}
    told = rates | {"epochs": 5, "slowed": {"block1": 0.5}, "warmup_share": 0.2}
    pictures = data.source("sample", train_images=400).load().train
    made = batches.Batches(pictures, 10, 40, seed=0, flips="none")
    optimizer = optimizers.warm_muon(made, averaged_share=0.1, **told)
    assert (optimizer.steps, optimizer.warmup_steps) == (50, 10)
    assert optimizer.use_ema and optimizer.ema_momentum == pytest.approx(1 - 1 / 5)
    assert optimizer.rates == {"kernel": 0.03, "bias": 1e-4, "head": 2e-5}
    assert optimizer.slowed == {"block1": 0.5} and optimizer.batch_size == 40
    assert not optimizers.warm_muon(made, averaged_share=0.0, **told).use_ema
    fewer = batches.Batches(pictures, 10, 1000, seed=0, flips="none")  # than a batch should have
    assert optimizers.warm_muon(fewer, averaged_share=0.1, **told).batch_size == 400


def test_a_run_s_adam_rises_for_a_share_falls_to_the_end_and_averages_over_a_share():
    pictures = data.source("sample", train_images=400).load().train
    made = batches.Batches(pictures, 10, 40, seed=0, flips="none")
    told = {"epochs": 5, "learning_rate": 3e-4, "warmup_share": 0.2, "slowed": {"block_1_": 0.5}}
    optimizer = optimizers.warm_adam(made, averaged_share=0.1, **told)
    rates = [float(optimizer._learning_rate(step)) for step in (0, 10, 50)]
    assert rates == pytest.approx([0, 3e-4, 0], abs=1e-9) and optimizer.slowed == {"block_1_": 0.5}
    assert optimizer.use_ema and optimizer.ema_momentum == pytest.approx(1 - 1 / 5)
    assert not optimizers.warm_adam(made, **told).use_ema


def test_muon_is_rebuilt_from_its_config():
    optimizer = optimizers.Muon(steps=10, bias_steps=5, batch_size=20)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()


def test_adam_by_layers_moves_a_slowed_layer_less():
    model = keras.Sequential([
        keras.Input((4,)),
        keras.layers.Dense(4, name="block_1_expand"),
        keras.layers.Dense(4, name="block_10_expand"),
    ])  # fmt: skip
    variables = model.trainable_variables
    before = [keras.ops.convert_to_numpy(variable).copy() for variable in variables]
    optimizer = optimizers.LayerwiseAdam(0.1, slowed={"block_1_": 0.25})
    optimizer.build(variables)
    optimizer.apply([keras.ops.ones(variable.shape) for variable in variables])
    steps = [start - keras.ops.convert_to_numpy(variable) for start, variable in zip(before, variables)]
    for step, expected in zip(steps, (0.025, 0.025, 0.1, 0.1)):  # Adam's first step is its rate
        np.testing.assert_allclose(step, expected, rtol=1e-4)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()


def test_differences_too_small_for_half_precision_survive_where_they_are_brought_to_unit_variance():
    images = np.random.default_rng(0).normal(size=(200, 5)).astype("float32")
    small = keras.layers.Rescaling(1e-5, offset=0.7)
    network = models.standardised(keras.Sequential([keras.Input((5,)), small]), images)
    found = network.predict(images, verbose=0).astype("float16")
    expected = (images - images.mean(axis=0)) / images.std(axis=0)
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert len(np.unique(np.float16(0.7 + 1e-5 * images))) < 3


def test_what_never_differs_in_some_images_is_not_blown_up_in_others():
    lower = keras.Sequential([keras.Input((2,)), keras.layers.ReLU()])
    images = np.array([[-1, 0], [-2, 2], [-3, 4]], "float32")
    found = models.standardised(lower, images).predict(np.array([[5, 6]], "float32"), verbose=0)
    np.testing.assert_allclose(found, [[5, (6 - 2) / (8 / 3) ** 0.5]], rtol=1e-5)


def test_the_rate_rises_to_its_peak_and_falls_to_zero():
    rate = optimizers.warm_cosine(0.5, steps=100, warmup_steps=20)
    found = [float(rate(step)) for step in range(101)]
    assert found[0] == 0 and max(found) == found[20] == 0.5 and found[100] == pytest.approx(0, abs=1e-6)
    assert found[10] == pytest.approx(0.25) and found[60] == pytest.approx(0.25)


def test_a_network_with_parting_paths_becomes_a_chain():
    """Two paths that part at once, one inside another's span, and a tensor that is used twice."""
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 1, name="first")(pixels)
    inner = keras.layers.Conv2D(4, 1)(x)
    inner = keras.layers.Add()([keras.layers.Conv2D(4, 1)(inner), inner])
    x = keras.layers.Add(name="sum")([keras.layers.Conv2D(4, 1)(x), inner])
    network = keras.Model(pixels, keras.layers.ReLU(name="last")(x))
    chain = keras.Sequential([keras.Input((8, 8, 3)), *models.links(network)])
    assert [layer.name for layer in chain.layers] == ["first", "sum", "last"]
    images = np.random.default_rng(0).random((2, 8, 8, 3))
    found, expected = (keras.ops.convert_to_numpy(each(images)) for each in (chain, network))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
