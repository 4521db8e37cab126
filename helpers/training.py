"""Training a run: device, data order, augmentation, resuming, evidence."""

import sys
import time
from datetime import UTC, datetime

import keras
import numpy as np
import psutil
from keras import layers, ops

from helpers import calibration, evaluation, models, released, runs, source_weights
from helpers.frozen import features

# How the test images are looked at: (mirrored, shift in pixels, weight). "six" is airbench's set of views.
VIEWS = {
    "single": [(False, 0, 1.0)],
    "flip": [(False, 0, 0.5), (True, 0, 0.5)],
    "six": [(False, 0, 0.25), (True, 0, 0.25)]
    + [(mirrored, shift, 0.125) for mirrored in (False, True) for shift in (-1, 1)],
}
PREDICT_BATCH = 500
TRAIN_SCORED = 10_000  # training images that are scored at the end, about: enough for the gap to validation
# patience: epochs without progress on validation until a run stops and keeps its best epoch; None: to the end
DEFAULTS = {"label_smoothing": 0.0, "flips": "none", "views": "single", "patience": None}


def use_device(gpu="auto"):
    """Choose where to compute (auto, on or off; booleans and their spellings too) and return its name."""
    wish = {"true": "on", "1": "on", "false": "off", "0": "off"}.get(str(gpu).lower(), str(gpu).lower())
    if wish not in ("auto", "on", "off"):
        raise ValueError(f"gpu must be auto, on or off; got {gpu!r}")
    if wish == "on" and not gpus():
        raise RuntimeError(
            f"gpu=on, but Keras's {keras.backend.backend()} backend sees no GPU here: use auto or off"
        )
    if wish == "off":
        keep_to_cpu()
    return device()


def device():
    """The name of what computes."""
    return gpus()[0] if gpus() else runs.cpu_name()


def gpus():
    """Names of the GPUs that the backend uses."""
    if keras.backend.backend() == "jax":
        import jax

        default = jax.config.jax_default_device
        devices = jax.devices() if default is None else [default]
        return [device.device_kind for device in devices if device.platform != "cpu"]
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # several models in one process look to it like needless retracing
    visible = tf.config.get_visible_devices("GPU")
    return [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in visible]


def keep_to_cpu():
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_default_device", jax.devices("cpu")[0])
    else:
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")


def seed_everything(seed):
    """Make what follows a function of the seed alone, on this machine."""
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def train(run, source, build, optimizer, *, frozen=None, augmentation=(), prepare=None):
    """Return the run's record: the evidence there is or, where there is none, that of a training done now.

    build() makes the model; optimizer(steps_per_epoch) its optimizer; `augmentation` are layers that act in
    training only; prepare(model, splits) sets what comes from the data. frozen() makes a network whose
    outputs, computed once, are what the model learns from; both are saved as one. From run.parameters
    it takes `epochs`, `batch_size` and what it finds of DEFAULTS.
    """
    if run.record is not None:
        return run.record
    splits = source.load()
    seed_everything(run.seed)
    base = cost = None
    if frozen:
        base = frozen()
        splits, cost = features(base, splits, run.parameters["copies"], run)
    model = build()
    if prepare:
        prepare(model, splits)
    state = fit(run, model, splits, optimizer, augmentation)
    whole = models.joined(base, model) if base else model
    runs.write_whole(run.model, whole.save)
    record, arrays = gather(run, model, splits, state)
    record["parameters_total"] = whole.count_params()
    if cost:
        add_cost(record, cost)
    describe(run.model, source, whole, arrays["validation"])
    run.write(record, **arrays)
    forget_state(run)
    return run.record


def describe(path, source, model, judged):
    """Write beside a model what whoever asks it about pictures needs: classes, size, calibration."""
    honest = calibration.fit(judged["log_probabilities"], judged["labels"])
    released.describe(path, classes=list(source.classes), input={"size": model.input_shape[1]}, **honest)


def trial(run, source, build, optimizer, *, images, frozen=None, augmentation=(), prepare=None):
    """The history of a short training on some of the training images. The test images are left alone.

    It is kept, so that an interrupted series of trials goes on with the next one.
    """
    kept = run.folder / "history.json"
    if kept.is_file() and not run.retrain:
        return runs.read_json(kept)
    splits = source.load()
    splits = splits._replace(train=spread(splits.train, images), test=None)
    seed_everything(run.seed)
    if frozen:
        splits, _ = features(frozen(), splits, run.parameters["copies"], run)
    model = build()
    if prepare:
        prepare(model, splits)
    history = fit(run, model, splits, optimizer, augmentation)["history"]
    runs.write_json(kept, history)
    forget_state(run)
    return history


def forget_state(run):
    """What only an unfinished run needs."""
    for leftover in run.folder.glob("*.weights.h5"):
        leftover.unlink()
    run.state.unlink()


def fit(run, model, splits, optimizer, augmentation):
    """Train from where the run stands to its end; leave the weights to be judged in `model`."""
    settings = DEFAULTS | run.parameters
    classes = model.output_shape[-1]
    batches = Batches(splits.train, classes, settings["batch_size"], run.seed, settings["flips"])
    pixels = keras.Input(model.input_shape[1:], dtype=splits.train.images.dtype.name)
    trainee = keras.Sequential([pixels, *augmentation, model])
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=settings["label_smoothing"])
    trainee.compile(optimizer(len(batches)), loss, metrics=["accuracy"])
    patience = settings["patience"]
    stop = keras.callbacks.EarlyStopping("val_accuracy", patience=patience) if patience else None
    averaged = keras.callbacks.SwapEMAWeights() if trainee.optimizer.use_ema else None
    checkpoint = Checkpoint(run, stop)
    first = checkpoint.restore(trainee)
    trainee.fit(
        batches,
        validation_data=(splits.validation.images, one_hot(splits.validation.labels, classes)),
        validation_batch_size=PREDICT_BATCH,
        initial_epoch=first,
        epochs=first if checkpoint.state["stopped"] else settings["epochs"],
        callbacks=[EpochClock(batches, run.seed), *filter(None, [averaged, stop]), checkpoint],
        shuffle=False,  # Batches does it; what Keras does on top would differ after a resume
        verbose=0,
    )
    if stop:
        trainee.load_weights(run.folder / checkpoint.state["best_weights"])
    if averaged:
        trainee.optimizer.finalize_variable_values(trainee.trainable_variables)
    return checkpoint.state


def one_hot(labels, classes):
    return np.eye(classes, dtype="float32")[labels]


class Batches(keras.utils.PyDataset):
    """Batches whose order and flips are functions of (seed, epoch) alone; a partial last one is left out."""

    def __init__(self, split, classes, batch_size, seed, flips):
        super().__init__()
        self.images, self.targets = split.images, one_hot(split.labels, classes)
        self.batch_size, self.seed, self.flips = min(batch_size, len(self.images)), seed, flips
        self.go_to(0)

    def __len__(self):
        return len(self.images) // self.batch_size

    def go_to(self, epoch):
        self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self.images))
        self.mirrored = np.zeros(len(self.images), bool)
        if self.flips == "random":
            self.mirrored = np.random.default_rng([self.seed, epoch, 1]).random(len(self.images)) < 0.5
        elif self.flips == "alternating":
            # Each image's first side is drawn once; then the sides alternate, so that two epochs show both.
            drawn = np.random.default_rng([self.seed, 1]).random(len(self.images)) < 0.5
            self.mirrored = drawn ^ (epoch % 2 == 1)

    def __getitem__(self, index):
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        images, mirrored = self.images[chosen], self.mirrored[chosen]
        if mirrored.any():  # never so with features, which have no sides
            images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
        return images, self.targets[chosen]


class EpochClock(keras.callbacks.Callback):
    """Sets data order and random layers to (seed, epoch): a resumed run goes on as if never stopped."""

    def __init__(self, batches, seed):
        super().__init__()
        self.batches, self.seed = batches, seed

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.go_to(epoch)
        states = [v for v in self.model.non_trainable_variables if v.path.endswith("seed_generator_state")]
        for number, state in enumerate(states):
            state.assign(np.random.default_rng([self.seed, epoch, 2, number]).integers(2**31, size=2))


class Checkpoint(keras.callbacks.Callback):
    """After every epoch: one printed line, and all that is needed to go on, written whole or not at all.

    Weights lie in files named by epoch; state.json, written last, names the ones that count. Unlike Keras's
    BackupAndRestore it brings back what early stopping remembers as well.
    """

    REMEMBERED = ("wait", "best", "best_epoch")

    def __init__(self, run, early_stopping=None):
        super().__init__()
        self.run, self.early_stopping = run, early_stopping
        self.state = {"epoch": 0, "history": [], "epoch_seconds": [], "stopped": False}
        self.state["environment"] = runs.environment()  # of the code that starts the run

    def restore(self, model):
        """Load the last finished epoch's state, if there is one; return how many epochs are done."""
        if self.run.state.is_file():
            self.state = runs.read_json(self.run.state)
            model.optimizer.build(model.trainable_variables)
            model.load_weights(self.run.folder / self.state["weights"])
        return self.state["epoch"]

    def on_train_begin(self, logs=None):
        # Early stopping stands before this callback and has just forgotten everything.
        for name, value in self.state.get("early_stopping", {}).items():
            setattr(self.early_stopping, name, value)

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = round(time.perf_counter() - self.started, 2)
        line = {
            "epoch": epoch + 1,
            "train_accuracy": logs["accuracy"],
            "train_loss": logs["loss"],
            "validation_accuracy": logs["val_accuracy"],
            "validation_loss": logs["val_loss"],
            "learning_rate": float(ops.convert_to_numpy(self.model.optimizer.learning_rate)),
        }
        self.state["history"].append({key: round(value, 6) for key, value in line.items()})
        self.state["epoch_seconds"].append(seconds)
        self.save(epoch)
        print(
            f"{self.run}  epoch {epoch + 1}/{self.params['epochs']}  train {line['train_accuracy']:.3f}  "
            f"validation {line['validation_accuracy']:.3f}  {seconds:.0f} s",
            flush=True,
        )

    def save(self, epoch):
        weights = f"epoch-{epoch + 1}.weights.h5"
        runs.write_whole(self.run.folder / weights, self.model.save_weights)
        self.state |= {"epoch": epoch + 1, "weights": weights, "stopped": self.model.stop_training}
        if self.early_stopping:
            self.state["early_stopping"] = {
                name: getattr(self.early_stopping, name) for name in self.REMEMBERED
            }
            if self.early_stopping.best_epoch == epoch:
                self.state["best_weights"] = weights
        runs.write_json(self.run.state, self.state)
        for path in self.run.folder.glob("*.weights.h5"):
            if path.name not in (weights, self.state.get("best_weights")):
                path.unlink()


def gather(run, model, splits, state):
    """The record of a finished training and the arrays that go with it."""
    views = (DEFAULTS | run.parameters)["views"]
    # Training images are looked at once each: their score is for the gap to validation, not for a table.
    looks = {"train": "single", "validation": views, "test": views}
    judged = splits._replace(train=spread(splits.train, TRAIN_SCORED))
    arrays = {name: predictions(model, getattr(judged, name), look) for name, look in looks.items()}
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
        record["test_single_view"] = evaluation.metrics(**predictions(model, splits.test, "single"))
    return record, {name: arrays[name] for name in ("validation", "test")}


def spread(split, count):
    """About `count` of a split's images, evenly spread."""
    step = max(1, len(split.labels) // count)
    return type(split)(*(part[::step] for part in split))


def add_cost(record, cost):
    """What the frozen part has cost, once: its passes over the training images, and the seconds of all."""
    record["train_pflop"] = round(record["train_pflop"] + cost["pflop"], 6)
    record["measured"]["features_seconds"] = cost["seconds"]
    record["measured"]["train_seconds"] = round(record["measured"]["train_seconds"] + cost["seconds"], 1)


def predictions(model, split, views):
    """What is kept of a model's answers. Scores are computed from it: readers find the very same counts."""
    found = log_probabilities(model, split.images, views)
    return {"log_probabilities": found.astype("float16"), "labels": split.labels.astype("uint16")}


def measured(state, splits):
    """What differs from machine to machine and from run to run."""
    seconds = sum(state["epoch_seconds"])
    return {
        "train_seconds": round(seconds, 1),
        "epoch_seconds": state["epoch_seconds"],
        "images_per_second": round(state["epoch"] * len(splits.train.images) / seconds, 1),
        **machine(),
        **state["environment"],
    }


def machine():
    """What computes, how much memory it took, and when."""
    return {
        "peak_memory_mb": peak_memory_mb(),
        "device": device(),
        "backend": keras.backend.backend(),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def circumstances():
    """What a record tells of where and by what code it was computed, when nothing was trained."""
    return {"device": device(), **runs.environment()}


def peak_memory_mb():
    """The most memory that this process has held so far, earlier runs in it included."""
    if sys.platform == "win32":
        return round(psutil.Process().memory_info().peak_wset / 2**20)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))  # bytes on macOS, KiB elsewhere


def train_pflop(model, images):
    """2 operations a multiply-add, 3 passes (forward and twice backward) where trained, 1 where not."""
    trained, forward_only = models.multiply_adds(model)
    return round(2 * (3 * trained + forward_only) * images / 1e15, 6)


def log_probabilities(model, images, views="single"):
    """Natural logarithms of the class probabilities, averaged over the views of each image."""
    total = 0
    for mirrored, shift, weight in VIEWS[views]:
        logits = model.predict(view(images, mirrored, shift), batch_size=PREDICT_BATCH, verbose=0)
        total = total + weight * np.exp(calibration.log_probabilities(logits))
    return np.log(np.maximum(total, np.finfo("float32").tiny))


def view(images, mirrored, shift):
    """The images mirrored or not, and moved by `shift` pixels down and right, the border reflected."""
    images = images[:, :, ::-1] if mirrored else images
    if shift == 0:
        return images
    size, margin = images.shape[1:3], abs(shift)
    padded = np.pad(images, [(0, 0), (margin, margin), (margin, margin), (0, 0)], mode="reflect")
    start = margin - shift
    return padded[:, start : start + size[0], start : start + size[1]]


class RandomShift(layers.Layer):
    """Move each image by up to `reach` whole pixels, the border reflected; in training only."""

    def __init__(self, reach):
        super().__init__(dtype="float32")
        self.reach = reach
        self.seed_generator = keras.random.SeedGenerator(0)

    def call(self, images, training=False):
        if not training:
            return images
        count, (height, width) = ops.shape(images)[0], images.shape[1:3]
        moved = keras.random.randint((2, count, 1), 0, 2 * self.reach + 1, seed=self.seed_generator)
        margin = (self.reach, self.reach)
        padded = ops.pad(images, [(0, 0), margin, margin, (0, 0)], mode="reflect")
        rows, columns = moved[0] + ops.arange(height), moved[1] + ops.arange(width)
        padded = ops.take_along_axis(padded, rows[:, :, None, None], axis=1)
        return ops.take_along_axis(padded, columns[:, None, :, None], axis=2)
