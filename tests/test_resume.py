"""Runs that were killed, truly and at the worst moments, end with the same evidence as runs that were not."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from helpers import runs

# Trains one small run. The first argument says where the process kills itself: in a batch of an epoch, or in the
# middle of writing a file, half of which then stands where its part is written.
SCRIPT = """
import os, signal, sys
from helpers import data, models, optimizers, runs, training
import keras

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def in_batch(epoch, batch):
    class Killer(keras.callbacks.Callback):
        def on_train_batch_end(self, number, logs=None):
            if (self.model.optimizer.iterations.numpy(), number) == ((epoch - 1) * 5 + batch, batch - 1):
                die()
    keep = keras.Model.fit
    keras.Model.fit = lambda *args, callbacks, **options: keep(*args, callbacks=[*callbacks, Killer()], **options)

def in_writing(name):
    replace = os.replace
    def killed(part, path):
        if os.path.basename(path) == name:
            os.truncate(part, os.path.getsize(part) // 2)
            die()
        replace(part, path)
    os.replace = killed

EARLY = dict(
    parameters={"epochs": 6, "batch_size": 80, "patience": 1, "flips": "random"},
    build=lambda: models.pooling_cnn(10, dropout=0.5, batch_norm=True),
    optimizer=lambda steps: keras.optimizers.Adam(0.02),
    augmentation=[training.RandomShift(2)],
)
FAST = dict(
    parameters={"epochs": 3, "batch_size": 80, "label_smoothing": 0.2, "flips": "alternating", "views": "flip"},
    build=lambda: models.fast_cnn(10, widths=(8, 16, 16)),
    optimizer=lambda steps: optimizers.Muon(3 * steps, steps, bias_rate=5.0, head_rate=60.0),
    augmentation=[training.RandomShift(2)],
    prepare=lambda model, splits: models.whiten(model, splits.train.images),
)

exec(sys.argv[2])
source = data.source("sample", train_images=400)
options = {"EARLY": EARLY, "FAST": FAST}[sys.argv[1]]
run = runs.start("trial", source=source, parameters=options.pop("parameters"))
training.use_device("off")
training.train(run, source, **options)
"""
KILLS = (
    "in_batch(1, 2)",
    "in_writing('epoch-1.weights.h5')",
    "in_writing('state.json')",
    "in_batch(2, 4)",
    "in_writing('epoch-2.weights.h5')",
    "in_batch(3, 1)",
    "in_writing('model.keras')",
    "in_writing('test.npz')",
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
        record = runs.read_json(path)
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
@pytest.mark.parametrize("options", ["EARLY", "FAST"])
def test_a_run_killed_again_and_again_leaves_the_evidence_of_an_unkilled_one(tmp_path, options):
    train(tmp_path / "unkilled", options)
    for kill in KILLS:
        train(tmp_path / "killed", options, kill)
    assert "resumes after epoch" in train(tmp_path / "killed", options)
    assert_same_evidence(evidence(tmp_path / "unkilled"), evidence(tmp_path / "killed"))
    left = {path.name for path in tmp_path.glob("killed/trial/*/seed-0/*")}
    assert left == {"model.keras", "record.json", "test.npz", "validation.npz"}
