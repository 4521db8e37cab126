"""The frozen part of a network is computed once: its outputs lie on disk in half precision.

Every notebook that trains a head, or the last blocks only, does it through `training.train(..., frozen=...)`
or `training.trial`, which call `features`. Memory doesn't grow with the number of images or their resolution:
files are mapped.
"""

import hashlib
import json
import time

import numpy as np
from numpy.lib.format import open_memmap

from helpers import models, normalization, runs

CHUNK = 500  # images at a time
REPORTED = 10_000  # images from one line of progress to the next


def features(network, splits, copies, label):
    """(the splits with a network's outputs in place of their images, what computing them cost)

    Of the training images there are one or two `copies`: as they are, and mirrored. A part may be missing.
    """
    parts = {name: part for name, part in splits._asdict().items() if part}
    folder = runs.RUNS / "features" / digest(network, splits, copies)
    bill = folder / "cost.json"  # written last: without it the files are not all there
    if not bill.is_file():
        started = time.perf_counter()
        for name, part in parts.items():
            times = copies if name == "train" else 1
            write(network, part.images, times, folder / f"{name}.npy", f"{label}  {name}")
        seconds = round(time.perf_counter() - started, 2)
        multiply_adds = sum(models.multiply_adds(network))
        pflop = 2 * multiply_adds * copies * len(splits.train.images) / 1e15
        runs.write_json(bill, {"seconds": seconds, "pflop": pflop})
    files = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in parts}
    labels = {name: np.resize(part.labels, len(files[name])) for name, part in parts.items()}
    computed = {name: part._replace(images=files[name], labels=labels[name]) for name, part in parts.items()}
    return splits._replace(**computed), runs.read_json(bill)


def digest(network, splits, copies):
    """Of everything that decides the outputs."""
    described = [layer.get_config() | {"name": ""} for layer in models.flat_layers(network)]
    found = hashlib.sha256(json.dumps([described, copies], sort_keys=True, default=str).encode())
    for array in [*network.get_weights(), *(part.images for part in splits if part)]:
        found.update(np.ascontiguousarray(array))
    return found.hexdigest()[:12]


def write(network, images, copies, path, label):
    """The network's outputs for the images, then for the mirrored ones: whole or not at all."""
    total, started = copies * len(images), time.perf_counter()
    normalization.fuse(network)

    def fill(part):
        outputs = open_memmap(part, "w+", "float16", (total, *network.output_shape[1:]))
        done = 0
        for batch in batches(images, copies):
            found = np.asarray(network.predict_on_batch(batch), "float32")
            if not np.abs(found).max() < np.finfo("float16").max:
                raise OverflowError(f"{network.layers[-1].name} gives values too large for half precision")
            outputs[done : done + len(batch)] = found
            done += len(batch)
            if done % REPORTED == 0 or done == total:
                seconds = time.perf_counter() - started
                print(f"{label} through the frozen part, {done:,} of {total:,}  {seconds:.0f} s", flush=True)

    runs.write_whole(path, fill)


def batches(images, copies):
    for copy in range(copies):
        for start in range(0, len(images), CHUNK):
            batch = images[start : start + CHUNK]
            yield batch[:, :, ::-1] if copy else batch
