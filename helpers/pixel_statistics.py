"""Statistics of a data set's pixels, as evidence that can be read and drawn without the data."""

import time

import numpy as np

from helpers import duplicates, runs
from helpers.data import CIFAR10_SIZES, Source, Split, load_cifar10_raw

FIFTHS = 5  # of the training images; CIFAR-10's are its five batches
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # how bright red, green and blue look: ITU-R BT.601
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SETS = ("first fifth", "training", "test")  # the histograms' first axis


def undivided(source: Source) -> tuple[Split, Split]:
    """Training images, validation among them, and test images; the whole CIFAR-10's in original order."""
    if source.name == "cifar10" and source.identity["train"] == CIFAR10_SIZES[0]:
        return load_cifar10_raw()
    train, validation, test = source.load()
    return Split(*map(np.concatenate, zip(train, validation))), test


def evidence(source: Source) -> tuple[dict, dict[str, np.ndarray]]:
    """A record and the arrays beside it; a quarter of a minute for the whole CIFAR-10."""
    start = time.monotonic()
    training, test = undivided(source)
    classes = len(source.classes)
    means = mean_images(training, classes)
    brightness, contrast = light(training.images)
    copies = duplicates.nearest(training.images, test.images)
    statistics = {
        "images": {"training": len(training.labels), "test": len(test.labels)},
        "shape": list(training.images.shape[1:]),
        "class_counts": {
            "fifths": [count(part, classes) for part in np.array_split(training.labels, FIFTHS)],
            "training": count(training.labels, classes),
            "test": count(test.labels, classes),
        },
        "nearest_mean_correct": int((nearest_mean(training.images, means) == training.labels).sum()),
        "brightness": spread(brightness, training.labels, classes),
        "contrast": spread(contrast, training.labels, classes),
        "extremes": {
            "darkest": int(brightness.argmin()),
            "brightest": int(brightness.argmax()),
            "flattest": int(contrast.argmin()),
            "starkest": int(contrast.argmax()),
        },
        "exact_duplicates": duplicates.exact_copies(training.images, test.images),
        "near_duplicates": duplicates.summary(copies, training.labels, test.labels),
    }
    parts = (np.array_split(training.images, FIFTHS)[0], training.images, test.images)
    arrays = {
        "histograms": np.stack([histogram(images) for images in parts]),
        "mean_images": means.round().astype(np.uint8),
        "similarity": copies["similarity"].astype(np.float16),
        "control": copies["control"].astype(np.float16),
        "nearest": copies["nearest"].astype(np.int32),
        "mirrored": copies["mirrored"],
    }
    seconds = round(time.monotonic() - start, 1)
    measured = {"seconds": seconds, "device": runs.cpu_name()} | runs.environment()
    return {"statistics": statistics, "measured": measured}, arrays


def count(labels: np.ndarray, classes: int) -> list[int]:
    return np.bincount(labels, minlength=classes).tolist()


def histogram(images: np.ndarray) -> np.ndarray:
    """How often each of the 256 levels occurs, for red, green and blue."""
    return np.stack([np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(3)])


def mean_and_std(histogram: np.ndarray) -> tuple[float, float]:
    """Of the pixels that a histogram counts, or several together: exact, without the pixels."""
    counts = histogram.reshape(-1, 256).sum(axis=0)
    levels = np.arange(256)
    mean = (counts @ levels) / counts.sum()
    return float(mean), float(np.sqrt(counts @ (levels - mean) ** 2 / counts.sum()))


def share_between(histogram: np.ndarray, low: int, high: int) -> float:
    """The share of pixels from `low` to `high`, both counted."""
    counts = histogram.reshape(-1, 256).sum(axis=0)
    return float(counts[low : high + 1].sum() / counts.sum())


def mean_images(split: Split, classes: int) -> np.ndarray:
    return np.stack([split.images[split.labels == c].mean(axis=0, dtype=np.float64) for c in range(classes)])


def nearest_mean(images: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The class whose mean image is nearest: what the means alone tell."""
    means = means.reshape(len(means), -1).astype(np.float32)
    blocks = np.array_split(images.reshape(len(images), -1), 20)
    return np.concatenate([((means**2).sum(axis=1) - 2 * (b @ means.T)).argmin(axis=1) for b in blocks])


def light(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Brightness and contrast of every image: mean and standard deviation of its luma."""
    lumas = [part @ LUMA for part in np.array_split(images, 20)]
    return tuple(np.concatenate([f(luma, axis=(1, 2)) for luma in lumas]) for f in (np.mean, np.std))


def spread(values: np.ndarray, labels: np.ndarray, classes: int) -> dict:
    """Quantiles within each class, and how much of the values' variance lies between the classes."""
    within = [values[labels == c] for c in range(classes)]
    between = sum(len(v) * (v.mean() - values.mean()) ** 2 for v in within) / (len(values) * values.var())
    return {
        "quantiles": [np.quantile(v, QUANTILES).round(1).tolist() for v in within],
        "between_classes": float(between),
    }
