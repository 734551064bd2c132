"""What the estimators share: the forms of X, the model, and its training."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from numbalstm import checks, initializers, optimizers
from numbalstm.callbacks import EarlyStopping
from numbalstm.extras import require
from numbalstm.layers import LSTM, Bidirectional, Dense, Input, Masking
from numbalstm.models import Sequential

_base = require("sklearn.base", "sklearn")
_model_selection = require("sklearn.model_selection", "sklearn")
_utils = require("sklearn.utils", "sklearn")
_validation = require("sklearn.utils.validation", "sklearn")

PADDING = float(np.finfo(np.float32).max)
"""Fills sequences up to the length of the longest; a step of nothing else is masked."""

LEARNING_RATE = 0.01
"""Of optimizers given by name: few samples make few updates, so each must go further than by default."""


class SequenceEstimator(_base.BaseEstimator):
    """Base of the estimators."""

    def _outputs(self, X: Any) -> np.ndarray:
        """Return the model's outputs in float64."""
        _validation.check_is_fitted(self)
        where = type(self).__name__
        form, X = _form(X, self.dtype)
        if form != self._form:
            wanted = "(samples, time)" if self._form == "table" else "(samples, time, features) or a list of sequences"
            raise ValueError(f"{where}: X must be {wanted}, as it was in fit.")
        if form == "table":
            X = _validation.validate_data(self, X, reset=False, dtype=self.dtype)[:, :, None]
        else:
            X = _validation.check_array(
                X, estimator=self, input_name="X", dtype=self.dtype, ensure_2d=False, allow_nd=True
            )
            checks.shape(where, "X", X, ("samples", "time", self.n_features_in_))
        return self.model_.predict(X, batch_size=self.batch_size).astype(np.float64)

    def _training_data(self, X: Any, y: Any, **settings: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return X as (samples, time, features), and y, checked with the given settings of scikit-learn."""
        settings["dtype"] = checks.one_of(type(self).__name__, "dtype", self.dtype, ("float32", "float64"))
        self._form, X = _form(X, self.dtype)
        if self._form == "table":
            X, y = _validation.validate_data(self, X, y, **settings)
            return X[:, :, None], y
        X, y = _validation.check_X_y(X, y, estimator=self, ensure_2d=False, allow_nd=True, **settings)
        self.n_features_in_ = X.shape[2]
        return X, y

    def _train(self, X: np.ndarray, y: np.ndarray, outputs: int, loss: Any, stratify: bool, class_weight: Any) -> None:
        """Make the model and fit it."""
        random = _utils.check_random_state(self.random_state)
        validation = None
        if self.validation_fraction:
            X, held_x, y, held_y = _model_selection.train_test_split(
                X, y, test_size=self.validation_fraction, random_state=random, stratify=y if stratify else None
            )
            validation = (held_x, held_y)
        stopping = []
        if self.patience is not None:
            monitor = "val_loss" if self.validation_fraction else "loss"
            stopping = [EarlyStopping(monitor, patience=self.patience, restore_best_weights=True)]
        # A copy without the state of an earlier fit.
        optimizer = optimizers.get(optimizers.serialize(optimizers.get(self.optimizer)))
        if self.learning_rate is not None or isinstance(self.optimizer, str):
            optimizer.learning_rate = LEARNING_RATE if self.learning_rate is None else self.learning_rate
        self.model_ = self._model(X.shape[2], outputs, random)
        self.model_.compile(optimizer, loss)
        history = self.model_.fit(
            X,
            y,
            batch_size=self.batch_size,
            epochs=self.epochs,
            verbose=self.verbose,
            callbacks=stopping,
            validation_data=validation,
            class_weight=class_weight,
            seed=_seed(random),
        )
        self.history_ = history.history

    def _model(self, features: int, outputs: int, random: np.random.RandomState) -> Sequential:
        units = self.units if isinstance(self.units, (list, tuple, np.ndarray)) else [self.units]
        layers: list[Any] = [Input((None, features)), Masking(PADDING, dtype=self.dtype)]
        for number, width in enumerate(units, start=1):
            layer = LSTM(
                width,
                return_sequences=number < len(units),
                dropout=self.dropout,
                recurrent_dropout=self.recurrent_dropout,
                kernel_initializer=initializers.GlorotUniform(_seed(random)),
                recurrent_initializer=initializers.Orthogonal(seed=_seed(random)),
                seed=_seed(random),
                dtype=self.dtype,
            )
            layers.append(Bidirectional(layer) if self.bidirectional else layer)
        last = initializers.GlorotUniform(_seed(random))
        return Sequential([*layers, Dense(outputs, kernel_initializer=last, dtype=self.dtype)])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def _form(X: Any, dtype: str) -> tuple[str, Any]:
    """Return which form X has, "table" or "sequences", and X with a list of sequences as one array."""
    listed = isinstance(X, (list, tuple)) or (isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1)
    if listed and len(X) > 0 and all(np.ndim(item) == 2 for item in X):
        return "sequences", _padded(X, dtype)
    return "sequences" if getattr(X, "ndim", 2) == 3 else "table", X


def _padded(sequences: Sequence[Any], dtype: str) -> np.ndarray:
    """Return sequences as one array, (samples, time, features), filled up at the end."""
    items = [_validation.check_array(item, dtype=dtype, input_name=f"X[{k}]") for k, item in enumerate(sequences)]
    widths = sorted({item.shape[1] for item in items})
    if len(widths) > 1:
        raise ValueError(f"X: all sequences must have one number of features, got {' and '.join(map(str, widths))}.")
    X = np.full((len(items), max(map(len, items)), widths[0]), PADDING, dtype=dtype)
    for row, item in zip(X, items, strict=True):
        row[: len(item)] = item
    return X


def _seed(random: np.random.RandomState) -> int:
    return int(random.randint(2**31 - 1))
