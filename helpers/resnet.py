"""ResNet50 (He et al. 2015, arXiv:1512.03385) as a chain, so that its lower part can be frozen.

    network = pretrained("imagenet", classes=10, resized_to=64)
    lower, upper = models.split(network, "conv4_block6_out")    # computed once, and trained

Pixels go in raw: resizing and preprocessing, Keras's "caffe" mode, are layers of the model.
"""

import keras
from keras import layers

from helpers import models, source_weights

STAGES = 5  # each works on positions half as many each way as the one before


def pretrained(weights, classes, *, resized_to=None, first_stride=2, preprocessing=None):
    """The network with source weights (see source_weights), and a head of its own.

    A first stride of 1 leaves a small picture as many positions as one of 2 leaves it scaled up twice.
    """
    size = resized_to or 32
    body = source_weights.convolutions(weights, size, "ResNet50")
    if first_stride != 2:
        body = _strided(body, first_stride)
    resizing = [layers.Resizing(size, size, name="resizing")] if resized_to else []
    return keras.Sequential([
        keras.Input((32, 32, 3), name="pixels"),
        *resizing,
        preprocessing or models.caffe_preprocessing(),
        *models.links(body),
        *models.head_layers(classes),
    ])  # fmt: skip


def _strided(body, stride):
    """The same network but for the stride of its first convolution."""

    def copy(layer):
        changed = {"strides": (stride, stride)} if layer.name == "conv1_conv" else {}
        return type(layer).from_config(layer.get_config() | changed)

    other = keras.models.clone_model(body, clone_function=copy)
    other.set_weights(body.get_weights())
    return other


def slowed(depth_factor):
    """For an optimizer: a stage's rates are the next stage's times this."""
    return {f"conv{n}_": depth_factor ** (STAGES - n) for n in range(1, STAGES)}
