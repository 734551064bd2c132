"""Cells that users might write, with their derivatives."""

import numpy as np

from numbalstm import initializers
from numbalstm.layers.base import Layer
from numbalstm.layers.gradients import LayerGradients


class PlainCell(Layer):
    """h' = tanh(x K + h R), differentiated by hand; a state on its own, not in a list."""

    state_size = 3

    def build(self, input_shape):
        normal = initializers.get("glorot_normal")
        self.kernel = self.add_weight("kernel", (input_shape[-1], 3), normal)
        self.recurrent = self.add_weight("recurrent", (3, 3), normal)

    def call(self, inputs, states):
        return self._vjp(inputs, states)[0]

    def _vjp(self, inputs, states):
        h = np.tanh(inputs @ self.kernel.value + states[0] @ self.recurrent.value)

        def pull(cotangents, regularize):
            dy, dh = cotangents
            dz = ((0 if dy is None else dy) + (0 if dh is None else dh)) * (1 - h * h)
            weights = {self.kernel: inputs.T @ dz, self.recurrent: states[0].T @ dz}
            return LayerGradients(dz @ self.kernel.value.T, [dz @ self.recurrent.value.T], weights=weights)

        return (h, h), pull


class ConstantCell:
    """A cell that is no layer: h' = h * (x + mean of a constant), c' = c + h'."""

    state_size = (2, 2)

    def call(self, x, states, constants):
        return self.vjp(x, states, constants)[0]

    def vjp(self, x, states, constants):
        (h, c), (k,) = states, constants
        factor = x + k.mean(axis=1, keepdims=True)
        new = h * factor

        def pullback(dy, d_states):
            dh, dc = d_states
            dh = dy + dh + dc
            d_factor = dh * h
            dk = np.broadcast_to(d_factor.sum(axis=1, keepdims=True) / k.shape[1], k.shape)
            return LayerGradients(d_factor, [dh * factor, dc], [dk])

        return (new, (new, c + new)), pullback
