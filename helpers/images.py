"""Folders of people's pictures: what is in them, and their pixels. One picture is read by `photos`."""

import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from helpers import photos

# The last three can't be read here: they are found so that their owner is told.
ENDINGS = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff",
    ".heic", ".heif", ".avif",
}  # fmt: skip
# Folder names.
PARTS = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation",
    "validation": "validation", "test": "test", "testing": "test",
}  # fmt: skip
NO_PICTURES = {"thumbs.db", "desktop.ini"}  # what file managers leave behind
UNREADABLE_SHARE = 0.1  # more than this, and something else is wrong than a few files


class Picture(NamedTuple):
    path: Path
    part: str
    label: int
    modified_ns: int


class Folder(NamedTuple):
    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]


def find_pictures(folder: Path) -> list[Path]:
    """All that looks like a picture by its ending, subfolders' too, but nothing hidden: img2 before img10.

    A subfolder that can't be read gets a line.
    """
    found = filter(_is_picture, _files(folder))
    return sorted(found, key=lambda path: (_natural(path.relative_to(folder)), path))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS


def _files(folder: Path) -> Iterator[Path]:
    def told(error: OSError) -> None:
        if Path(error.filename) == Path(folder):
            raise photos.Unreadable(error.filename, error.strerror)
        print(f"{error.filename} is left out: {error.strerror}", file=sys.stderr)

    for place, folders, names in os.walk(folder, onerror=told):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _natural(path: Path) -> list[list[str | int]]:
    """Numbers compare as numbers: they stand at the odd places, the text around them at the even ones."""
    pieces = (re.split(r"([0-9]+)", part.casefold()) for part in path.parts)
    return [[int(p) if i % 2 else p for i, p in enumerate(piece)] for piece in pieces]


def list_folder(root: Path) -> Folder:
    """What is in `<root>/<class>/` or in `<root>/{train,val,test}/<class>/`, subfolders of a class included.

    Nothing is opened. What is no picture by its ending is left alone, and counted.
    """
    parts = _parts(root)
    (training,) = (place for part, place in parts if part == "train")
    classes = tuple(d.name for d in _folders(training))
    labelled = [(part, _label(f, classes), f) for part, place in parts for f in _folders(place)]
    pictures = [
        Picture(path, part, label, _modified(path))
        for part, label, folder in labelled
        for path in find_pictures(folder)
    ]
    if not pictures:
        raise ValueError(f"{root} holds no pictures: put each class's into a folder {root / '<class>'}")
    if len(classes) == 1:
        raise ValueError(f"{root} has one class only ({classes[0]}): make one folder for each of two or more")
    names = (path.name for *_, folder in labelled for path in _files(folder) if not _is_picture(path))
    if others := sorted(name for name in names if name.lower() not in NO_PICTURES):
        print(f"{root}: {len(others)} files are no pictures by their names, the first {others[0]}")
    return Folder(classes, tuple(pictures))


def read_all(pictures: tuple[Picture, ...], size: int) -> tuple[np.ndarray, list[Picture]]:
    """Pixels of all pictures that can be read, and which these are; the others are listed."""
    with ThreadPoolExecutor() as pool:
        pixels = list(pool.map(lambda picture: _read_or_reason(picture.path, size), pictures))
    broken = [found for found in pixels if isinstance(found, str)]
    if len(broken) > UNREADABLE_SHARE * len(pictures):
        raise ValueError(f"{len(broken)} of {len(pictures)} pictures cannot be read, first {broken[0]}")
    if broken:
        print(f"{len(broken)} of {len(pictures)} pictures cannot be read, left out:", *broken, sep="\n  ")
    readable = [picture for picture, found in zip(pictures, pixels) if not isinstance(found, str)]
    return np.stack([found for found in pixels if not isinstance(found, str)]), readable


def _read_or_reason(path: Path, size: int) -> np.ndarray | str:
    try:
        return photos.read(path, size)
    except photos.Unreadable as error:
        return f"{Path(path.parent.name, path.name)}: {error.reason}"


def _folders(path: Path) -> list[Path]:
    return sorted(d for d in path.iterdir() if d.is_dir() and not d.name.startswith((".", "__")))


def _parts(root: Path) -> list[tuple[str, Path]]:
    """The folders that divide the pictures, each with the part that it is; root alone if there are none.

    A class may be called train: it has no folders of its own.
    """
    folders = {folder: PARTS.get(folder.name.lower()) for folder in _folders(root)}
    if not any(part and _folders(folder) for folder, part in folders.items()):
        return [("train", root)]
    named = ", ".join(folder.name for folder, part in folders.items() if part)
    if other := next((folder for folder, part in folders.items() if part is None), None):
        raise ValueError(f"{other} stands beside {named}, and is none of {', '.join(PARTS)}")
    if list(folders.values()).count("train") != 1:
        raise ValueError(f"{root} is divided into {named}: exactly one must be train")
    return [(part, folder) for folder, part in folders.items()]


def _modified(path: Path) -> int:
    """When it was written; a link that leads nowhere is found here, and told by `read_all`."""
    return path.stat().st_mtime_ns if path.exists() else 0


def _label(folder: Path, classes: tuple[str, ...]) -> int:
    if folder.name not in classes:
        raise ValueError(f"{folder} is no class of the training pictures, which are {', '.join(classes)}")
    return classes.index(folder.name)
