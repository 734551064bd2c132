"""Which kernels a pass launches, found without a GPU: to compile them ahead."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from numbalstm import activations
from numbalstm.backends.cuda import passes, stepping, toolchain
from numbalstm.backends.cuda.arrays import DeviceArray
from numbalstm.backends.cuda.choice import Limits
from numbalstm.backends.cuda.device import Device
from numbalstm.backends.interface import Request
from numbalstm.kernels.cuda.kernel import Kernel
from numbalstm.parameters import GATES, LSTMParameters

SOMEWHERE = 4096  # a pointer that nobody follows


class Rehearsal:
    """A device without memory, which notes the kernels that it should launch."""

    tile, threads, warps, nothing = Device.tile, Device.threads, Device.warps, Device.nothing

    def __init__(self, limits: Limits) -> None:
        self.number, self.limits = object(), limits
        self.kernels: dict[Kernel, Kernel] = {}

    def empty(self, shape: tuple[int, ...], element: Any) -> DeviceArray:
        """Return an array without memory."""
        return DeviceArray(SOMEWHERE, shape, element, 0, None)

    zeros = empty

    def upload(self, array: Any) -> DeviceArray:
        """Return an array without memory, of the shape of another."""
        return self.empty(array.shape, array.dtype)

    upload_copy = keep = upload

    def item(self, array: DeviceArray, index: int) -> DeviceArray:
        """Return array[index]."""
        return array[index]

    def download(self, array: DeviceArray) -> np.ndarray:
        """Return zeros."""
        return np.zeros(array.shape, array.dtype)

    def exchange(self, count: int, steps: int) -> tuple[int, int]:
        """Return a pointer and a tag."""
        return SOMEWHERE, 0

    @property
    def trouble(self) -> DeviceArray:
        """Return a word."""
        return self.empty((1,), np.int32)

    @contextmanager
    def turn(self, given: Any, kind: Any = None) -> Iterator[None]:
        """Do nothing around what is queued."""
        yield

    def replay(self, body: Any, *arguments: Any) -> Any:
        """Return ``body(*arguments)``."""
        return body(*arguments)

    def launch(self, kernel: Kernel, blocks: int, *arguments: Any) -> None:
        """Note a kernel."""
        self.kernels.setdefault(kernel._replace(function=None), kernel)

    def check(self) -> None:
        """Do nothing."""

    def write(self, *_: Any) -> None:
        """Do nothing."""

    fill_first = write


def kernels(element: str, batch: int, steps: int, features: int, units: int, what: str, limits: Limits) -> list[Kernel]:
    """Return the kernels of a pass of a plain LSTM.

    Parameters
    ----------
    element : str
        "float32" or "float64".
    batch, steps, features, units : int
    what : {"forward", "masked", "training", "stream"}
    limits : Limits
        Of the GPU.
    """
    dtype = np.dtype(element)
    shapes = ((features, len(GATES) * units), (units, len(GATES) * units), (len(GATES) * units,))
    parameters = LSTMParameters(*(np.zeros(shape, dtype) for shape in shapes))
    x = np.zeros((batch, 1 if what == "stream" else steps, features), dtype)
    mask = np.arange(batch * steps).reshape(batch, steps) > 0 if what == "masked" else None
    tanh, sigmoid = activations.get("tanh"), activations.get("sigmoid")
    request = Request(x, parameters, None, mask, tanh, sigmoid, True, False, False, None, None, None)
    device = Rehearsal(limits)
    if what == "stream":
        stepping.Steps(device, [request._replace(x=np.zeros((batch, 2, features), dtype))]).step(x[:, 0])
    elif what == "training":
        outputs, tape = passes.record(device, request)
        tape.pullback(outputs.outputs, None, None)
    else:
        passes.forward(device, request)
    return list(device.kernels.values())


def build(found: list[Kernel], limits: Limits) -> None:
    """Compile kernels that are not on the disk yet, and keep them there."""
    for kernel in found:
        toolchain.built(kernel, limits.capability)
