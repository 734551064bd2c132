"""Steps of LSTM layers that feed each other, with weights and states on a device."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from numbalstm.backends.cuda import products, rows, steps
from numbalstm.backends.cuda.arrays import DeviceArray
from numbalstm.backends.cuda.problem import settle
from numbalstm.backends.cuda.weights import on_device
from numbalstm.backends.interface import Request

BUFFERS = 2  # of the states: a step reads one and writes the other


class Layer:
    """One LSTM: its weights, its states and its outputs on a device.

    Parameters
    ----------
    device : device
    request : Request
        Of (rows, 2, F) inputs, whose values do not matter.
    """

    def __init__(self, device: Any, request: Request) -> None:
        self.problem = problem = settle(request, record=False)
        element, batch = problem.options.element, problem.batch
        self.weights, self.extras = on_device(request.parameters, device), steps.Extras(device, problem)
        self.states = steps.States(device, problem, None)
        device.fill_first(self.states.c[1:], None)
        device.fill_first(self.states.h[1:], None)
        self.xw = device.empty((1, batch, problem.units, 4), element)
        self.y = device.empty((batch, BUFFERS, problem.width), element)

    def latest(self, number: int) -> list[DeviceArray]:
        """Return h and c as they are before the step of a number."""
        return [self.states.h[number % BUFFERS], self.states.c[number % BUFFERS]]


class Steps:
    """Layers that advance together.

    Parameters
    ----------
    device : device
    requests : sequence of Request
        One for each layer, as for `Layer`.
    """

    def __init__(self, device: Any, requests: Sequence[Request]) -> None:
        self._device, self._number = device, 0
        with device.turn(()):
            self._layers = [Layer(device, request) for request in requests]
            first = self._layers[0].problem
            self._x = device.empty((first.batch, first.features), first.options.element)

    def use(self, requests: Sequence[Request]) -> None:
        """Use other weights from the next step on."""
        for layer, request in zip(self._layers, requests, strict=True):
            layer.weights = on_device(request.parameters, self._device)

    def states(self) -> list[DeviceArray]:
        """Return h and c of each layer in turn; views, valid until the next step."""
        return [state for layer in self._layers for state in layer.latest(self._number)]

    def step(self, x: Any) -> DeviceArray:
        """Advance by a step with an array (rows, F) of the host or of the device; returns a view of the outputs."""
        device, t = self._device, self._number % BUFFERS
        with device.turn((x,)):
            device.write(self._x, device.upload(x) if isinstance(x, DeviceArray) else np.ascontiguousarray(x))
            device.replay(advance, device, self._layers, self._x, t)
        self._number += 1
        return self._layers[-1].y[:, t]


def advance(device: Any, layers: Sequence[Layer], x: DeviceArray, t: int) -> None:
    """Launch a step of all layers, from one buffer of the states into the other."""
    for layer in layers:
        problem, weights = layer.problem, layer.weights
        batch, features, units = problem.batch, problem.features, problem.units
        a, b, c = (x.at(), *x.strides), (weights.kernel.at(), features, 1), (layer.xw.at(), 4 * units, 1)
        element, normed = problem.options.element, problem.options.epsilon is not None
        bias = None if normed else weights.bias.at()
        products.product(device, element, a, b, c, (batch, 4 * units, features), bias)
        if normed:
            rows.normalise(device, problem, weights, layer.xw, batch, None, None)
        steps.run(device, problem, weights, layer.extras, layer.states, layer.xw, layer.y, t, t + 1)
        x = layer.y[:, t]
