"""What every transfer notebook does with a pretrained network.

probe    a linear layer on its frozen features
tried    short trainings side by side, judged on validation images, that choose or explain something
"""

import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import NamedTuple

import keras

from helpers import devices, models, runs, source_weights, training

# The same for all networks. Features of a picture and of its mirror image are both learned from.
PROBE = {
    "epochs": 15, "batch_size": 500, "learning_rate": 1e-3, "copies": 2, "precision": "mixed_bfloat16",
}  # fmt: skip


def probe(experiment, frozen, *, source, settings, between=list, **start):
    """Train a linear layer on the outputs of frozen(), a row of numbers for each picture; returns the run.

    `settings` replaces or adds to PROBE: what else decides the result (block, resolution) belongs there.
    between() makes layers that come before the linear one. `start` is what runs.start takes besides.
    """
    parameters = PROBE | settings
    run = runs.start(experiment, source=source, parameters=parameters, **start)

    @cache
    def base():
        with models.precision(parameters["precision"]):
            network = frozen()
        network.trainable = False
        return network

    def head():
        features = keras.Input(base().output_shape[1:])
        return keras.Sequential([features, *between(), models.head(len(source.classes))])

    def adam(batches):
        steps = len(batches) * parameters["epochs"]
        return keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(parameters["learning_rate"], steps)
        )

    training.train(run, source, head, adam, frozen=base)
    return run


class Trial(NamedTuple):
    """A short training; its arguments are those of `training.trial`."""

    settings: dict  # what decides its result: as a run's parameters
    build: Callable
    optimizer: Callable
    augmentation: tuple = ()


def tried(experiment, trials, *, source, seed, weights, images, retrain=False):
    """Make trials {name: Trial} on so many training images; returns the run, for `evaluation.tried`."""
    told = {"tried_images": images, "trials": {name: trial.settings for name, trial in trials.items()}}
    run = runs.start(experiment, source=source, seed=seed, parameters=told, weights=weights, retrain=retrain)
    if run.record is None:
        run.compute(lambda: try_now(run, source, trials, images))
    return run


def try_now(run, source, trials, images):
    """Make the trials, one after the other, and write the evidence."""
    outcomes, folders = {}, []
    for name, (settings, build, optimizer, augmentation) in trials.items():
        called = f"{run.experiment}-{re.sub(r'[^A-Za-z0-9.]+', '-', name)}"
        one = runs.Run(called, source.identity, run.seed, settings | {"images": images}, run.weights)
        one.make_room()
        folders.append(one.folder)
        options = {"images": images, "augmentation": augmentation}
        outcomes[name] = training.trial(one, source, build, optimizer, **options)
    measured = devices.circumstances() | source_weights.as_found(run.weights)
    measured["trial_seconds"] = {name: outcome["seconds"] for name, outcome in outcomes.items()}
    # An interrupted series may be of several commits.
    measured["trial_commits"] = {name: outcome["commit"] for name, outcome in outcomes.items()}
    measured["dirty"] = any(outcome["dirty"] for outcome in outcomes.values())
    histories = {name: outcome["history"] for name, outcome in outcomes.items()}
    run.write({"trials": histories, "measured": measured})
    for folder in folders:
        shutil.rmtree(folder)
        for parent in folder.parents[:2]:  # of the trial, unless another seed's lies there
            with suppress(OSError):
                parent.rmdir()
