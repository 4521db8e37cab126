"""Data order, augmentation, views, devices; and the same run under TensorFlow and other backends."""

import json
import os
import subprocess
import sys
from functools import partial

import keras
import numpy as np
import pytest

from helpers import batches, data, devices, evaluation, models, predictions, runs, training

SMALL = {"epochs": 1, "batch_size": 50}


@pytest.fixture(scope="module")
def sample():
    return data.source("sample", train_images=500).load()


def ordered(sample, seed=0, flips="none", epoch=0):
    made = batches.Batches(sample.train, 10, 100, seed, flips)
    made.go_to(epoch)
    return made


@pytest.mark.parametrize("count", [1, 7, 300, 499, 500, 900])
def test_a_part_is_as_large_as_asked_and_spread_over_all(sample, count):
    numbered = data.Split(sample.train.images, np.arange(len(sample.train.labels)))
    found = batches.spread(numbered, count).labels
    assert len(found) == min(count, 500) == len(set(found))
    assert np.diff([*found, 500]).max() <= np.ceil(500 / min(count, 500))


def test_every_image_comes_once_an_epoch_with_its_own_label(sample):
    order = ordered(sample).order
    assert sorted(order) == list(range(len(sample.train.images)))
    images, targets = ordered(sample)[2]
    np.testing.assert_array_equal(images, sample.train.images[order[200:300]])
    np.testing.assert_array_equal(targets.argmax(axis=1), sample.train.labels[order[200:300]])


def test_data_order_is_a_function_of_seed_and_epoch(sample):
    assert np.array_equal(ordered(sample, 1, epoch=3).order, ordered(sample, 1, epoch=3).order)
    assert not np.array_equal(ordered(sample, 1, epoch=3).order, ordered(sample, 1, epoch=4).order)
    assert not np.array_equal(ordered(sample, 1, epoch=3).order, ordered(sample, 2, epoch=3).order)


def test_alternating_flips_show_both_sides_in_any_two_epochs(sample):
    one, other = (ordered(sample, flips="alternating", epoch=epoch).mirrored for epoch in (4, 5))
    assert np.array_equal(one, ~other)
    assert 0.3 < one.mean() < 0.7
    flipping = ordered(sample, flips="alternating")
    images, _ = flipping[0]
    originals = sample.train.images[flipping.order[:100]]
    mirrored = flipping.mirrored[flipping.order[:100]]
    np.testing.assert_array_equal(images[mirrored], originals[mirrored][:, :, ::-1])
    np.testing.assert_array_equal(images[~mirrored], originals[~mirrored])


def test_random_flips_are_drawn_anew_in_every_epoch(sample):
    one, same, other = (ordered(sample, flips="random", epoch=epoch).mirrored for epoch in (4, 4, 5))
    assert np.array_equal(one, same) and 0.3 < one.mean() < 0.7 and 0.3 < (one != other).mean() < 0.7


def test_random_shift_moves_whole_images_by_whole_pixels(sample):
    images = sample.train.images[:32].astype("float32")
    layer = batches.RandomShift(2)
    moved = keras.ops.convert_to_numpy(layer(images, training=True))
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)], mode="reflect")
    seen = set()
    for image, all_places in zip(moved, padded):
        places = [
            (row, column)
            for row in range(5)
            for column in range(5)
            if np.array_equal(image, all_places[row : row + 32, column : column + 32])
        ]
        assert places
        seen.update(places)
    assert len(seen) > 8
    assert np.array_equal(keras.ops.convert_to_numpy(layer(images, training=False)), images)


def test_views_have_weights_of_one_and_move_as_named():
    for views in predictions.VIEWS.values():
        assert sum(weight for *_, weight in views) == 1
    image = np.arange(16).reshape(1, 4, 4, 1)
    moved = predictions.view(image, False, 1)
    np.testing.assert_array_equal(moved[0, 1:, 1:], image[0, :3, :3])
    np.testing.assert_array_equal(predictions.view(image, False, -1)[0, :3, :3], image[0, 1:, 1:])
    np.testing.assert_array_equal(predictions.view(image, True, 0), image[:, :, ::-1])


def test_averaged_probabilities_are_the_mean_over_mirrored_and_plain(sample):
    keras.utils.set_random_seed(0)
    model = models.pooling_cnn(10)
    images = sample.test.images[:20]
    averaged = np.exp(predictions.log_probabilities(model, images, "flip"))
    single = np.exp(predictions.log_probabilities(model, images))
    mirrored = np.exp(predictions.log_probabilities(model, images[:, :, ::-1]))
    np.testing.assert_allclose(averaged, (single + mirrored) / 2, rtol=1e-5)
    np.testing.assert_allclose(averaged.sum(axis=1), 1, rtol=1e-6)


def test_gpu_words():
    here = devices.gpus()
    for word in ("off", "false", False, "0", "OFF"):
        assert devices.use(word).startswith("CPU")
    with pytest.raises(ValueError, match="gpu must be auto, on or off; got 'maybe'"):
        devices.use("maybe")
    if not here:
        for word in ("on", "true", True):
            with pytest.raises(RuntimeError, match="gpu=on, but .* sees no GPU here"):
                devices.use(word)


def test_off_hides_the_gpus_and_auto_does_not(monkeypatch):
    hidden = []
    config = pytest.importorskip("tensorflow").config
    monkeypatch.setattr(config, "set_visible_devices", lambda *told: hidden.append(told))
    devices.use("auto")
    assert hidden == []
    devices.use("off")
    assert hidden == [([], "GPU")]


@pytest.mark.skipif(bool(devices.gpus()), reason="the processor is asked where there is no GPU")
@pytest.mark.parametrize(
    ("flags", "has_it"),
    [("avx2 avx512_bf16 fma", True), ("amx_bf16", True), ("fp bf16 i8mm", True), ("avx2 avx512f", False)],
)
def test_a_processor_says_whether_it_has_bfloat16(tmp_path, monkeypatch, flags, has_it):
    monkeypatch.setattr(runs, "CPUINFO", tmp_path / "cpuinfo")
    assert not devices.has_bfloat16()  # another system's
    runs.CPUINFO.write_text(f"model name\t: a processor\nflags\t\t: {flags}\n")
    assert devices.has_bfloat16() == has_it


def test_averaged_weights_are_what_is_judged(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RUNS", tmp_path)
    source = data.source("sample", train_images=400)
    found = {}
    for momentum in (None, 0.0, 0.9999):  # no average, one of the last step alone, one of the first weights
        parameters = {"epochs": 3, "batch_size": 40, "momentum": momentum}
        run = runs.start("averaged", source=source, parameters=parameters)
        options = {} if momentum is None else {"use_ema": True, "ema_momentum": momentum}
        adam = keras.optimizers.Adam(0.01, **options)
        build = partial(models.fast_cnn, 10, widths=(8, 16, 16))
        found[momentum] = training.train(run, source, build, lambda batches, adam=adam: adam)
    assert found[0.0]["test"] == found[None]["test"] and found[0.0]["history"] == found[None]["history"]
    learned, kept = (found[momentum]["history"][-1] for momentum in (0.0, 0.9999))
    assert learned["train_accuracy"] == kept["train_accuracy"] > 0.4
    assert kept["validation_accuracy"] < 0.3
    assert found[0.9999]["test"]["correct"] < 0.3 * found[0.9999]["test"]["total"]


def test_of_a_run_that_stops_early_the_best_epoch_is_judged(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RUNS", tmp_path)
    source = data.source("sample", train_images=500)
    run = runs.start("early", source=source, parameters={"epochs": 9, "batch_size": 50, "patience": 2})
    # Four good epochs, then far too high a rate.
    rates = keras.optimizers.schedules.PiecewiseConstantDecay([40], [0.003, 0.3])
    adam = keras.optimizers.Adam(rates)
    record = training.train(run, source, lambda: models.pooling_cnn(10), lambda batches: adam)
    shares = [line["validation_accuracy"] for line in record["history"]]
    assert record["epochs"] == len(shares) < 9 and shares[-1] < max(shares)
    judged = record["validation"]
    assert abs(judged["correct"] - max(shares) * judged["total"]) <= 1


def test_a_run_is_trained_and_judged_as_its_parameters_say(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RUNS", tmp_path)
    source, seen = data.source("sample", train_images=500), []
    told = SMALL | {"label_smoothing": 0.3, "flips": "alternating", "views": "flip"}
    run = runs.start("settings", source=source, seed=3, parameters=told)

    def adam(batches):
        seen.append((batches.flips, batches.seed, batches.batch_size))
        return keras.optimizers.Adam(0.003)

    record = training.train(run, source, lambda: models.pooling_cnn(10), adam)
    assert seen == [("alternating", 3, 50)]
    model, splits = keras.models.load_model(run.model), source.load()
    images, labels = splits.validation
    said = predictions.log_probabilities(model, images)
    smooth = 0.7 * said[np.arange(len(labels)), labels] + 0.3 * said.mean(axis=1)
    assert record["history"][-1]["validation_loss"] == pytest.approx(-smooth.mean(), rel=1e-3)
    for part in ("validation", "test"):
        split, found = getattr(splits, part), run.arrays(part)
        np.testing.assert_array_equal(found["labels"], split.labels)
        both_sides = predictions.log_probabilities(model, split.images, "flip")
        np.testing.assert_allclose(found["log_probabilities"], both_sides, atol=5e-3)
    one_side = evaluation.metrics(**predictions.of(model, splits.test, "single"))
    assert record["test_single_view"] == pytest.approx(one_side, rel=1e-3)


class Traced(keras.layers.Layer):
    """Notes each time that a training step is traced."""

    def __init__(self):
        super().__init__()
        self.times = []

    def call(self, images, training=False):
        if training:
            self.times.append("once more")
        return images


def test_a_training_step_is_traced_once(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RUNS", tmp_path)
    source = data.source("sample", train_images=100)
    run, traced = runs.start("traced", source=source, parameters=SMALL | {"epochs": 2}), Traced()
    adam = keras.optimizers.Adam(0.001)
    training.train(run, source, lambda: models.pooling_cnn(10), lambda batches: adam, augmentation=[traced])
    assert traced.times == ["once more"]


def test_a_diverged_training_ends_at_once_is_said_in_a_line_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runs, "RUNS", tmp_path)
    source = data.source("sample", train_images=100)
    run = runs.start("diverged", source=source, parameters=SMALL | {"epochs": 3})
    sgd = keras.optimizers.SGD(1e30)
    with pytest.raises(ArithmeticError, match="diverged, seed 0 has diverged, .* smaller rates") as error:
        training.train(run, source, lambda: models.pooling_cnn(10), lambda batches: sgd)
    assert "\n" not in str(error.value) and not list(run.folder.iterdir())
    said = capsys.readouterr().out
    assert "epoch 1/3" in said and "epoch 2/3" not in said


@pytest.mark.parametrize("later", ["the same commit", "another commit"])
def test_a_run_that_other_code_goes_on_with_counts_as_changed(tmp_path, monkeypatch, later):
    monkeypatch.setattr(runs, "RUNS", tmp_path)
    source = data.source("sample", train_images=100)

    def train():
        run = runs.start("resumed", source=source, parameters=SMALL | {"epochs": 2})
        adam = keras.optimizers.Adam(0.001)
        return training.train(run, source, lambda: models.pooling_cnn(10), lambda batches: adam)

    def by(commit):
        return {"versions": {}, "commit": commit, "dirty": False}

    monkeypatch.setattr(runs, "environment", lambda: by("the same commit"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(batches.EpochClock, "on_epoch_begin", interrupted_in_the_second)
        train()
    monkeypatch.setattr(runs, "environment", lambda: by(later))
    measured = train()["measured"]
    assert measured["commit"] == "the same commit" and measured["dirty"] == (later == "another commit")


def test_a_record_keeps_what_the_stages_before_it_have_cost(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RUNS", tmp_path)
    source = data.source("sample", train_images=100)

    def stage(name, **options):
        run = runs.start(name, source=source, parameters=SMALL)
        optimizer = keras.optimizers.Adam(0.001)
        training.train(run, source, lambda: models.pooling_cnn(10), lambda batches: optimizer, **options)
        return run

    first = stage("first")
    last = stage("last", after=lambda: stage("second", after=lambda: first))
    assert "earlier_stages" not in first.record
    once, thrice = (evaluation.cost(run.record) for run in (first, last))
    assert thrice["train_pflop"] == pytest.approx(3 * once["train_pflop"], rel=1e-5)
    assert thrice["train_seconds"] > once["train_seconds"]


def interrupted_in_the_second(clock, epoch, logs=None):
    if epoch == 1:
        raise KeyboardInterrupt


def test_a_record_tells_what_was_computed_in(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RUNS", tmp_path)
    source = data.source("sample", train_images=100)
    for machine_has_it, expected in ((False, "float32"), (True, "bfloat16")):
        monkeypatch.setattr(devices, "has_bfloat16", lambda found=machine_has_it: found)
        run = runs.start("types", source=source, seed=int(machine_has_it), parameters=SMALL)

        def build():
            with models.precision("mixed_bfloat16"):
                return models.fast_cnn(10, widths=(8, 16, 16))

        record = training.train(run, source, build, lambda batches: keras.optimizers.Adam(0.01))
        assert record["measured"]["computed_in"] == expected


WITHOUT_TENSORFLOW = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.startswith("tensorflow") else find(name, *rest)
"""
SMALL_RUN = """
import sys
import keras
from helpers import batches, data, devices, models, optimizers, runs, training
source = data.source("sample", train_images=1000)
run = runs.start("small", source=source, parameters={{
    "epochs": 3, "batch_size": 100, "label_smoothing": 0.2, "flips": "alternating", "views": "flip"}})
devices.use("off")
training.train(
    run, source, lambda: models.fast_cnn(10, widths=(16, 32, 32)),
    lambda batches: optimizers.Muon(3 * len(batches), len(batches), batch_size=100),
    augmentation=[batches.RandomShift(2)],
    prepare=lambda model, splits: models.whiten(model, splits.train.images))
assert keras.backend.backend() == {backend!r}, keras.backend.backend()
assert ("tensorflow" in sys.modules) == ({backend!r} == "tensorflow")
"""


def run_small(backend, folder):
    """One small run in a fresh process; under another backend, TensorFlow is not to be found there."""
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "RUNS_DIR": str(folder / backend),
        "PYTHONPATH": str(runs.ROOT),
    }
    script = ("" if backend == "tensorflow" else WITHOUT_TENSORFLOW) + SMALL_RUN.format(backend=backend)
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(next((folder / backend).rglob("record.json")).read_text())


@pytest.mark.slow
@pytest.mark.parametrize("other", ["jax", "torch"])
def test_the_same_code_trains_under_tensorflow_and(other, tmp_path):
    """Different random numbers, the same learning: both well above chance and near one another."""
    pytest.importorskip(other)
    both = [run_small(backend, tmp_path) for backend in ("tensorflow", other)]
    for key in ("fingerprint", "parameters_trained", "parameters_total", "train_pflop", "epochs"):
        assert both[0][key] == both[1][key], key
    accuracies = [record["train"]["correct"] / record["train"]["total"] for record in both]
    assert min(accuracies) > 0.4 and abs(accuracies[0] - accuracies[1]) < 0.2, accuracies
