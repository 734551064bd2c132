"""A request as the kernels see it: one array, in processing order, with a mask for whatever does not count."""

from typing import Any, NamedTuple

import numpy as np

from numbalstm.activations import Activation, Parametric
from numbalstm.backends.cuda.arrays import DeviceArray
from numbalstm.backends.interface import Request, activations_of
from numbalstm.kernels.cuda.options import Options


class Problem(NamedTuple):
    """Sizes and host arrays of a request.

    Attributes
    ----------
    request : Request
    batch, steps, features, units, width : int
    x : array (B, T, F)
        The request's, or its list of sequences padded; on the device where the request's is there.
    reverse : bool
        Step 0 of the processing order is the last of `x`.
    lengths : int array (B,) or None
        Of the sequences of a list.
    mask : uint8 array (T, B) or None
        In processing order; a mask that lies on a device as the request has it, (B, T), until `passes` orders it.
    first : int32 array (B,) or None
        With a mask: the first step that counts, T where none does.
    zones : tuple of (array (T or 1, B, .) or None)
        Zoneout factors of c and h in processing order; one step of them stands for all.
    options : Options
        Of the step kernels.
    whole : int
        Steps of the problem that this one is a part of.
    """

    request: Request
    batch: int
    steps: int
    features: int
    units: int
    width: int
    x: Any
    reverse: bool
    lengths: np.ndarray | None
    mask: np.ndarray | None
    first: np.ndarray | None
    zones: tuple[np.ndarray | None, np.ndarray | None]
    options: Options
    whole: int


def unsupported(request: Request) -> str | None:
    """Why no kernel serves a request, forward or backward, or None."""
    for activation in activations_of(request):
        if activation.is_custom:
            return f"the activation {activation.name!r}, a Python function: kernels know activations by their names"
    return None


def _named(activation: Activation) -> Any:
    """Return an activation as `numbalstm.kernels.cuda.activations` finds it."""
    return (activation.name, *activation.kernel_form[1:]) if isinstance(activation, Parametric) else activation.name


def settle(request: Request, record: bool) -> Problem:
    """Return the problem of a request that `unsupported` has no objection to."""
    parameters, variant = request.parameters, request.variant
    x, lengths, mask, reverse = request.x, None, request.mask, request.go_backwards
    if isinstance(x, list):
        lengths = np.array([len(sequence) for sequence in x])
        steps = int(lengths.max(initial=0))
        x, reverse = _padded(x, steps, parameters.features, request.go_backwards), False
        mask = None if (lengths == steps).all() else np.arange(steps) < lengths[:, None]
    batch, steps, features = x.shape
    first = None
    if mask is not None and not isinstance(mask, DeviceArray):
        mask = np.ascontiguousarray(mask.T[::-1] if reverse else mask.T).view(np.uint8)
        first = np.where(mask.any(axis=0), mask.argmax(axis=0), steps).astype(np.int32)
    zones = tuple(
        _zone(zone, request, batch, steps, width)
        for zone, width in zip(variant.zoneout or (None, None), (parameters.units, parameters.output_size), strict=True)
    )
    _, m_h = request.dropout_masks or (None, None)
    options = Options(
        parameters.dtype.name,
        tuple(_named(activation) for activation in activations_of(request)),
        peephole=parameters.peephole_kernel is not None,
        projection=parameters.projection_kernel is not None,
        coupled=variant.coupled,
        gate_clip=variant.gate_clip,
        cell_clip=variant.cell_clip,
        projection_clip=variant.projection_clip,
        factors=0 if m_h is None else 1 if m_h.ndim == 2 else 4,
        masked=mask is not None,
        zero_output=request.zero_output_for_mask and lengths is None,
        zoneout=tuple(zone is not None for zone in zones),
        record=record,
        epsilon=None if parameters.norm is None else float(parameters.norm.epsilon),
    )
    sizes = (batch, steps, features, parameters.units, parameters.output_size)
    return Problem(request, *sizes, x, reverse, lengths, mask, first, zones, options, steps)


def _padded(sequences: list[np.ndarray], steps: int, width: int, backwards: bool) -> np.ndarray:
    """Return sequences as one array (B, T, .) in processing order, zeros behind their ends."""
    dtype = sequences[0].dtype if sequences else np.float32
    padded = np.zeros((len(sequences), steps, width), dtype)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence[::-1] if backwards else sequence
    return padded


def _zone(zone: Any, request: Request, batch: int, steps: int, width: int) -> np.ndarray | None:
    """Return zoneout factors (T or 1, B, .) in processing order."""
    if zone is None:
        return None
    if isinstance(zone, list):
        zone = _padded(zone, steps, width, request.go_backwards)
    elif not isinstance(zone, np.ndarray):
        return np.full((1, batch, width), zone, request.parameters.dtype)
    elif request.go_backwards:
        zone = zone[:, ::-1]
    return np.ascontiguousarray(zone.transpose(1, 0, 2), request.parameters.dtype)
