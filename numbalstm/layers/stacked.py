"""Several LSTM layers in one object, in one or both directions."""

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from numbalstm import checks, regularizers
from numbalstm.backends.interface import Trace
from numbalstm.layers.base import Layer, register_layer
from numbalstm.layers.bidirectional import Bidirectional
from numbalstm.layers.gradients import LayerGradients, Pull
from numbalstm.layers.lstm import LSTM
from numbalstm.layers.lstm_variants import WEIGHT_OPTIONS
from numbalstm.layers.stacking import by_layer, checked_states, joined, mask_of_lengths, stacked, times, widths
from numbalstm.layers.symbolic import leaves, map_leaves
from numbalstm.parameters import Weight
from numbalstm.streaming import Stream
from numbalstm.streaming.stages import Source

_STACK_OPTIONS = {"units", "dropout", "proj_size", "seed", "return_sequences", "return_state", "time_major"}
_LAYER_OPTIONS = {"name", "trainable", "dtype", "activity_regularizer"}
_NOT_HERE = {"go_backwards", "stateful", "unroll", "zero_output_for_mask", "use_cudnn", "generation"}
LSTM_OPTIONS = {*inspect.signature(LSTM).parameters, *WEIGHT_OPTIONS}
LSTM_OPTIONS -= _STACK_OPTIONS | _LAYER_OPTIONS | _NOT_HERE | {"layer_options"}
"""Arguments of `LSTM` that every layer of a stack gets."""


@register_layer()
class StackedLSTM(Layer):
    """LSTM layers on top of each other, as ``torch.nn.LSTM``: each reads the whole sequence that the one below returns.

    Parameters
    ----------
    units : int or list of int
        Width of each direction of each layer; a list gives every layer its own.
    num_layers : int, optional
        None: 2, or the length of the list `units`.
    bidirectional : bool, default False
        Every layer reads in both directions; the layer above gets both outputs side by side.
    dropout : float in [0, 1], default 0
        Rate at which, in training, elements are dropped from what a layer hands to the one above it: not from the
        inputs and not from the outputs of the last layer.  Drawn anew for every element and step.
    proj_size : int, default 0
        Width P to which each layer's output is projected before it is handed on; 0: no projection.
    return_sequences : bool, default False
        Return the last layer's output of every step, not the last one's alone.
    return_state : bool, default False
        Return the final states of all layers too.
    time_major : bool, default False
        Inputs, sequences and masks have time as first axis, batch as second (torch's ``batch_first=False``).
    seed : int, optional
        For the dropout.  None: drawn by the system.
    **options
        Any other argument of `numbalstm.LSTM` that concerns the cell (``use_bias``, ``activation``,
        ``kernel_initializer``, ...), for every layer; and ``name``, ``trainable``, ``dtype``, ``activity_regularizer``,
        ``input_shape``, ``batch_input_shape``, ``batch_size``, ``weights``: see `numbalstm.layers.base.Layer`.

    Raises
    ------
    TypeError, ValueError
        For a value of the wrong kind or out of range, and for an unknown argument.

    Notes
    -----
    D is 2 when bidirectional, else 1, and L the number of layers.  States come as h_n (L·D, batch, U), or (…, P) with a
    projection, and c_n (L·D, batch, U), at index layer·D + direction; where the widths of the layers differ, as lists
    of L·D arrays (batch, U of the layer).

    Weights: layer by layer, forward before backward direction, each as in `numbalstm.LSTM` (kernel, recurrent_kernel,
    bias, ...).  A layer above the first has D·U (D·P) features.  Initial values are those of `LSTM`, not of torch.

    Masked steps output zeros in sequences, and without `return_sequences` the output is that of each row's last step
    that counts (forward) and of its first (backward), as with torch's packed sequences.
    """

    supports_mask = True
    other_arguments = LSTM_OPTIONS

    def __init__(
        self,
        units: int | Sequence[int],
        num_layers: int | None = None,
        bidirectional: bool = False,
        dropout: float = 0.0,
        proj_size: int = 0,
        *,
        return_sequences: bool = False,
        return_state: bool = False,
        time_major: bool = False,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        where = type(self).__name__
        self.units = widths(where, units, num_layers)
        self.num_layers = len(self.units)
        self.bidirectional = bool(bidirectional)
        self.dropout = checks.fraction(where, "dropout", dropout)
        self.proj_size = checks.integer(where, "proj_size", proj_size, minimum=0)
        self.return_sequences = bool(return_sequences)
        self.return_state = bool(return_state)
        self.time_major = bool(time_major)
        self.seed = None if seed is None else checks.integer(where, "seed", seed, minimum=0)
        if self.dropout and self.num_layers == 1:
            raise ValueError(f"{where}: dropout acts between layers, so with num_layers=1 it must be 0, got {dropout}.")
        cell_options = {name: options.pop(name) for name in LSTM_OPTIONS & options.keys()}
        super().__init__(**options)
        self.layers = [self._make_layer(number, cell_options) for number in range(self.num_layers)]

    def _make_layer(self, number: int, options: Mapping[str, Any]) -> LSTM | Bidirectional:
        sequences = self.return_sequences or number < self.num_layers - 1
        if self.proj_size:
            options = {**options, "proj_size": self.proj_size}
        layer = LSTM(
            self.units[number],
            **options,
            seed=None if self.seed is None else self.seed + number,
            return_sequences=sequences,
            return_state=True,
            zero_output_for_mask=sequences,  # the last output of a row is no masked one
            time_major=self.time_major,
            dtype=self.policy,
            name=f"layer_{number}",
        )
        return Bidirectional(layer, name=layer.name) if self.bidirectional else layer

    @property
    def sublayers(self) -> list[Layer]:
        """The layers of the stack, the lowest first."""
        return self.layers

    @property
    def directions(self) -> list[LSTM]:
        """The single LSTMs, in the order of the states: layer by layer, forward before backward."""
        if not self.bidirectional:
            return self.layers
        return [direction for layer in self.layers for direction in layer.sublayers]

    # Shapes and masks

    def build(self, input_shape: Any) -> None:
        """Make the weights for inputs (batch, time, features), (time, batch, features) with `time_major`."""
        for layer in self.layers:
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)[0]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return (B, T, D·U) or (B, D·U) (time first with `time_major`), with `return_state` the states' shapes too."""
        states: list[tuple] = []
        for layer in self.layers:
            input_shape, *shapes = layer.compute_output_shape(input_shape)
            states += shapes
        if not self.return_state:
            return input_shape
        return (input_shape, *joined(states, lambda same: (len(same), *same[0])))

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the input's mask for sequences, else None; None for each returned state."""
        mask = mask if self.return_sequences else None
        if not self.return_state:
            return mask
        sizes = [size for direction in self.directions for size in direction.state_size]
        return [mask, *map_leaves(lambda _: None, joined(sizes, len))]

    # Calls

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        training: bool | None = None,
        initial_state: Any = None,
        lengths: Any = None,
        dropout_masks: Any = None,
    ) -> Any:
        """Run the layers.

        Parameters
        ----------
        inputs : array_like (B, T, F), (T, B, F) with `time_major`, or list of array_like (T_i, F)
            A list holds sequences of different lengths, in any order.
        mask : array_like (B, T), or (T, B) with `time_major`, optional
            Non-zero: the step counts.
        training : bool, optional
            Whether dropout acts.
        initial_state : pair [h_0, c_0], optional
            Each an array (L·D, B, width) or a list of L·D arrays (B, width).  None: zeros.
        lengths : array_like of int (B,), optional
            Steps that count in each row of a padded array, the first so many; in any order.  In place of `mask`.
        dropout_masks : list of L - 1 arrays, optional
            Factors for what each layer but the last hands on, to use in training instead of drawing them.

        Returns
        -------
        array or tuple of arrays
            Output (B, D·U), or with `return_sequences` (B, T, D·U), (T, B, D·U) or a list of (T_i, D·U); with
            `return_state` a tuple of it and h_n and c_n.

        Raises
        ------
        ValueError
            When a shape, a count or a dtype does not fit, or both `mask` and `lengths` are given.
        """
        return self._run(inputs, mask, training, initial_state, lengths, dropout_masks, None)

    def _vjp(
        self,
        inputs: Any,
        mask: Any = None,
        training: bool | None = None,
        initial_state: Any = None,
        lengths: Any = None,
        dropout_masks: Any = None,
    ) -> tuple[Any, Pull]:
        tape: list[tuple[Pull, Any]] = []
        outputs = self._run(inputs, mask, training, initial_state, lengths, dropout_masks, tape)
        batch = self._batch(inputs)

        def pull(cotangents: Any, regularize: bool) -> LayerGradients:
            dx, dh_n, dc_n = cotangents if self.return_state else (cotangents, None, None)
            none = [None] * len(self.directions)
            after = by_layer([none if d is None else d for d in (dh_n, dc_n)], self.num_layers)
            before: list[Any] = []
            weights: dict[Weight, Any] = {}
            for (pull_layer, factors), d_states in zip(reversed(tape), reversed(after), strict=True):
                dx = dx if factors is None or dx is None else times(dx, factors)
                gradients = pull_layer([dx, *d_states], regularize)
                dx, weights = gradients.inputs, weights | dict(gradients.weights)
                before = [*(gradients.initial_state or [None] * len(d_states)), *before]
            return LayerGradients(dx, self._start_gradients(before, batch), weights=weights)

        return outputs, pull

    def _run(
        self, inputs: Any, mask: Any, training: Any, start: Any, lengths: Any, masks: Any, tape: list | None
    ) -> Any:
        """Run all layers; a tape receives the pull of each and the factors of what it handed on."""
        mask = mask_of_lengths(self.place, lengths, mask, inputs, self.time_major)
        starts = self._starts(start, self._batch(inputs))
        given = self._given_factors(masks, training)
        x, finals = inputs, []
        for layer, state, factors in zip(self.layers, starts, given, strict=True):
            options = {"mask": mask, "training": training, "initial_state": state}
            if tape is None:
                x, *states = layer.call_inside(x, **options)
            else:
                (x, *states), pull = layer.vjp_inside(x, **options)
            finals += states
            factors = self._factors(layer, x, factors, training)
            x = x if factors is None else times(x, factors)
            if tape is not None:
                tape.append((pull, factors))
        return (x, *joined(finals, stacked)) if self.return_state else x

    def _batch(self, inputs: Any) -> int:
        return len(inputs) if isinstance(inputs, (list, tuple)) else np.shape(inputs)[1 if self.time_major else 0]

    def _starts(self, given: Any, batch: int) -> list[Any]:
        """Return the initial state of each layer, as that layer takes it."""
        if given is None:
            return [None] * self.num_layers
        sizes = [direction.state_size for direction in self.directions]
        return by_layer(checked_states(self.place, given, sizes, batch, self.policy.compute), self.num_layers)

    def _given_factors(self, given: Any, training: Any) -> list[Any]:
        """Return the caller's dropout factors for what each layer hands on; None for those to draw."""
        if given is None:
            return [None] * self.num_layers
        if not training:
            raise ValueError(f"{self.place}: dropout_masks are for training=True; nothing is dropped without it.")
        if not isinstance(given, (list, tuple)) or len(given) != self.num_layers - 1:
            raise ValueError(
                f"{self.place}: dropout_masks must be a list of {self.num_layers - 1} arrays, one for what each layer "
                f"but the last hands on, got {checks.describe(given)}."
            )
        return [*given, None]

    def _start_gradients(self, found: list[Any], batch: int) -> list[Any]:
        """Return the gradients of the initial state in its form, zeros for None."""
        sizes = [size for direction in self.directions for size in direction.state_size]
        zeros = partial(np.zeros, dtype=self.policy.compute)
        return joined([zeros((batch, w)) if d is None else d for d, w in zip(found, sizes, strict=True)], stacked)

    def _factors(self, layer: Layer, x: Any, given: Any, training: Any) -> Any:
        """Return the dropout factors for what a layer hands on; None where nothing is dropped."""
        if layer is self.layers[-1] or not training:
            return None
        if given is None:
            draw = self.directions[0].draw_factors
            return map_leaves(lambda y: draw(y.shape, self.dropout), x) if self.dropout else None
        number = self.layers.index(layer)
        for y, factors in zip(leaves(x), leaves(given), strict=True):
            checks.shape(self.place, f"dropout_masks[{number}]", np.asarray(factors), y.shape)
        return given

    # Looking inside, streams

    def trace(self, inputs: Any, mask: Any = None, initial_state: Any = None, lengths: Any = None) -> list[Trace]:
        """Return every gate, cell state and output of each layer and direction, of a call without dropout.

        Parameters
        ----------
        inputs, mask, initial_state, lengths
            As in `call`, but no list of sequences.

        Returns
        -------
        list of Trace
            In the order of the states: layer by layer, forward before backward.  Each as from `LSTM.trace`, so a
            backward one starts with the last step.

        Raises
        ------
        ValueError
            When a shape, a count or a dtype does not fit.
        """
        self.build(self.shapes_of(inputs))
        mask = mask_of_lengths(self.place, lengths, mask, inputs, self.time_major)
        x, traces = inputs, []
        for layer, state in zip(self.layers, self._starts(initial_state, self._batch(inputs)), strict=True):
            halves = [state[:2], state[2:]] if state else [None, None]
            for direction, half in zip(layer.sublayers or [layer], halves, strict=False):
                traces.append(direction.trace(x, mask=mask, initial_state=half))
            if layer is not self.layers[-1]:
                x = layer(x, mask=mask, initial_state=state)[0]
        return traces

    def stream(self, batch: int = 1, *, threads: int | None = None, device: str = "cpu") -> Stream:
        """Return a stream: the stack step by step, its states in place; see `LSTM.stream`."""
        return Stream(self, batch, threads=threads, device=device)

    def stream_source(self) -> Source:
        """Return what `Stream` and `StreamPool` need of this layer."""
        from numbalstm.layers.streams import source_of_layer

        return source_of_layer(self)

    # Config

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        inner = self.directions[0].get_config()
        return {
            **super().get_config(),
            **{name: value for name, value in inner.items() if name in LSTM_OPTIONS},
            "units": list(self.units),
            "bidirectional": self.bidirectional,
            "dropout": self.dropout,
            "proj_size": self.proj_size,
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "time_major": self.time_major,
            "seed": self.seed,
            "activity_regularizer": regularizers.serialize(self.activity_regularizer),
        }

    def __repr__(self) -> str:
        options = {
            "bidirectional": (self.bidirectional, False),
            "dropout": (self.dropout, 0.0),
            "proj_size": (self.proj_size, 0),
            "return_sequences": (self.return_sequences, False),
            "return_state": (self.return_state, False),
            "time_major": (self.time_major, False),
            "dtype": (self.policy.name, "float32"),
        }
        shown = "".join(f", {name}={value!r}" for name, (value, default) in options.items() if value != default)
        return f"StackedLSTM({list(self.units)}{shown}, name={self.name!r})"
