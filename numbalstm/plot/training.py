"""Figures of how a training went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from numbalstm.checks import describe
from numbalstm.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_TRAINED, _VALIDATED = "#3b86c8", "#e07f2b"
_COLUMNS = 3


def history(history: Any, *, figure: Figure | SubFigure | None = None) -> Figure | SubFigure:
    """Draw losses and metrics over the epochs, a panel for each, training and validation together.

    Parameters
    ----------
    history : History or dict of lists
        What `fit` returned, or its ``.history``.
    figure : Figure or SubFigure, optional
        Where to draw; None makes a new figure.

    Returns
    -------
    Figure or SubFigure
        `figure`, or the new one.

    Raises
    ------
    TypeError
        When `history` is neither.
    ValueError
        When there is no epoch in it.
    ImportError
        When matplotlib is not installed.

    Notes
    -----
    A ring marks the best epoch of the validation loss.  The learning rate, where it was recorded, has a logarithmic
    axis.  Values of a validation that did not follow every epoch are spread evenly up to the last epoch.
    """
    logs = getattr(history, "history", history)
    if not isinstance(logs, Mapping):
        raise TypeError(f"plot: history must be what fit returned, or a dict of lists, got {describe(history)}.")
    names = [name for name in logs if not (name.startswith("val_") and name.removeprefix("val_") in logs)]
    if not names or not len(logs[names[0]]):
        raise ValueError("plot: there is no epoch in this history.")
    columns = min(len(names), _COLUMNS)
    rows = -(-len(names) // columns)
    if figure is None:
        size = (4.2 * columns + 1.5 * (columns == 1), 3.2 * rows)
        figure = require("matplotlib.figure", "plot").Figure(figsize=size, dpi=120, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    ticks = require("matplotlib.ticker", "plot")
    epochs = np.asarray(getattr(history, "epoch", range(len(logs[names[0]])))) + 1
    for axis, name in zip(axes, names, strict=False):
        _panel(axis, name, epochs, logs[name], logs.get(f"val_{name}"))
        axis.xaxis.set_major_locator(ticks.MaxNLocator(integer=True))
        axis.set_xlabel("epoch")
    for axis in axes[len(names) :]:
        axis.remove()
    return figure


def _panel(axis: Axes, name: str, epochs: np.ndarray, trained: Any, validated: Any) -> None:
    mark = "o" if len(epochs) == 1 else None
    axis.plot(epochs[-len(trained) :], trained, color=_TRAINED, lw=1.8, marker=mark, label="training")
    axis.set_title(name.replace("_", " "), loc="left", fontsize="medium")
    axis.grid(color="0.92")
    axis.spines[["top", "right"]].set_visible(False)
    if name == "learning_rate":
        axis.set_yscale("log")
    if validated is None or not len(validated):
        return
    every = max(len(epochs) // len(validated), 1)
    at = epochs if every == 1 else epochs[every - 1 :: every][: len(validated)]
    at = at[-len(validated) :]
    axis.plot(at, validated, color=_VALIDATED, lw=1.8, marker=mark, label="validation")
    if name == "loss" and np.isfinite(validated).any():
        best = int(np.nanargmin(validated))
        axis.plot(at[best], validated[best], "o", mfc="none", mec=_VALIDATED, ms=8, label=f"best: epoch {at[best]}")
    axis.legend(frameon=False, fontsize="small")
