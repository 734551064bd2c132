"""The functions of the R package keras3: Keras 3 layers, and an `object` to compose them with.

In each function `object` comes first.  None or missing: the layer is returned.  A `Sequential` model: the layer is
added to it, and the model is returned.  An array, or a symbolic tensor such as `keras_input` returns: the layer is
called on it, and its output is returned.  Several results, which R takes apart by ``c(y, h, c) %<-%``, come as a tuple.
"""

from collections.abc import Sequence
from typing import Any

from numbalstm import layers, models
from numbalstm.compat.r.composing import REQUIRED, as_shape, made
from numbalstm.layers.symbolic import SymbolicTensor

__all__ = [
    "keras_input",
    "keras_model",
    "keras_model_sequential",
    "layer_bidirectional",
    "layer_dense",
    "layer_embedding",
    "layer_lstm",
    "layer_rnn",
    "layer_time_distributed",
    "rnn_cell_lstm",
    "rnn_cells_stack",
]


def layer_lstm(
    object: Any = None,
    units: int = REQUIRED,
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
    seed: int | None = None,
    return_sequences: bool = False,
    return_state: bool = False,
    go_backwards: bool = False,
    stateful: bool = False,
    unroll: bool = False,
    use_cudnn: bool | str = "auto",
    **layer_options: Any,
) -> Any:
    """Make an LSTM layer and compose it with `object`.

    Parameters
    ----------
    object : None, Sequential, array or symbolic tensor
        See `numbalstm.compat.r.keras3`.
    units, activation, recurrent_activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer, \
unit_forget_bias, kernel_regularizer, recurrent_regularizer, bias_regularizer, activity_regularizer, \
kernel_constraint, recurrent_constraint, bias_constraint, dropout, recurrent_dropout, seed, return_sequences, \
return_state, go_backwards, stateful, unroll, use_cudnn
        As in `numbalstm.LSTM`.
    **layer_options
        Any other argument of `numbalstm.LSTM`, such as ``time_major``, ``name`` and ``input_shape``.

    Returns
    -------
    LSTM, Sequential, or what the layer returns for `object`

    Examples
    --------
    >>> import numpy as np
    >>> output = layer_lstm(np.zeros((32, 10, 8)), 4)
    >>> output.shape
    (32, 4)
    """
    return made("layer_lstm", layers.LSTM, locals())


def rnn_cell_lstm(
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
    seed: int | None = None,
    **layer_options: Any,
) -> layers.LSTMCell:
    """Make an LSTM cell, for `layer_rnn`.

    Parameters
    ----------
    units, activation, recurrent_activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer, \
unit_forget_bias, kernel_regularizer, recurrent_regularizer, bias_regularizer, kernel_constraint, \
recurrent_constraint, bias_constraint, dropout, recurrent_dropout, seed
        As in `numbalstm.LSTM`.
    **layer_options
        Any other argument of `numbalstm.LSTMCell`.

    Returns
    -------
    LSTMCell
    """
    return made("rnn_cell_lstm", layers.LSTMCell, locals())


def rnn_cells_stack(cells: Sequence[Any], **layer_options: Any) -> layers.StackedRNNCells:
    """Make one cell of several, for `layer_rnn`.

    Parameters
    ----------
    cells : list of cells
    **layer_options
        As in `numbalstm.StackedRNNCells`.
    """
    return made("rnn_cells_stack", layers.StackedRNNCells, locals())


def layer_rnn(
    object: Any = None,
    cell: Any = REQUIRED,
    return_sequences: bool = False,
    return_state: bool = False,
    go_backwards: bool = False,
    stateful: bool = False,
    unroll: bool = False,
    zero_output_for_mask: bool = False,
    **layer_options: Any,
) -> Any:
    """Make a layer that runs a cell over time, and compose it with `object`.

    Parameters
    ----------
    object : None, Sequential, array or symbolic tensor
        See `numbalstm.compat.r.keras3`.
    cell, return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask
        As in `numbalstm.RNN`.
    **layer_options
        Any other argument of `numbalstm.RNN`.
    """
    return made("layer_rnn", layers.RNN, locals())


def layer_bidirectional(
    object: Any = None,
    layer: Any = REQUIRED,
    merge_mode: str | None = "concat",
    weights: Any = None,
    backward_layer: Any = None,
    **layer_options: Any,
) -> Any:
    """Make a layer that runs another one in both directions, and compose it with `object`.

    Parameters
    ----------
    object : None, Sequential, array or symbolic tensor
        See `numbalstm.compat.r.keras3`.
    layer, merge_mode, weights, backward_layer
        As in `numbalstm.Bidirectional`.
    **layer_options
        Any other argument of `numbalstm.Bidirectional`.
    """
    return made("layer_bidirectional", layers.Bidirectional, locals())


def layer_time_distributed(object: Any = None, layer: Any = REQUIRED, **layer_options: Any) -> Any:
    """Make a layer that applies another one to every step, and compose it with `object`.

    Parameters
    ----------
    object : None, Sequential, array or symbolic tensor
        See `numbalstm.compat.r.keras3`.
    layer
        As in `numbalstm.TimeDistributed`.
    **layer_options
        Any other argument of `numbalstm.TimeDistributed`.
    """
    return made("layer_time_distributed", layers.TimeDistributed, locals())


def layer_embedding(
    object: Any = None,
    input_dim: int = REQUIRED,
    output_dim: int = REQUIRED,
    embeddings_initializer: Any = "uniform",
    embeddings_regularizer: Any = None,
    embeddings_constraint: Any = None,
    mask_zero: bool = False,
    weights: Any = None,
    **layer_options: Any,
) -> Any:
    """Make a layer that looks up a vector for every integer, and compose it with `object`.

    Parameters
    ----------
    object : None, Sequential, array or symbolic tensor
        See `numbalstm.compat.r.keras3`.
    input_dim, output_dim, embeddings_initializer, embeddings_regularizer, embeddings_constraint, mask_zero, weights
        As in `numbalstm.Embedding`.
    **layer_options
        Any other argument of `numbalstm.Embedding`, such as ``input_length``.
    """
    return made("layer_embedding", layers.Embedding, locals())


def layer_dense(
    object: Any = None,
    units: int = REQUIRED,
    activation: Any = None,
    use_bias: bool = True,
    kernel_initializer: Any = "glorot_uniform",
    bias_initializer: Any = "zeros",
    kernel_regularizer: Any = None,
    bias_regularizer: Any = None,
    activity_regularizer: Any = None,
    kernel_constraint: Any = None,
    bias_constraint: Any = None,
    **layer_options: Any,
) -> Any:
    """Make a fully connected layer and compose it with `object`.

    Parameters
    ----------
    object : None, Sequential, array or symbolic tensor
        See `numbalstm.compat.r.keras3`.
    units, activation, use_bias, kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, \
activity_regularizer, kernel_constraint, bias_constraint
        As in `numbalstm.Dense`.
    **layer_options
        Any other argument of `numbalstm.Dense`.
    """
    return made("layer_dense", layers.Dense, locals())


def keras_input(
    shape: Any = None,
    batch_size: int | None = None,
    dtype: Any = None,
    batch_shape: Any = None,
    name: str | None = None,
) -> SymbolicTensor:
    """Return a symbolic tensor from which a model starts.

    Parameters
    ----------
    shape : sequence of int or None, or int
        Without the batch axis; R's NA is None.
    batch_size, dtype, batch_shape, name
        As in `numbalstm.Input`.
    """
    return layers.Input(as_shape(shape), batch_size, dtype, name, as_shape(batch_shape))


def keras_model(inputs: Any, outputs: Any = None, name: str | None = None) -> models.Model:
    """Return the model between symbolic inputs and outputs.

    Parameters
    ----------
    inputs, outputs : symbolic tensor, or a list of them
    name : str, optional
    """
    return models.Model(inputs, outputs, name=name)


def keras_model_sequential(
    input_shape: Any = None,
    name: str | None = None,
    *,
    input_dtype: Any = None,
    input_batch_size: int | None = None,
    input_batch_shape: Any = None,
    input_name: str | None = None,
    trainable: bool = True,
    layers: Sequence[Any] = (),
) -> models.Sequential:
    """Return a chain of layers, to which the layer functions add.

    Parameters
    ----------
    input_shape : sequence of int or None, or int, optional
        Without the batch axis; R's NA is None.  None: the first layer, or the first call, says it.
    name : str, optional
    input_dtype, input_batch_size, input_batch_shape, input_name
        As `dtype`, `batch_size`, `batch_shape` and `name` of `keras_input`.
    trainable : bool, default True
    layers : list of Layer
    """
    start = []
    if input_shape is not None or input_batch_shape is not None:
        start = [keras_input(input_shape, input_batch_size, input_dtype, input_batch_shape, input_name)]
    return models.Sequential([*start, *layers], name=name, trainable=trainable)
