"""The gradients of the equations in `numbalstm.backends.reference`, derived by hand, step by step in NumPy.

The pass runs from the last step to the first and carries dh and dc, the gradients for the states between the steps.
Numbered as in the code, for one step, with the symbols of `numbalstm.backends.reference`:

1. zoneout      dr = (1 - zeta_h) dh, the rest zeta_h dh goes to h_{t-1}; ds and dc likewise
2. projection   dm = dr W', dW += m' dr                    m = o * a, the output before its projection
3. output       do = dm * a, da = dm * o, ds += LN'(phi'(da))
4. gate o       dz_o = rho'(do), ds += p_o dz_o
5. cell         di = ds * g, df = ds * c_{t-1}, dg = ds * i, dc_{t-1} += ds * f; coupled: di -= df, dz_f = 0
6. gates        dz_i = rho'(di), dz_f = rho'(df), dz_g = phi'(dg), dc_{t-1} += p_i dz_i + p_f dz_f
7. products     dK += (x * m)' LN'(dz), dx = (LN'(dz) K') * m; dR and dh_{t-1} likewise

A prime on a function is its vector-Jacobian product; a clip passes what lies strictly within its limits.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from numbalstm.activations import Activation
from numbalstm.backends.interface import Forward, Gradients, Request, Tape, activations_of
from numbalstm.backends.reference import (
    Outputs,
    Step,
    clipped,
    initial_state,
    join_rows,
    normalised_cell,
    products,
    rows_of,
    standardised,
    step_inputs,
    steps,
)
from numbalstm.parameters import GATES


def unsupported_record(request: Request) -> str | None:
    """Return None: the reference records every request."""
    return None


def record(request: Request, checkpoint_every: int | None) -> tuple[Forward, Tape]:
    """Compute a request and keep what its backward pass needs.

    Parameters
    ----------
    request : Request
    checkpoint_every : int or None
        Keep the states of every so manieth step only, and compute the steps between them again in the backward pass.
        None: keep everything.

    Raises
    ------
    TypeError
        When an activation has no known derivative.
    """
    for activation in activations_of(request):
        activation.check_differentiable()
    if isinstance(request.x, list):
        recorded = [record(one, checkpoint_every) for one in rows_of(request)]
        return join_rows(request, [result for result, _ in recorded]), RaggedTape(request, [t for _, t in recorded])
    h, c = (state.copy() for state in initial_state(request))
    sink = Outputs(request)
    segment = checkpoint_every or max(request.x.shape[1], 1)
    starts, kept = [], []
    for position, (step, keep) in enumerate(steps(request, h, c)):
        if position % segment == 0:
            starts.append((h, c))
        if checkpoint_every is None:
            kept.append(step)
        h, c = step.h, step.c
        sink.add(h, keep)
    return Forward(sink.result(), h.copy(), c.copy()), ReferenceTape(request, segment, starts, kept)


class ReferenceTape:
    """What one pass over an array left behind: the states at the start of each segment, and maybe every step."""

    def __init__(self, request: Request, segment: int, starts: list, kept: list[Step]) -> None:
        self.request = request
        self._segment = segment
        self._starts = starts
        self._steps = kept

    @property
    def nbytes(self) -> int:
        """Memory that the tape keeps beside inputs and weights."""
        arrays = [array for group in (*self._starts, *self._steps) for array in group]
        owners = {id(owner): owner for owner in (_owner(array) for array in arrays)}
        return sum(owner.nbytes for owner in owners.values())

    def pullback(self, d_outputs: Any, d_h: np.ndarray | None, d_c: np.ndarray | None) -> Gradients:
        """Return the gradients for cotangents of outputs and final states; None is zero."""
        request = self.request
        parameters, time = request.parameters, request.x.shape[1]
        batch, width = len(request.x), parameters.output_size
        dx = np.zeros(request.x.shape, parameters.dtype)
        dh = np.zeros((batch, width), parameters.dtype) if d_h is None else np.array(d_h)
        dc = np.zeros((batch, parameters.units), parameters.dtype) if d_c is None else np.array(d_c)
        totals = {name: np.zeros_like(array) for name, array in parameters.arrays.items()}
        repeated = np.zeros((batch, width), parameters.dtype)  # gradient of outputs that repeat an earlier one
        for position, h, c, step in self._backwards():
            x_t, keep, zones = step_inputs(request, position)
            d_output = _cotangent(request, d_outputs, position)
            rows: Any = slice(None)
            if keep is None:
                dh = dh + d_output
            else:
                rows = np.flatnonzero(keep)
                dh = np.where(keep, dh + d_output + repeated, dh)
                if not request.zero_output_for_mask:
                    repeated = np.where(keep, 0, repeated + d_output)
            adjoint = _StepAdjoint(request, rows, x_t, (h[rows], c[rows]), step, zones, totals)
            t = time - 1 - position if request.go_backwards else position
            dx[rows, t], dh[rows], dc[rows] = adjoint.pull(dh[rows], dc[rows])
        return Gradients(dx, dh, dc, totals)

    def _backwards(self) -> Iterator[tuple[int, np.ndarray, np.ndarray, Step]]:
        """Yield position, h and c before, and record of each step, from the last processed to the first."""
        time = self.request.x.shape[1]
        for number in reversed(range(len(self._starts))):
            first, (h, c) = number * self._segment, self._starts[number]
            stop = min(first + self._segment, time)
            segment = self._steps or [step for step, _ in steps(self.request, h, c, first, stop)]
            for position in reversed(range(first, stop)):
                step = segment[position - first]
                before = segment[position - first - 1] if position > first else None
                yield position, *((h, c) if before is None else (before.h, before.c)), step


class RaggedTape:
    """The tapes of the sequences of a list."""

    def __init__(self, request: Request, tapes: list[Tape]) -> None:
        self.request = request
        self._tapes = tapes

    @property
    def nbytes(self) -> int:
        """Memory that the tape keeps beside inputs and weights."""
        return sum(tape.nbytes for tape in self._tapes)

    def pullback(self, d_outputs: Any, d_h: np.ndarray | None, d_c: np.ndarray | None) -> Gradients:
        """Return the gradients for cotangents of outputs and final states; None is zero."""
        parameters, batch = self.request.parameters, len(self._tapes)
        totals = {name: np.zeros_like(array) for name, array in parameters.arrays.items()}
        dh = np.zeros((batch, parameters.output_size), parameters.dtype)
        dc = np.zeros((batch, parameters.units), parameters.dtype)
        dx = []
        for row, tape in enumerate(self._tapes):
            given = (None if cotangent is None else cotangent[row][None] for cotangent in (d_outputs, d_h, d_c))
            found = tape.pullback(*given)
            dx.append(found.x[0])
            dh[row], dc[row] = found.h[0], found.c[0]
            for name, total in totals.items():
                total += found.parameters[name]
        return Gradients(dx, dh, dc, totals)


class _StepAdjoint:
    """The backward pass of one step, over the rows it counts for."""

    def __init__(self, request, rows, x_t, before, step, zones, totals) -> None:
        self.parameters, self.variant = request.parameters, request.variant
        self.activations = activations_of(request)
        self.x, (self.h, self.c) = x_t[rows], before
        self.step = Step(*(array[rows] for array in step))
        self.zones = [zone[rows] if isinstance(zone, np.ndarray) else zone for zone in zones]
        masks = request.dropout_masks or (None, None)
        self.m_x, self.m_h = (None if mask is None else mask[..., rows, :] for mask in masks)
        self.totals = totals

    def pull(self, dh: np.ndarray, dc: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return dx, dh and dc before the step; the weights' gradients are added to the totals."""
        step, variant, peepholes = self.step, self.variant, self.parameters.peephole_kernel
        rho_i, rho_f, phi_g, rho_o, phi_c = self.activations
        z_i, z_f, z_g, z_o = np.split(step.z, len(GATES), axis=1)
        new_c = clipped(step.s, variant.cell_clip)
        # 1. zoneout
        dr, dh_before = _zoned(self.zones[1], dh)
        ds, dc_before = _zoned(self.zones[0], dc)
        # 2. projection
        dm = self._project(_within(dr, step.r, variant.projection_clip))
        # 3. output
        seen = normalised_cell(self.parameters, new_c)
        ds = ds + self._normalise("cell", new_c, phi_c.vjp(seen, dm * step.o))
        # 4. gate o
        dz_o = self._gate(rho_o, z_o, dm * step.a)
        if peepholes is not None:
            ds = ds + dz_o * peepholes[2]
            self.totals["peephole_kernel"][2] += (dz_o * new_c).sum(axis=0)
        # 5. cell
        ds = _within(ds, step.s, variant.cell_clip)
        di, df = ds * step.g, ds * self.c
        dc_before = dc_before + ds * step.f
        if variant.coupled:
            di, df = di - df, np.zeros_like(df)
        # 6. gates
        dz_i = self._gate(rho_i, z_i, di)
        dz_f = df if variant.coupled else self._gate(rho_f, z_f, df)
        dz_g = self._gate(phi_g, z_g, ds * step.i)
        if peepholes is not None:
            dc_before = dc_before + dz_i * peepholes[0] + dz_f * peepholes[1]
            self.totals["peephole_kernel"][0] += (dz_i * self.c).sum(axis=0)
            self.totals["peephole_kernel"][1] += (dz_f * self.c).sum(axis=0)
        # 7. products
        dz = np.concatenate([dz_i, dz_f, dz_g, dz_o], axis=1)
        if "bias" in self.totals:
            self.totals["bias"] += dz.sum(axis=0)
        dx = self._multiply("kernel", self.x, self.m_x, dz)
        return dx, dh_before + self._multiply("recurrent_kernel", self.h, self.m_h, dz), dc_before

    def _gate(self, activation: Activation, z: np.ndarray, d_gate: np.ndarray) -> np.ndarray:
        limit = self.variant.gate_clip
        return _within(activation.vjp(clipped(z, limit), d_gate), z, limit)

    def _project(self, dr: np.ndarray) -> np.ndarray:
        kernel = self.parameters.projection_kernel
        if kernel is None:
            return dr
        self.totals["projection_kernel"] += (self.step.o * self.step.a).T @ dr
        return dr @ kernel.T

    def _multiply(self, name: str, values: np.ndarray, factors: np.ndarray | None, dz: np.ndarray) -> np.ndarray:
        weights, total = getattr(self.parameters, name), self.totals[name]
        if self.parameters.norm is not None:
            dz = self._normalise(name.removesuffix("_kernel"), products(values, weights, factors), dz)
        if factors is None or factors.ndim == 2:
            total += (values if factors is None else values * factors).T @ dz
            return dz @ weights.T if factors is None else (dz @ weights.T) * factors
        blocks = [np.split(array, len(GATES), axis=1) for array in (weights, total, dz)]
        result = np.zeros_like(values)
        for factor, block, part, d_gate in zip(factors, *blocks, strict=True):
            part += (values * factor).T @ d_gate  # a view of the total
            result += (d_gate @ block.T) * factor
        return result

    def _normalise(self, name: str, values: np.ndarray, d_normalised: np.ndarray) -> np.ndarray:
        """Pull back through one layer normalisation; without any, the gradient passes."""
        norm = self.parameters.norm
        if norm is None:
            return d_normalised
        standard, scale = standardised(values, norm.epsilon)
        self.totals[f"{name}_gamma"] += (d_normalised * standard).sum(axis=0)
        self.totals[f"{name}_beta"] += d_normalised.sum(axis=0)
        d = d_normalised * getattr(norm, f"{name}_gamma")
        across = (d * standard).mean(axis=1, keepdims=True)
        return scale * (d - d.mean(axis=1, keepdims=True) - standard * across)


def _cotangent(request: Request, d_outputs: np.ndarray | None, position: int) -> Any:
    """Return the cotangent of the output at a position; 0 where there is none."""
    if d_outputs is None:
        return 0
    if request.return_sequences:
        return d_outputs[:, position]
    return d_outputs if position == request.x.shape[1] - 1 else 0


def _within(gradient: np.ndarray, values: np.ndarray, limit: float | None) -> np.ndarray:
    return gradient if limit is None else np.where(np.abs(values) < limit, gradient, 0)


def _zoned(zone: Any, gradient: np.ndarray) -> tuple[np.ndarray, Any]:
    """Return the shares of the new and of the old state."""
    return (gradient, 0) if zone is None else ((1 - zone) * gradient, zone * gradient)


def _owner(array: np.ndarray) -> np.ndarray:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
