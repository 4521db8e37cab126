"""Batch normalisation in one pass over memory.

Keras 3 computes it in many small steps and in float32; TensorFlow has it as one operation too. Notebook 05
measures what that saves. Saved models are as ever.
"""

from functools import partial

import keras
from keras import layers, ops

from helpers import devices, models

SMALLEST_EPSILON = 1e-5  # that cuDNN takes


def fuse(model):
    """Let the model's normalisation of pictures compute the same in one operation, where there is one."""
    if keras.backend.backend() != "tensorflow":
        return
    for layer in models.flat_layers(model):
        normalizes = isinstance(layer, layers.BatchNormalization) and layer.epsilon >= SMALLEST_EPSILON
        if normalizes and len(layer.input.shape) == 4:
            layer.call = partial(call, layer)


def call(layer, inputs, training=None, mask=None):
    """What keras.layers.BatchNormalization.call computes for pictures, channels last."""
    mean, variance = layer.moving_mean, layer.moving_variance
    scale = layer.gamma if layer.scale else ops.ones_like(mean)
    offset = layer.beta if layer.center else ops.zeros_like(mean)
    if not (training and layer.trainable):
        if devices.gpus():  # where TensorFlow has no deterministic gradient of it
            return type(layer).call(layer, inputs, training=training, mask=mask)
        return fused(inputs, scale, offset, mean, variance, layer.epsilon, is_training=False)[0]
    outputs, batch_mean, batch_variance = fused(
        inputs, scale, offset, [], [], layer.epsilon, is_training=True
    )
    # TensorFlow's is the unbiased estimate, Keras's the variance of the batch itself.
    count = ops.cast(ops.size(inputs) // inputs.shape[-1], "float32")
    batch_variance = batch_variance * (count - 1) / count
    mean.assign(mean * layer.momentum + batch_mean * (1 - layer.momentum))
    variance.assign(variance * layer.momentum + batch_variance * (1 - layer.momentum))
    return outputs


def fused(x, scale, offset, mean, variance, epsilon, is_training):
    import tensorflow as tf

    scale, offset, mean, variance = (
        tf.convert_to_tensor(value, "float32") for value in (scale, offset, mean, variance)
    )
    return tf.raw_ops.FusedBatchNormV3(
        x=x, scale=scale, offset=offset, mean=mean, variance=variance, epsilon=epsilon,
        is_training=is_training,
    )[:3]  # fmt: skip
