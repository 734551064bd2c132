"""Metrics by the names of Keras; each sums over batches, with sample weights and masks."""

from collections.abc import Mapping
from typing import Any

from numbalstm import checks, losses, objects
from numbalstm.metrics.accuracy import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
)
from numbalstm.metrics.base import CosineSimilarity, MeanMetric, MeanOf, Metric, RootMeanSquaredError
from numbalstm.metrics.confusion import AUC, Precision, Recall

CLASSES = {
    metric.__name__: metric
    for metric in (
        AUC,
        Accuracy,
        BinaryAccuracy,
        CategoricalAccuracy,
        CosineSimilarity,
        Precision,
        Recall,
        RootMeanSquaredError,
        SparseCategoricalAccuracy,
        SparseTopKCategoricalAccuracy,
        TopKCategoricalAccuracy,
    )
}

NAMED: dict[str, type[Metric]] = {
    **{metric.default_name: metric for metric in CLASSES.values()},
    "acc": Accuracy,
    "rmse": RootMeanSquaredError,
}
"""Names beside those of the losses, which are metrics too."""

__all__ = ["MeanMetric", "MeanOf", "Metric", "get", *CLASSES]


def get(identifier: Any, where: str = "metric") -> Metric:
    """Return the metric that `identifier` stands for.

    Parameters
    ----------
    identifier : str, class, Metric, Loss, callable or dict
        The name of a metric or loss ("accuracy", "mae") or of its class, a class, a `Metric` (returned as it is, with
        its sums), a `Loss`, whose mean is taken, a callable of `y_true` and `y_pred` that returns one value or more for
        each sample, or the dict of a Keras 2 or Keras 3 config.
    where : str
        Opens the messages, for example ``"compile: metrics"``.

    Returns
    -------
    Metric
        Made from a name, it carries that name.

    Raises
    ------
    ValueError
        When the name or a setting is unknown.

    Examples
    --------
    >>> metric = get("accuracy")
    >>> metric.update([1, 0, 2], [[0.1, 0.9, 0.0], [0.8, 0.1, 0.1], [0.5, 0.3, 0.2]])
    >>> round(metric.result(), 3)
    0.667
    """
    if isinstance(identifier, type):
        identifier = identifier()
    if isinstance(identifier, Metric):
        return identifier
    if isinstance(identifier, Mapping):
        name, config = objects.class_and_config(where, "metric", identifier)
        if name in CLASSES:
            return objects.build(where, CLASSES[name], {k: v for k, v in config.items() if k != "dtype"})
        if name not in losses.CLASSES:
            raise checks.unknown(where, "metric", name, [*CLASSES, *losses.CLASSES])
        return MeanOf(losses.get(identifier, where))
    if callable(identifier):
        return MeanOf(identifier)
    if isinstance(identifier, str) and identifier in NAMED | CLASSES:
        return (NAMED | CLASSES)[identifier](name=identifier)
    if isinstance(identifier, str) and identifier in losses.NAMED | losses.CLASSES:
        return MeanOf(losses.get(identifier), identifier)
    raise checks.unknown(where, "metric", identifier, [*NAMED, *losses.NAMED])
