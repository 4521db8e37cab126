"""A model file at work: loaded without trusting it, its logits and features, and where it looked."""

from functools import cached_property
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from helpers import models, vgg16  # noqa: F401 (a model of one's own may hold their layers)

# At least so many in the layer that explains an answer. Of VGG16's at 32 pixels that is the last one of 8x8:
# 2x2 shows nothing, 4x4 one blob, 16x16 only edges.
HEAT_ROWS = 7


class Network:
    def __init__(self, path: Path, classes: int):
        try:
            self.model = keras.models.load_model(path, compile=False, safe_mode=True)
        except Exception as error:  # of many kinds; what is told after the first sentence is for programmers
            reason = " ".join(str(error).split()).split(". ")[0]
            raise ValueError(f"{path} cannot be loaded: {reason}") from None
        if self.model.output_shape[-1] != classes:
            raise ValueError(
                f"{path} answers {self.model.output_shape[-1]} classes, its description names {classes}"
            )

    def outputs(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits and features of a batch."""
        return tuple(map(_numbers, self._tapped(ops.convert_to_tensor(pixels, "float32"), training=False)))

    def heat(self, pixels: np.ndarray, label: int) -> np.ndarray:
        """LayerCAM (Jiang et al. 2021): an image's activations times what more of each adds to the logit.

        Grad-CAM weighs whole channels instead, by their mean gradient: at grids so small it points elsewhere.
        """
        before, after = self._halves
        activations = before(ops.convert_to_tensor(pixels, "float32"), training=False)
        slopes = gradient(lambda values: after(values, training=False)[:, label], activations)
        return np.maximum((_numbers(activations) * np.maximum(_numbers(slopes), 0)).sum(axis=-1), 0)

    @cached_property
    def _steps(self) -> list[tuple]:
        """(layer, what it gets, what it gives). The layers of a sequential model remember other calls too."""
        if not isinstance(self.model, keras.Sequential):
            return [(layer, layer.input, layer.output) for layer in self.model.layers]
        given = [self.model.inputs[0]]
        for layer in self.model.layers:
            given.append(layer(given[-1]))
        return list(zip(self.model.layers, given, given[1:]))

    @cached_property
    def _tapped(self) -> keras.Model:
        """The features are what the last dense layer gets."""
        features = [given for layer, given, _ in self._steps if isinstance(layer, layers.Dense)][-1]
        return keras.Model(self.model.inputs[0], [self._steps[-1][2], features])

    @cached_property
    def _halves(self) -> tuple[keras.Model, keras.Model]:
        """The model up to the last layer that still has places, and from there on."""
        grids = [result for *_, result in self._steps if len(result.shape) == 4]
        last = [grid for grid in grids if (grid.shape[1] or 0) >= HEAT_ROWS][-1]
        return keras.Model(self.model.inputs[0], last), keras.Model(last, self._steps[-1][2])


def gradient(function, values):
    """Of the sum of what the function returns."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(lambda values: function(values).sum())(values)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(values)
        result = function(values)
    return tape.gradient(result, values)


def _numbers(tensor):
    return np.asarray(ops.convert_to_numpy(tensor), "float32")
