"""CIFAR-10 as its authors publish it: found or downloaded, checked, and read without trusting pickles.

Looked for in this order:
1. `CIFAR10_DIR`: the authors' `-python` or `-binary` archive, or a folder that one of them was unpacked to;
2. Keras's cache, `$KERAS_HOME/datasets` or `~/.keras/datasets`: Keras's archive or the folder it unpacked;
3. `cifar-10-binary.tar.gz` in that same cache, downloaded (from `CIFAR10_URL` if that is set) if need be.

Archives are read in place: nothing is extracted, and no file but the last is ever written.
"""

import gzip
import io
import os
import pickle
import tarfile
import warnings
import zlib
from pathlib import Path

import numpy as np

from helpers import download

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
BATCH_SIZE = 10_000
LAYOUTS = ("cifar-10-batches-bin", "cifar-10-batches-py")  # the folders inside the two archives

# SHA-256 of the 50,000 training images as uint8, NHWC, in the original order.
TRAIN_SHA256 = "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a"
ARCHIVE = "cifar-10-binary.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"  # https://www.cs.toronto.edu/~kriz/cifar.html
KERAS_ARCHIVE = "cifar-10-batches-py-target_archive"
KERAS_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"  # in keras.datasets.cifar10


def cache() -> Path:
    """Keras's folder of data sets, where the project's own archive goes too."""
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    return Path(home) / "datasets"


def find() -> Path | None:
    """The folder of batches or the archive to read, None if CIFAR-10 isn't on this machine."""
    named = os.environ.get("CIFAR10_DIR")
    if named:
        return _named(Path(os.path.expanduser(named)))
    return (
        _intact(cache() / KERAS_ARCHIVE, "sha256", KERAS_SHA256)
        or _batches_in(cache() / "cifar-10-batches-py-target")
        or _batches_in(cache())
        or _intact(cache() / ARCHIVE, "md5", ARCHIVE_MD5)
    )


def _intact(path: Path, algorithm: str, digest: str) -> Path | None:
    if not path.is_file():
        return None
    if download.file_digest(path, algorithm) == digest:
        return path
    warnings.warn(f"{path} is damaged (wrong {algorithm}): left as it is and not used", stacklevel=2)
    return None


def _named(path: Path) -> Path:
    """What `CIFAR10_DIR` means: an archive, a folder with an archive in it, or a folder of batches."""
    for archive in (path, path / ARCHIVE, path / "cifar-10-python.tar.gz"):
        if archive.is_file():
            return archive
    if folder := _batches_in(path):
        return folder
    raise FileNotFoundError(
        f"CIFAR10_DIR={path} holds no CIFAR-10: it must be one of the authors' archives, or a folder with "
        f"all of {BATCHES[0]} to {BATCHES[4]} and {BATCHES[5]} (.bin or not)"
    )


def _batches_in(path: Path) -> Path | None:
    for folder in (path, *(path / layout for layout in LAYOUTS)):
        for suffix in (".bin", ""):
            if all((folder / (batch + suffix)).is_file() for batch in BATCHES):
                return folder
    return None


def obtain() -> Path:
    """Like `find`, but downloads what isn't there."""
    if found := find():
        return found
    url, target = os.environ.get("CIFAR10_URL") or URL, cache() / ARCHIVE
    advice = f"Put {ARCHIVE} from {URL} into {target.parent}, or set CIFAR10_DIR to a copy that you have"
    if target.exists():
        raise ValueError(f"{target} is damaged: move it away to have it downloaded again")
    return download.obtain("CIFAR-10", url, target, ARCHIVE_MD5, advice)


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """All images (uint8, NHWC) and labels in the original order: 50,000 of training, then 10,000 of test."""
    images = np.empty((len(BATCHES) * BATCH_SIZE, 32, 32, 3), np.uint8)
    labels = np.empty(len(images), np.int64)
    missing = set(BATCHES)
    for name, content in _files(path):
        batch = name.removesuffix(".bin")
        decode = _binary_batch if name.endswith(".bin") else _pickled_batch
        planes, found = decode(content, f"{path}: {name}")
        start = BATCHES.index(batch) * BATCH_SIZE
        images[start : start + BATCH_SIZE] = planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        labels[start : start + BATCH_SIZE] = found
        missing.discard(batch)
    if missing:
        raise ValueError(f"{path} is not CIFAR-10, or not all of it: {', '.join(sorted(missing))} missing")
    return images, labels


def _files(path: Path):
    """(name, content) of the batches in a folder or an archive."""
    if path.is_dir():
        suffix = ".bin" if (path / f"{BATCHES[0]}.bin").is_file() else ""
        for batch in BATCHES:
            yield batch + suffix, (path / (batch + suffix)).read_bytes()
        return
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if not (member.isfile() or member.isdir()) or ".." in Path(member.name).parts:
                    raise ValueError(f"{path} is not one of the authors' archives: it holds {member.name}")
                name = Path(member.name).name
                if member.isfile() and name.removesuffix(".bin") in BATCHES:
                    yield name, archive.extractfile(member).read()
            while archive.fileobj.read(1 << 20):  # to the end, where gzip keeps its check sum
                pass
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error):
        raise ValueError(f"{path} is damaged or cut off: replace it") from None


def _binary_batch(content: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    expected = BATCH_SIZE * 3073  # a byte of label, then 1,024 each of red, green and blue
    if len(content) != expected:
        raise ValueError(f"{where} is damaged or cut off: {len(content):,} bytes where {expected:,} belong")
    rows = np.frombuffer(content, np.uint8).reshape(BATCH_SIZE, 3073)
    return rows[:, 1:], _checked(rows[:, 0], where)


def _pickled_batch(content: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        batch = _BatchUnpickler(io.BytesIO(content), encoding="bytes").load()
        planes = np.frombuffer(batch[b"data"].content, np.uint8).reshape(BATCH_SIZE, 3072)
        labels = np.array(batch[b"labels"], np.int64)
    except _Refused as error:
        raise ValueError(f"{where} is not one of the authors' batches and was not read: {error}") from None
    except Exception as error:  # bytes that only look like a pickle can fail in any way
        raise ValueError(f"{where} is damaged or cut off ({error}): replace it") from None
    return planes, _checked(labels, where)


class _Refused(Exception):
    pass


class _Array:
    """Stands in for numpy's array: keeps the bytes that the pickle holds."""

    def __init__(self, *_):
        self.content = b""

    def __setstate__(self, state):
        self.content = state[4]  # version, shape, dtype, order, content


class _Dtype:
    """Stands in for numpy's dtype: the only one that an original batch has is uint8."""

    def __init__(self, *_):
        pass

    def __setstate__(self, state):
        pass


class _BatchUnpickler(pickle.Unpickler):
    """Knows the three names that the original batches hold, and calls none of what they name."""

    NAMES = {
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
    }

    def find_class(self, module, name):
        if (module, name) not in self.NAMES:
            raise _Refused(f"it wants to use {module}.{name}")
        return self.NAMES[module, name]


def _checked(labels: np.ndarray, where: str) -> np.ndarray:
    if labels.shape != (BATCH_SIZE,) or labels.min() < 0 or labels.max() >= len(CLASSES):
        raise ValueError(f"{where} is damaged: its labels are not {BATCH_SIZE:,} numbers from 0 to 9")
    return labels
