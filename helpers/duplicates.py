"""Which test images have a copy, exact or nearly so, among the training images.

Pictures are compared by the cosine of their descriptors: halved to 16x16, standardised one by one (so that
brightness and contrast don't count), then the first principal components of the training images, whitened.
That is blind to what all photos share, like light above dark, and sharp for what makes a photo itself.

How similar is a copy? The test images upside down tell: they have the same pixels and colours but no copies
among the training images, so the similarity that only `FALSE_ALARMS` of them reach is the threshold.
"""

import numpy as np

COMPONENTS = 128  # the count hardly depends on it: 303 with 64, 334 with 128, 319 with 256
FALSE_ALARMS = 0.001
METHOD = {"components": COMPONENTS, "false_alarms": FALSE_ALARMS}  # what decides the result
BLOCK = 5_000  # images at a time, so that no float copy of them all is made


def exact_copies(training: np.ndarray, test: np.ndarray) -> dict:
    """How many images are byte for byte equal to an earlier one."""
    seen = {image.tobytes() for image in training}
    tested = {image.tobytes() for image in test}
    return {
        "within_training": len(training) - len(seen),
        "within_test": len(test) - len(tested),
        "across": len(seen & tested),
    }


def nearest(training: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
    """For every test image its most similar training image, mirrored or not, and the control's similarity."""
    describe = descriptor(training)
    known = describe(training)
    similarity, index, mirrored = _nearest_either_way(describe, known, test)
    control, _, _ = _nearest_either_way(describe, known, test[:, ::-1])
    return {"similarity": similarity, "nearest": index, "mirrored": mirrored, "control": control}


def threshold(control: np.ndarray) -> float:
    return float(np.quantile(control, 1 - FALSE_ALARMS))


def copies(found: dict[str, np.ndarray]) -> np.ndarray:
    """Which test images have a near duplicate."""
    return found["similarity"] > threshold(found["control"])


def counts(found: dict[str, np.ndarray]) -> dict:
    """How many test images have a near duplicate, and how many would by chance."""
    alike = copies(found)
    return {
        "threshold": threshold(found["control"]),
        "found": int(alike.sum()),
        "false_alarms_expected": len(alike) * FALSE_ALARMS,
        "mirrored": int((alike & found["mirrored"]).sum()),
    }


def summary(found: dict[str, np.ndarray], training_labels: np.ndarray, test_labels: np.ndarray) -> dict:
    """The counts, and how often labels agree: in these pairs, and in those of all others."""
    alike, agree = copies(found), training_labels[found["nearest"]] == test_labels
    return counts(found) | {
        "same_label": int((alike & agree).sum()),
        "same_label_elsewhere": float(agree[~alike].mean()),
    }


def pairs(found: dict[str, np.ndarray]) -> list[list[int]]:
    """[test image, training image] of the near duplicates, the most alike first."""
    alike = np.flatnonzero(copies(found))
    order = alike[np.argsort(-found["similarity"][alike], kind="stable")]
    return np.column_stack([order, found["nearest"][order]]).tolist()


def descriptor(training: np.ndarray):
    """A function from images to unit vectors, fitted to the training images."""
    components = min(COMPONENTS, len(training) // 4)
    mean, moment = 0, 0
    for block in _blocks(training):
        small = _standardised(block)
        mean = mean + small.sum(axis=0) / len(training)
        moment = moment + small.T @ small / len(training)
    variances, directions = np.linalg.eigh(moment - np.outer(mean, mean))
    whitening = directions[:, -components:] / np.sqrt(variances[-components:])

    def describe(images):
        vectors = np.concatenate([(_standardised(block) - mean) @ whitening for block in _blocks(images)])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    return describe


def _blocks(images: np.ndarray):
    return (images[start : start + BLOCK] for start in range(0, len(images), BLOCK))


def _standardised(images: np.ndarray) -> np.ndarray:
    """Halved in size, flat, each with mean 0 and standard deviation 1."""
    rows = images[:, ::2].astype(np.float32) + images[:, 1::2]
    flat = (rows[:, :, ::2] + rows[:, :, 1::2]).reshape(len(images), -1)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / (flat.std(axis=1, keepdims=True) + 1e-6)


def _nearest_either_way(describe, known, images):
    straight, index = _best(describe(images), known)
    turned, turned_index = _best(describe(images[:, :, ::-1]), known)
    mirrored = turned > straight
    return np.maximum(straight, turned), np.where(mirrored, turned_index, index), mirrored


def _best(vectors: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest cosine to any known vector, and whose it is."""
    index = np.concatenate([(block @ known.T).argmax(axis=1) for block in np.array_split(vectors, 20)])
    return np.einsum("ij,ij->i", vectors, known[index]), index
