"""Copies, sums and products of arrays on a device, of any strides."""

import math
from typing import Any

import numpy as np

from numbalstm.backends.cuda.arrays import DeviceArray
from numbalstm.kernels.cuda.elementwise import make_elementwise, make_mask

LEAST_AXES = 3


def compute(device: Any, operation: str, a: DeviceArray, b: Any, number: float = 1.0) -> DeviceArray:
    """Return a new array on a device: an operation of `make_elementwise` on arrays of one shape."""
    b = b if isinstance(b, DeviceArray) else device.upload(np.asarray(b, a.dtype))
    if a.shape != b.shape or a.dtype != b.dtype:
        raise ValueError(f"arrays on a GPU must be alike, got {a.shape} {a.dtype} and {b.shape} {b.dtype}.")
    made = device.empty(a.shape, a.dtype)
    write(device, operation, a, b, made, number)
    return made


def write(
    device: Any, operation: str, a: DeviceArray, b: DeviceArray, target: DeviceArray, number: float = 1.0
) -> None:
    """Write what an operation makes of two arrays into a third of the same shape."""
    if not target.size:
        return
    kernel = make_elementwise(target.dtype.name, operation, number, device.threads)
    (sizes, a, b, target) = _three_axes(a, b, target)
    with device.turn((a, b, target)):
        operands = (a.at(), *a.strides, b.at(), *b.strides, target.at(), *target.strides)
        device.launch(kernel, -(-math.prod(sizes) // kernel.threads), *operands, *sizes)


def given_back(device: Any, values: Any, out: Any) -> Any:
    """Return values in the memory that a caller gave for them, if any."""
    if isinstance(out, DeviceArray):
        write(device, "copy", values, values, out)
    elif out is not None:
        out[...] = values
    return values if out is None else out


def _three_axes(*arrays: DeviceArray) -> tuple[Any, ...]:
    """Return the sizes of three axes, and views of the arrays with as many."""
    ndim = arrays[0].ndim
    if ndim > LEAST_AXES:
        raise ValueError(f"arrays on a GPU must have at most {LEAST_AXES} axes here, got shape {arrays[0].shape}.")
    missing = (1,) * (LEAST_AXES - ndim)
    views = [array._view(0, missing + array.shape, (0,) * len(missing) + array.strides) for array in arrays]
    return views[0].shape, *views


def concatenated(device: Any, parts: list[DeviceArray]) -> DeviceArray:
    """Return arrays side by side along their last axis."""
    made = device.empty((*parts[0].shape[:-1], sum(part.shape[-1] for part in parts)), parts[0].dtype)
    start = 0
    for part in parts:
        stop = start + part.shape[-1]
        write(device, "copy", part, part, made[..., start:stop])
        start = stop
    return made


def stacked(device: Any, parts: list[DeviceArray]) -> DeviceArray:
    """Return arrays of one shape behind each other, along a new first axis."""
    made = device.empty((len(parts), *parts[0].shape), parts[0].dtype)
    for number, part in enumerate(parts):
        write(device, "copy", part, part, made[number])
    return made


def ordered_mask(device: Any, mask: DeviceArray, reverse: bool) -> tuple[DeviceArray, DeviceArray]:
    """Return a mask (B, T) of bytes as (T, B) in processing order, and the first counted step of each row."""
    (batch, steps), (s_b, s_t) = mask.shape, mask.strides
    target, first = device.empty((steps, batch), np.uint8), device.empty((batch,), np.int32)
    kernel = make_mask(device.threads)
    begin, s_t = (mask.at((steps - 1) * s_t), -s_t) if reverse else (mask.at(), s_t)
    device.launch(kernel, -(-batch // kernel.threads), begin, s_b, s_t, target.at(), first.at(), batch, steps)
    return target, first
