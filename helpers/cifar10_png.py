"""CIFAR-10 as a folder of pictures, `<folder>/train/frog/00000.png`, which everything here accepts as data.

    training, test = data.load_cifar10_raw()
    cifar10_png.write(folder, training, test)

A picture's name is its place in the original order, so that `load` gives back exactly what was written. One
thread does it all: Pillow keeps Python's lock while it encodes so small a picture, and two threads took
longer and twice the processor's time.
"""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from helpers import files, images
from helpers.cifar10 import CLASSES
from helpers.data import Split, pixel_digest

PARTS = ("train", "test")
COMPRESSION = 1  # of PNG's 0 to 9: 9 gains 2 % and costs a seventh more time, 0 makes files 38 % larger
REPORTED_EVERY = 5_000  # pictures


def write(folder: Path, training: Split, test: Split, per_class: int | None = None) -> tuple[Split, Split]:
    """Write the first `per_class` pictures of each class of both parts, None: all.

    Those that are there already are left alone. Returns what was read back, which is what was to be written.
    """
    folder = Path(folder).expanduser()
    chosen = [first_of_each_class(split.labels, per_class) for split in (training, test)]
    wanted = {
        folder / part / CLASSES[split.labels[index]] / f"{index:05}.png": split.images[index]
        for part, split, indices in zip(PARTS, (training, test), chosen)
        for index in indices
    }
    _refuse_others(folder, wanted)
    _write(folder, {path: image for path, image in wanted.items() if not _is_there(path, image)}, len(wanted))
    found = load(folder)
    for part, copy, split, indices in zip(PARTS, found, (training, test), chosen):
        _compare(folder / part, copy, Split(split.images[indices], split.labels[indices]))
    return found


def load(folder: Path) -> tuple[Split, Split]:
    """The training and the test pictures of such a folder, in the original order."""
    parts = [sorted(Path(folder, part).glob("*/[0-9]*.png"), key=lambda path: path.name) for part in PARTS]
    return tuple(
        Split(
            np.array([_pixels(path) for path in paths]),
            np.array([CLASSES.index(path.parent.name) for path in paths], np.int64),
        )
        for paths in parts
    )


def first_of_each_class(labels: np.ndarray, count: int | None) -> np.ndarray:
    """Indices of the first `count` of each class (None: of all), in the original order."""
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise ValueError(f"pictures per class must be a whole number, 1 or more, not {count!r}")
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:count] for label in range(len(CLASSES))]))


def _refuse_others(folder: Path, wanted: dict[Path, np.ndarray]) -> None:
    """One line if the folder holds anything else, but for hidden files and what a killed call left behind."""
    expected = {*wanted, *(path.parent for path in wanted), *(folder / part for part in PARTS)}
    for place, folders, others in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in sorted(folders + others):
            hidden = name.startswith(".") or name.lower() in images.NO_PICTURES
            if not hidden and Path(place, name.removeprefix("part.")) not in expected:
                other = Path(place, name).relative_to(folder)
                raise ValueError(f"{folder} holds more than these pictures ({other}): choose another folder")


def _is_there(path: Path, image: np.ndarray) -> bool:
    """Whether a picture need not be written. A broken one must be; another one must not be lost."""
    if not path.exists():
        return False
    try:
        found = _pixels(path)
    except Exception:  # Pillow's decoders raise whatever a broken file makes them raise
        return False
    if not np.array_equal(found, image):
        raise ValueError(f"{path} is another picture than CIFAR-10's: move it away, or choose another folder")
    return True


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _write(folder: Path, missing: dict[Path, np.ndarray], total: int) -> None:
    done = total - len(missing)
    try:
        for path, image in missing.items():
            picture = Image.fromarray(image)
            files.write_whole(path, lambda part, p=picture: p.save(part, compress_level=COMPRESSION))
            done += 1
            if done % REPORTED_EVERY == 0 and done < total:
                print(f"{folder.name}: {done:,} of {total:,} pictures", flush=True)
    except OSError as error:
        advice = f"{done:,} of {total:,} pictures are there, and the next call goes on"
        raise type(error)(f"{folder} cannot be written ({error.strerror or error}): {advice}") from None
    print(f"{folder.name}: {total:,} of {total:,} pictures, {len(missing):,} of them new", flush=True)


def _compare(place: Path, found: Split, original: Split) -> None:
    same = pixel_digest(found.images) == pixel_digest(original.images)
    if not same or not np.array_equal(found.labels, original.labels):
        raise ValueError(f"{place} is not what was written there: check the disk, delete it and try again")
