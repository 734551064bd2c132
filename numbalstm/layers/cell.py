"""The LSTM cell, one step at a time, and a stack of cells that acts as one."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.backends import arguments
from numbalstm.functional import lstm_backward
from numbalstm.layers.base import Layer, deserialize, register_layer
from numbalstm.layers.cells import (
    check_cell,
    initial_state,
    initial_state_gradients,
    list_of_sizes,
    output_size,
    policy_of,
    run_cell,
    vjp_cell,
)
from numbalstm.layers.gradients import LayerGradients, Pull, added, added_weights
from numbalstm.layers.lstm_weights import SIGMOID, LSTMWeights, config_of_generation
from numbalstm.layers.symbolic import map_leaves
from numbalstm.parameters import Weight


@register_layer()
class LSTMCell(LSTMWeights):
    """One step of an LSTM: ``cell(x, [h, c]) -> (h_new, [h_new, c_new])``.

    Parameters
    ----------
    units, activation, recurrent_activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer, \
unit_forget_bias, kernel_regularizer, recurrent_regularizer, bias_regularizer, kernel_constraint, \
recurrent_constraint, bias_constraint, dropout, recurrent_dropout, seed, implementation, generation
        As in `numbalstm.LSTM`.
    peephole, proj_size, input_forget, clip, cell_clip, projection_clip, layer_norm, layer_norm_epsilon, zoneout, \
weight_drop, learn_initial_state, gate_activations, and the options of their weights
        As in `numbalstm.layers.lstm_variants.LSTMVariants`; among **layer_options.
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
        states : pair [h, c] of array_like (B, U), or (B, P) and (B, U) with `proj_size`
        training : bool, optional
            Whether dropout, zoneout and `weight_drop` act.

        Returns
        -------
        output, [h, c]
            Arrays like the states; the output is h.

        Raises
        ------
        ValueError
            When a shape, a count or a dtype does not fit.
        """
        return self._step(inputs, states, training, record=False)[0]

    def _vjp(self, inputs: Any, states: Any, training: bool | None = None) -> tuple[Any, Pull]:
        outputs, tape = self._step(inputs, states, training, record=True)
        weight_factors = self._weight_factors if training else None

        def pull(cotangents: Any, _: bool) -> LayerGradients:
            d_output, (d_h, d_c) = cotangents
            found = lstm_backward(d_output, tape, d_h=d_h, d_c=d_c, where=self.place)
            weights = self.weight_gradients(found, weight_factors, learned=False)
            return LayerGradients(found.x[:, 0], [found.h, found.c], weights=weights)

        return outputs, pull

    def _step(self, inputs: Any, states: Any, training: Any, record: bool) -> tuple[Any, Any]:
        x = arguments.real_array(self.place, "inputs", inputs, self.policy.compute)
        checks.shape(self.place, "inputs", x, ("batch", self.parameters.features))
        states = arguments.states(self.place, states, self.parameters, len(x))
        factors = self._factors(len(x)) if training else None
        result = self.run_sequence(
            self.policy.to_compute(x)[:, None],
            training=training,
            initial_state=[self.policy.to_compute(state) for state in states],
            weight_factors=self._weight_factors if training else None,
            return_sequences=False,
            dropout_masks=factors,
            tape=record,
            where=self.place,
        )
        h, c = self.policy.to_output(result.h), self.policy.to_output(result.c)
        return (h, [h, c]), result.tape

    def _factors(self, batch: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return the dropout factors kept from the latest step, or new ones."""
        if self._input_factors is None:
            self._input_factors = self.draw_input_factors(batch, self.parameters.features)
        if self._state_factors is None:
            self._state_factors = self.draw_state_factors(batch)
        if self._weight_factors is None:
            self._weight_factors = self.draw_weight_factors()
        return self._input_factors, self._state_factors

    def reset_dropout_mask(self) -> None:
        """Draw new factors of the input in the next training step."""
        self._input_factors: np.ndarray | None = None

    def reset_recurrent_dropout_mask(self) -> None:
        """Draw new factors of the recurrent input, and of the recurrent kernel, in the next training step."""
        self._state_factors: np.ndarray | None = None
        self._weight_factors: np.ndarray | None = None

    def get_initial_state(
        self, batch_size: int | None = None, inputs: Any = None, dtype: Any = None
    ) -> list[np.ndarray]:
        """Return zeros, or the learned initial states, for h (batch, output_size) and c (batch, units).

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
            When neither says the batch size, or the initial states are learned and the cell is not built.
        """
        if batch_size is None and inputs is None:
            raise ValueError(f"{self.place}: get_initial_state needs batch_size, got None.")
        batch = len(inputs) if batch_size is None else checks.integer(self.place, "batch_size", batch_size, minimum=0)
        learned = self.learned_start(batch)
        if learned is not None:
            return [state.astype(dtype or self.policy.output) for state in learned]
        return [np.zeros((batch, size), dtype or self.policy.output) for size in self.state_size]

    def initial_state_gradients(self, states: Sequence[np.ndarray]) -> dict[Weight, np.ndarray]:
        """Return the gradients of the weights that `get_initial_state` returned, from those of what it returned."""
        if not self.learn_initial_state:
            return {}
        return {w: d.sum(axis=0) for w, d in zip((self.initial_h, self.initial_c), states, strict=True)}

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Return the shapes of a call's results."""
        h, c = ((input_shape[0], size) for size in self.state_size)
        return h, [h, c]

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
    def learn_initial_state(self) -> bool:
        """Whether a cell learns its initial states."""
        return any(getattr(cell, "learn_initial_state", False) for cell in self.cells)

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

    def _vjp(
        self, inputs: Any, states: Any, training: bool | None = None, constants: Any = None
    ) -> tuple[tuple[Any, list[list[Any]]], Pull]:
        new_states, pulls = [], []
        for cell, state in zip(self.cells, states, strict=True):
            inputs, state, pull = vjp_cell(cell, inputs, state, training, constants)
            new_states.append(state)
            pulls.append(pull)

        def pull_all(cotangents: Any, regularize: bool) -> LayerGradients:
            dx, d_states = cotangents
            found = LayerGradients(None, [None] * len(pulls))
            for index, pull_cell in reversed(list(enumerate(pulls))):
                gradients = pull_cell(dx, d_states[index], regularize)
                dx = gradients.inputs
                found.initial_state[index] = gradients.initial_state
                found = found._replace(
                    constants=added(found.constants, gradients.constants),
                    weights=added_weights(found.weights, gradients.weights),
                )
            return found._replace(inputs=dx)

        return (inputs, new_states), pull_all

    def compute_output_shape(self, input_shape: Any) -> tuple:
        """Return the shapes of a call's results."""
        batch = input_shape[0]
        return (batch, self.output_size), map_leaves(lambda size: (batch, size), self.state_size)

    def get_initial_state(self, batch_size: int | None = None) -> list[Any]:
        """Return the initial states of all cells."""
        return [initial_state(cell, batch_size, self.policy.output) for cell in self.cells]

    def initial_state_gradients(self, states: Sequence[Any]) -> dict[Weight, np.ndarray]:
        """Return those of all cells."""
        pairs = zip(self.cells, states, strict=True)
        return added_weights(*(initial_state_gradients(cell, state) for cell, state in pairs))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return super().get_config() | {"cells": [serialize_layer(cell) for cell in self.cells]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "StackedRNNCells":
        """Make a stack from a config; ValueError for cells that are not supported."""
        config = cls.clean_config(config)
        return cls(cells=[deserialize(cell) for cell in config.pop("cells")], **config)


def clone_cell(cell: Any) -> Any:
    """Return a fresh cell of the same configuration: unbuilt, or a deep copy where there is no config."""
    if isinstance(cell, StackedRNNCells):
        return StackedRNNCells([clone_cell(inner) for inner in cell.cells], name=cell.name, dtype=cell.policy)
    if isinstance(cell, LSTMCell):
        return type(cell)(**{**cell.get_config(), "generation": cell.generation, "dtype": cell.policy})
    has_config = isinstance(cell, Layer) and type(cell).get_config is not Layer.get_config
    return type(cell).from_config(cell.get_config()) if has_config else copy.deepcopy(cell)


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
