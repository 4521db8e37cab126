"""The frozen part of a network is computed once: its outputs lie on disk in half precision.

Every notebook that trains a head, or the last blocks only, does it through `training.train(..., frozen=...)`,
which calls `features`. Memory doesn't grow with the number of images, nor much with their size:
files are mapped, and as many images at a time go through the network as its largest map allows.
"""

import hashlib
import json
import os
import shutil
import time
from contextlib import suppress

import numpy as np
import psutil
from numpy.lib.format import write_array_header_1_0

from helpers import files, models, normalization, runs

CHUNK = 500  # images at a time, at most
VALUES = 300_000_000  # of their largest map, at most: a gigabyte or so
REPORTED = 10_000  # images from one line of progress to the next


def features(network, splits, copies, label):
    """(the splits with a network's outputs in place of their images, what computing them cost)

    Of the training images there are one or two `copies`: as they are, and mirrored.
    """
    parts = splits._asdict()
    folder = runs.RUNS / "features" / digest(network, splits, copies)
    if not (folder / "cost.json").is_file():
        compute(network, parts, copies, label, folder)
    mapped = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in parts}
    labels = {name: np.resize(part.labels, len(mapped[name])) for name, part in parts.items()}
    computed = {name: part._replace(images=mapped[name], labels=labels[name]) for name, part in parts.items()}
    return splits._replace(**computed), files.read_json(folder / "cost.json")


def compute(network, parts, copies, label, folder):
    """All parts' outputs and their cost, in a folder of this process's own until it is whole.

    Another process, of another seed, may need the same outputs at the same time.
    """
    for left in folder.parent.glob("part.*"):
        if not psutil.pid_exists(int(left.suffix[1:])):  # was killed
            shutil.rmtree(left, ignore_errors=True)
    own = folder.with_name(f"part.{folder.name}.{os.getpid()}")
    own.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    try:
        for name, part in parts.items():
            times = copies if name == "train" else 1
            write(network, part.images, times, own / f"{name}.npy", f"{label}  {name}")
        seconds = round(time.perf_counter() - started, 2)
        pflop = 2 * sum(models.multiply_adds(network)) * copies * len(parts["train"].images) / 1e15
        files.write_json(own / "cost.json", {"seconds": seconds, "pflop": pflop})
        with suppress(OSError):  # another process was faster: a folder that is not empty is never replaced
            own.rename(folder)
    finally:
        shutil.rmtree(own, ignore_errors=True)


def digest(network, splits, copies):
    """Of everything that decides the outputs."""
    described = [layer.get_config() | {"name": ""} for layer in models.flat_layers(network)]
    found = hashlib.sha256(json.dumps([described, copies], sort_keys=True, default=str).encode())
    for array in [*network.get_weights(), *(part.images for part in splits)]:
        found.update(np.ascontiguousarray(array))
    return found.hexdigest()[:12]


def write(network, images, copies, path, label):
    """The network's outputs for the images, then for the mirrored ones."""
    total, started = copies * len(images), time.perf_counter()
    normalization.fuse(network)
    # Not through a memory map: on a full disk that is no error but the end of the process.
    with path.open("wb") as file:
        shape = (total, *network.output_shape[1:])
        write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
        done = 0
        for batch in batches(images, copies, at_a_time(network)):
            found = np.asarray(network.predict_on_batch(batch), "float32")
            if not np.abs(found).max() < np.finfo("float16").max:
                raise OverflowError(f"{network.layers[-1].name} gives values too large for half precision")
            file.write(found.astype("<f2").tobytes())
            done += len(batch)
            if done // REPORTED > (done - len(batch)) // REPORTED or done == total:
                seconds = time.perf_counter() - started
                print(f"{label} through the frozen part, {done:,} of {total:,}  {seconds:.0f} s", flush=True)


def at_a_time(network):
    largest = max(np.prod(layer.output.shape[1:], dtype=int) for layer in models.flat_layers(network))
    return max(1, min(CHUNK, VALUES // largest))


def batches(images, copies, size):
    for copy in range(copies):
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            yield batch[:, :, ::-1] if copy else batch
