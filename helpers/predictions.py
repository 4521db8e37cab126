"""What a model answers about images, looked at once or from several sides."""

import numpy as np

from helpers import calibration

# How the test images are looked at: (mirrored, shift in pixels, weight). "six" is airbench's set of views.
VIEWS = {
    "single": [(False, 0, 1.0)],
    "flip": [(False, 0, 0.5), (True, 0, 0.5)],
    "six": [(False, 0, 0.25), (True, 0, 0.25)]
    + [(mirrored, shift, 0.125) for mirrored in (False, True) for shift in (-1, 1)],
}
PREDICT_BATCH = 500


def of(model, split, views):
    """A model's answers about a split's images, as they are kept."""
    return kept(log_probabilities(model, split.images, views), split.labels)


def kept(log_probabilities, labels):
    """What is kept of answers. Scores are computed from it: readers find the very same counts."""
    return {"log_probabilities": log_probabilities.astype("float16"), "labels": labels.astype("uint16")}


def log_probabilities(model, images, views="single"):
    """Natural logarithms of the class probabilities, averaged over the views of each image."""
    total = 0
    for mirrored, shift, weight in VIEWS[views]:
        logits = model.predict(view(images, mirrored, shift), batch_size=PREDICT_BATCH, verbose=0)
        total = total + weight * np.exp(calibration.log_probabilities(logits))
    return np.log(np.maximum(total, np.finfo("float32").tiny))


def view(images, mirrored, shift):
    """The images mirrored or not, and moved by `shift` pixels down and right, the border reflected."""
    images = images[:, :, ::-1] if mirrored else images
    if shift == 0:
        return images
    size, margin = images.shape[1:3], abs(shift)
    padded = np.pad(images, [(0, 0), (margin, margin), (margin, margin), (0, 0)], mode="reflect")
    start = margin - shift
    return padded[:, start : start + size[0], start : start + size[1]]
