"""Training a run: from data and network to its evidence."""

import time

import keras
import numpy as np

from helpers import (
    calibration,
    checkpoint,
    devices,
    evaluation,
    files,
    model_files,
    models,
    normalization,
    predictions,
    source_weights,
)
from helpers.batches import Batches, EpochClock, one_hot, spread
from helpers.frozen import features

TRAIN_SCORED = 10_000  # training images that are scored at the end: enough for the gap to validation
# patience: epochs without progress on validation until a run stops and keeps its best epoch; None: to the end
DEFAULTS = {"label_smoothing": 0.0, "flips": "none", "views": "single", "patience": None}


def seed_everything(seed):
    """Make what follows a function of the seed alone, on this machine."""
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def train(run, source, build, optimizer, *, frozen=None, augmentation=(), prepare=None, after=None):
    """Return the run's record: the evidence there is or, where there is none, that of a training done now.

    build() makes the model; optimizer(batches) its optimizer; `augmentation` are layers that act in training
    only; prepare(model, splits) sets what comes from the data. frozen() makes a network whose outputs,
    computed once, are what the model learns from; both are saved as one. after() is the run whose model
    build() starts from. From run.parameters it takes `epochs`, `batch_size`, with frozen() `copies`, and
    what it finds of DEFAULTS.
    """
    if run.record is None:
        options = {"augmentation": augmentation, "prepare": prepare, "after": after}
        run.compute(lambda: train_now(run, source, build, optimizer, frozen, **options))
    return run.record


def train_now(run, source, build, optimizer, frozen, *, augmentation, prepare, after):
    """Train, and write the evidence; the arguments are those of `train`."""
    seed_everything(run.seed)
    base = frozen() if frozen else None
    seed_everything(run.seed)  # what came before may have trained something else first, or not
    model = build()
    began = time.perf_counter() - seconds_before(run)
    splits, cost = source.load(), None
    if frozen:
        asked = time.perf_counter()
        splits, cost = features(base, splits, run.parameters["copies"], run)
        began += time.perf_counter() - asked - cost["seconds"]  # what lay there counts as when it was made
    if prepare:
        prepare(model, splits)
    state = fit(run, model, splits, optimizer, augmentation)
    if not np.isfinite(state["history"][-1]["train_loss"]):
        checkpoint.forget(run)
        raise ArithmeticError(f"{run} has diverged, its loss is no number any more: give it smaller rates")
    whole = models.joined(base, model) if base else model
    files.write_whole(run.model, whole.save)
    seconds = time.perf_counter() - began
    record, arrays = gather(run, model, splits, state)
    record["parameters_total"] = whole.count_params()
    record["measured"]["computed_in"] = models.computed_in(whole)
    record["measured"]["seconds_to_model"] = round(seconds, 1)
    if cost:
        add_cost(record, cost)
    if after:
        spent = evaluation.cost(after().record)
        record["earlier_stages"] = {name: six_digits(number) for name, number in spent.items()}
    describe(run.model, source, whole, arrays["validation"])
    run.write(record, **arrays)
    checkpoint.forget(run)


def seconds_before(run):
    """What an interrupted run's finished epochs took."""
    return sum(files.read_json(run.state)["epoch_seconds"]) if run.state.is_file() else 0


def describe(path, source, model, judged):
    """Write beside a model what whoever asks it about pictures needs: classes, size, calibration."""
    honest = calibration.fit(judged["log_probabilities"], judged["labels"])
    model_files.describe(path, classes=list(source.classes), input={"size": model.input_shape[1]}, **honest)


def trial(run, source, build, optimizer, *, images, augmentation=()):
    """A short training on some of the training images: history, seconds, commit. The test images stay alone.

    It is kept until its series has ended, so that an interrupted one goes on with the next trial.
    """
    kept = run.folder / "trial.json"
    if kept.is_file():
        return files.read_json(kept)
    splits = source.load()
    splits = splits._replace(train=spread(splits.train, images), test=None)
    seed_everything(run.seed)
    state = fit(run, build(), splits, optimizer, augmentation)
    seconds = round(sum(state["epoch_seconds"]), 1)
    found = {"history": state["history"], "seconds": seconds, **state["environment"]}
    files.write_json(kept, found)
    checkpoint.forget(run)
    return found


def fit(run, model, splits, optimizer, augmentation):
    """Train from where the run stands to its end; leave the weights to be judged in `model`."""
    settings = DEFAULTS | run.parameters
    normalization.fuse(model)
    classes = model.output_shape[-1]
    batches = Batches(splits.train, classes, settings["batch_size"], run.seed, settings["flips"])
    pixels = keras.Input(model.input_shape[1:], dtype=splits.train.images.dtype.name)
    trainee = keras.Sequential([pixels, *augmentation, model])
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=settings["label_smoothing"])
    trainee.compile(optimizer(batches), loss, metrics=["accuracy"])
    patience = settings["patience"]
    stop = keras.callbacks.EarlyStopping("val_accuracy", patience=patience) if patience else None
    make_ready(trainee)
    averaged = keras.callbacks.SwapEMAWeights() if trainee.optimizer.use_ema else None
    saved = checkpoint.Checkpoint(run, stop)
    first = saved.restore(trainee)
    trainee.fit(
        batches,
        validation_data=(splits.validation.images, one_hot(splits.validation.labels, classes)),
        validation_batch_size=predictions.PREDICT_BATCH,
        initial_epoch=first,
        epochs=first if saved.state["stopped"] else settings["epochs"],
        callbacks=[EpochClock(batches, run.seed), *filter(None, [averaged, stop]), saved],
        shuffle=False,  # Batches does it; what Keras does on top would differ after a resume
        verbose=0,
    )
    if stop:
        trainee.load_weights(run.folder / saved.state["best_weights"])
    if averaged:
        trainee.optimizer.finalize_variable_values(trainee.trainable_variables)
    return saved.state


def make_ready(trainee):
    """Make the variables that a first step would make: TensorFlow would trace that step twice.

    Tracing a step of ResNet50 takes a minute on two cores.
    """
    trainee.optimizer.build(trainee.trainable_variables)
    nothing = np.zeros((1, *trainee.output_shape[1:]), "float32")
    trainee.compute_metrics(None, nothing, nothing)


def gather(run, model, splits, state):
    """The record of a finished training and the arrays that go with it."""
    views = (DEFAULTS | run.parameters)["views"]
    # Training images are looked at once each: their score is for the gap to validation, not for a table.
    looks = {"train": "single", "validation": views, "test": views}
    judged = splits._replace(train=spread(splits.train, TRAIN_SCORED))
    arrays = {name: predictions.of(model, getattr(judged, name), look) for name, look in looks.items()}
    scores = {name: evaluation.metrics(**found) for name, found in arrays.items()}
    record = {
        **{
            name: {key: scores[name][key] for key in ("correct", "total", "loss")}
            for name in ("train", "validation")
        },
        "test": scores["test"],
        "confusion": evaluation.confusion(**arrays["test"]),
        "history": state["history"],
        "epochs": state["epoch"],
        "parameters_trained": models.count_parameters(model)[0],
        "train_pflop": train_pflop(model, state["epoch"] * len(splits.train.images)),
        "measured": measured(state, splits) | source_weights.as_found(run.weights),
    }
    if views != "single":
        record["test_single_view"] = evaluation.metrics(**predictions.of(model, splits.test, "single"))
    return record, {name: arrays[name] for name in ("validation", "test")}


def add_cost(record, cost):
    """What the frozen part has cost, once: its passes over the training images, and the seconds of all."""
    record["train_pflop"] = six_digits(record["train_pflop"] + cost["pflop"])
    record["measured"]["features_seconds"] = cost["seconds"]
    record["measured"]["train_seconds"] = round(record["measured"]["train_seconds"] + cost["seconds"], 1)


def measured(state, splits):
    """What differs from machine to machine and from run to run."""
    seconds = sum(state["epoch_seconds"])
    return {
        "train_seconds": round(seconds, 1),
        "epoch_seconds": state["epoch_seconds"],
        "images_per_second": round(state["epoch"] * len(splits.train.images) / seconds, 1),
        **devices.circumstances(),
        **state["environment"],
    }


def train_pflop(model, images):
    """2 operations a multiply-add, 3 passes (forward and twice backward) where trained, 1 where not."""
    trained, forward_only = models.multiply_adds(model)
    return six_digits(2 * (3 * trained + forward_only) * images / 1e15)


def six_digits(number):
    """Those that count: a small run's cost is small, but never none."""
    return float(f"{number:.6g}")
