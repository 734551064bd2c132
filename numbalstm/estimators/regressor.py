"""Numbers from sequences."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from numbalstm.estimators.base import SequenceEstimator
from numbalstm.extras import require

_base = require("sklearn.base", "sklearn")


class LSTMRegressor(_base.RegressorMixin, SequenceEstimator):
    """Numbers from sequences, by one or more LSTM layers and a linear layer on the last output.

    Parameters
    ----------
    units : int or list of int, default 32
        Width of the LSTM layer, or of each of several.
    bidirectional : bool, default False
        Whether each layer also reads the sequences backwards.
    dropout, recurrent_dropout : float in [0, 1], default 0
        Of each LSTM layer, in training.
    loss : str or Loss, default "mse"
        See `numbalstm.losses.get`.
    optimizer : str or Optimizer, default "adam"
        See `numbalstm.optimizers.get`; an object is copied, without its state.
    learning_rate : float, optional
        None: 0.01 for an optimizer given by its name, an object's own otherwise.
    epochs : int, default 100
        Passes over the samples.
    batch_size : int, default 32
        Samples per update.
    validation_fraction : float, default 0
        Part of the samples, drawn at random, that is not trained on but watched.
    patience : int, optional
        Stop after so many epochs in which the validation's loss (without one, the training's) was not the lowest, with
        the weights of the best epoch.  None: go through all epochs.
    dtype : {"float32", "float64"}, default "float32"
    verbose : {0, 1, 2, "auto"}, default 0
        As in `Sequential.fit`.
    random_state : int, RandomState or None, default None
        Of initial weights, dropout, the order of samples and those held out.

    Attributes
    ----------
    model_ : Sequential
        The trained model.
    history_ : dict of list
        Losses by epoch.
    n_features_in_ : int
        Columns of a two-dimensional X; else features of a step.
    feature_names_in_ : array of str
        Columns of X, when it was a data frame.

    Notes
    -----
    X may be an array (samples, time, features), a list of arrays (time_i, features), whose lengths may differ, or an
    array or data frame (samples, time): there every column is a time step of one feature.  One step with many features
    is ``X[:, None, :]``.  Neither X nor y is scaled; put a scaler before it, and for targets far from the size of 1 a
    ``TransformedTargetRegressor`` around it.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(60, 7))
    >>> model = LSTMRegressor(units=8, epochs=50, learning_rate=0.02, random_state=0).fit(X, X.mean(axis=1))
    >>> model.predict(X[:2]).shape
    (2,)
    """

    def __init__(
        self,
        units: int | Sequence[int] = 32,
        *,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        loss: Any = "mse",
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
        self.loss = loss
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.dtype = dtype
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> "LSTMRegressor":
        """Train a new model.

        Parameters
        ----------
        X : array, list of arrays or data frame
            See the notes of the class.
        y : array, (samples,) or (samples, outputs)

        Returns
        -------
        LSTMRegressor
            Itself.

        Raises
        ------
        ValueError
            When X, y or a setting does not fit.
        """
        X, y = self._training_data(X, y, multi_output=True, y_numeric=True)
        self._shape = y.shape[1:]
        y = y.astype(self.dtype).reshape(len(y), -1)
        self._train(X, y, y.shape[1], self.loss, stratify=False, class_weight=None)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return numbers, (samples,) or (samples, outputs) as `y` was.

        Parameters
        ----------
        X : array, list of arrays or data frame
            Of the form that `fit` had; the lengths of sequences are free.
        """
        return self._outputs(X).reshape(-1, *self._shape)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
