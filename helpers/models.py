"""Models: raw pixels (0 to 255) go in, logits come out; resizing and preprocessing are layers inside."""

from contextlib import contextmanager

import keras
import numpy as np
from keras import layers, ops

from helpers import devices

# Of CIFAR-10's training images, a channel, 0 to 255: measured in notebook 01.
PIXEL_MEAN = (125.3, 123.0, 113.9)
PIXEL_STD = (63.0, 62.1, 66.7)
WHITENING_FLOOR = 5e-4  # airbench's: added to variances, so that directions of mere noise are not blown up
# ImageNet's: blue, green, red, as VGG16 and ResNet50 of keras.applications take it off ("caffe" mode).
CAFFE_MEAN = (103.939, 116.779, 123.68)


@contextmanager
def precision(policy, emulated=False):
    """Build the layers inside with this dtype policy: "float32" or "mixed_bfloat16".

    float32, which is more exact, takes the place of bfloat16 where the machine could only emulate it, which
    takes many times as long. `emulated` asks for it all the same.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy if emulated or devices.has_bfloat16() else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def normalized(inputs):
    """Pixels to zero mean and unit variance a channel."""
    return layers.Normalization(mean=PIXEL_MEAN, variance=np.square(PIXEL_STD), name="normalize")(inputs)


def caffe_preprocessing():
    """RGB to BGR, the mean taken off: a fixed 1x1 convolution, which every Keras can load."""
    layer = layers.Conv2D(3, 1, trainable=False, dtype="float32", name="caffe_preprocessing")
    layer.build((None, None, None, 3))
    layer.kernel.assign(np.eye(3, dtype="float32")[None, None, :, ::-1])
    layer.bias.assign(-np.array(CAFFE_MEAN))
    return layer


def head(classes):
    """The last layer, in float32 so that the loss is exact under mixed precision too."""
    return layers.Dense(classes, dtype="float32", name="logits")


def head_layers(classes):
    """What a chain ends in: features averaged over the positions, and a linear layer."""
    return [layers.GlobalAveragePooling2D(name="features"), head(classes)]


def dense_head(width, hidden, dropout, classes):
    """Two layers on `width` features, with dropout between them: what is usually put on a frozen network."""
    dense = layers.Dense(hidden, activation="relu", name="hidden")
    return keras.Sequential([keras.Input((width,)), dense, layers.Dropout(dropout), head(classes)])


def naive_cnn(classes):
    """One convolution, no pooling: nearly all of its parameters sit in one dense layer."""
    inputs = keras.Input((32, 32, 3), name="pixels")
    x = layers.Conv2D(32, 3, activation="relu")(normalized(inputs))
    x = layers.Dense(128, activation="relu", name="hidden")(layers.Flatten()(x))
    return keras.Model(inputs, head(classes)(x), name="naive")


def pooling_cnn(classes, image_size=32, *, dropout=0.0, batch_norm=False):
    """Three convolutions, each followed by pooling; batch normalisation and, at the end, dropout as asked."""
    inputs = keras.Input((image_size, image_size, 3), name="pixels")
    x = normalized(inputs)
    for width in (32, 64, 128):
        x = layers.Conv2D(width, 3, padding="same", use_bias=not batch_norm)(x)
        x = layers.BatchNormalization()(x) if batch_norm else x
        x = layers.MaxPooling2D()(layers.Activation("relu")(x))
    x = layers.Dense(128, use_bias=not batch_norm)(layers.Flatten()(x))
    x = layers.BatchNormalization()(x) if batch_norm else x
    x = layers.Activation("relu")(x)
    x = layers.Dropout(dropout)(x) if dropout else x
    return keras.Model(inputs, head(classes)(x), name="pooling")


def fast_cnn(classes, *, widths=(64, 256, 256)):
    """The network of airbench94 (Jordan, 2024, arXiv:2404.00498), in Keras.

    Its first layer is set by `whiten` and stays frozen; its convolutions start as identities.
    """
    inputs = keras.Input((32, 32, 3), name="pixels")
    x = layers.Conv2D(24, 2, use_bias=False, trainable=False, name="whitening")(normalized(inputs))
    x = layers.Activation("gelu")(Bias(12**-0.5, name="whitening_bias")(x))
    for width in widths:
        x = layers.MaxPooling2D()(identity_convolution(x, width))
        x = layers.Activation("gelu")(quick_norm(x))
        x = layers.Activation("gelu")(quick_norm(identity_convolution(x, width)))
    x = layers.Flatten()(layers.GlobalMaxPooling2D()(x))
    unit_variance = keras.initializers.RandomUniform(-(3**0.5), 3**0.5)
    x = layers.Dense(classes, use_bias=False, kernel_initializer=unit_variance, dtype="float32", name="head")(
        x
    )
    return keras.Model(
        inputs, layers.Rescaling(1 / widths[-1], dtype="float32", name="logits")(x), name="fast"
    )


def identity_convolution(x, width):
    return layers.Conv2D(width, 3, padding="same", use_bias=False, kernel_initializer=PartialIdentity())(x)


def quick_norm(x):
    """Batch normalisation without scale whose statistics follow within a few steps, as short runs need."""
    return layers.BatchNormalization(momentum=0.6, epsilon=1e-12, scale=False)(x)


def whiten(model, images):
    """Set the frozen first layer: the images' patches, decorrelated, of unit variance, and the negatives."""
    kernel = model.get_layer("whitening").kernel
    height, width, channels, filters = kernel.shape
    pixels = (images.astype("float32") - PIXEL_MEAN) / PIXEL_STD
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (height, width), axis=(1, 2))
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, height * width * channels)
    variances, directions = np.linalg.eigh(patches.T @ patches / len(patches))
    half = (directions / np.sqrt(variances + WHITENING_FLOOR)).reshape(height, width, channels, -1)
    kernel.assign(np.concatenate([half, -half], axis=-1)[..., :filters])


@keras.saving.register_keras_serializable("helpers")
class Bias(layers.Layer):
    """A trainable bias a channel, for a layer whose kernel is frozen."""

    def __init__(self, limit, **options):
        super().__init__(**options)
        self.limit = limit

    def build(self, shape):
        start = keras.initializers.RandomUniform(-self.limit, self.limit)
        self.bias = self.add_weight(shape=(shape[-1],), initializer=start, name="bias")

    def call(self, inputs):
        return inputs + ops.cast(self.bias, inputs.dtype)

    def get_config(self):
        return super().get_config() | {"limit": self.limit}


@keras.saving.register_keras_serializable("helpers")
class PartialIdentity(keras.initializers.Initializer):
    """A convolution that starts by handing its input channels on; the filters beyond them start at random."""

    def __call__(self, shape, dtype=None):
        height, width, channels, filters = shape
        limit = (height * width * channels) ** -0.5
        identity = np.zeros((height, width, channels, min(channels, filters)), "float32")
        identity[height // 2, width // 2] = np.eye(*identity.shape[2:])
        spare = (height, width, channels, filters - identity.shape[-1])
        random = keras.random.uniform(spare, -limit, limit, dtype=dtype)
        return ops.concatenate([ops.cast(identity, random.dtype), random], axis=-1)


def multiply_adds(model):
    """(trained, only run forward): multiply-adds an image, by shapes of convolution and dense layers."""
    counts = {True: 0, False: 0}
    for layer in flat_layers(model):
        if not isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)):
            continue
        positions = np.prod(layer.output.shape[1:-1], dtype=int)
        # A kernel value is used once at each position of the output; a dense layer has one position.
        counts[layer.kernel.trainable] += int(positions * np.prod(layer.kernel.shape))
    return counts[True], counts[False]


def links(network):
    """A functional network as the links of a chain: its layers, and one model for each residual block.

    A link ends where one tensor is all that the layers to come need. It is named after its last layer.
    """
    # Where in the order of layers each tensor is needed for the last time.
    needed = {
        id(given): place
        for place, layer in enumerate(network.layers)
        for given in keras.tree.flatten(layer.input)
    }
    start, first = network.layers[0].output, 1
    open_until = needed[id(start)]
    for place, layer in enumerate(network.layers[1:], 1):
        if open_until <= place:
            yield layer if first == place else keras.Model(start, layer.output, name=layer.name)
            start, first = layer.output, place + 1
        open_until = max(open_until, needed.get(id(layer.output), place))


def joined(lower, upper):
    """One chain of the layers of two."""
    return keras.Sequential([keras.Input(lower.input_shape[1:], name="pixels"), *lower.layers, *upper.layers])


def standardised(network, images):
    """The network, and a layer that brings its outputs to zero mean and unit variance, as these images have
    them: before they are kept in half precision, where small differences of large numbers would be lost.
    """
    found = np.asarray(network.predict(images, verbose=0), "float64")
    mean, variance = found.mean(axis=0), found.var(axis=0)
    variance[variance == 0] = 1  # what never differs has no size to be brought to
    layer = layers.Normalization(mean=mean, variance=variance, dtype="float32", name="unit_variance")
    return keras.Sequential([keras.Input(network.input_shape[1:]), *network.layers, layer])


def unit_variance():
    """Layers that bring features to zero mean and unit variance as they are learned from: those of different
    depths and sizes differ in magnitude, and a linear layer learns the small ones slowly. (`standardised`
    does so before they are kept, where half precision would round their differences away.)
    """
    return [layers.BatchNormalization(center=False, scale=False)]


def split(model, last):
    """A chain as two: up to the layer called `last`, and what follows. The layers themselves are shared."""
    names = [layer.name for layer in model.layers]
    lower, upper = model.layers[: names.index(last) + 1], model.layers[names.index(last) + 1 :]
    between = keras.Input(lower[-1].output.shape[1:], name="features_of_the_frozen_part")
    return keras.Sequential([keras.Input(model.input_shape[1:]), *lower]), keras.Sequential([between, *upper])


def thaw(network, norms=False, momentum=None):
    """Train every layer but the preprocessing, normalisation only where `norms` says so; returns the network.

    Frozen, normalisation computes with the source task's statistics in training too. Trained, its statistics
    follow each batch by 1 - momentum.
    """
    for layer in network.layers:
        layer.trainable = not layer.name.endswith("preprocessing")
    for layer in flat_layers(network):
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = norms
            if momentum is not None:
                layer.momentum = momentum
    return network


def flat_layers(model):
    """The layers of a model and of the models inside it."""
    for layer in model.layers:
        yield from flat_layers(layer) if isinstance(layer, keras.Model) else (layer,)


def computed_in(model):
    """bfloat16 if any layer computes in it, whatever else the last one does; else float32."""
    return "bfloat16" if any(layer.compute_dtype == "bfloat16" for layer in flat_layers(model)) else "float32"


def count_parameters(model):
    """(trained, in all)"""
    trained = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    return trained, model.count_params()
