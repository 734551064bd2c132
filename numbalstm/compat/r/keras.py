"""The functions of the R package keras (TensorFlow 2 and Keras 2) where they differ from those of keras3.

`object` comes first, as in `numbalstm.compat.r.keras3`.  The recurrent layers follow the rules of
`numbalstm.compat.keras2`; several results come as a list, which is taken apart as ``y, h, c = layer(x)``.
"""

from collections.abc import Sequence
from typing import Any

from numbalstm import layers, models
from numbalstm.compat import keras2
from numbalstm.compat.r.composing import REQUIRED, as_shape, made
from numbalstm.compat.r.keras3 import (
    keras_model,
    layer_bidirectional,
    layer_dense,
    layer_time_distributed,
)
from numbalstm.layers import Input
from numbalstm.layers.symbolic import SymbolicTensor

__all__ = [
    "keras_model",
    "keras_model_sequential",
    "layer_bidirectional",
    "layer_dense",
    "layer_embedding",
    "layer_input",
    "layer_lstm",
    "layer_lstm_cell",
    "layer_rnn",
    "layer_stacked_rnn_cells",
    "layer_time_distributed",
]


def layer_lstm(
    object: Any = None,
    units: int = REQUIRED,
    activation: Any = "tanh",
    recurrent_activation: Any = "sigmoid",
    use_bias: bool = True,
    return_sequences: bool = False,
    return_state: bool = False,
    go_backwards: bool = False,
    stateful: bool = False,
    time_major: bool = False,
    unroll: bool = False,
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
    input_shape: Any = None,
    batch_input_shape: Any = None,
    batch_size: int | None = None,
    dtype: Any = None,
    name: str | None = None,
    trainable: bool | None = None,
    weights: Any = None,
    **layer_options: Any,
) -> Any:
    """Make an LSTM layer and compose it with `object`.

    Parameters
    ----------
    object : None, Sequential, array or symbolic tensor
        See `numbalstm.compat.r.keras3`.
    units, activation, recurrent_activation, use_bias, return_sequences, return_state, go_backwards, stateful, \
time_major, unroll, kernel_initializer, recurrent_initializer, bias_initializer, unit_forget_bias, \
kernel_regularizer, recurrent_regularizer, bias_regularizer, activity_regularizer, kernel_constraint, \
recurrent_constraint, bias_constraint, dropout, recurrent_dropout
        As in `numbalstm.LSTM`.
    input_shape, batch_input_shape, batch_size, dtype, name, trainable, weights
        As in `numbalstm.layers.base.Layer`; `trainable` None is True.
    **layer_options
        Any other argument of `numbalstm.LSTM`.

    Returns
    -------
    numbalstm.compat.keras2.LSTM, Sequential, or what the layer returns for `object`
    """
    return made("layer_lstm", keras2.LSTM, locals())


def layer_lstm_cell(
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
) -> keras2.LSTMCell:
    """Make an LSTM cell, for `layer_rnn`.

    Parameters
    ----------
    units, activation, recurrent_activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer, \
unit_forget_bias, kernel_regularizer, recurrent_regularizer, bias_regularizer, kernel_constraint, \
recurrent_constraint, bias_constraint, dropout, recurrent_dropout
        As in `numbalstm.LSTM`.
    **layer_options
        Any other argument of `numbalstm.LSTMCell`.

    Returns
    -------
    numbalstm.compat.keras2.LSTMCell
    """
    return made("layer_lstm_cell", keras2.LSTMCell, locals())


def layer_stacked_rnn_cells(cells: Sequence[Any], **layer_options: Any) -> layers.StackedRNNCells:
    """Make one cell of several, for `layer_rnn`.

    Parameters
    ----------
    cells : list of cells
    **layer_options
        As in `numbalstm.StackedRNNCells`.
    """
    return made("layer_stacked_rnn_cells", layers.StackedRNNCells, locals())


def layer_rnn(
    object: Any = None,
    cell: Any = REQUIRED,
    return_sequences: bool = False,
    return_state: bool = False,
    go_backwards: bool = False,
    stateful: bool = False,
    unroll: bool = False,
    time_major: bool = False,
    *,
    zero_output_for_mask: bool = False,
    **layer_options: Any,
) -> Any:
    """Make a layer that runs a cell over time, and compose it with `object`.

    Parameters
    ----------
    object : None, Sequential, array or symbolic tensor
        See `numbalstm.compat.r.keras3`.
    cell, return_sequences, return_state, go_backwards, stateful, unroll, time_major, zero_output_for_mask
        As in `numbalstm.RNN`.
    **layer_options
        Any other argument of `numbalstm.RNN`.
    """
    return made("layer_rnn", keras2.RNN, locals())


def layer_embedding(
    object: Any = None,
    input_dim: int = REQUIRED,
    output_dim: int = REQUIRED,
    embeddings_initializer: Any = "uniform",
    embeddings_regularizer: Any = None,
    activity_regularizer: Any = None,
    embeddings_constraint: Any = None,
    mask_zero: bool = False,
    input_length: int | None = None,
    **layer_options: Any,
) -> Any:
    """Make a layer that looks up a vector for every integer, and compose it with `object`.

    Parameters
    ----------
    object : None, Sequential, array or symbolic tensor
        See `numbalstm.compat.r.keras3`.
    input_dim, output_dim, embeddings_initializer, embeddings_regularizer, activity_regularizer, \
embeddings_constraint, mask_zero, input_length
        As in `numbalstm.Embedding`.
    **layer_options
        Any other argument of `numbalstm.Embedding`.
    """
    return made("layer_embedding", layers.Embedding, locals())


def layer_input(
    shape: Any = None,
    batch_shape: Any = None,
    name: str | None = None,
    dtype: Any = None,
) -> SymbolicTensor:
    """Return a symbolic tensor from which a model starts.

    Parameters
    ----------
    shape : sequence of int or None, or int
        Without the batch axis; R's NULL or NA is None.
    batch_shape, name, dtype
        As in `numbalstm.Input`.
    """
    return Input(as_shape(shape), None, dtype, name, as_shape(batch_shape))


def keras_model_sequential(
    layers: Sequence[Any] | None = None,
    name: str | None = None,
    *,
    input_shape: Any = None,
    batch_size: int | None = None,
    dtype: Any = None,
) -> models.Sequential:
    """Return a chain of layers, to which the layer functions add.

    Parameters
    ----------
    layers : list of Layer, optional
    name : str, optional
    input_shape : sequence of int or None, or int, optional
        Without the batch axis.  None: the first layer, or the first call, says it.
    batch_size, dtype
        Of the input.
    """
    start = [] if input_shape is None else [Input(as_shape(input_shape), batch_size, dtype)]
    return models.Sequential([*start, *(layers or ())], name=name, generation="keras2")
