"""Optimizers that Keras lacks, and the rate that rises and falls.

Muon is that of the fast rung and of the batch-normed VGG16; Adam by layers that of MobileNetV2, whose
depthwise kernels are no matrices to make orthogonal.
"""

import keras
from keras import ops

# All numbers here are airbench94_muon's (Jordan, 2024). Its loss is a sum over the batch, Keras's a mean: the
# rates that multiply a plain gradient are for one image and grow with the batch. Its head is scaled down by
# 256; heads that aren't need a much smaller rate.
RATES = {"kernel": 0.24, "bias": 0.053, "head": 0.67}
KERNEL_MOMENTUM, PLAIN_MOMENTUM, DECAY = 0.6, 0.85, 2e-6
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 3


@keras.saving.register_keras_serializable("helpers")
class Muon(keras.optimizers.Optimizer):
    """Muon for convolutions, Nesterov momentum for biases and head: the split of airbench94_muon.

    A convolution's kernel keeps a fixed norm and moves by an orthogonalised momentum; biases learn far faster
    than kernels. All rates fall to zero over `steps`, the whitening bias's over `bias_steps`: linearly, or as
    a cosine after `warmup_steps` of rising.
    `slowed` makes parts of the network learn slower: {beginning of a layer's name: factor of all its rates}.
    Keras's own Muon lacks the fixed norm and pairs with AdamW instead.
    """

    def __init__(self, steps, bias_steps, batch_size, rates=RATES, slowed=None, warmup_steps=0, **options):
        options["learning_rate"] = keras.optimizers.schedules.PolynomialDecay(1.0, steps, 0.0)
        if warmup_steps:
            options["learning_rate"] = warm_cosine(1.0, steps, warmup_steps)
        super().__init__(**options)
        self.steps, self.bias_steps, self.batch_size = steps, bias_steps, batch_size
        self.warmup_steps = warmup_steps
        self.rates, self.slowed = dict(rates), slowed or {}

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.is_whitening = ["whitening_bias" in variable.path for variable in variables]
        self.factors = [factor(self.slowed, variable) for variable in variables]
        self.momenta = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        buffer = self.momenta[index]
        learning_rate = self.factors[index] * learning_rate
        if len(variable.shape) == 4:
            self.update_kernel(gradient, variable, buffer, learning_rate)
            return
        if self.is_whitening[index]:
            learning_rate = ops.maximum(1.0 - ops.cast(self.iterations, "float32") / self.bias_steps, 0.0)
        self.update_other(gradient, variable, buffer, learning_rate)

    def update_kernel(self, gradient, kernel, buffer, learning_rate):
        gradient = nesterov(self, gradient, buffer, KERNEL_MOMENTUM)
        matrix = ops.reshape(gradient, (-1, kernel.shape[-1]))
        direction = ops.reshape(orthogonalized(matrix), kernel.shape)
        # The fixed norm: one for each filter on average.
        scaled = kernel * (kernel.shape[-1] ** 0.5 / ops.norm(ops.reshape(kernel, (-1,))))
        self.assign(kernel, scaled - self.rates["kernel"] * learning_rate * direction)

    def update_other(self, gradient, variable, buffer, learning_rate):
        rate = self.batch_size * self.rates["head" if len(variable.shape) == 2 else "bias"]
        decay = self.batch_size * DECAY / rate
        gradient = nesterov(self, gradient + decay * variable, buffer, PLAIN_MOMENTUM)
        self.assign_sub(variable, rate * learning_rate * gradient)

    def get_config(self):
        names = ("steps", "bias_steps", "batch_size", "rates", "slowed", "warmup_steps")
        config = super().get_config() | {name: getattr(self, name) for name in names}
        del config["learning_rate"]
        return config


def warm_muon(
    batches, *, epochs, kernel_rate, bias_rate, head_rate, warmup_share, averaged_share, slowed
):  # fmt: skip
    """Muon for a whole run: rates rise for a share of it and then fall, and what is judged at the end are
    weights averaged over about another share of it.
    """
    steps = len(batches) * epochs
    rates = {"kernel": kernel_rate, "bias": bias_rate, "head": head_rate}
    options = {"warmup_steps": round(warmup_share * steps), **averaged(averaged_share * steps)}
    return Muon(steps, 0, batches.batch_size, rates, slowed, **options)


@keras.saving.register_keras_serializable("helpers")
class LayerwiseAdam(keras.optimizers.Adam):
    """Adam that makes parts of the network learn slower, as `slowed` tells it, like Muon's."""

    def __init__(self, *arguments, slowed=None, **options):
        super().__init__(*arguments, **options)
        self.slowed = slowed or {}

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.factors = [factor(self.slowed, variable) for variable in variables]

    def update_step(self, gradient, variable, learning_rate):
        slower = self.factors[self._get_variable_index(variable)]
        super().update_step(gradient, variable, slower * learning_rate)

    def get_config(self):
        return super().get_config() | {"slowed": self.slowed}


def warm_adam(batches, *, epochs, learning_rate, warmup_share, averaged_share=0.0, slowed=None):
    """Adam for a whole run, as warm_muon is Muon for one."""
    steps = len(batches) * epochs
    rate = warm_cosine(learning_rate, steps, round(warmup_share * steps))
    return LayerwiseAdam(rate, slowed=slowed, **averaged(averaged_share * steps))


def averaged(steps):
    """What Keras's optimizers are told to average the weights over about so many last steps."""
    return {"use_ema": steps > 0, "ema_momentum": 1 - 1 / max(1.0, steps)}


def factor(slowed, variable):
    """Of a variable's rate, by the beginning of the name of its layer or of a model around it."""
    names = variable.path.split("/")
    factors = (slowed[start] for start in slowed if any(name.startswith(start) for name in names))
    return next(factors, 1.0)


def warm_cosine(peak, steps, warmup_steps):
    """A rate that rises to its peak, and falls to zero as a cosine, within so many steps."""
    rising = {"warmup_target": peak, "warmup_steps": warmup_steps}
    return keras.optimizers.schedules.CosineDecay(0.0, steps - warmup_steps, **rising)


def nesterov(optimizer, gradient, buffer, momentum):
    """Add the gradient to the momentum; return the momentum as it will be one step ahead."""
    optimizer.assign(buffer, momentum * buffer + gradient)
    return gradient + momentum * buffer


def orthogonalized(matrix):
    """The nearest matrix with singular values near one (from 0.5 to 1.5), by Newton-Schulz iteration."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix
    x = x / (ops.norm(x) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        square = x @ ops.transpose(x)
        x = a * x + (b * square + c * square @ square) @ x
    return ops.transpose(x) if tall else x
