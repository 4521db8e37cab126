"""A large PNG strip by strip: Pillow itself can only decode all of it at once."""

import os
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"

Box = tuple[int, int, int, int]  # left, top, right, bottom


def is_plain(image: Image.Image) -> bool:
    """Three or four bytes a pixel, row after row; those of fewer need no strips."""
    plain = image.mode in ("RGB", "RGBA", "LA") and not image.info.get("interlace")
    return image.format == "PNG" and plain and image.tile[0][3] == image.mode  # else it has 16 bits


class PngStrips:
    """Gives what `crop` is asked for, from the top down.

    Each strip becomes a small PNG. Its first row is the last of the strip before, to which the filters refer.
    """

    def __init__(self, file: BinaryIO, image: Image.Image):
        self.size, self.mode, self._info = image.size, image.mode, image.info
        file.seek(len(SIGNATURE) + 8)
        self._header = file.read(13)
        self._compressed = _compressed_pixels(file)
        self._inflater = zlib.decompressobj()
        self._last_row = bytes(1 + image.width * len(image.getbands()))  # its filter (none), its pixels
        self._next = 0

    def crop(self, box: Box) -> Image.Image:
        left, top, right, bottom = box
        while self._next < top:
            self._strip(min(top - self._next, bottom - top))
        return self._strip(bottom - top).crop((left, 0, right, bottom - top))

    def _strip(self, rows: int) -> Image.Image:
        pixels = zlib.compress(self._last_row + self._inflated(rows * len(self._last_row)), 0)
        header = self._header[:4] + struct.pack(">I", rows + 1) + self._header[8:]
        chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
        strip = Image.open(BytesIO(SIGNATURE + b"".join(_chunk(*chunk) for chunk in chunks)))
        strip.info = self._info  # the transparent colour
        self._last_row = b"\0" + strip.crop((0, rows, strip.width, rows + 1)).tobytes()
        self._next += rows
        return strip.crop((0, 1, strip.width, rows + 1))

    def _inflated(self, count: int) -> bytes:
        pieces = []
        while count:
            compressed = self._inflater.unconsumed_tail or next(self._compressed, b"")
            pieces.append(self._inflater.decompress(compressed, count))
            count -= len(pieces[-1])
            if not compressed and not pieces[-1]:
                raise EOFError("its pixels end too early")
        return b"".join(pieces)


def _compressed_pixels(file: BinaryIO) -> Iterator[bytes]:
    file.seek(len(SIGNATURE))
    while len(start := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        while kind == b"IDAT" and length and (piece := file.read(min(length, 2**16))):
            yield piece
            length -= len(piece)
        file.seek(length + 4, os.SEEK_CUR)  # and the checksum


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
