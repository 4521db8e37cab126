"""Where transfer starts from: `tiny-imagenet` (in model/), `imagenet` (downloaded), `scratch`, or a file."""

import os
from functools import partial
from pathlib import Path

import keras

from helpers import checks, cifar10, download, model_files, models, runs

RELEASED = {"tiny-imagenet": "vgg16-tiny-imagenet-32.weights.h5"}
# Keras's files, as they can be named before they are there. Keras checks the two that have an md5.
IMAGENET = {
    "VGG16": {"md5": "6d6bbae143d832006294945121d1f1fc"},
    "ResNet50": {"md5": "4d473c1dd8becc155b73f8504c6f6626"},
    "MobileNetV2": {"file": "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"},
}
IMAGENET_SIZE = 224  # of MobileNetV2 there are others, for smaller pictures: they would be a second change
NAMES = (*RELEASED, "imagenet", "scratch")


def identity(weights, application="VGG16"):
    """What a run's evidence says of its source weights; None for a start from scratch."""
    if weights == "scratch":
        return None
    if weights == "imagenet":
        return {"name": weights} | IMAGENET[application]
    if weights in RELEASED:
        facts = model_files.facts(model_files.FOLDER / RELEASED[weights])
        return {"name": weights, "sha256": facts["sha256"]}
    path = _path(weights)
    return {"name": path.name, "sha256": download.file_digest(path, "sha256")}


def as_found(identity):
    """The sha256 of a file that nobody checks, as it lies here: what was really started from.

    It is Keras's own, in its cache, or that of a run of one's own.
    """
    match identity:
        case {"file": name}:
            path = _cache() / name
        case {"run": fingerprint}:
            path = next(runs.RUNS.glob(f"pretrain-*/{fingerprint}/seed-0/*.weights.h5"), None)
        case _:
            path = None
    return {"source_weights_sha256": download.file_digest(path, "sha256")} if path and path.is_file() else {}


def convolutions(weights, image_size=32, application="VGG16"):
    """keras.applications' network without top, with these weights. Its own code reads the file."""
    build = partial(getattr(keras.applications, application), include_top=False)
    network = build(weights=None, input_shape=(image_size, image_size, 3))
    if weights != "scratch":
        network.set_weights(_read(build, weights, application).get_weights())
    return network


def as_application(network, application="VGG16"):
    """A trained network's convolutions as keras.applications builds them, for a file that it loads."""
    built = convolutions("scratch", network.input_shape[1], application)
    trained = {layer.name: layer for layer in models.flat_layers(network)}
    for layer in (layer for layer in built.layers if layer.weights):
        layer.set_weights(trained[layer.name].get_weights())
    return built


def _read(build, weights, application):
    file = weights if weights == "imagenet" else _path(weights)
    try:
        return build(weights=file, input_shape=(IMAGENET_SIZE, IMAGENET_SIZE, 3))
    except Exception as error:  # Keras raises a bare Exception where the download fails
        reason = str(error).split("\n")[0]
        if weights == "imagenet":
            told = f"ImageNet's weights of {application} cannot be had ({reason})"
            raise ConnectionError(f"{told}: with no network, put that file into {_cache()}") from None
        raise ValueError(f"{file} does not hold {application}'s convolutions: {reason}") from None


def _cache():
    return cifar10.cache().with_name("models")


def _path(weights):
    own = Path(os.path.expanduser(weights))
    path = model_files.FOLDER / RELEASED[weights] if weights in RELEASED else own
    if path.is_file():
        return path
    raise FileNotFoundError(f"weights={weights!r}: no such file; {checks.nearest(weights, NAMES)}")
