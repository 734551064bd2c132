"""The equations of the LSTM in NumPy, step by step: any variant, any activation, no compiled code.

With the gates k in the order i, f, g, o::

    z_k = (x_t * m_k) K_k + (h_{t-1} * r_k) R_k + b_k       m, r: dropout factors
    i   = rho(z_i + p_i * c_{t-1})                          p: peepholes
    f   = rho(z_f + p_f * c_{t-1})
    g   = phi(z_g)
    c_t = f * c_{t-1} + i * g
    o   = rho(z_o + p_o * c_t)
    h_t = (o * phi(c_t)) W                                  W: projection

Sources: Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000 (forget gate); Gers and Schmidhuber 2000
(peepholes); Sak, Senior and Beaufays 2014 (projection); Gal and Ghahramani 2016 (dropout).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from numbalstm.activations import Activation
from numbalstm.backends.interface import Forward, Request, Trace
from numbalstm.parameters import GATES, LSTMParameters


class Step(NamedTuple):
    """Gates and states of one step: h (B, P), all others (B, U)."""

    i: np.ndarray
    f: np.ndarray
    g: np.ndarray
    o: np.ndarray
    c: np.ndarray
    h: np.ndarray


def unsupported(request: Request) -> str | None:
    """Return None: the reference serves every request."""
    return None


def forward(request: Request) -> Forward:
    """Compute a request.  See `numbalstm.backends.interface`."""
    if isinstance(request.x, list):
        return _forward_ragged(request)
    parameters = request.parameters
    batch, steps, _ = request.x.shape
    width = parameters.output_size
    h, c = _initial_state(request, batch)
    last = np.zeros((batch, width), parameters.dtype)
    outputs = request.out
    if outputs is None:
        outputs = np.empty((batch, steps, width) if request.return_sequences else (batch, width), parameters.dtype)
    for position, (step, keep) in enumerate(_steps(request, h, c)):
        h, c = step.h, step.c
        last = h if keep is None else np.where(keep, h, 0 if request.zero_output_for_mask else last)
        if request.return_sequences:
            outputs[:, position] = last
    if not request.return_sequences:
        outputs[...] = last
    return Forward(outputs, h, c)


def trace(request: Request) -> Trace:
    """Compute every gate and state of a request whose x is one array."""
    parameters = request.parameters
    batch, steps, _ = request.x.shape
    widths = (parameters.units,) * 5 + (parameters.output_size,)
    result = Trace(*(np.full((batch, steps, width), np.nan, parameters.dtype) for width in widths))
    for position, (step, keep) in enumerate(_steps(request, *_initial_state(request, batch))):
        for name, target, value in zip(Trace._fields, result, step, strict=True):
            carried = name in ("c", "h") or keep is None
            target[:, position] = value if carried else np.where(keep, value, np.nan)
    return result


def _steps(request: Request, h: np.ndarray, c: np.ndarray) -> Iterator[tuple[Step, np.ndarray | None]]:
    """Yield each step in processing order, and which rows it counts for: (B, 1) bool, None for all."""
    times = range(request.x.shape[1])
    for t in reversed(times) if request.go_backwards else times:
        x_t = request.x[:, t]
        keep = None
        if request.mask is not None:
            keep = request.mask[:, t, None]
            x_t = np.where(keep, x_t, 0)  # what lies under the mask may be NaN or infinite
        step = _step(request, x_t, h, c)
        if keep is not None:
            step = step._replace(c=np.where(keep, step.c, c), h=np.where(keep, step.h, h))
        h, c = step.h, step.c
        yield step, keep


def _step(request: Request, x_t: np.ndarray, h: np.ndarray, c: np.ndarray) -> Step:
    parameters = request.parameters
    m_x, m_h = request.dropout_masks or (None, None)
    z = _products(x_t, parameters.kernel, m_x) + _products(h, parameters.recurrent_kernel, m_h)
    if parameters.bias is not None:
        z += parameters.bias
    z_i, z_f, z_g, z_o = np.split(z, len(GATES), axis=1)
    p = parameters.peephole_kernel
    rho, phi = request.recurrent_activation, request.activation
    i = _activated(rho, z_i if p is None else z_i + p[0] * c)
    f = _activated(rho, z_f if p is None else z_f + p[1] * c)
    g = _activated(phi, z_g)
    c = f * c + i * g
    o = _activated(rho, z_o if p is None else z_o + p[2] * c)
    h = o * _activated(phi, c)
    return Step(i, f, g, o, c, h if parameters.projection_kernel is None else h @ parameters.projection_kernel)


def _products(values: np.ndarray, weights: np.ndarray, factors: np.ndarray | None) -> np.ndarray:
    """Return ``(values * factors) @ weights``, (B, 4U); factors (4, B, .) are one set for each gate."""
    if factors is None:
        return values @ weights
    if factors.ndim == 2:
        return (values * factors) @ weights
    blocks = np.split(weights, len(GATES), axis=1)
    return np.concatenate([(values * factor) @ block for factor, block in zip(factors, blocks, strict=True)], axis=1)


def _activated(activation: Activation, z: np.ndarray) -> np.ndarray:
    """Apply an activation; one given by the user may return another type, but not another shape."""
    values = np.asarray(activation(z))
    if values.shape != z.shape:
        raise ValueError(
            f"activation {activation.name}: must return shape {z.shape} for such input, got {values.shape}."
        )
    return values.astype(z.dtype, copy=False)


def _initial_state(request: Request, batch: int) -> tuple[np.ndarray, np.ndarray]:
    if request.initial_state is not None:
        h, c = request.initial_state
        return h.copy(), c.copy()
    return _zero_state(request.parameters, batch)


def _zero_state(parameters: LSTMParameters, batch: int) -> tuple[np.ndarray, np.ndarray]:
    dtype = parameters.dtype
    return np.zeros((batch, parameters.output_size), dtype), np.zeros((batch, parameters.units), dtype)


def _forward_ragged(request: Request) -> Forward:
    """Compute each sequence of a list by itself."""
    parameters = request.parameters
    batch = len(request.x)
    h, c = _initial_state(request, batch)
    outputs: list[np.ndarray] = []
    for row, sequence in enumerate(request.x):
        one = slice(row, row + 1)
        state = (h[one], c[one])
        masks = request.dropout_masks
        if masks is not None:
            masks = tuple(None if mask is None else mask[..., one, :] for mask in masks)
        result = forward(request._replace(x=sequence[None], initial_state=state, dropout_masks=masks))
        outputs.append(result.outputs[0])
        h[one], c[one] = result.h, result.c
    if request.return_sequences:
        return Forward(outputs, h, c)
    stacked = np.array(outputs, parameters.dtype).reshape(batch, parameters.output_size)
    return Forward(stacked, h, c)
