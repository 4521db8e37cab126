"""The files in model/: written small, described beside them, and checked before use.

A model is stored with half-precision numbers and opens in single precision: half the size, and the accuracy
that is told of it is that of the stored file.
"""

import shutil
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np

from helpers import download, files, runs

FOLDER = runs.ROOT / "model"
MODEL = FOLDER / "vgg16-cifar10.keras"  # the fine-tuned VGG16 of notebook 04, which classify.py asks


def save(model, path):
    """Write a model (`.keras`) or its weights (`.weights.h5`) with float16 arrays, whole or not at all."""
    with tempfile.TemporaryDirectory() as scratch:
        exact = Path(scratch) / path.name
        (model.save_weights if path.name.endswith(".weights.h5") else model.save)(exact)
        files.write_whole(path, lambda part: halve(exact, part))


def halve(source, target):
    """Copy a file of Keras's with every float array in half precision."""
    if not zipfile.is_zipfile(source):
        halve_arrays(source, target)
        return
    with zipfile.ZipFile(source) as full, zipfile.ZipFile(target, "w") as half:
        for name in full.namelist():
            if not name.endswith(".h5"):
                half.writestr(name, full.read(name))
                continue
            with tempfile.TemporaryDirectory() as scratch:
                arrays = Path(full.extract(name, scratch))
                halve_arrays(arrays, arrays.with_suffix(".half"))
                half.writestr(name, arrays.with_suffix(".half").read_bytes())


def halve_arrays(source, target):
    with h5py.File(source) as full, h5py.File(target, "w") as half:

        def copy(name, item):
            if isinstance(item, h5py.Group):
                half.require_group(name).attrs.update(item.attrs)
                return
            array = item[()]
            if array.dtype.kind == "f":
                if not np.abs(array).max(initial=0) < np.finfo("float16").max:
                    raise OverflowError(f"{name} is too large for half precision")
                array = array.astype("float16")
            options = {"compression": "gzip", "shuffle": True} if array.size > 1000 else {}
            half.create_dataset(name, data=array, **options).attrs.update(item.attrs)

        half.attrs.update(full.attrs)
        full.visititems(copy)


def publish(path, name, **told):
    """Copy a finished file to model/, with its description, where runs are published (EVIDENCE=publish)."""
    if runs.asked_of_evidence() != "publish" or not path.is_file():
        return
    target = FOLDER / name
    files.write_whole(target, lambda part: shutil.copyfile(path, part))
    describe(target, **told)


def describe(path, **facts):
    """Write what a model file is beside it, its checksum first."""
    head = {"file": path.name, "sha256": download.file_digest(path, "sha256"), "bytes": path.stat().st_size}
    files.write_json(description(path), head | facts)


def description(path):
    return path.with_name(path.name.removesuffix(".weights.h5").removesuffix(".keras") + ".json")


def facts(path):
    """What stands beside a model file, once the file has been found to be the one described."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no model {path}")
    if not description(path).is_file():
        raise FileNotFoundError(f"{path} has no description {description(path).name} beside it")
    try:
        found = files.read_json(description(path))
    except ValueError as error:
        raise ValueError(f"{description(path)} is no JSON: {error}") from None
    if "sha256" not in found:
        raise ValueError(f"{description(path)} lacks sha256, the file's checksum")
    if download.file_digest(path, "sha256") != found["sha256"]:
        raise ValueError(f"{path} is damaged or another model than {description(path).name} describes")
    return found
