"""The recurrent layers of ``tf.compat.v1.keras.layers``: the rules of `numbalstm.compat.keras2`, with older defaults.

The gates are "hard_sigmoid", and `implementation` is 1: dropout draws factors for each gate.
"""

from typing import Any

from numbalstm.compat import keras2
from numbalstm.layers import StackedRNNCells, TimeDistributed

__all__ = ["LSTM", "RNN", "Bidirectional", "LSTMCell", "StackedRNNCells", "TimeDistributed"]


class LSTM(keras2.LSTM):
    """`numbalstm.LSTM` as ``tf.compat.v1.keras.layers.LSTM``.

    Parameters
    ----------
    units, activation, recurrent_activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer, \
unit_forget_bias, kernel_regularizer, recurrent_regularizer, bias_regularizer, activity_regularizer, \
kernel_constraint, recurrent_constraint, bias_constraint, dropout, recurrent_dropout, return_sequences, return_state, \
go_backwards, stateful, unroll
        As in `numbalstm.LSTM`.
    **layer_options
        Any other argument of `numbalstm.LSTM`, such as ``time_major``, ``implementation``, ``name``, ``dtype`` and
        ``input_shape``.
    """

    OF = "v1"

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "hard_sigmoid",
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
        unroll: bool = False,
        **layer_options: Any,
    ) -> None:
        super().__init__(**self.ruled(locals()))


class LSTMCell(keras2.LSTMCell):
    """`numbalstm.LSTMCell` as ``tf.compat.v1.keras.layers.LSTMCell``.

    Parameters
    ----------
    units, activation, recurrent_activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer, \
unit_forget_bias, kernel_regularizer, recurrent_regularizer, bias_regularizer, kernel_constraint, \
recurrent_constraint, bias_constraint, dropout, recurrent_dropout
        As in `numbalstm.LSTM`.
    **layer_options
        Any other argument of `numbalstm.LSTMCell`.
    """

    OF = "v1"

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "hard_sigmoid",
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


class RNN(keras2.RNN):
    """`numbalstm.RNN` as ``tf.compat.v1.keras.layers.RNN``; arguments as in `numbalstm.compat.keras2.RNN`."""

    OF = "v1"


class Bidirectional(keras2.Bidirectional):
    """`numbalstm.Bidirectional` as ``tf.compat.v1.keras.layers.Bidirectional``.

    Arguments as in `numbalstm.compat.keras2.Bidirectional`.
    """

    OF = "v1"
