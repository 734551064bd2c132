"""What training makes small and what it reports: the losses and metrics of a model's outputs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numbalstm import checks, losses, metrics


class Mean:
    """A mean of numbers with weights.

    Parameters
    ----------
    name : str
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.reset()

    def reset(self) -> None:
        """Forget all numbers."""
        self.total = self.count = 0.0

    def update(self, value: float, weight: float) -> None:
        """Take one number."""
        self.total += value * weight
        self.count += weight

    def result(self) -> float:
        """Return the mean, 0 of no numbers."""
        return self.total / self.count if self.count else 0.0

    def state(self) -> dict[str, Any]:
        """Return the sums."""
        return {"total": self.total, "count": self.count}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take the sums that `state` gave."""
        self.total, self.count = float(state["total"]), float(state["count"])


class Objective:
    """The losses and metrics of all outputs, as Keras' ``compile`` takes them.

    Parameters
    ----------
    place : str
        Opens messages.
    names : sequence of str
        Of the outputs.
    loss, loss_weights, metrics, weighted_metrics
        See `Trainer.compile`.

    Raises
    ------
    ValueError
        For an unknown name, or a list or dict that does not fit the outputs.
    """

    def __init__(
        self,
        place: str,
        names: Sequence[str],
        loss: Any,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
    ) -> None:
        self.place, self.names = place, list(names)
        chosen = _for_outputs(place, "loss", loss, self.names, shared=True)
        self.losses = [None if item is None else losses.get(item, f"{place}: loss") for item in chosen]
        factors = _for_outputs(place, "loss_weights", loss_weights, self.names)
        self.factors = [1.0 if f is None else checks.number(place, "loss_weights", f) for f in factors]
        several = sum(loss is not None for loss in self.losses) > 1
        self.total = Mean("loss")
        self.parts = [
            Mean(f"{name}_loss") if several and loss is not None else None
            for name, loss in zip(self.names, self.losses, strict=True)
        ]
        self.metrics = _metrics(place, "metrics", metrics, self.names)
        self.weighted = _metrics(place, "weighted_metrics", weighted_metrics, self.names)
        self._trackers = self._named()

    def _named(self) -> dict[str, Any]:
        """Return everything that reports a number, by its name in the logs."""
        found: dict[str, Any] = {mean.name: mean for mean in (self.total, *self.parts) if mean is not None}
        for prefix, groups in (("", self.metrics), ("weighted_", self.weighted)):
            for output, group in zip(self.names, groups, strict=True):
                start = f"{output}_" if len(self.names) > 1 else ""
                for metric in group:
                    name = f"{start}{metric.name}"
                    if name in found:
                        name = f"{start}{prefix}{metric.name}"
                    number, free = 1, name
                    while free in found:
                        free = f"{name}_{number}"
                        number += 1
                    found[free] = metric
        return found

    def value_and_cotangents(
        self, targets: Sequence[Any], outputs: Sequence[Any], weights: Sequence[Any], masks: Sequence[Any]
    ) -> tuple[float, list[float | None], list[np.ndarray | None]]:
        """Return the weighted sum of the losses, each loss, and the sum's gradient for each output."""
        cotangents: list[np.ndarray | None] = []
        values: list[float | None] = []
        for row in self._rows(targets, outputs, weights, masks):
            if row is None:
                values.append(None)
                cotangents.append(None)
                continue
            loss, factor, arguments = row
            value, gradient = loss.value_and_gradient(*arguments)
            values.append(value)
            cotangents.append(gradient if factor == 1.0 else gradient * gradient.dtype.type(factor))
        return self._sum(values), values, cotangents

    def value(
        self, targets: Sequence[Any], outputs: Sequence[Any], weights: Sequence[Any], masks: Sequence[Any]
    ) -> tuple[float, list[float | None]]:
        """Return the weighted sum of the losses, and each loss."""
        rows = self._rows(targets, outputs, weights, masks)
        values = [None if row is None else float(row[0](*row[2])) for row in rows]
        return self._sum(values), values

    def _rows(
        self, targets: Sequence[Any], outputs: Sequence[Any], weights: Sequence[Any], masks: Sequence[Any]
    ) -> Any:
        for name, loss, factor, *arguments in zip(
            self.names, self.losses, self.factors, targets, outputs, weights, masks, strict=True
        ):
            if loss is not None and arguments[0] is None:
                raise ValueError(f"{self.place}: output {name!r} has a loss and needs targets in y.")
            yield None if loss is None else (loss, factor, arguments)

    def _sum(self, values: Sequence[float | None]) -> float:
        pairs = zip(values, self.factors, strict=True)
        return float(sum(value * factor for value, factor in pairs if value is not None))

    def update(self, total: float, values: Sequence[float | None], size: int) -> None:
        """Take the losses of a batch of `size` samples into their means."""
        self.total.update(total, size)
        for mean, value in zip(self.parts, values, strict=True):
            if mean is not None:
                mean.update(value, size)

    def update_metrics(
        self, targets: Sequence[Any], outputs: Sequence[Any], weights: Sequence[Any], masks: Sequence[Any]
    ) -> None:
        """Take a batch into the metrics."""
        for plain, weighted, target, output, weight, mask in zip(
            self.metrics, self.weighted, targets, outputs, weights, masks, strict=True
        ):
            if target is not None:
                for metric in plain:
                    metric.update(target, output, None, mask)
                for metric in weighted:
                    metric.update(target, output, weight, mask)

    def reset(self) -> None:
        """Start a new epoch."""
        for tracker in self._trackers.values():
            tracker.reset()

    def logs(self) -> dict[str, float]:
        """Return the means and metrics of the epoch so far, by name."""
        return {name: float(tracker.result()) for name, tracker in self._trackers.items()}

    def state(self) -> dict[str, Any]:
        """Return the sums of the epoch so far."""
        return {name: tracker.state() for name, tracker in self._trackers.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on in the middle of an epoch."""
        for name, tracker in self._trackers.items():
            if name not in state:
                raise checks.unknown(self.place, "metric in the checkpoint", name, state)
            tracker.load_state(state[name])


def _for_outputs(place: str, role: str, given: Any, names: list[str], shared: bool = False) -> list[Any]:
    """Return one item for each output from a list, a dict by name, or one item (for all outputs if `shared`)."""
    if given is None:
        return [None] * len(names)
    if isinstance(given, Mapping) and not ("class_name" in given and "config" in given):
        for name in given:
            if name not in names:
                raise checks.unknown(place, f"output in {role}", name, names)
        return [given.get(name) for name in names]
    if isinstance(given, (list, tuple)):
        if len(given) != len(names):
            raise ValueError(f"{place}: {role} must hold {len(names)} items ({', '.join(names)}), got {len(given)}.")
        return list(given)
    if len(names) > 1 and not shared:
        raise ValueError(f"{place}: {role} must be a list or dict for the outputs {', '.join(names)}.")
    return [given] * len(names)


def _metrics(place: str, role: str, given: Any, names: list[str]) -> list[list[Any]]:
    """Return the metrics of each output; a list for a model with one output is all its own, as in Keras."""
    if len(names) == 1 and isinstance(given, (list, tuple)):
        given = [[item for entry in given for item in (entry if isinstance(entry, (list, tuple)) else [entry])]]
    groups = []
    for group in _for_outputs(place, role, given, names):
        group = [] if group is None else group if isinstance(group, (list, tuple)) else [group]
        groups.append([metrics.get(item, f"{place}: {role}") for item in group])
    return groups
