"""A model file at work: loaded without trusting it, its logits and features, and where it looked."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import keras
import numpy as np
from keras import ops

from helpers import models  # noqa: F401 (a model of one's own may hold its layers)

# At least so many in the layer that explains an answer. Of VGG16's at 32 pixels that is the last one of 8x8:
# 2x2 shows nothing, 4x4 one blob, 16x16 only edges.
HEAT_ROWS = 7


class Network:
    """A model and, where layers are named, features: the roots of their channels' averages, in a row."""

    def __init__(self, path: Path, classes: int, layers: Sequence[str] = ()):
        try:
            self.model = keras.models.load_model(path, compile=False, safe_mode=True)
        except Exception as error:  # of many kinds; what is told after the first sentence is for programmers
            reason = " ".join(str(error).split()).split(". ")[0]
            raise ValueError(f"{path} cannot be loaded: {reason}") from None
        if self.model.output_shape[-1] != classes:
            raise ValueError(
                f"{path} answers {self.model.output_shape[-1]} classes, its description names {classes}"
            )
        self.named = layers

    def outputs(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits and features of a batch: each picture is looked at from both sides, which are averaged."""
        sides = [self._outputs(side) for side in (pixels, pixels[:, :, ::-1])]
        return tuple(sum(both) / 2 for both in zip(*sides))

    def _outputs(self, pixels: np.ndarray) -> list[np.ndarray]:
        found = self._tapped(ops.convert_to_tensor(pixels, "float32"), training=False)
        logits, *averages = keras.tree.flatten(found)  # one output alone comes without a list
        averages = [np.sqrt(np.maximum(_numbers(average), 0)) for average in averages]
        return [_numbers(logits), np.concatenate([np.empty((len(pixels), 0)), *averages], axis=1)]

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
        found = {layer.name: result for layer, _, result in self._steps}
        taps = [found[name] for name in self.named]
        averages = [ops.mean(tap, axis=(1, 2)) if len(tap.shape) == 4 else tap for tap in taps]
        return keras.Model(self.model.inputs[0], [self._steps[-1][2], *averages])

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
    if keras.backend.backend() == "torch":
        import torch

        values = values.detach().requires_grad_()
        return torch.autograd.grad(function(values).sum(), values)[0]
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(values)
        result = function(values)
    return tape.gradient(result, values)


def _numbers(tensor):
    return np.asarray(ops.convert_to_numpy(tensor), "float32")
