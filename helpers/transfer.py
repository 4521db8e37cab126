"""What every transfer notebook does with a pretrained network: a linear layer on its frozen features."""

from functools import cache

import keras

from helpers import models, runs, training

# The same for all networks. Features of a picture and of its mirror image are both learned from.
PROBE = {
    "epochs": 15, "batch_size": 500, "learning_rate": 1e-3, "copies": 2, "precision": "mixed_bfloat16",
}  # fmt: skip


def probe(experiment, frozen, *, source, seed, weights, settings=None, retrain=False, model_needed=False):
    """Train a linear layer on the outputs of frozen(), a row of numbers for each picture; returns the run.

    `settings` replaces or adds to PROBE: what else decides the result (block, resolution) belongs there.
    """
    parameters = PROBE | (settings or {})

    @cache
    def base():
        with models.precision(parameters["precision"]):
            network = frozen()
        network.trainable = False
        return network

    run = runs.start(
        experiment, source=source, seed=seed, parameters=parameters, weights=weights, retrain=retrain,
        model_needed=model_needed,
    )  # fmt: skip

    def head():
        return keras.Sequential([keras.Input(base().output_shape[1:]), models.head(len(source.classes))])

    def adam(steps_per_epoch):
        steps = steps_per_epoch * parameters["epochs"]
        return keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(parameters["learning_rate"], steps)
        )

    training.train(run, source, head, adam, frozen=base)
    return run
