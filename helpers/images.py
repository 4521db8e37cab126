"""People's pictures: any photo -> an upright RGB array, and folders of labelled ones."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

PARTS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}  # folder names
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


def read(path: Path, size: int) -> np.ndarray:
    """A picture as uint8 RGB: upright, on white where transparent, its central square, antialiased."""
    with Image.open(path) as image:
        image.draft("RGB", (2 * size, 2 * size))  # a JPEG need not be decoded larger than that
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would cut off instead of scaling
            image = Image.fromarray((np.asarray(image) // 257).clip(0, 255).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.asarray(ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.LANCZOS))


def list_folder(root: Path) -> Folder:
    """What is in `<root>/<class>/` or in `<root>/{train,val,test}/<class>/`. Nothing is opened."""
    divided = (root / "train").is_dir() and bool(_folders(root / "train"))
    parts = [(PARTS[d.name], d) for d in _folders(root) if d.name in PARTS] if divided else [("train", root)]
    classes = tuple(d.name for d in _folders(root / "train" if divided else root))
    pictures = [
        Picture(path, part, _label(folder, classes), path.stat().st_mtime_ns)
        for part, place in parts
        for folder in _folders(place)
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".") and path.name.lower() not in NO_PICTURES
    ]
    if not pictures:
        raise ValueError(f"{root} holds no pictures: put each class's into a folder {root / '<class>'}")
    if len(classes) == 1:
        raise ValueError(f"{root} has one class only ({classes[0]}): make one folder for each of two or more")
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
        return read(path, size)
    except Exception as error:  # Pillow's decoders raise whatever a broken file makes them raise
        reason = str(error).replace(f" {str(path)!r}", "")
        return f"{Path(path.parent.name, path.name)}: {reason}"


def _folders(path: Path) -> list[Path]:
    return sorted(d for d in path.iterdir() if d.is_dir() and not d.name.startswith((".", "__")))


def _label(folder: Path, classes: tuple[str, ...]) -> int:
    if folder.name not in classes:
        raise ValueError(f"{folder} is no class of the training pictures, which are {', '.join(classes)}")
    return classes.index(folder.name)
