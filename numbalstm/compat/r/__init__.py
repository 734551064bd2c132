"""The functions of R's Keras packages, written in Python as in R.

`layer_lstm`, `rnn_cell_lstm`, `layer_rnn` and the others here are those of the package keras3; `layer_lstm_cell`,
`layer_stacked_rnn_cells` and `layer_input` are older names that keras3 no longer has.  For all of one package::

    from numbalstm.compat.r import keras3          # library(keras3)
    from numbalstm.compat.r import keras           # library(keras)

``c(y, h, c) %<-% layer(x)`` becomes ``y, h, c = layer(x)``, TRUE and FALSE True and False, NULL and NA None, and
``c(32, 10)`` ``(32, 10)``.
"""

from numbalstm.compat.r import keras, keras3
from numbalstm.compat.r.keras import layer_input, layer_lstm_cell, layer_stacked_rnn_cells
from numbalstm.compat.r.keras3 import (
    keras_input,
    keras_model,
    keras_model_sequential,
    layer_bidirectional,
    layer_dense,
    layer_embedding,
    layer_lstm,
    layer_rnn,
    layer_time_distributed,
    rnn_cell_lstm,
    rnn_cells_stack,
)

__all__ = [
    "keras",
    "keras3",
    "keras_input",
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
    "rnn_cell_lstm",
    "rnn_cells_stack",
]
