"""The equations of the LSTM in NumPy, step by step: any variant, any activation, no compiled code.

With the gates k in the order i, f, g, o, and what is not asked for left out::

    z_k = LN((x_t * m_k) K_k) + LN((h_{t-1} * r_k) R_k) + b_k     m, r: dropout factors; LN over the four gates together
    i   = rho(clip(z_i + p_i * c_{t-1}))                          p: peepholes
    f   = rho(clip(z_f + p_f * c_{t-1}))                          coupled: f = 1 - i
    g   = phi(clip(z_g))
    s   = clip(f * c_{t-1} + i * g)                               the new cell state
    o   = rho(clip(z_o + p_o * s))
    r   = clip((o * phi(LN(s))) W)                                W: projection
    c_t = zeta_c * c_{t-1} + (1 - zeta_c) * s                     zeta: zoneout
    h_t = zeta_h * h_{t-1} + (1 - zeta_h) * r

Sources: Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000 (forget gate); Gers and Schmidhuber 2000
(peepholes); Sak, Senior and Beaufays 2014 (projection, clipping); Ba, Kiros and Hinton 2016 (layer normalisation);
Gal and Ghahramani 2016 (dropout); Krueger et al. 2017 (zoneout); ONNX operator LSTM (coupled gates, clip).
The gradients: `numbalstm.backends.reference_backward`.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from numbalstm.activations import Activation
from numbalstm.backends.interface import Forward, Request, Trace, activations_of
from numbalstm.parameters import GATES, LSTMParameters


class Step(NamedTuple):
    """One step: its gates and states, and what its backward pass needs.  h and r (B, P), z (B, 4U), others (B, U)."""

    i: np.ndarray
    f: np.ndarray
    g: np.ndarray
    o: np.ndarray
    c: np.ndarray
    h: np.ndarray
    z: np.ndarray  # pre-activations with peepholes, before the clip
    s: np.ndarray  # the new cell state before its clip
    a: np.ndarray  # phi(LN(s)), the cell state on its way to the output
    r: np.ndarray  # the new h before its clip


def unsupported(request: Request) -> str | None:
    """Return None: the reference serves every request."""
    return None


def forward(request: Request) -> Forward:
    """Compute a request.  See `numbalstm.backends.interface`."""
    if isinstance(request.x, list):
        results = [forward(one) for one in rows_of(request)]
        return join_rows(request, results)
    h, c = initial_state(request)
    sink = Outputs(request)
    for step, keep in steps(request, h, c):
        h, c = step.h, step.c
        sink.add(h, keep)
    return Forward(sink.result(), h.copy(), c.copy())


def trace(request: Request) -> Trace:
    """Compute every gate and state of a request whose x is one array."""
    parameters = request.parameters
    batch, time, _ = request.x.shape
    widths = (parameters.units,) * 5 + (parameters.output_size,)
    result = Trace(*(np.full((batch, time, width), np.nan, parameters.dtype) for width in widths))
    for position, (step, keep) in enumerate(steps(request, *initial_state(request))):
        for name, target in zip(Trace._fields, result, strict=True):
            value = getattr(step, name)
            shown = keep is None or name in ("c", "h")
            target[:, position] = value if shown else np.where(keep, value, np.nan)
    return result


class Outputs:
    """The outputs of a pass over an array, filled step by step."""

    def __init__(self, request: Request) -> None:
        batch, time, _ = request.x.shape
        width, dtype = request.parameters.output_size, request.parameters.dtype
        self._request = request
        self._latest = np.zeros((batch, width), dtype)
        self._position = 0
        shape = (batch, time, width) if request.return_sequences else (batch, width)
        self._array: np.ndarray = np.empty(shape, dtype) if request.out is None else request.out

    def add(self, h: np.ndarray, keep: np.ndarray | None) -> None:
        """Take the state h after one more step; a step that does not count repeats the latest output, or is 0."""
        masked = 0 if self._request.zero_output_for_mask else self._latest
        self._latest = h if keep is None else np.where(keep, h, masked)
        if self._request.return_sequences:
            self._array[:, self._position] = self._latest
            self._position += 1

    def result(self) -> np.ndarray:
        """Return the outputs after the last step."""
        if not self._request.return_sequences:
            self._array[...] = self._latest
        return self._array


# ---- steps ------------------------------------------------------------------------------------------------------


def steps(
    request: Request, h: np.ndarray, c: np.ndarray, start: int = 0, stop: int | None = None
) -> Iterator[tuple[Step, np.ndarray | None]]:
    """Yield the steps at positions start to stop of the processing order, and which rows each counts for.

    The latter is bool (B, 1), None for all.  A row for which a step does not count keeps its states.
    """
    for position in range(start, request.x.shape[1] if stop is None else stop):
        x_t, keep, zones = step_inputs(request, position)
        step = _step(request, x_t, h, c, zones)
        if keep is not None:
            step = step._replace(c=np.where(keep, step.c, c), h=np.where(keep, step.h, h))
        h, c = step.h, step.c
        yield step, keep


def step_inputs(request: Request, position: int) -> tuple[np.ndarray, np.ndarray | None, tuple[Any, Any]]:
    """Return x_t, which rows the step counts for, and the zoneout of c and h, at a position of the processing order."""
    t = request.x.shape[1] - 1 - position if request.go_backwards else position
    x_t, keep = request.x[:, t], None
    if request.mask is not None:
        keep = request.mask[:, t, None]
        x_t = np.where(keep, x_t, 0)  # what lies under the mask may be NaN or infinite
    zone_c, zone_h = (zone[:, t] if isinstance(zone, np.ndarray) else zone for zone in _zoneout(request))
    return x_t, keep, (zone_c, zone_h)


def _zoneout(request: Request) -> tuple[Any, Any]:
    return request.variant.zoneout or (None, None)


def _step(request: Request, x_t: np.ndarray, h: np.ndarray, c: np.ndarray, zones: tuple[Any, Any]) -> Step:
    parameters, variant = request.parameters, request.variant
    rho_i, rho_f, phi_g, rho_o, phi_c = activations_of(request)
    peepholes = parameters.peephole_kernel
    z = _pre_activations(request, x_t, h)
    z_i, z_f, z_g, z_o = np.split(z, len(GATES), axis=1)  # views: the peepholes below go into z
    if peepholes is not None:
        z_i += peepholes[0] * c
        z_f += peepholes[1] * c
    i = activated(rho_i, clipped(z_i, variant.gate_clip))
    f = 1 - i if variant.coupled else activated(rho_f, clipped(z_f, variant.gate_clip))
    g = activated(phi_g, clipped(z_g, variant.gate_clip))
    s = f * c + i * g
    new_c = clipped(s, variant.cell_clip)
    if peepholes is not None:
        z_o += peepholes[2] * new_c
    o = activated(rho_o, clipped(z_o, variant.gate_clip))
    a = activated(phi_c, normalised_cell(parameters, new_c))
    r = o * a if parameters.projection_kernel is None else (o * a) @ parameters.projection_kernel
    new_h = clipped(r, variant.projection_clip)
    return Step(i, f, g, o, _zoned(zones[0], c, new_c), _zoned(zones[1], h, new_h), z, s, a, r)


def _pre_activations(request: Request, x_t: np.ndarray, h: np.ndarray) -> np.ndarray:
    parameters, norm = request.parameters, request.parameters.norm
    m_x, m_h = request.dropout_masks or (None, None)
    from_x = products(x_t, parameters.kernel, m_x)
    from_h = products(h, parameters.recurrent_kernel, m_h)
    if norm is not None:
        from_x = norm.kernel_gamma * standardised(from_x, norm.epsilon)[0] + norm.kernel_beta
        from_h = norm.recurrent_gamma * standardised(from_h, norm.epsilon)[0] + norm.recurrent_beta
    z = from_x + from_h
    if parameters.bias is not None:
        z += parameters.bias
    return z


def products(values: np.ndarray, weights: np.ndarray, factors: np.ndarray | None) -> np.ndarray:
    """Return ``(values * factors) @ weights``, (B, 4U); factors (4, B, .) are one set for each gate."""
    if factors is None:
        return values @ weights
    if factors.ndim == 2:
        return (values * factors) @ weights
    blocks = np.split(weights, len(GATES), axis=1)
    return np.concatenate([(values * factor) @ block for factor, block in zip(factors, blocks, strict=True)], axis=1)


def activated(activation: Activation, z: np.ndarray) -> np.ndarray:
    """Apply an activation; one given by the user may return another type, but not another shape."""
    values = np.asarray(activation(z))
    if values.shape != z.shape:
        raise ValueError(
            f"activation {activation.name}: must return shape {z.shape} for such input, got {values.shape}."
        )
    return values.astype(z.dtype, copy=False)


def clipped(values: np.ndarray, limit: float | None) -> np.ndarray:
    """Return the values within [-limit, limit]; None is no limit."""
    return values if limit is None else np.clip(values, -limit, limit)


def standardised(values: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Return each row with mean 0 and variance 1, and what its deviations were multiplied with."""
    deviations = values - values.mean(axis=1, keepdims=True)
    scale = 1 / np.sqrt((deviations * deviations).mean(axis=1, keepdims=True) + epsilon)
    return deviations * scale, scale


def normalised_cell(parameters: LSTMParameters, c: np.ndarray) -> np.ndarray:
    """Return LN(c), or c without layer normalisation."""
    norm = parameters.norm
    return c if norm is None else norm.cell_gamma * standardised(c, norm.epsilon)[0] + norm.cell_beta


def _zoned(zone: Any, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    return new if zone is None else zone * old + (1 - zone) * new


# ---- states and lists -------------------------------------------------------------------------------------------


def initial_state(request: Request) -> tuple[np.ndarray, np.ndarray]:
    """Return h and c before the first step; they may be the caller's arrays."""
    if request.initial_state is not None:
        return request.initial_state
    parameters, batch = request.parameters, len(request.x)
    dtype = parameters.dtype
    return np.zeros((batch, parameters.output_size), dtype), np.zeros((batch, parameters.units), dtype)


def rows_of(request: Request) -> Iterator[Request]:
    """Yield a request for each sequence of a list."""
    h, c = initial_state(request)
    for row, sequence in enumerate(request.x):
        one = slice(row, row + 1)
        masks, variant = request.dropout_masks, request.variant
        if masks is not None:
            m_x, m_h = (None if mask is None else mask[..., one, :] for mask in masks)
            masks = m_x, m_h
        if any(isinstance(zone, list) for zone in _zoneout(request)):
            zone_c, zone_h = (zone[row][None] if isinstance(zone, list) else zone for zone in _zoneout(request))
            variant = variant._replace(zoneout=(zone_c, zone_h))
        yield request._replace(x=sequence[None], initial_state=(h[one], c[one]), dropout_masks=masks, variant=variant)


def join_rows(request: Request, results: list[Forward]) -> Forward:
    """Return the result for a list from those of its sequences."""
    h, c = (np.array(state) for state in initial_state(request))
    for row, result in enumerate(results):
        h[row], c[row] = result.h[0], result.c[0]
    outputs = [result.outputs[0] for result in results]
    if request.return_sequences:
        return Forward(outputs, h, c)
    width, dtype = request.parameters.output_size, request.parameters.dtype
    return Forward(np.array(outputs, dtype).reshape(len(results), width), h, c)
