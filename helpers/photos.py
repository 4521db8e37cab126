"""Any photo a person has -> an upright RGB picture.

    read(path, 224)                # uint8, 224 x 224 x 3: the central square
    open_upright(path_or_bytes)    # the whole picture, to be shown

JPEG, PNG, WebP, GIF, BMP and TIFF of up to `MAX_PIXELS`; of an animation the first frame. What cannot be
read raises `Unreadable`, one line. Decoding takes at most `MEMORY`, all threads together: a large JPEG is
decoded at a fraction of its size, a large PNG in strips. Others must be decoded whole and are refused, by
their header, where that takes more: colour above some 20 million pixels as WebP, 30 to 45 as TIFF, 60 to
120 as progressive JPEG, 90 as BMP, interlaced or 16-bit PNG; grey from two to four times as many.
"""

import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from io import BytesIO
from logging import getLogger
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from helpers.png_strips import Box, PngStrips, is_plain
from helpers.streams import native_stderr_in

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # some others Pillow hands to other programs
MAX_PIXELS, MAX_SIDE = 250_000_000, 65_535  # telephones make 200 million; the longest side of a JPEG
MEMORY = 400 * 2**20  # bytes; with Python, numpy and Pillow less than 512 MB
BAND_PIXELS, BAND_MEMORY = 2**19, 24 * 2**20  # how much is converted at a time, and what that takes
MOST_REDUCED = 16  # in one step, so that a band of the longest rows remains small
TIFF_LOG = getLogger("PIL.TiffImagePlugin")

Source = str | os.PathLike | bytes


class Unreadable(ValueError):
    """Says in one line which file, what is wrong with it and, where something helps, what to do."""

    def __init__(self, source: Source, reason: str):
        self.reason = " ".join(reason.split())
        super().__init__(f"{'the picture' if isinstance(source, bytes) else source}: {self.reason}")


def read(source: Source, size: int) -> np.ndarray:
    """A picture as uint8 RGB: upright, on white where transparent, its central square, antialiased."""
    image = _load(source, size, square=True)
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))


def open_upright(source: Source, longest: int = 1024) -> Image.Image:
    """The whole picture in RGB: upright, on white where transparent, at most `longest` pixels a side."""
    image = _load(source, longest, square=False)
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return image


def _load(source: Source, longest: int, square: bool) -> Image.Image:
    """Upright RGB on white; if large, reduced to twice `longest` or more, from where resizing is as good."""
    with _explained(source), _quiet, _opened(source) as file, Image.open(file, formats=FORMATS) as image:
        size = f"{image.width:,} x {image.height:,} pixels"
        if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
            raise Unreadable(source, f"{size} are too many: save it smaller")
        coefficients = _coefficients(image)
        _, reduction = _plan(image.size, longest, square)
        image.draft("RGB", tuple(max(1, side // reduction) for side in image.size))  # which only JPEGs can
        memory = coefficients + _memory_to_decode(image)
        in_strips = memory > MEMORY // 2 and is_plain(image)
        memory = (0 if in_strips else memory) + _memory_to_reduce(*_plan(image.size, longest, square))
        if memory > MEMORY:
            raise Unreadable(source, f"{size} are too many in this format: save it smaller or as plain JPEG")
        with _room.taken(memory), closing(image):  # which gives its pixels back, too
            rows = PngStrips(file, image) if in_strips else _decoded(image)
            upright = _reduced(rows, *_plan(rows.size, longest, square))  # decoding turns some TIFFs
        upright.info = dict(image.info)
        with suppress(Exception):  # a broken EXIF block is no reason to refuse a picture
            ImageOps.exif_transpose(upright, in_place=True)
        upright.info = {}
        return upright


def _plan(size: tuple[int, int], longest: int, square: bool) -> tuple[Box, int]:
    """The part of a picture that is wanted, and by how much it may be reduced at once."""
    width, height = (min(size), min(size)) if square else size
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    reduction = min(MOST_REDUCED, max(1, max(width, height) // (2 * longest)))
    return (left, top, left + width, top + height), reduction


def _coefficients(image: Image.Image) -> int:
    """Bytes that libjpeg keeps, 2 for each value of the whole picture, if a JPEG comes in several scans."""
    if image.format == "JPEG":  # of which Pillow has just read the header of the first scan
        image.fp.seek(-4 - 2 * image.layers, os.SEEK_CUR)
        several = image.info.get("progressive") or image.fp.read(1) != bytes([image.layers])
    else:
        several = image.format == "MPO" and image.info.get("progressive")
    if not several:
        return 0
    _, across, down, _ = np.transpose(image.layer)
    return 2 * image.width * image.height * int((across * down).sum()) // int(across.max() * down.max())


def _memory_to_decode(image: Image.Image) -> int:
    """Bytes at the peak, known from the header: measured with Pillow 13 on pictures of 36 million pixels."""
    pixels = image.width * image.height
    if image.format == "WEBP":
        return 17 * pixels  # libwebp's canvases and Pillow's copies
    each = 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4
    copies = 1
    if image.format == "GIF":
        copies = 2  # what the frame leaves behind
    elif image.format == "BMP" and image.info["compression"] in (1, 2):
        copies = 3  # run lengths are expanded in Python
    elif image.format == "TIFF":  # the file itself, or a turned copy; and, if compressed, the largest strip
        one_strip = image.tag_v2.get(TiffImagePlugin.ROWSPERSTRIP, image.height) > image.height // 2
        copies = 3 if one_strip and image.info["compression"] != "raw" else 2
    return copies * each * pixels


def _memory_to_reduce(box: Box, reduction: int) -> int:
    left, top, right, bottom = box
    pixels = (right - left) * (bottom - top) // reduction**2
    return BAND_MEMORY + 2 * 4 * pixels  # twice, for it may be turned


def _decoded(image: Image.Image) -> Image.Image:
    with _libtiff_muted() if image.format == "TIFF" else nullcontext():
        image.load()
    return image


def _reduced(image: "Image.Image | PngStrips", box: Box, reduction: int) -> Image.Image:
    """Band by band, so that no second copy of a large picture is ever made."""
    left, top, right, bottom = box
    rows = reduction * max(1, BAND_PIXELS // (reduction * (right - left)))
    bands = [(left, y, right, min(y + rows, bottom)) for y in range(top, bottom, rows)]
    white = 65_535
    if image.mode in ("I", "F"):
        # Any numbers: white is the first usual one that none exceeds, or the largest.
        largest = max(_finite(image.crop(band)).max() for band in bands)
        white = next((usual for usual in (1, 255, 65_535) if largest <= usual), largest)
    result = Image.new("RGB", (-(-(right - left) // reduction), -(-(bottom - top) // reduction)))
    for band in bands:
        strip = _on_white(image.crop(band), white).reduce(reduction)
        result.paste(strip, (0, (band[1] - top) // reduction))
    return result


def _on_white(band: Image.Image, white: float) -> Image.Image:
    if band.mode[0] in "IF":  # more than 8 bits a pixel, which Pillow would cut off instead of scaling
        values = _finite(band)
        levels = np.rint(values.clip(0, white) * (255 / white)).astype(np.uint8)
        levels[values == band.info.get("transparency")] = 255
        band = Image.fromarray(levels)
    if band.has_transparency_data:
        band = band.convert("RGBA")
        band = Image.alpha_composite(Image.new("RGBA", band.size, "white"), band)
    return band.convert("RGB")


def _finite(band: Image.Image) -> np.ndarray:
    return np.nan_to_num(np.asarray(band).astype(np.float32), posinf=0, neginf=0)


# --- What Pillow leaves to its callers


@contextmanager
def _explained(source: Source) -> Iterator[None]:
    try:
        yield
    except Unreadable:
        raise
    except UnidentifiedImageError:
        kinds = "JPEG, PNG, WebP, GIF, BMP or TIFF"
        raise Unreadable(
            source, f"is no {kinds}, or its first bytes are damaged: save it as one of these"
        ) from None
    except Exception as error:  # Pillow's decoders raise whatever a broken file makes them raise
        # What the operating system tells: missing, no permission.
        told = isinstance(error, OSError) and error.strerror
        what = str(error) or type(error).__name__
        reason = (
            told or f"is damaged, incomplete or of an unusual kind ({what}): get it again or save it anew"
        )
        raise Unreadable(source, reason) from None


def _opened(source: Source) -> BinaryIO:
    if isinstance(source, bytes):
        size = len(source)
    else:
        status = os.stat(source)
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no ordinary file"
            raise Unreadable(source, f"is {kind}, not a picture")
        size = status.st_size
    if not size:
        raise Unreadable(source, "is empty")
    return BytesIO(source) if isinstance(source, bytes) else open(source, "rb")


class _Room:
    """Memory for the pictures that are being decoded, in all threads: whoever finds too little waits."""

    def __init__(self, size: int):
        self._free, self._changed = size, threading.Condition()

    @contextmanager
    def taken(self, amount: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._free >= amount)
            self._free -= amount
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._changed.notify_all()


class _Quiet:
    """While any thread reads, Pillow warns of nothing and leaves the limit to us.

    `warnings.catch_warnings` in each thread would not do: the last to leave may restore another's filters.
    """

    def __init__(self):
        self._readers, self._lock, self._before = 0, threading.Lock(), ExitStack()

    def __enter__(self):
        with self._lock:
            if not self._readers:
                self._before.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module="PIL")
                for owner, name, value in ((Image, "MAX_IMAGE_PIXELS", None), (TIFF_LOG, "disabled", True)):
                    self._before.callback(setattr, owner, name, getattr(owner, name))
                    setattr(owner, name, value)
            self._readers += 1

    def __exit__(self, *_):
        with self._lock:
            self._readers -= 1
            if not self._readers:
                self._before.close()


@contextmanager
def _libtiff_muted() -> Iterator[None]:
    """libtiff writes what it finds wrong straight to file descriptor 2, which leads nowhere for that time."""
    with _libtiff, open(os.devnull, "wb") as nowhere, native_stderr_in(nowhere):
        yield


_room = _Room(MEMORY)
_quiet = _Quiet()
_libtiff = threading.Lock()
