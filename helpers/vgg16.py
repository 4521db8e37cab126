"""VGG16 as a chain of layers: with batch normalisation for training, plain as Keras has it, and to and fro.

    normed = batch_normed(classes=180)    # trains fast, from scratch too
    plain = fold(normed)                  # the same function; Keras's VGG16 loads its convolutions
    normed = unfold(plain, images)        # any plain VGG16, made trainable with batch normalisation

Preprocessing, Keras's "caffe" mode, is a layer of the model. Folding is exact, at the borders too, because
both forms pad the same preprocessed pixels with zeros.
"""

import keras
import numpy as np
from keras import layers, ops

from helpers import models, source_weights

BLOCKS = {"block1": (64, 2), "block2": (128, 2), "block3": (256, 3), "block4": (512, 3), "block5": (512, 3)}
CONVOLUTIONS = tuple(f"{block}_conv{n + 1}" for block, (_, depth) in BLOCKS.items() for n in range(depth))
EPSILON = 1e-3  # added to variances


def batch_normed(classes, image_size=32):
    """Convolutions without bias, each followed by batch normalisation."""
    return chain(image_size, *convolution_layers(normed=True), *models.head_layers(classes))


def plain(classes, image_size=32, *, resized_to=None):
    """The convolutions of Simonyan and Zisserman (2014, arXiv:1409.1556), and one dense layer."""
    size, least = resized_to or image_size, 2 ** len(BLOCKS)
    if size < least:
        raise ValueError(f"VGG16 halves pictures {len(BLOCKS)} times: {least} pixels at least, not {size}")
    resizing = [layers.Resizing(resized_to, resized_to, name="resizing")] if resized_to else []
    return chain(image_size, *resizing, *convolution_layers(normed=False), *models.head_layers(classes))


def pretrained(weights, classes, image_size=32, *, resized_to=None):
    """The plain network with source weights (see source_weights) in its convolutions."""
    network = plain(classes, image_size, resized_to=resized_to)
    copy_convolutions(source_weights.convolutions(weights), network)
    return network


def for_pictures(network):
    """The same network for pixels of any size; its central square is scaled to what the network knows.

    Initializers are left out of it: how newer versions of Keras describe them, older ones can't read.
    """
    size = network.input_shape[1]
    square = layers.Resizing(size, size, antialias=True, crop_to_aspect_ratio=True, name="resizing")
    copies = []
    for layer in network.layers:
        plainly = {"kernel_initializer": "zeros"} if "kernel_initializer" in layer.get_config() else {}
        copies.append(type(layer).from_config(layer.get_config() | plainly))
    model = keras.Sequential([keras.Input((None, None, 3), name="pixels"), square, *copies])
    model.set_weights(network.get_weights())
    return model


def copy_convolutions(one, other):
    for name in CONVOLUTIONS:
        other.get_layer(name).set_weights(one.get_layer(name).get_weights())


def slowed(depth_factor):
    """For an optimizer: a block's rates are the next block's times this."""
    return {f"block{n}": depth_factor ** (len(BLOCKS) - n) for n in range(1, len(BLOCKS))}


def chain(image_size, *rest):
    pixels = keras.Input((image_size, image_size, 3), name="pixels")
    return keras.Sequential([pixels, models.caffe_preprocessing(), *rest])


def convolution_layers(normed):
    """The thirteen convolutions and five poolings, named as in keras.applications.VGG16."""
    for block, (width, depth) in BLOCKS.items():
        for name in (f"{block}_conv{n + 1}" for n in range(depth)):
            yield layers.Conv2D(width, 3, padding="same", use_bias=not normed, name=name)
            if normed:
                yield layers.BatchNormalization(momentum=0.9, epsilon=EPSILON, name=f"{name}_norm")
            yield layers.Activation("relu", name=f"{name}_relu")
        yield layers.MaxPooling2D(name=f"{block}_pool")


def fold(normed):
    """The plain network that computes what the batch-normed one computes at inference."""
    folded = plain(normed.output_shape[-1], normed.input_shape[1])
    for name in CONVOLUTIONS:
        norm = normed.get_layer(f"{name}_norm")
        scale = ops.convert_to_numpy(norm.gamma / ops.sqrt(norm.moving_variance + EPSILON))
        bias = ops.convert_to_numpy(norm.beta) - ops.convert_to_numpy(norm.moving_mean) * scale
        kernel = ops.convert_to_numpy(normed.get_layer(name).kernel)
        folded.get_layer(name).set_weights([kernel * scale, bias])
    folded.layers[-1].set_weights(normed.layers[-1].get_weights())
    return folded


def unfold(folded, images, batch_size=500):
    """The batch-normed network that computes what the plain one computes, with statistics of `images`."""
    normed = batch_normed(folded.output_shape[-1], folded.input_shape[1])
    with models.precision("float32"):
        exact = plain(folded.output_shape[-1], folded.input_shape[1])
    exact.set_weights(folded.get_weights())
    for name, (mean, variance) in activation_statistics(exact, images, batch_size).items():
        kernel, bias = folded.get_layer(name).get_weights()
        normed.get_layer(name).set_weights([kernel])
        # gamma * (x - (mean - bias)) / sqrt(variance + epsilon) + beta is x + bias with these.
        norm = [np.sqrt(variance + EPSILON), mean, mean - bias, variance]
        normed.get_layer(f"{name}_norm").set_weights(norm)
    normed.layers[-1].set_weights(folded.layers[-1].get_weights())
    return normed


def activation_statistics(folded, images, batch_size):
    """{convolution: (mean, variance) of its output a channel}"""
    outputs = [folded.get_layer(name).output for name in CONVOLUTIONS]
    taps = keras.Model(folded.inputs, [layers.Reshape((-1, output.shape[-1]))(output) for output in outputs])
    sums = [np.zeros((2, output.shape[-1])) for output in outputs]
    for start in range(0, len(images), batch_size):
        for total, found in zip(sums, taps.predict_on_batch(images[start : start + batch_size])):
            total += [found.sum(axis=(0, 1)), np.square(found, dtype="float64").sum(axis=(0, 1))]
    counts = [len(images) * np.prod(output.shape[1:3]) for output in outputs]
    moments = [total / count for total, count in zip(sums, counts)]
    return {name: (mean, square - mean**2) for name, (mean, square) in zip(CONVOLUTIONS, moments)}
