"""Labelled images for the experiments: CIFAR-10, a folder of one's own pictures, or the built-in sample.

    source("cifar10").load().train.images     # uint8, 45,000 x 32 x 32 x 3

Every source is split into training, validation and test, stratified, by a seed of its own (`SPLIT_SEED`): no
experiment's seed moves an image from one to another. A small training set's images are among a larger one's.
"""

import hashlib
import os
from collections.abc import Callable
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from helpers import checks, cifar10, images, runs, sample, tiny_imagenet

SPLIT_SEED = 0
CIFAR10_SIZES = runs.PUBLISHED_SIZES["cifar10"]
NAMES = ("cifar10", "tiny-imagenet", "sample")
DOWNLOADED = {"cifar10": cifar10, "tiny-imagenet": tiny_imagenet}


class Split(NamedTuple):
    images: np.ndarray  # uint8, N x height x width x 3
    labels: np.ndarray  # int64, N


class Splits(NamedTuple):
    train: Split
    validation: Split
    test: Split


class OtherPixels(ValueError):
    """What lies here is not what was announced."""


class Source:
    """A data set that knows what it is (`identity`) before anybody needs its pixels (`load`)."""

    def __init__(self, name: str, classes: tuple[str, ...], read: Callable, train_images: int | None):
        self.name = name
        self.classes = classes
        self._read = read
        self._train_images = _checked_count(train_images, classes)

    def __str__(self) -> str:
        sizes = ", ".join(f"{self.identity[part]:,} {part}" for part in Splits._fields)
        return f"{self.name}: {len(self.classes)} classes, images: {sizes}"

    @property
    def at_hand(self) -> bool:
        """Whether the pixels are on this machine. The sample and folders always are."""
        return self.name not in DOWNLOADED or DOWNLOADED[self.name].find() is not None

    @cached_property
    def identity(self) -> dict:
        """What decides the pixels. The published ones are assumed where the data set is absent, or where only
        what is published is read.
        """
        published = DOWNLOADED[self.name].TRAIN_SHA256 if self.name in DOWNLOADED else None
        if published and (runs.asked_of_evidence() == "read" or not self.at_hand):
            sizes, digest = runs.PUBLISHED_SIZES[self.name], published
        else:
            splits, digest = self._read()
            sizes = tuple(len(split.labels) for split in splits)
        train, validation, test = _shrunk(sizes, self._train_images)
        return {
            "name": self.name,
            "train_sha256": digest,  # of all training images, however few are used; of a folder, of all parts
            "published": digest == published,
            "classes": list(self.classes),
            "train": train,
            "validation": validation,
            "test": test,
            "split_seed": SPLIT_SEED,
        }

    def load(self) -> Splits:
        splits, digest = self._read()
        if digest != self.identity["train_sha256"]:
            told = "has other pixels than the published runs': run this again, as an experiment of its own"
            raise OtherPixels(f"this copy of {self.name} {told}")
        sizes = _shrunk(tuple(len(split.labels) for split in splits), self._train_images)
        used = Splits(*(_subset(split, size) for split, size in zip(splits, sizes)))
        _check_classes(used.train, self.classes, f"for train_images={self._train_images}: raise it")
        return used

    def shown(self) -> Splits | None:
        """The pixels, for a figure; None where they are not here or are others than the evidence's."""
        try:
            return self.load() if self.at_hand else None
        except OtherPixels:
            return None


def source(name: str = "cifar10", *, train_images: int | None = None, image_size: int = 32) -> Source:
    """`cifar10`, `tiny-imagenet`, `sample`, or a folder of labelled images, which are read at `image_size`.

    At most `train_images` are used for training, the other two parts shrink in proportion. Nothing is
    downloaded before `load`.
    """
    checks.parameters({"image_size": image_size})
    if name in NAMES and image_size != 32:
        raise ValueError(f"image_size={image_size} is for folders of pictures: {name} is 32x32")
    if name == "cifar10":
        cifar10.find()  # a wrong CIFAR10_DIR is noticed here, before anything runs
        return Source(name, cifar10.CLASSES, _cifar10, train_images)
    if name == "tiny-imagenet":
        return Source(name, tiny_imagenet.CLASSES, _tiny_imagenet, train_images)
    if name == "sample":
        return Source(name, sample.CLASSES, _sample, train_images)
    root = Path(os.path.expanduser(name))
    if name and root.is_dir():
        folder = images.list_folder(root)
        read = partial(_folder, folder, image_size)
        return Source(f"folder:{root.resolve().name}", folder.classes, read, train_images)
    if root.name != name:
        raise FileNotFoundError(f"data={name!r}: there is no such folder")
    nearest = checks.nearest(name, (*NAMES, "folder/of/pictures"))
    raise ValueError(f"unknown data set {name!r}, nor is it a folder in {Path.cwd()}: {nearest}")


def load_cifar10_raw() -> tuple[Split, Split]:
    """The 50,000 training and 10,000 test images in their original order, unsplit."""
    return _cifar10_raw(cifar10.obtain())


def _cifar10_raw(path: Path) -> tuple[Split, Split]:
    pixels, labels = cifar10.read(path)
    trained = len(labels) - cifar10.BATCH_SIZE
    # A copy of the test images, because a view would keep all 60,000 in memory.
    return Split(pixels[:trained], labels[:trained]), Split(pixels[trained:].copy(), labels[trained:].copy())


def _cifar10() -> tuple[Splits, str]:
    return _cifar10_at(cifar10.obtain())


@lru_cache(maxsize=1)
def _cifar10_at(path: Path) -> tuple[Splits, str]:
    train, test = _cifar10_raw(path)
    return Splits(*_split_off(train, CIFAR10_SIZES[1]), test), pixel_digest(train.images)


def _tiny_imagenet() -> tuple[Splits, str]:
    return _tiny_imagenet_at(tiny_imagenet.obtain())


@lru_cache(maxsize=1)
def _tiny_imagenet_at(path: Path) -> tuple[Splits, str]:
    """Its validation images are divided: one half validates, the other one tests."""
    print(f"reading {path}", flush=True)
    train = Split(*tiny_imagenet.read(path, "train", tiny_imagenet.CLASSES))
    rest = Split(*tiny_imagenet.read(path, "val", tiny_imagenet.CLASSES))
    return Splits(train, *_split_off(rest, len(rest.labels) // 2)), pixel_digest(train.images)


@lru_cache(maxsize=1)
def _sample() -> tuple[Splits, str]:
    everything = Split(*sample.draw(6_000))
    rest, test = _split_off(everything, 1_000)
    train, validation = _split_off(rest, 500)
    return Splits(train, validation, test), pixel_digest(train.images)


@lru_cache(maxsize=1)
def _folder(folder: images.Folder, size: int) -> tuple[Splits, str]:
    """A folder's own parts. A tenth of the training images stands in for validation or test where missing."""
    pixels, pictures = images.read_all(folder.pictures, size)
    # Mixed as CIFAR-10 is: the first of any number of pictures are of all classes.
    order = np.random.RandomState(SPLIT_SEED).permutation(len(pictures))
    pixels, pictures = pixels[order], [pictures[index] for index in order]
    labels = np.array([picture.label for picture in pictures], np.int64)
    parts = np.array([picture.part for picture in pictures])
    found = {name: Split(pixels[parts == name], labels[parts == name]) for name in Splits._fields}
    _check_classes(found["train"], folder.classes, "that can be read, for training")
    tenth = max(1, round(len(found["train"].labels) / 10))
    for name in ("test", "validation"):
        if not len(found[name].labels):
            found["train"], found[name] = _split_off(found["train"], tenth)
    _check_classes(found["train"], folder.classes, "to be split in three: ten are a start")
    everything = (array for split in found.values() for array in split)
    return Splits(**found), hashlib.sha256("".join(map(pixel_digest, everything)).encode()).hexdigest()


def _check_classes(train: Split, classes: tuple[str, ...], told: str) -> None:
    counts = np.bincount(train.labels, minlength=len(classes))
    if not counts.all():
        raise ValueError(f"class {classes[int(counts.argmin())]!r} has too few pictures {told}")


def pixel_digest(images: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(images)).hexdigest()


def stratified(labels: np.ndarray, count: int) -> np.ndarray:
    """Sorted indices of `count` images of which every class has its share (largest remainders rounded up)."""
    frequencies = np.bincount(labels)
    shares = frequencies * (count / len(labels))
    quotas = np.floor(shares).astype(int)
    quotas[np.argsort(quotas - shares, kind="stable")[: count - quotas.sum()]] += 1
    random = np.random.RandomState(SPLIT_SEED)  # the same in all versions of numpy, which a Generator isn't
    chosen = [random.permutation(np.flatnonzero(labels == c))[:quota] for c, quota in enumerate(quotas)]
    return np.sort(np.concatenate(chosen))


def _only(split: Split, indices: np.ndarray) -> Split:
    return Split(split.images[indices], split.labels[indices])


def _split_off(split: Split, count: int) -> tuple[Split, Split]:
    """The rest, and `count` images of it, every class with its share."""
    chosen = stratified(split.labels, count)
    return _only(split, np.setdiff1d(np.arange(len(split.labels)), chosen)), _only(split, chosen)


def _subset(split: Split, count: int) -> Split:
    return split if count == len(split.labels) else _only(split, stratified(split.labels, count))


def _shrunk(sizes: tuple[int, ...], train_images: int | None) -> tuple[int, ...]:
    """The sizes of the three parts when at most `train_images` are trained on."""
    if train_images is None or train_images >= sizes[0]:
        return sizes
    return tuple(max(1, round(size * train_images / sizes[0])) for size in sizes)


def _checked_count(train_images: int | None, classes: tuple[str, ...]) -> int | None:
    if train_images is None:
        return None
    if isinstance(train_images, bool) or not isinstance(train_images, int) or train_images < len(classes):
        raise ValueError(f"train_images must be a whole number, {len(classes)} or more, not {train_images!r}")
    return train_images
