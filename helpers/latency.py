"""How long a model takes to answer: several forms of it side by side, each by turns, medians of the rounds.

    found = latency.forms("MobileNetV2", build, folder)    # Keras's in two precisions, and LiteRT's
    latency.measure(found, pictures, batch_sizes=[1, 256], rounds=20)

An answer is timed as its user gets it: pixels in, logits out, as arrays, on all cores.
"""

import os
import time
import warnings
from functools import partial
from statistics import median
from typing import NamedTuple

import numpy as np

from helpers import calibration, evaluation, models

PRECISIONS = {"float32": "float32", "mixed_bfloat16": "bfloat16"}
JUDGED = 250  # pictures at a time


class Form(NamedTuple):
    """A way to ask a network: a function of pictures, and the bytes of the file that it lies in."""

    answer: object
    size: int


def forms(name, build, folder):
    """{name: Form} of the network that build() makes: Keras's in two precisions, and exported to LiteRT."""
    found = {}
    for policy, precision in PRECISIONS.items():
        with models.precision(policy, emulated=True):
            network = build()
        network.save(folder / "model.keras")
        size = (folder / "model.keras").stat().st_size
        found[f"{name}, {precision}"] = Form(network.predict_on_batch, size)
        if precision == "float32":
            light = exported(network, folder)
    return found | {f"{name}, LiteRT": light}


def exported(network, folder):
    """A network as LiteRT's file holds it; LiteRT computes on the processor, whatever else there is."""
    file = folder / "model.tflite"
    network.export(str(file), format="litert", verbose=False)  # Keras 3.13 takes no Path here
    content = file.read_bytes()
    return Form(litert(content), len(content))


def litert(content):
    """A function of pictures, from what a file of LiteRT's holds."""
    import tensorflow as tf

    with warnings.catch_warnings():  # to be moved to another package; TensorFlow has it still
        warnings.filterwarnings("ignore", "(?s).*tf.lite.Interpreter is deprecated")
        interpreter = tf.lite.Interpreter(model_content=content, num_threads=os.cpu_count())
    pixels, logits = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    shape = None

    def answer(pictures):
        nonlocal shape
        if pictures.shape != shape:
            shape = pictures.shape
            interpreter.resize_tensor_input(pixels["index"], shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(pixels["index"], pictures.astype(pixels["dtype"]))
        interpreter.invoke()
        return interpreter.get_tensor(logits["index"])

    return answer


def measure(forms, pictures, batch_sizes, rounds):
    """One row for each form and batch size."""
    rows = []
    for batch_size in batch_sizes:
        batch = pictures[np.arange(batch_size) % len(pictures)]
        seconds = by_turns({name: partial(form.answer, batch) for name, form in forms.items()}, rounds)
        rows += [row(name, form, batch_size, seconds[name]) for name, form in forms.items()]
    return rows


def by_turns(calls, rounds):
    """{name: median of the seconds that a call takes}"""
    for call in calls.values():
        call()  # what is compiled, compiles now
    seconds = {name: [] for name in calls}
    for _ in range(rounds):  # by turns, so that whatever else the machine does slows all of them
        for name, call in calls.items():
            seconds[name].append(seconds_of(call))
    return {name: median(found) for name, found in seconds.items()}


def seconds_of(call):
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def row(name, form, batch_size, seconds):
    return {
        "form": name,
        "batch_size": batch_size,
        "milliseconds_a_picture": round(1000 * seconds / batch_size, 4),
        "pictures_per_second": round(batch_size / seconds, 1),
        "megabytes": round(form.size / 1e6, 2),
    }


def judge(form, split):
    """Scores of a form's answers for a split's images."""
    starts = range(0, len(split.images), JUDGED)
    logits = np.concatenate([form.answer(split.images[start : start + JUDGED]) for start in starts])
    return evaluation.metrics(calibration.log_probabilities(logits), split.labels)
