"""A layer that runs any cell, or a stack of cells, over time."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.functional import DEVICES
from numbalstm.layers.base import Layer, deserialize, register_layer
from numbalstm.layers.cell import LSTMCell, StackedRNNCells, clone_cell, serialize_layer
from numbalstm.layers.cells import call_takes, check_cell, initial_state, list_of_sizes, output_size, policy_of
from numbalstm.layers.fused import run_layers
from numbalstm.layers.gradients import LayerGradients, Pull
from numbalstm.layers.lstm_weights import GENERATIONS, config_of_generation
from numbalstm.layers.sequence import SequenceLayer
from numbalstm.layers.steps import Back, run_steps
from numbalstm.layers.symbolic import map_leaves


@register_layer()
class RNN(SequenceLayer):
    """A recurrent layer around a cell.

    Parameters
    ----------
    cell : cell or list of cells
        An `LSTMCell`, or any object with ``call(x_t, states[, training][, constants]) -> (output, new_states)`` and
        ``state_size`` (int or list of int); optional ``output_size`` (default: the first state's), ``build(shape)`` and
        ``get_initial_state(batch_size)`` (default: zeros).  A list becomes `StackedRNNCells`.
    return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask, time_major : bool
        As in `numbalstm.LSTM`.
    device : {"auto", "cpu", "cuda"}, default "auto"
    generation : {"keras3", "keras2", "v1"}, default "keras3"
        Tuples or lists as results, `initial_state` of a stateful layer, the form of the config.
    **layer_options
        As in `numbalstm.layers.base.Layer`; ``dtype`` defaults to that of the (last) cell.

    Raises
    ------
    ValueError
        When `cell` is no cell.

    Notes
    -----
    Cells that are plain `LSTMCell` run on the compiled kernels, layer by layer; every other cell step by step.
    States are nested as the cells are: [h, c] for one cell, [[h, c], [h, c], ...] for a list.
    """

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        *,
        time_major: bool = False,
        device: str = "auto",
        generation: str = "keras3",
        **layer_options: Any,
    ) -> None:
        where = type(self).__name__
        self.cell = StackedRNNCells(cell) if isinstance(cell, (list, tuple)) else cell
        check_cell(where, self.cell)
        self.device = checks.one_of(where, "device", device, DEVICES)
        self.generation = checks.one_of(where, "generation", generation, GENERATIONS)
        if layer_options.get("dtype") is None:
            layer_options["dtype"] = policy_of(self.cell)
        super().__init__(
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            time_major=time_major,
            zero_output_for_mask=zero_output_for_mask,
            **layer_options,
        )
        if self.stateful and getattr(self.cell, "learn_initial_state", False):
            raise ValueError(f"{where}: learn_initial_state does not go with stateful=True, whose states are stored.")

    @property
    def state_size(self) -> list[Any]:
        """State sizes of the cell; a list for each cell of a stack."""
        return list_of_sizes(self.cell)

    @property
    def output_size(self) -> int:
        """Width of the output."""
        return output_size(self.cell)

    @property
    def sublayers(self) -> list[Layer]:
        """The cell, when it is a layer."""
        return [self.cell] if isinstance(self.cell, Layer) else []

    def build(self, input_shape: Any) -> None:
        """Build the cell for inputs (batch, time, ...); ValueError when a stateful layer does not know its batch."""
        batch, _, rest = self._sequence_shape(input_shape)
        self._fix_batch(batch)
        if hasattr(self.cell, "build") and not getattr(self.cell, "built", False):
            self.cell.build((batch, *rest))
        if self.stateful:
            self._states = map_leaves(self.policy.to_variable, initial_state(self.cell, batch, self.policy.variable))

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        training: bool | None = None,
        initial_state: Any = None,
        constants: Any = None,
        dropout_masks: Any = None,
    ) -> Any:
        """Run the cell over time.

        Parameters
        ----------
        inputs : array_like (B, T, F), (T, B, F) with `time_major`, or list of array_like (T_i, F)
        mask : array_like (B, T), or (T, B) with `time_major`, optional
            Non-zero: the step counts.  A step that does not freezes all cells of the row.
        training : bool, optional
            Passed on to cells whose ``call`` has this parameter.
        initial_state : list of array_like, nested as the cells, optional
            None: what the cells' ``get_initial_state`` says, or the stored states of a stateful layer.
        constants : list of array, optional
            Passed on unchanged at each step, to a cell whose ``call`` has this parameter.
        dropout_masks : pair (m_x, m_h), or a list of pairs for a stack, optional
            Factors to use in training instead of drawing them; for `LSTMCell` only.

        Returns
        -------
        array or tuple of arrays
            As `numbalstm.LSTM`; the states of a stack as one list for each cell.

        Raises
        ------
        ValueError
            When a shape, a count or a dtype does not fit, or the cell takes no constants.
        """
        return self._run(inputs, mask, training, initial_state, constants, dropout_masks)[0]

    def _vjp(self, inputs: Any, *args: Any, **kwargs: Any) -> tuple[Any, Pull]:
        returned, back = self._run(inputs, *args, record=True, **kwargs)

        def pull(cotangents: Any, regularize: bool) -> LayerGradients:
            return self.joined_gradients(inputs, back(*self.split_cotangents(cotangents), regularize))

        return returned, pull

    def _run(
        self,
        inputs: Any,
        mask: Any = None,
        training: Any = None,
        initial_state: Any = None,
        constants: Any = None,
        dropout_masks: Any = None,
        record: bool = False,
    ) -> tuple[Any, Back]:
        """Run the layer with the arguments of `call`; returns the results and, when recorded, the way back."""
        self._check_constants(constants)
        inputs, initial_state = self.split_inputs(inputs, initial_state)
        x = self._batch_major(inputs)
        if isinstance(x, np.ndarray) and x.shape[1] == 0:
            raise ValueError(f"{self.place}: inputs must have at least one time step, got shape {np.shape(inputs)}.")
        mask = self._batch_major_mask(mask, x)
        in_vain = initial_state is not None and not self._heeds(initial_state)
        states = self._starting_states(initial_state, len(x))
        if states is not None:
            states = self._checked_states("initial_state", states, self.state_size, len(x))
        if self._cells_are_plain():
            outputs, states, back = self._run_layers(x, mask, training, states, dropout_masks, record)
        elif dropout_masks is not None:
            raise ValueError(f"{self.place}: dropout_masks are for cells that are LSTMCell.")
        else:
            self._reset_dropout()
            outputs, states, back = run_steps(self, x, mask, training, states, constants, record)
        self._store(states)
        if in_vain:
            back = _without_start(back, self.zero_gradients(len(x)))
        if isinstance(outputs, list):
            outputs = [self.policy.to_output(sequence) for sequence in outputs]
        else:
            outputs = self.policy.to_output(self._layout(outputs))
        return self._returned(outputs, map_leaves(self.policy.to_output, states)), back

    def _check_constants(self, constants: Any) -> None:
        if constants is None:
            return
        cells = self.cell.cells if isinstance(self.cell, StackedRNNCells) else [self.cell]
        if not any(call_takes(cell, "constants") for cell in cells):
            raise ValueError(f"{self.place}: got constants, but call() of its cell has no parameter 'constants'.")

    # LSTM cells: layer by layer

    def _cells_are_plain(self) -> bool:
        """Return whether all cells compute what `LSTMCell` does."""
        cells = self.cell.cells if type(self.cell) is StackedRNNCells else [self.cell]
        return all(isinstance(cell, LSTMCell) and type(cell).call is LSTMCell.call for cell in cells)

    def _run_layers(
        self, x: Any, mask: Any, training: Any, states: Any, dropout_masks: Any, record: bool
    ) -> tuple[Any, list[Any], Back]:
        if isinstance(self.cell, StackedRNNCells):
            cells = self.cell.cells
            states = [None] * len(cells) if states is None else states
            factors = self._factors(cells, len(x), training, dropout_masks)
            return run_layers(self, cells, x, mask, training, states, factors, record)
        factors = self._factors([self.cell], len(x), training, [dropout_masks])
        outputs, (final,), back = run_layers(self, [self.cell], x, mask, training, [states], factors, record)

        def back_of_one(d_outputs: Any, d_states: list[Any], regularize: bool) -> LayerGradients:
            gradients = back(d_outputs, [d_states], regularize)
            return gradients._replace(initial_state=gradients.initial_state[0])

        return outputs, final, back_of_one

    def _factors(self, cells: list[LSTMCell], batch: int, training: Any, given: Any) -> list[Any]:
        """Return the dropout factors of each cell: those given, or new ones in training."""
        if given is None or (len(cells) == 1 and given == [None]):
            if not training:
                return [None] * len(cells)
            return [
                (cell.draw_input_factors(batch, cell.parameters.features), cell.draw_state_factors(batch))
                for cell in cells
            ]
        if not training:
            raise ValueError(f"{self.place}: dropout_masks are for training=True; nothing is dropped without it.")
        if not isinstance(given, (list, tuple)) or len(given) != len(cells):
            raise ValueError(
                f"{self.place}: dropout_masks must be a list of {len(cells)} pairs (m_x, m_h), one for each cell, "
                f"got {checks.describe(given)}."
            )
        return list(given)

    def _reset_dropout(self) -> None:
        """Have the cells that keep dropout factors draw new ones."""
        for cell in getattr(self.cell, "cells", [self.cell]):
            for name in ("reset_dropout_mask", "reset_recurrent_dropout_mask"):
                if hasattr(cell, name):
                    getattr(cell, name)()

    # Config

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments; TypeError when the cell is no layer and has no config."""
        config = {**super().get_config(), **self._sequence_config(), "cell": serialize_layer(self.cell)}
        if self.generation == "keras3" and self.time_major:
            config["generation"] = self.generation  # time_major alone would speak for Keras 2
        return config

    def clone(self, **changes: Any) -> "RNN":
        """Return an unbuilt layer with a copy of the cell and the same options but for `changes`."""
        options = {**super().get_config(), **self._sequence_config(), "dtype": self.policy, "device": self.device}
        return type(self)(clone_cell(self.cell), **{**options, "generation": self.generation, **changes})

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "RNN":
        """Make a layer from a config of Keras 3 or Keras 2; ValueError for cells that are not supported."""
        config = config_of_generation(cls.clean_config(config))
        config.pop("num_constants", None)  # Keras 2 counts there what a call got
        return cls(deserialize(config.pop("cell")), **config)


def _without_start(back: Back, zeros: list[Any]) -> Back:
    """Return the way back of a pass to which its `initial_state` made no difference."""
    return lambda *cotangents: back(*cotangents)._replace(initial_state=zeros)
