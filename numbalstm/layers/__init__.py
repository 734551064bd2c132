"""Layers with the arguments, weights and numbers of Keras."""

from numbalstm.layers import operations
from numbalstm.layers.base import Layer
from numbalstm.layers.bidirectional import Bidirectional
from numbalstm.layers.cell import LSTMCell, StackedRNNCells
from numbalstm.layers.core import Activation, Dense, Input, InputLayer, Masking
from numbalstm.layers.dropout import Dropout, SpatialDropout1D
from numbalstm.layers.embedding import Embedding
from numbalstm.layers.lstm import LSTM
from numbalstm.layers.merge import Add, Average, Concatenate, Multiply
from numbalstm.layers.normalization import BatchNormalization, LayerNormalization
from numbalstm.layers.pooling import GlobalAveragePooling1D, GlobalMaxPooling1D
from numbalstm.layers.registry import LAYERS, OPERATIONS, deserialize, register_layer
from numbalstm.layers.reshaping import Flatten, RepeatVector, Reshape
from numbalstm.layers.rnn import RNN
from numbalstm.layers.stacked import StackedLSTM
from numbalstm.layers.time_distributed import TimeDistributed

__all__ = [
    "LAYERS",
    "LSTM",
    "OPERATIONS",
    "RNN",
    "Activation",
    "Add",
    "Average",
    "BatchNormalization",
    "Bidirectional",
    "Concatenate",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAveragePooling1D",
    "GlobalMaxPooling1D",
    "Input",
    "InputLayer",
    "LSTMCell",
    "Layer",
    "LayerNormalization",
    "Masking",
    "Multiply",
    "RepeatVector",
    "Reshape",
    "SpatialDropout1D",
    "StackedLSTM",
    "StackedRNNCells",
    "TimeDistributed",
    "deserialize",
    "operations",
    "register_layer",
]
