"""Where transfer starts from: `tiny-imagenet` (in model/), `imagenet` (downloaded), `scratch`, or a file."""

from pathlib import Path

import keras

from helpers import download, released, runs

RELEASED = {"tiny-imagenet": "vgg16-tiny-imagenet-32.weights.h5"}
# Of Keras's file, which keras.applications checks after the download; a run can be named before there is one.
IMAGENET_MD5 = {"VGG16": "6d6bbae143d832006294945121d1f1fc"}
NAMES = (*RELEASED, "imagenet", "scratch")


def identity(weights, application="VGG16"):
    """What a run's evidence says of its source weights; None for a start from scratch."""
    if weights == "scratch":
        return None
    if weights == "imagenet":
        return {"name": weights, "md5": IMAGENET_MD5[application]}
    if weights in RELEASED:
        return {"name": weights, "sha256": released.facts(released.FOLDER / RELEASED[weights])["sha256"]}
    path = _own(weights)
    return {"name": path.name, "sha256": download.file_digest(path, "sha256")}


def convolutions(weights, image_size=32, application="VGG16"):
    """keras.applications' network without top, with these weights. Its own code reads the file."""
    build = getattr(keras.applications, application)
    shape = (image_size, image_size, 3)
    if weights == "scratch":
        return build(include_top=False, weights=None, input_shape=shape)
    if weights == "imagenet":
        try:
            return build(include_top=False, weights=weights, input_shape=shape)
        except Exception as error:  # Keras raises a bare Exception where the download fails
            raise ConnectionError(f"ImageNet's weights of {application} cannot be had: {error}") from None
    path = released.FOLDER / RELEASED[weights] if weights in RELEASED else _own(weights)
    try:
        return build(include_top=False, weights=path, input_shape=shape)
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} does not hold {application}'s convolutions: {reason}") from None


def _own(weights):
    path = Path(weights).expanduser()
    if path.is_file():
        return path
    raise FileNotFoundError(f"weights={weights!r}: no such file; {runs.nearest(weights, NAMES)}")
