"""The layers of a causal model, each able to advance by a step, by a step of some rows, or by a block of steps."""

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from numbalstm.backends import arguments, compiled_tape, cpu, hardware, parallel, reference
from numbalstm.backends.cells import cell_of, unsupported_cell
from numbalstm.backends.dense import DenseWeights
from numbalstm.backends.interface import PLAIN, Request, SlowPathWarning
from numbalstm.backends.stream import DenseSteps, Steps
from numbalstm.dtypes import Policy
from numbalstm.functional import caller_level, lstm_forward

LINEAR = 0


class Recurrent(NamedTuple):
    """An LSTM in a causal model.

    Attributes
    ----------
    source : object
        Has ``parameters``, ``activation``, ``recurrent_activation``, ``variant_for``, ``weights`` and ``place``.
    before : tuple of Policy
        Whose `to_compute` the input passes.
    after : Policy or None
        Whose `to_output` the output passes.
    """

    source: Any
    before: tuple[Policy, ...]
    after: Policy | None

    @property
    def plain(self) -> bool:
        """Whether nothing is rounded between two such layers of one type."""
        policies = (*self.before, *(() if self.after is None else (self.after,)))
        return not any(policy.half or policy.compute != self.source.parameters.dtype for policy in policies)

    def request(self, x: Any = None, state: Any = None) -> Request:
        """Return a pass over x, an array (B, T, F), as far as a step needs it."""
        source = self.source
        variant = source.variant_for(x, False)
        if variant is not None:
            variant = arguments.variant(source.place, variant, x, source.parameters)
        activations = (source.activation, source.recurrent_activation)
        plain = Request(x, source.parameters, state, None, *activations, True, False, False, None, None, None)
        return plain._replace(variant=variant or PLAIN)

    @property
    def tile(self) -> Any:
        """The register block of its steps and of its sequences."""
        request = self.request()
        parameters, variant = request.parameters, not cell_of(request).is_plain
        return hardware.tile(parameters.dtype, variant, parameters.weights_dtype, parameters.compute_dtype)

    @property
    def unsupported(self) -> str | None:
        """Why no kernel can compute it, or None."""
        return unsupported_cell(self.request())

    @property
    def by_step(self) -> bool:
        """Whether there is a kernel for single steps; there is none of layer normalisation."""
        return self.unsupported is None and self.source.parameters.norm is None


class RowWise(NamedTuple):
    """A layer that treats each row of each step by itself.

    Attributes
    ----------
    layer : Layer
    over_time : bool
        Whether it reads (batch, time, ...) rather than (batch, ...).
    makes_mask : bool
        Whether it finds padding among its inputs.
    dense : bool
        Whether it is a `numbalstm.Dense`.
    """

    layer: Any
    over_time: bool
    makes_mask: bool = False
    dense: bool = False


class Source(NamedTuple):
    """What a stream reads and the layers it passes: for a layer or model, see `numbalstm.layers.streams`.

    Attributes
    ----------
    place : str
        Opens the messages of errors.
    shape : tuple of int
        Of one row of one step.
    dtype : str
        Name of the type in which a step's input comes; "bfloat16" is one.
    parts : list of Recurrent and RowWise
    """

    place: str
    shape: tuple[int, ...]
    dtype: str
    parts: list[Recurrent | RowWise]


class LSTMStage:
    """LSTM layers that feed each other, on the compiled kernels; all their arithmetic is of one type."""

    def __init__(self, parts: Sequence[Recurrent], rows: int, threads: int) -> None:
        self._parts, self._threads = list(parts), threads
        self._rounds = not all(part.plain for part in parts)
        sources = [part.source for part in parts]
        self.shape = (sources[-1].output_size,)
        self.dtype = _output_type(parts[-1])
        self._steps = Steps(parts[0].tile, [part.request() for part in parts], rows, threads)
        self._x, self._y = self._steps.x, self._steps.y
        self.widths = [width for source in sources for width in source.state_size]
        self.watched = _watched(sources)

    def renew(self) -> None:
        """Use the weights as they are now."""
        sources = [part.source for part in self._parts]
        if any(part.tile is not self._steps.tile for part in self._parts):
            raise ValueError(
                f"{sources[0].place}: weights_dtype or compute_dtype has changed since the stream was made. "
                "Make a new stream."
            )
        self._steps.set_layers([part.request() for part in self._parts])
        self._steps.cut(self._steps.rows)
        self.watched = _watched(sources)

    def states(self) -> list[np.ndarray]:
        """Return h and c of each layer in turn, (rows, width); views."""
        found = self._steps.states()
        return [state[:, :width] for state, width in zip(found, self.widths, strict=True)]

    def tables(self, capacity: int) -> list[np.ndarray]:
        """Return zeros to keep the states of many streams in."""
        return [np.zeros((capacity, state.shape[1]), state.dtype) for state in self._steps.states()]

    def step(self, x: np.ndarray) -> np.ndarray:
        """Advance all rows by a step."""
        self._x[...] = self._before(x, self._parts[0]) if self._rounds else x
        self._steps.run()
        return self._after(self._y, self._parts[-1]) if self._rounds else self._y

    def step_rows(self, x: np.ndarray, rows: np.ndarray, tables: list[np.ndarray]) -> np.ndarray:
        """Advance these rows of the tables by a step."""
        if len(rows) != self._steps.rows:
            self._steps.cut(len(rows))
            self._x, self._y = self._steps.x[: len(rows)], self._steps.y[: len(rows)]
        for state, table in zip(self._steps.states(), tables, strict=True):
            np.take(table, rows, axis=0, out=state, mode="clip")
        y = self.step(x)
        for state, table in zip(self._steps.states(), tables, strict=True):
            table[rows] = state
        return y

    def run(self, x: np.ndarray) -> np.ndarray:
        """Advance all rows by a block of steps (batch, time, features)."""
        states = iter(self.states())
        for part in self._parts:
            x, source = self._before(x, part), part.source
            h, c = next(states), next(states)
            x, h[...], c[...] = lstm_forward(
                x,
                source.parameters,
                initial_state=(h, c),
                activation=source.activation,
                recurrent_activation=source.recurrent_activation,
                variant=source.variant_for(x, False),
                threads=self._threads,
                where=source.place,
            )
            x = self._after(x, part)
        return x

    @staticmethod
    def _before(x: np.ndarray, part: Recurrent) -> np.ndarray:
        for policy in part.before:
            x = policy.to_compute(x)
        return x

    @staticmethod
    def _after(y: np.ndarray, part: Recurrent) -> np.ndarray:
        return y if part.after is None else part.after.to_output(y)


class SequenceStage:
    """An LSTM without a kernel for single steps: each is a sequence of one step."""

    def __init__(self, part: Recurrent, rows: int, threads: int) -> None:
        self._part, self._threads, source = part, threads, part.source
        self._backend = cpu if cpu.unsupported(part.request()) is None else compiled_tape
        reason = part.unsupported
        if reason is not None:
            self._backend = reference
            warnings.warn(
                f"{source.place}: the compiled CPU kernels do not cover {reason}; "
                "the stream computes with the slower NumPy reference.",
                SlowPathWarning,
                stacklevel=caller_level(),
            )
        self.shape = (source.output_size,)
        self.dtype = _output_type(part)
        self.widths = source.state_size
        self._states = self.tables(rows)
        self.watched: list[tuple[Any, Any]] = []

    def states(self) -> list[np.ndarray]:
        """Return h and c, (rows, units)."""
        return self._states

    def tables(self, capacity: int) -> list[np.ndarray]:
        """Return zeros to keep the states of many streams in."""
        return [np.zeros((capacity, width), self._part.source.parameters.dtype) for width in self.widths]

    def step(self, x: np.ndarray) -> np.ndarray:
        """Advance all rows by a step."""
        return self._advance(x, self._states)

    def _advance(self, x: np.ndarray, states: list[np.ndarray]) -> np.ndarray:
        x = LSTMStage._before(x, self._part)
        request = self._part.request(x[:, None], (states[0], states[1]))
        result = self._backend.forward(request._replace(threads=self._threads))
        states[0][...], states[1][...] = result.h, result.c
        return LSTMStage._after(result.outputs[:, 0], self._part)

    def step_rows(self, x: np.ndarray, rows: np.ndarray, tables: list[np.ndarray]) -> np.ndarray:
        """Advance these rows of the tables by a step; in NumPy one by one, as the bits of BLAS depend on the others."""
        places = np.arange(len(rows))
        found = []
        for some in places[:, None] if self._backend is reference else [places]:
            states = [table[rows[some]] for table in tables]
            found.append(self._advance(x[some], states))
            for table, state in zip(tables, states, strict=True):
                table[rows[some]] = state
        return np.concatenate(found)

    def run(self, x: np.ndarray) -> np.ndarray:
        """Advance all rows by a block of steps (batch, time, features)."""
        return np.stack([self.step(np.ascontiguousarray(x[:, t])) for t in range(x.shape[1])], axis=1)


class RowStage:
    """A layer that treats each row of each step by itself."""

    widths: tuple[int, ...] = ()

    def __init__(self, part: RowWise, shape: tuple[int, ...]) -> None:
        self._part, self._layer = part, part.layer
        time = (None,) if part.over_time else ()
        self.shape = tuple(self._layer.compute_output_shape((None, *time, *shape)))[1 + len(time) :]
        self.dtype = self._layer.policy.output
        self.watched: list[tuple[Any, Any]] = []

    def states(self) -> list[np.ndarray]:
        """Return no states."""
        return []

    def tables(self, capacity: int) -> list[np.ndarray]:
        """Return no tables."""
        return []

    def step(self, x: np.ndarray) -> np.ndarray:
        """Return the layer's output for one step."""
        if not self._part.over_time:
            return self._layer.call(x)
        x = x[:, None]
        if self._part.makes_mask:
            self._refuse_padding(x)
        return self._layer.call(x)[:, 0]

    def step_rows(self, x: np.ndarray, rows: np.ndarray, tables: list[np.ndarray]) -> np.ndarray:
        """Return the layer's output for one step of some rows."""
        return RowStage.step(self, x)

    def run(self, x: np.ndarray) -> np.ndarray:
        """Return the layer's output for a block of steps (batch, time, ...)."""
        if self._part.over_time:
            if self._part.makes_mask:
                self._refuse_padding(x)
            return self._layer.call(x)
        rows = x.reshape(math.prod(x.shape[:2]), *x.shape[2:])
        y = self._layer.call(rows)
        return y.reshape(*x.shape[:2], *y.shape[1:])

    def _refuse_padding(self, x: np.ndarray) -> None:
        mask = self._layer.compute_mask(x)
        if mask is not None and not mask.all():
            raise ValueError(
                f"{self._layer.place}: row {np.argwhere(~mask)[0][0]} of the input is padding, of which a stream has "
                "none. Leave the step out: the states then stay as they are."
            )


class DenseStage(RowStage):
    """A `Dense` layer on the compiled kernels, with buffers of its own."""

    def __init__(self, part: RowWise, shape: tuple[int, ...], rows: int) -> None:
        super().__init__(part, shape)
        self._rows = rows
        self.renew()

    @property
    def parameters(self) -> DenseWeights:
        """The layer's weights; the same object until they change."""
        return self._layer._packed_weights()

    def renew(self) -> None:
        """Use the weights as they are now."""
        self._steps = DenseSteps(self.parameters, self._rows)
        self.watched = _watched([self])

    def step(self, x: np.ndarray) -> np.ndarray:
        """Return the layer's output for one step."""
        layer, steps = self._layer, self._steps
        steps.x[...] = layer.policy.to_compute(x) if layer.policy.half else x
        steps.run()
        if layer.activation.code == LINEAR and not layer.policy.half:
            return steps.y
        return layer.policy.to_output(layer.activation(steps.y))


def make(source: Source, rows: int, threads: int | None) -> list[Any]:
    """Return the stages of a source for steps of `rows` rows."""
    threads = parallel.threads(threads)
    stages: list[Any] = []
    shape = source.shape
    for group in _groups(source.parts):
        first = group[0]
        if isinstance(first, RowWise):
            dense = first.dense and len(shape) == 1
            stages.append(DenseStage(first, shape, rows) if dense else RowStage(first, shape))
        elif first.by_step:
            stages.append(LSTMStage(group, rows, threads))
        else:
            stages.append(SequenceStage(first, rows, threads))
        shape = stages[-1].shape
    return stages


def _groups(parts: Sequence[Recurrent | RowWise]) -> list[list[Any]]:
    """Return the parts with those LSTM that follow each other, and that one kernel can run, together."""
    groups: list[list[Any]] = []
    for part in parts:
        before = groups[-1][-1] if groups else None
        if (
            isinstance(part, Recurrent)
            and isinstance(before, Recurrent)
            and part.plain
            and before.plain
            and part.by_step
            and before.by_step
            and part.tile is before.tile
        ):
            groups[-1].append(part)
        else:
            groups.append([part])
    return groups


def _output_type(part: Recurrent) -> np.dtype:
    return part.source.parameters.dtype if part.after is None else part.after.output


def _watched(sources: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Return what has ``parameters``, which are replaced when weights change, and what they are now."""
    return [(source, source.parameters) for source in sources]
