"""LSTM models as estimators of scikit-learn (extra ``sklearn``)."""

from numbalstm.estimators.classifier import LSTMClassifier
from numbalstm.estimators.regressor import LSTMRegressor

__all__ = ["LSTMClassifier", "LSTMRegressor"]
