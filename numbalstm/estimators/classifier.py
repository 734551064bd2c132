"""Classes of sequences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numbalstm import activations
from numbalstm.estimators.base import SequenceEstimator
from numbalstm.extras import require
from numbalstm.losses import SparseCategoricalCrossentropy

_base = require("sklearn.base", "sklearn")
_multiclass = require("sklearn.utils.multiclass", "sklearn")
_utils = require("sklearn.utils", "sklearn")


class LSTMClassifier(_base.ClassifierMixin, SequenceEstimator):
    """Classes of sequences, by one or more LSTM layers and a softmax layer on the last output.

    Parameters
    ----------
    units, bidirectional, dropout, recurrent_dropout, optimizer, learning_rate
        As of `LSTMRegressor`.
    class_weight : dict, "balanced" or None, default None
        Weights of the classes in the loss; "balanced": inverse to their numbers of samples.  None: 1.
    epochs, batch_size, validation_fraction, patience, dtype, verbose, random_state
        As of `LSTMRegressor`; the samples held out have the classes in the proportions of all.

    Attributes
    ----------
    classes_ : array
        The classes, sorted.
    model_ : Sequential
        The trained model; its outputs are logits.
    history_ : dict of list
        Losses by epoch.
    n_features_in_, feature_names_in_
        As of `LSTMRegressor`.

    Notes
    -----
    The forms of X are those of `LSTMRegressor`.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(60, 7, 2))
    >>> y = np.where(X[:, :, 0].mean(axis=1) > 0, "up", "down")
    >>> model = LSTMClassifier(units=8, epochs=50, learning_rate=0.02, random_state=0).fit(X, y)
    >>> model.predict_proba(X[:2]).shape
    (2, 2)
    """

    def __init__(
        self,
        units: int | Sequence[int] = 32,
        *,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        class_weight: Mapping | str | None = None,
        optimizer: Any = "adam",
        learning_rate: float | None = None,
        epochs: int = 100,
        batch_size: int = 32,
        validation_fraction: float = 0.0,
        patience: int | None = None,
        dtype: str = "float32",
        verbose: int | str = 0,
        random_state: Any = None,
    ) -> None:
        self.units = units
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.class_weight = class_weight
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.dtype = dtype
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> "LSTMClassifier":
        """Train a new model.

        Parameters
        ----------
        X : array, list of arrays or data frame
            See the notes of the class.
        y : array, (samples,)
            Classes: numbers or strings, two or more different ones.

        Returns
        -------
        LSTMClassifier
            Itself.

        Raises
        ------
        ValueError
            When X, y or a setting does not fit.
        """
        X, y = self._training_data(X, y)
        _multiclass.check_classification_targets(y)
        self.classes_, y = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"LSTMClassifier: y must hold two classes or more, got one class, {self.classes_[0]!r}.")
        weights = None
        if self.class_weight is not None:
            numbers = _utils.compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[y])
            weights = {index: float(weight) for index, weight in enumerate(numbers)}
        loss = SparseCategoricalCrossentropy(from_logits=True)
        self._train(X, y, len(self.classes_), loss, stratify=True, class_weight=weights)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, (samples, classes) in the order of `classes_`.

        Parameters
        ----------
        X : array, list of arrays or data frame
            Of the form that `fit` had; the lengths of sequences are free.
        """
        return activations.softmax(self._outputs(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable classes, (samples,).

        Parameters
        ----------
        X : array, list of arrays or data frame
            Of the form that `fit` had; the lengths of sequences are free.
        """
        numbers = self._outputs(X).argmax(axis=1)
        return self.classes_[numbers]
