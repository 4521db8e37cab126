"""Runs that were killed, truly and at the worst moments, end with the same evidence as runs that were not."""

import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import PUBLISHED
from PIL import Image

from helpers import data, devices, files, runs, vgg16

TWICE = "02-baseline-cnn"  # the notebook that is run small twice

# Trains one small run: EARLY, which stops early, or FAST. The second argument says where the process
# kills itself: in a batch of an epoch, or in the middle of writing a file, half of which is then there.
SCRIPT = """
import os, signal, sys
from helpers import batches, data, devices, files, models, optimizers, runs, training
import keras

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def in_batch(epoch, batch):
    class Killer(keras.callbacks.Callback):
        def on_train_batch_end(self, number, logs=None):
            if (self.model.optimizer.iterations.numpy(), number) == ((epoch - 1) * 5 + batch, batch - 1):
                die()
    fit = keras.Model.fit
    keras.Model.fit = lambda *args, callbacks, **more: fit(*args, callbacks=[*callbacks, Killer()], **more)

def in_writing(name):
    replace = os.replace
    def killed(part, path):
        if os.path.basename(path) == name:
            os.truncate(part, os.path.getsize(part) // 2)
            die()
        replace(part, path)
    os.replace = killed

# Stops after epoch 3 at the earliest and, as nothing is learned after step 20, after epoch 6 at the latest.
EARLY = dict(
    parameters={"epochs": 9, "batch_size": 80, "patience": 2, "flips": "random"},
    build=lambda: models.pooling_cnn(10, dropout=0.3),
    optimizer=lambda batches: keras.optimizers.Adam(
        keras.optimizers.schedules.PiecewiseConstantDecay([20], [0.003, 0.0])),
    augmentation=[batches.RandomShift(2)],
)
FAST = dict(
    parameters={"epochs": 3, "batch_size": 80, "flips": "alternating", "views": "flip"},
    build=lambda: models.fast_cnn(10, widths=(8, 16, 16)),
    optimizer=lambda batches: optimizers.Muon(
        3 * len(batches), len(batches), batch_size=80, warmup_steps=2, use_ema=True, ema_momentum=0.8),
    augmentation=[batches.RandomShift(2)],
    prepare=lambda model, splits: models.whiten(model, splits.train.images),
)

exec(sys.argv[2])
source = data.source("sample", train_images=400)
options = {"EARLY": EARLY, "FAST": FAST}[sys.argv[1]]
run = runs.start("trial", source=source, parameters=options.pop("parameters"))
devices.use("off")
training.train(run, source, **options)
"""
KILLS_IN_TURN = (
    "in_batch(1, 2)",
    "in_writing('state.json')",
    "in_batch(2, 4)",
    "in_writing('epoch-2.weights.h5')",
    "in_writing('model.keras')",
    "in_writing('record.json')",
)


def train(folder, options, kill=""):
    environment = os.environ | {"RUNS_DIR": str(folder), "PYTHONPATH": str(runs.ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, options, kill]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == (-signal.SIGKILL if kill else 0), f"{kill}\n{done.stdout}{done.stderr}"
    return done.stdout


def evidence(folder):
    """What all runs below the folder left, but for what is measured."""
    found = {}
    for path in sorted(folder.rglob("record.json")):
        record = files.read_json(path)
        del record["measured"]
        arrays = {file.name: dict(np.load(file)) for file in sorted(path.parent.glob("*.npz"))}
        found[path.parent.relative_to(folder)] = record, arrays
    return found


def assert_same_evidence(one, other):
    assert one.keys() == other.keys() and one
    for (record, arrays), (other_record, other_arrays) in zip(one.values(), other.values()):
        assert record == other_record
        np.testing.assert_equal(arrays, other_arrays)


@pytest.mark.slow
def test_of_two_processes_that_need_the_same_run_one_computes_it(tmp_path):
    with ThreadPoolExecutor() as pool:
        said = list(pool.map(lambda _: train(tmp_path, "FAST"), range(2)))
    assert sum("epoch 1/3" in lines for lines in said) == 1
    assert sum("trial, seed 0: waits for another process" in lines for lines in said) == 1


@pytest.mark.slow
@pytest.mark.parametrize("options, kills", [("EARLY", KILLS_IN_TURN), ("FAST", ["in_batch(2, 4)"])])
def test_a_run_killed_again_and_again_leaves_the_evidence_of_an_unkilled_one(tmp_path, options, kills):
    train(tmp_path / "unkilled", options)
    for kill in kills:
        train(tmp_path / "killed", options, kill)
    assert "resumes after epoch" in train(tmp_path / "killed", options)
    assert_same_evidence(evidence(tmp_path / "unkilled"), evidence(tmp_path / "killed"))
    measured = files.read_json(next(tmp_path.glob("killed/trial/*/seed-0/record.json")))["measured"]
    assert measured["seconds_to_model"] > sum(measured["epoch_seconds"]) - 0.1  # those before the kills too
    left = {path.name for path in tmp_path.glob("killed/trial/*/seed-0/*")}
    assert left == {"model.keras", "model.json", "record.json", "test.npz", "validation.npz"}


def smoke(folder, *words):
    environment = os.environ | {"RUNS_DIR": str(folder / "runs")}
    command = [sys.executable, runs.ROOT / "train_model.py", *words, "--smoke", "--out", folder / "copies"]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", [path.stem for path in PUBLISHED if path.stem != TWICE])
def test_every_notebook_runs_small(tmp_path, name):
    done = smoke(tmp_path, name)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_source_weights_are_made_of_any_folder_of_labelled_images(tmp_path):
    pictures = data.source("sample").load().train
    for number in range(80):
        folder = tmp_path / "pets" / ("cats" if pictures.labels[number] < 5 else "dogs")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pictures.images[number]).save(folder / f"{number}.png")
    done = smoke(tmp_path, "00", "--data", tmp_path / "pets")
    assert done.returncode == 0, done.stdout
    (record,) = (record for record, _ in evidence(tmp_path / "runs").values())
    assert record["data"]["name"] == "folder:pets" and record["data"]["classes"] == ["cats", "dogs"]
    (file,) = tmp_path.glob("runs/pretrain-vgg16/*/seed-0/vgg16.weights.h5")
    assert vgg16.pretrained(str(file), 10).output_shape == (None, 10)


@pytest.mark.slow
def test_the_same_run_leaves_the_same_evidence(tmp_path):
    once, again = smoke(tmp_path / "once", TWICE), smoke(tmp_path / "again", TWICE)
    assert once.returncode == again.returncode == 0, once.stdout + again.stdout
    scores = r"train [01]\.\d+ \(loss \d+\.\d+\)  validation [01]\.\d+ \(\d+\.\d+\)"
    progress = rf"baseline-fast, seed 0  epoch 2/2  {scores}  \d+ s"
    assert re.search(progress, once.stdout)
    assert_same_evidence(evidence(tmp_path / "once/runs"), evidence(tmp_path / "again/runs"))


@pytest.mark.slow
def test_a_gpu_asked_for_where_none_is_is_one_line(tmp_path):
    if devices.gpus():
        pytest.skip("there is a GPU here")
    done = smoke(tmp_path, "02", "--gpu", "on")
    assert done.returncode == 1 and "FAILED, RuntimeError: gpu=on, but" in done.stdout
    assert not evidence(tmp_path / "runs")
