"""The frozen part computed once: the same numbers as through the whole network, on disk, reused."""

import os
import random
import re
from functools import partial

import keras
import numpy as np
import pytest

from helpers import calibration, data, evaluation, frozen, model_files, models, runs, training, transfer


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(runs, "RESULTS", tmp_path / "results")


@pytest.fixture(scope="module")
def source():
    return data.source("sample", train_images=300)


@pytest.fixture(scope="module")
def base():
    keras.utils.set_random_seed(0)
    network = models.pooling_cnn(10)
    lower = keras.Sequential([keras.Input((32, 32, 3)), *network.layers[1:5]])
    lower.trainable = False
    return keras.Sequential([keras.Input((32, 32, 3)), *lower.layers, keras.layers.GlobalAveragePooling2D()])


def test_features_are_the_network_s_outputs_of_each_picture_and_its_mirror_image(source, base):
    splits = source.load()
    found, cost = frozen.features(base, splits, 2, "trial")
    images = splits.train.images
    both = np.concatenate([images, images[:, :, ::-1]])
    np.testing.assert_allclose(found.train.images, base.predict(both, verbose=0), rtol=2e-3, atol=1e-3)
    np.testing.assert_array_equal(found.train.labels, np.tile(splits.train.labels, 2))
    np.testing.assert_allclose(
        found.test.images, base.predict(splits.test.images, verbose=0), rtol=2e-3, atol=1e-3
    )
    assert isinstance(found.train.images, np.memmap) and found.train.images.dtype == "float16"
    assert cost["pflop"] == pytest.approx(2 * sum(models.multiply_adds(base)) * len(both) / 1e15)


def test_they_are_computed_once_for_the_same_network_and_pictures(source, base, capsys):
    splits = source.load()
    frozen.features(base, splits, 1, "trial")
    assert "through the frozen part, 300 of 300" in capsys.readouterr().out
    frozen.features(base, splits, 1, "trial")
    assert capsys.readouterr().out == ""
    changed = keras.models.clone_model(base)
    changed.set_weights([1.01 * weight for weight in base.get_weights()])
    frozen.features(changed, splits, 1, "trial")
    assert "through the frozen part" in capsys.readouterr().out


def test_they_are_computed_anew_where_anything_that_decides_them_differs(source):
    def digest(size=40, strides=1, names="a", copies=1, changed=None):
        keras.utils.set_random_seed(0)
        layers = [
            keras.layers.Resizing(size, size, name=f"{names}1"),
            keras.layers.Conv2D(4, 3, strides=strides, name=f"{names}2"),
        ]
        splits = source.load()
        if changed:
            images = getattr(splits, changed).images.copy()
            images[0, 0, 0, 0] ^= 1
            splits = splits._replace(**{changed: getattr(splits, changed)._replace(images=images)})
        return frozen.digest(keras.Sequential([keras.Input((32, 32, 3)), *layers]), splits, copies)

    others = [{"size": 48}, {"strides": 2}, {"copies": 2}]
    others += [{"changed": part} for part in ("train", "validation", "test")]
    assert len({digest(), *(digest(**other) for other in others)}) == 1 + len(others)
    assert digest(names="b") == digest()  # Keras numbers layers as they are made


def test_an_interrupted_pass_leaves_nothing_that_counts(source, base, monkeypatch):
    splits, calls = source.load(), []

    def interrupted(batch):
        calls.append(len(batch))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(base, "predict_on_batch", interrupted)
        frozen.features(base, splits, 1, "trial")
    assert calls and not [path for path in runs.RUNS.rglob("*") if path.is_file()]
    found, _ = frozen.features(base, splits, 1, "trial")
    assert np.asarray(found.train.images).any(axis=1).all()


def test_another_process_that_computes_the_same_is_in_nobody_s_way(source, base, monkeypatch):
    splits, whole = source.load(), base.predict_on_batch
    killed = runs.RUNS / "features" / "part.abc.999999999"
    killed.mkdir(parents=True)

    def meanwhile(batch):
        with monkeypatch.context() as patch:
            patch.setattr(base, "predict_on_batch", whole)
            patch.setattr(os, "getpid", lambda: os.getppid())
            frozen.features(base, splits, 1, "the other one")
        return whole(batch)

    with monkeypatch.context() as patch:
        patch.setattr(base, "predict_on_batch", meanwhile)
        found, _ = frozen.features(base, splits, 1, "trial")
    np.testing.assert_allclose(found.train.images, base.predict(splits.train.images, verbose=0), 2e-3, 1e-3)
    (folder,) = killed.parent.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == [
        "cost.json", "test.npy", "train.npy", "validation.npy",
    ]  # fmt: skip


def test_of_larger_maps_fewer_go_through_at_a_time(source, base, tmp_path, monkeypatch):
    seen, predict = [], base.predict_on_batch
    monkeypatch.setattr(base, "predict_on_batch", lambda batch: seen.append(len(batch)) or predict(batch))
    monkeypatch.setattr(frozen, "VALUES", 32 * 32 * 32 * 70)  # seventy times the first convolution's map
    images = source.load().train.images
    frozen.write(base, images, 1, tmp_path / "found.npy", "trial")
    assert seen == [70, 70, 70, 70, 20]
    expected = base.predict(images, verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, rtol=2e-3, atol=1e-3)


def test_values_too_large_for_half_precision_are_refused(source):
    loud = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Rescaling(1e6), keras.layers.Flatten()])
    with pytest.raises(OverflowError, match="too large for half precision"):
        frozen.features(loud, source.load(), 1, "trial")


def test_head_and_frozen_part_become_one_model_with_the_recorded_accuracy(source, base):
    settings = {"epochs": 6, "batch_size": 50, "learning_rate": 0.05}
    run = transfer.probe("probe", lambda: base, source=source, seed=0, weights=None, settings=settings)
    model = keras.models.load_model(run.model)
    images, labels = source.load().test
    right = int((model.predict(images, verbose=0).argmax(axis=1) == labels).sum())
    assert abs(right - run.record["test"]["correct"]) <= 1  # features were rounded to half precision
    assert run.record["validation"]["correct"] / run.record["validation"]["total"] > 0.2
    assert (
        run.record["parameters_trained"] == model.layers[-1].count_params() < run.record["parameters_total"]
    )
    described = model_files.facts(run.model)
    assert described["classes"] == list(source.classes) and described["input"] == {"size": 32}
    judged = run.arrays("validation")
    honest = calibration.fit(judged["log_probabilities"], judged["labels"])
    assert {name: described[name] for name in honest} == pytest.approx(honest, rel=1e-3)
    assert 0.01 < described["temperature"] < 100
    head = 3 * model.layers[-1].kernel.shape[0] * 10 * 6 * 600
    expected = 2 * (sum(models.multiply_adds(base)) * 600 + head) / 1e15
    assert run.record["train_pflop"] == pytest.approx(expected, rel=1e-5)
    measured = run.record["measured"]
    summed = sum(measured["epoch_seconds"]) + measured["features_seconds"]
    assert measured["train_seconds"] == pytest.approx(summed, abs=0.11)
    assert measured["train_seconds"] > measured["features_seconds"] > 0
    assert measured["seconds_to_model"] > measured["train_seconds"] - 0.2


def test_a_needed_model_that_is_not_here_is_trained_again(source, base, capsys):
    settings = {"epochs": 1, "batch_size": 50}

    def probe(**options):
        return transfer.probe(
            "probe", lambda: base, source=source, seed=0, weights=None, settings=settings, **options
        )

    probe().model.unlink()
    assert probe().record and not probe().model.exists()
    assert probe(model_needed=True).model.is_file()
    assert "its model is needed and not on this machine" in capsys.readouterr().out


def test_what_the_frozen_part_took_of_chance_changes_nothing(source, base):
    def history(name, frozen):
        settings = {"epochs": 1, "batch_size": 50}
        told = {"source": source, "seed": 0, "weights": None, "settings": settings}
        return transfer.probe(name, frozen, **told).record["history"]

    def after_another_training():
        keras.random.normal((3,))
        random.random()
        return base

    assert history("one", lambda: base) == history("other", after_another_training)


class Untouchable:
    """Test images that nobody may look at."""

    def __getattr__(self, name):
        raise AssertionError(f"the test images' {name} were asked for")


def test_a_trial_reads_validation_and_never_test(source, monkeypatch):
    splits = source.load()._replace(test=Untouchable())
    monkeypatch.setattr(source, "load", lambda: splits)
    run = runs.Run("trial", source.identity, 0, {"epochs": 2, "batch_size": 50}, None)
    run.make_room()
    found = training.trial(
        run, source, partial(models.pooling_cnn, 10), lambda batches: keras.optimizers.Adam(1e-3), images=100
    )
    history = found["history"]
    assert [line["epoch"] for line in history] == [1, 2] and "validation_accuracy" in history[0]
    assert not list(runs.RUNS.rglob("record.json"))


def test_trials_are_recorded_side_by_side(source):
    def at(rate):
        settings = {"epochs": 8, "batch_size": 50, "learning_rate": rate}
        build = partial(models.pooling_cnn, 10)
        return transfer.Trial(settings, build, lambda batches: keras.optimizers.Adam(rate))

    trials = {"fast": at(0.003), "slow": at(1e-9)}
    told = {"source": source, "seed": 0, "weights": None, "images": 300}
    record = transfer.tried("rates", trials, **told).record
    table = evaluation.tried(record)
    assert list(table.index) == ["fast", "slow"] and table.loc["slow", "difference"] < -10
    last = record["trials"]["fast"][-1]["validation_accuracy"]
    assert table.loc["fast", "correct"] == round(last * len(source.load().validation.labels))
    assert transfer.tried("rates", trials, **told).record == record
    assert [path.parent.parent.parent.name for path in runs.RUNS.glob("*/*/seed-*/*.json")] == ["rates"]
    assert {path.name for path in runs.RUNS.iterdir()} == {"rates"}
    measured = record["measured"]
    assert all(seconds > 0 for seconds in measured["trial_seconds"].values())
    assert set(measured["trial_commits"]) == set(trials)
    assert measured["dirty"] == runs.environment()["dirty"]
    fewer = transfer.tried("rates", trials, **told | {"images": 100}).record  # other images, another result
    assert fewer["trials"]["fast"] != record["trials"]["fast"]


def test_a_trial_is_made_once_and_leaves_no_weights(source, capsys):
    def trial():
        run = runs.Run("trial", source.identity, 0, {"epochs": 1, "batch_size": 50}, None)
        run.make_room()
        return training.trial(
            run,
            source,
            lambda: models.pooling_cnn(10),
            lambda batches: keras.optimizers.Adam(1e-3),
            images=100,
        )

    found = trial()
    assert "epoch 1/1" in capsys.readouterr().out
    assert found["seconds"] > 0 and trial() == found and "epoch 1/1" not in capsys.readouterr().out
    assert not list(runs.RUNS.rglob("*.weights.h5"))


def test_progress_is_told_in_every_copy(source, base, monkeypatch, capsys):
    monkeypatch.setattr(frozen, "CHUNK", 70)
    monkeypatch.setattr(frozen, "REPORTED", 100)
    splits = source.load()
    found, _ = frozen.features(base, splits, 2, "trial")
    assert len(found.train.images) == 2 * len(splits.train.images) == 600
    told = re.findall(r"part, (\d+) of 600", capsys.readouterr().out)
    assert told == ["140", "210", "300", "440", "510", "600"]
