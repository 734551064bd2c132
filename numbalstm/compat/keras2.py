"""The recurrent layers of Keras 2 (TensorFlow 2.0 to 2.15, tf_keras): its argument order, defaults and rules.

What differs from `numbalstm.LSTM`: several results come in a list; "hard_sigmoid" is clip(0.2 x + 0.5, 0, 1); the
initial state may come among the inputs, ``[x, h, c]``; a stateful layer heeds `initial_state` only while its stored
states are zero; the input dropout of the plain layer draws anew for every step; configs are those of Keras 2.
"""

from typing import Any

import numpy as np

from numbalstm import layers
from numbalstm.compat.arguments import OfGeneration
from numbalstm.layers import StackedRNNCells, TimeDistributed

__all__ = ["LSTM", "RNN", "Bidirectional", "LSTMCell", "StackedRNNCells", "TimeDistributed"]


class Recurrent(OfGeneration):
    """What a recurrent layer has in Keras 2 and in TensorFlow 1."""

    @property
    def states(self) -> list[Any]:
        """Stored states; None in the place of each where the layer is not stateful or not built."""
        states = super().states
        return [None for _ in self.state_size] if states is None else states


class LSTM(Recurrent, layers.LSTM):
    """`numbalstm.LSTM` as ``tf.keras.layers.LSTM`` of TensorFlow 2.

    Parameters
    ----------
    units, activation, recurrent_activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer, \
unit_forget_bias, kernel_regularizer, recurrent_regularizer, bias_regularizer, activity_regularizer, \
kernel_constraint, recurrent_constraint, bias_constraint, dropout, recurrent_dropout, return_sequences, return_state, \
go_backwards, stateful, time_major, unroll
        As in `numbalstm.LSTM`.
    **layer_options
        Any other argument of `numbalstm.LSTM`, such as ``implementation``, ``name``, ``dtype`` and ``input_shape``.
    """

    OF = "keras2"

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        time_major: bool = False,
        unroll: bool = False,
        **layer_options: Any,
    ) -> None:
        super().__init__(**self.ruled(locals()))


class LSTMCell(OfGeneration, layers.LSTMCell):
    """`numbalstm.LSTMCell` as ``tf.keras.layers.LSTMCell`` of TensorFlow 2.

    Parameters
    ----------
    units, activation, recurrent_activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer, \
unit_forget_bias, kernel_regularizer, recurrent_regularizer, bias_regularizer, kernel_constraint, \
recurrent_constraint, bias_constraint, dropout, recurrent_dropout
        As in `numbalstm.LSTM`.
    **layer_options
        Any other argument of `numbalstm.LSTMCell`.
    """

    OF = "keras2"

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
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
        **layer_options: Any,
    ) -> None:
        super().__init__(**self.ruled(locals()))

    def get_initial_state(
        self, inputs: Any = None, batch_size: int | None = None, dtype: Any = None
    ) -> list[np.ndarray]:
        """Return zeros for h and c, as `numbalstm.LSTMCell.get_initial_state`, whose arguments come in another order.

        Parameters
        ----------
        inputs : array, optional
        batch_size : int, optional
            None: taken from `inputs`.
        dtype : numpy dtype, optional
        """
        return super().get_initial_state(batch_size, inputs, dtype)


class RNN(Recurrent, layers.RNN):
    """`numbalstm.RNN` as ``tf.keras.layers.RNN`` of TensorFlow 2.

    Parameters
    ----------
    cell, return_sequences, return_state, go_backwards, stateful, unroll, time_major
        As in `numbalstm.RNN`.
    **layer_options
        Any other argument of `numbalstm.RNN`, such as ``zero_output_for_mask``.
    """

    OF = "keras2"

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        time_major: bool = False,
        **layer_options: Any,
    ) -> None:
        super().__init__(**self.ruled(locals()))


class Bidirectional(OfGeneration, layers.Bidirectional):
    """`numbalstm.Bidirectional` as ``tf.keras.layers.Bidirectional`` of TensorFlow 2.

    Parameters
    ----------
    layer, merge_mode, weights, backward_layer
        As in `numbalstm.Bidirectional`; `layer` may go backwards, and then the other one goes forward.
    **layer_options
        ``name``, ``trainable``, ``dtype``, ``input_shape``, ...: see `numbalstm.layers.base.Layer`.
    """

    OF = "keras2"

    def __init__(
        self,
        layer: Any,
        merge_mode: str | None = "concat",
        weights: Any = None,
        backward_layer: Any = None,
        **layer_options: Any,
    ) -> None:
        super().__init__(**self.ruled(locals()))
