"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) as a chain, so that its lower part can be frozen.

    network = pretrained("imagenet", classes=10, resized_to=96)
    lower, upper = models.split(network, "block_12_add")    # computed once, and trained

Pixels go in raw: resizing and preprocessing, Keras's "tf" mode, are layers of the model.
"""

import keras
from keras import layers

from helpers import models, source_weights

BLOCKS = 16  # numbered ones, after the stem and a first block that does not expand


def pretrained(weights, classes, *, resized_to):
    """The network with source weights (see source_weights), and a head of its own."""
    body = source_weights.convolutions(weights, resized_to, "MobileNetV2")
    return keras.Sequential([
        keras.Input((32, 32, 3), name="pixels"),
        layers.Resizing(resized_to, resized_to, name="resizing"),
        layers.Rescaling(1 / 127.5, offset=-1, name="rescaling"),
        *models.links(body),
        *models.head_layers(classes),
    ])  # fmt: skip


def slowed(depth_factor):
    """For an optimizer: a block's rate is the next block's times this; last convolution and head full."""
    stem = dict.fromkeys(("Conv1", "bn_Conv1", "expanded_conv"), depth_factor**BLOCKS)
    return stem | {f"block_{n}_": depth_factor ** (BLOCKS - n) for n in range(1, BLOCKS + 1)}
