"""The LSTM cell, one step at a time, and a stack of cells that acts as one."""

import copy
import inspect
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.backends import arguments
from numbalstm.functional import lstm_step
from numbalstm.layers.base import Layer, deserialize, register_layer
from numbalstm.layers.lstm_weights import SIGMOID, LSTMWeights, config_of_generation


@register_layer()
class LSTMCell(LSTMWeights):
    """One step of an LSTM: ``cell(x, [h, c]) -> (h_new, [h_new, c_new])``.

    Parameters
    ----------
    units, activation, recurrent_activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer, \
unit_forget_bias, kernel_regularizer, recurrent_regularizer, bias_regularizer, kernel_constraint, \
recurrent_constraint, bias_constraint, dropout, recurrent_dropout, seed, implementation, generation
        As in `numbalstm.LSTM`.
    **layer_options
        ``name``, ``trainable``, ``dtype``, ``input_shape``, ``batch_input_shape``, ``batch_size``, ``weights``.

    Notes
    -----
    The dropout factors of a cell stay the same until `reset_dropout_mask` and `reset_recurrent_dropout_mask`; an `RNN`
    around the cell resets them with each call.
    """

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = SIGMOID,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        *,
        implementation: int | None = None,
        generation: str = "keras3",
        **layer_options: Any,
    ) -> None:
        if "activity_regularizer" in layer_options:
            raise ValueError("LSTMCell: has no argument 'activity_regularizer'; give it to the layer around the cell.")
        super().__init__(
            units=units,
            activation=activation,
            recurrent_activation=recurrent_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            unit_forget_bias=unit_forget_bias,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            seed=seed,
            implementation=implementation,
            generation=generation,
            **layer_options,
        )
        self.reset_dropout_mask()
        self.reset_recurrent_dropout_mask()

    @property
    def state_size(self) -> list[int]:
        """Widths of h and c."""
        return [self.units, self.units]

    @property
    def output_size(self) -> int:
        """Width of the output."""
        return self.units

    def build(self, input_shape: Any) -> None:
        """Make the weights for inputs (batch, features)."""
        if len(input_shape) != 2 or input_shape[1] is None:
            raise ValueError(
                f"{self.place}: inputs must have shape (batch, features) with known features, got {tuple(input_shape)}."
            )
        self._add_lstm_weights(input_shape[1])

    def call(self, inputs: Any, states: Any, training: bool | None = None) -> tuple[np.ndarray, list[np.ndarray]]:
        """Run one step.

        Parameters
        ----------
        inputs : array_like (B, F)
        states : pair [h, c] of array_like (B, U)
        training : bool, optional
            Whether dropout acts.

        Returns
        -------
        output, [h, c]
            Arrays (B, U); the output is h.

        Raises
        ------
        ValueError
            When a shape, a count or a dtype does not fit.
        """
        x = arguments.real_array(self.place, "inputs", inputs, self.policy.compute)
        checks.shape(self.place, "inputs", x, ("batch", self.parameters.features))
        states = arguments.states(self.place, states, self.parameters, len(x))
        h, c = lstm_step(
            self.policy.to_compute(x),
            self.parameters,
            [self.policy.to_compute(state) for state in states],
            activation=self.activation,
            recurrent_activation=self.recurrent_activation,
            dropout_masks=self._factors(len(x)) if training else None,
            where=self.place,
        )
        h, c = self.policy.to_output(h), self.policy.to_output(c)
        return h, [h, c]

    def _factors(self, batch: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return the dropout factors kept from the latest step, or new ones."""
        if self._input_factors is None:
            self._input_factors = self.draw_input_factors(batch, self.parameters.features)
        if self._state_factors is None:
            self._state_factors = self.draw_state_factors(batch)
        return self._input_factors, self._state_factors

    def reset_dropout_mask(self) -> None:
        """Draw new factors of the input in the next training step."""
        self._input_factors: np.ndarray | None = None

    def reset_recurrent_dropout_mask(self) -> None:
        """Draw new factors of the recurrent input in the next training step."""
        self._state_factors: np.ndarray | None = None

    def get_initial_state(
        self, batch_size: int | None = None, inputs: Any = None, dtype: Any = None
    ) -> list[np.ndarray]:
        """Return zeros for h and c, each (batch, units).

        Parameters
        ----------
        batch_size : int, optional
            None: taken from `inputs`.
        inputs : array, optional
        dtype : numpy dtype, optional
            None: the type of the results.

        Raises
        ------
        ValueError
            When neither says the batch size.
        """
        if batch_size is None and inputs is None:
            raise ValueError(f"{self.place}: get_initial_state needs batch_size, got None.")
        batch = len(inputs) if batch_size is None else checks.integer(self.place, "batch_size", batch_size, minimum=0)
        return [np.zeros((batch, self.units), dtype or self.policy.output) for _ in range(2)]

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Return the shapes of a call's results."""
        shape = (input_shape[0], self.units)
        return shape, [shape, shape]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as the cell's generation of Keras writes them."""
        return {**super().get_config(), **self._cell_config()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "LSTMCell":
        """Make a cell from a config of Keras 3 or Keras 2; unknown keys raise ValueError."""
        return cls(**config_of_generation(cls.clean_config(config)))


@register_layer()
class StackedRNNCells(Layer):
    """Cells of which each reads the output of the one before, within the same step.

    Parameters
    ----------
    cells : list of cells
        Each with ``call`` and ``state_size``.
    **layer_options
        As in `numbalstm.layers.base.Layer`.

    Raises
    ------
    ValueError
        When there is no cell, or one lacks ``call`` or ``state_size``.
    """

    def __init__(self, cells: Sequence[Any], **layer_options: Any) -> None:
        if not isinstance(cells, (list, tuple)) or not cells:
            raise ValueError(f"StackedRNNCells: cells must be a list of cells, got {checks.describe(cells)}.")
        for index, cell in enumerate(cells):
            check_cell(f"StackedRNNCells: cells[{index}]", cell)
        self.cells = list(cells)
        self.generation = getattr(self.cells[-1], "generation", "keras3")
        layer_options.setdefault("dtype", policy_of(self.cells[-1]))
        super().__init__(**layer_options)

    @property
    def sublayers(self) -> list[Layer]:
        """The cells that are layers."""
        return [cell for cell in self.cells if isinstance(cell, Layer)]

    @property
    def state_size(self) -> list[Any]:
        """State sizes of the cells, a list for each."""
        return [list_of_sizes(cell) for cell in self.cells]

    @property
    def output_size(self) -> int:
        """Output width of the last cell."""
        return output_size(self.cells[-1])

    def build(self, input_shape: Any) -> None:
        """Build every cell that can be built."""
        features = tuple(input_shape)
        for cell in self.cells:
            if hasattr(cell, "build") and not getattr(cell, "built", False):
                cell.build(features)
            features = (features[0], output_size(cell))

    def call(
        self, inputs: Any, states: Any, training: bool | None = None, constants: Any = None
    ) -> tuple[Any, list[list[Any]]]:
        """Run one step of all cells.

        Parameters
        ----------
        inputs : array (B, F)
        states : list of lists of array
            The states of each cell.
        training : bool, optional
        constants : list of array, optional
            For the cells whose ``call`` takes them.

        Returns
        -------
        output, states
            The output of the last cell, and the new states nested as `states`.
        """
        new_states = []
        for cell, state in zip(self.cells, states, strict=True):
            inputs, state = run_cell(cell, inputs, state, training, constants)
            new_states.append(state)
        return inputs, new_states

    def get_initial_state(self, batch_size: int | None = None) -> list[Any]:
        """Return the initial states of all cells."""
        return [initial_state(cell, batch_size, self.policy.output) for cell in self.cells]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return super().get_config() | {"cells": [serialize_layer(cell) for cell in self.cells]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "StackedRNNCells":
        """Make a stack from a config; ValueError for cells that are not supported."""
        config = cls.clean_config(config)
        return cls(cells=[deserialize(cell) for cell in config.pop("cells")], **config)


# ---- what a cell may be ------------------------------------------------------------------------------------------


def check_cell(where: str, cell: Any) -> None:
    """Raise ValueError when an object is no cell."""
    for attribute in ("call", "state_size"):
        if not hasattr(cell, attribute):
            raise ValueError(
                f"{where}: a cell must have call() and state_size, but {checks.describe(cell)} has no {attribute}."
            )
    size = cell.state_size
    if isinstance(size, bool) or not isinstance(size, (int, list, tuple)):
        raise ValueError(f"{where}: state_size must be an integer or a list of them, got {checks.describe(size)}.")


def list_of_sizes(cell: Any) -> list[Any]:
    """Return a cell's `state_size` as a list."""
    size = cell.state_size
    return [size] if isinstance(size, int) else list(size)


def output_size(cell: Any) -> int:
    """Return the width of a cell's output: `output_size`, or the width of its first state."""
    size = getattr(cell, "output_size", None)
    while size is None or isinstance(size, (list, tuple)):
        size = (list_of_sizes(cell) if size is None else size)[0]
    return size


def policy_of(cell: Any) -> Any:
    """Return the dtype policy of a cell that has one."""
    return getattr(cell, "policy", None)


def call_takes(cell: Any, name: str) -> bool:
    """Return whether a cell's ``call`` has this parameter."""
    return name in _parameter_names(getattr(cell.call, "__func__", cell.call))


@lru_cache(maxsize=64)
def _parameter_names(function: Any) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def run_cell(cell: Any, x: Any, states: Any, training: Any, constants: Any) -> tuple[Any, list[Any]]:
    """Run one step of any cell; returns the output and the list of new states."""
    options = {}
    if call_takes(cell, "training"):
        options["training"] = training
    if constants is not None and call_takes(cell, "constants"):
        options["constants"] = constants
    run = cell if isinstance(cell, Layer) else cell.call
    output, states = run(x, states, **options)
    return output, list(states) if isinstance(states, (list, tuple)) else [states]


def initial_state(cell: Any, batch: int | None, dtype: np.dtype) -> list[Any]:
    """Return the states a cell starts from: what its ``get_initial_state`` says, or zeros."""
    if not hasattr(cell, "get_initial_state"):
        return [np.zeros((batch, size), dtype) for size in list_of_sizes(cell)]
    parameters = inspect.signature(cell.get_initial_state).parameters
    options = {name: value for name, value in (("inputs", None), ("dtype", dtype)) if name in parameters}
    states = cell.get_initial_state(batch_size=batch, **options)
    return list(states) if isinstance(states, (list, tuple)) else [states]


def clone_cell(cell: Any) -> Any:
    """Return a fresh cell of the same configuration: unbuilt, or a deep copy where there is no config."""
    if isinstance(cell, StackedRNNCells):
        return StackedRNNCells([clone_cell(inner) for inner in cell.cells], name=cell.name, dtype=cell.policy)
    if isinstance(cell, LSTMCell):
        return type(cell)(**{**cell.get_config(), "generation": cell.generation, "dtype": cell.policy})
    return type(cell).from_config(cell.get_config()) if isinstance(cell, Layer) else copy.deepcopy(cell)


def serialize_layer(layer: Any) -> dict[str, Any]:
    """Return a layer's description as `deserialize` reads it; TypeError for an object that is no layer."""
    if not isinstance(layer, Layer):
        raise TypeError(f"{checks.describe(layer)} is no layer and has no config.")
    return {
        "module": "keras.layers",
        "class_name": type(layer).__name__,
        "config": layer.get_config(),
        "registered_name": None,
    }
