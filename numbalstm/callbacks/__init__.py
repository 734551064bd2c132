"""Callbacks of `fit` and `evaluate`, with the names, arguments and behaviour of Keras."""

from numbalstm.callbacks.base import Callback, CallbackList, LambdaCallback
from numbalstm.callbacks.learning_rate import LearningRateScheduler, ReduceLROnPlateau
from numbalstm.callbacks.monitors import EarlyStopping, ModelCheckpoint
from numbalstm.callbacks.records import CSVLogger, History

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
]
