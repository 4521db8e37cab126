"""Ten classes of 32x32 RGB pictures drawn by a formula, without files: they stand in for CIFAR-10 anywhere.

The class is a shape or a pattern; place, size, angle, both colours and the noise are random. So no pixel says
much by itself (a linear model on pixels fails), local structure says nearly all (a small CNN succeeds).
"""

import numpy as np

CLASSES = ("rows", "columns", "diagonals", "checks", "dots", "disc", "ring", "square", "triangle", "cross")
SIZE = 32


def draw(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """`count` images (uint8, NHWC) and labels. The classes take turns, so that all are equally frequent."""
    random = np.random.RandomState(seed)  # the same in all versions of numpy, which a Generator isn't
    labels = np.arange(count) % len(CLASSES)
    ink = np.empty((count, SIZE, SIZE, 1), np.float32)
    for label, form in enumerate(FORMS):
        mine = labels == label
        ink[mine, :, :, 0] = form(*_coordinates(mine.sum(), random), random)
    paper, colour = _two_colours(count, random)
    images = paper + ink * (colour - paper)
    images += random.normal(0, 14, images.shape).astype(np.float32)
    return images.clip(0, 255).round().astype(np.uint8), labels


def _coordinates(count: int, random) -> tuple[np.ndarray, np.ndarray]:
    """x and y of every pixel, from -1 to 1 across a shape: moved, scaled and turned by up to 17 degrees."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) - (SIZE - 1) / 2
    angle, radius = random.uniform(-0.3, 0.3, (count, 1, 1)), random.uniform(6, 11, (count, 1, 1))
    across, down = random.uniform(-5, 5, (2, count, 1, 1))
    x, y = (x - across) / radius, (y - down) / radius
    turned = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return tuple(axis.astype(np.float32) for axis in turned)


def _two_colours(count: int, random) -> np.ndarray:
    """Two colours an image, one at least 70 levels brighter than the other, either of them in front."""
    dark = random.uniform(0, 130, (count, 1, 1, 3))
    bright = dark + random.uniform(70, 125, (count, 1, 1, 3))
    swapped = random.rand(count, 1, 1, 1) < 0.5
    return np.where(swapped, [bright, dark], [dark, bright]).astype(np.float32)


def _waves(position: np.ndarray, random) -> np.ndarray:
    """Stripes along a coordinate, two or three to a shape's width, from a random start."""
    return (np.sin(position * 6 + random.uniform(0, 2 * np.pi, (len(position), 1, 1))) > 0).astype(np.float32)


def _rows(x, y, random):
    return _waves(y, random)


def _columns(x, y, random):
    return _waves(x, random)


def _diagonals(x, y, random):
    return _waves((x + y) * np.float32(0.7), random)


def _checks(x, y, random):
    return np.abs(_waves(x, random) - _waves(y, random))


def _dots(x, y, random):
    return _waves(x, random) * _waves(y, random)


def _disc(x, y, random):
    return np.hypot(x, y) < 1


def _ring(x, y, random):
    return np.abs(np.hypot(x, y) - 0.8) < 0.25


def _square(x, y, random):
    return np.maximum(np.abs(x), np.abs(y)) < 0.9


def _triangle(x, y, random):
    return (y < 0.8) & (np.abs(x) * 1.7 < y + 1)


def _cross(x, y, random):
    return (np.minimum(np.abs(x), np.abs(y)) < 0.3) & (np.maximum(np.abs(x), np.abs(y)) < 1.1)


FORMS = (_rows, _columns, _diagonals, _checks, _dots, _disc, _ring, _square, _triangle, _cross)
