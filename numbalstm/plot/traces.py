"""Figures of the gates and states of an LSTM over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from numbalstm.backends.interface import Trace
from numbalstm.checks import describe, integer
from numbalstm.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

SATURATED = 0.1
"""A gate this close to one of its ends counts as saturated, as in Karpathy, Johnson and Li 2015, arXiv:1506.02078."""

_RANGE = ("#3b86c8", "#9cc3e4", "#f6f6f2", "#f5bd85", "#e07f2b")  # blue, white, orange: low, middle, high
_BELOW, _ABOVE, _MASKED = "#08265c", "#6b1d00", "#9a9a9a"


class _Panel(NamedTuple):
    title: str
    values: np.ma.MaskedArray  # (samples, units, time): their mean is drawn, all of them are counted
    bounds: tuple[float, float]  # what the usual activation cannot leave
    saturated: tuple[float, float]  # below, above
    words: tuple[str, str]  # what saturation at either end is called
    rows: str = "unit"  # what a row is


def gates(
    trace: Trace,
    sample: int | str = 0,
    *,
    units: Any = None,
    times: Any = None,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw the four gates of an LSTM over time, one row for each unit, with saturation in colour.

    Parameters
    ----------
    trace : Trace
        From `LSTM.trace` or `functional.lstm_trace`: arrays (batch, time, units).
    sample : int or "mean", default 0
        Which sequence of the batch (negative: from the end), or the mean over the batch.
    units : sequence of int, optional
        Which units, from below in this order (negative: from the end).  None: all.
    times : sequence of length time, optional
        Positions on the time axis, ascending: numbers or dates.  None: 0, 1, 2, ...
    figure : Figure or SubFigure, optional
        Where to draw; None makes a new figure.

    Returns
    -------
    Figure or SubFigure
        `figure`, or the new one.

    Raises
    ------
    IndexError
        When the trace has no such sample or unit.
    TypeError
        When `trace` is no trace, or `sample` or `units` are of the wrong kind.
    ValueError
        When the trace is empty, `units` are none, or `times` does not have one entry for each step.
    ImportError
        When matplotlib is not installed.

    Notes
    -----
    Time runs as the layer processed it: of a layer with ``go_backwards`` the last step comes first.  A trace of a layer
    with ``time_major`` is (time, batch, units): swap its first two axes.

    Gates run from blue (0.1) over white to orange (0.9); saturated ones are dark blue (shut) or dark brown (open), and
    so is the candidate g beyond -0.9 and 0.9.  Titles give the share of saturated values, in all
    samples for their mean.  A gate with values that sigmoid or tanh cannot have (another activation) is drawn over its
    own range, with no saturation marked.  Masked steps are grey.
    """
    low, high = SATURATED, 1.0 - SATURATED
    trace, rows = _picked(trace, sample, units)
    panels = [
        _Panel(title, values, (0.0, 1.0), (low, high), ("shut", "open"))
        for title, values in (("Input gate i", trace.i), ("Forget gate f", trace.f), ("Output gate o", trace.o))
    ]
    panels.append(_Panel("Candidate g", trace.g, (-1.0, 1.0), (-high, high), ("near −1", "near 1")))
    return _draw(panels, rows, (2, 2), times, figure)


def states(
    trace: Trace,
    sample: int | str = 0,
    *,
    units: Any = None,
    times: Any = None,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw the cell state and the output of an LSTM over time, one row for each unit.

    Parameters
    ----------
    trace, sample, units, times, figure
        As in `gates`.

    Returns
    -------
    Figure or SubFigure
        `figure`, or the new one.

    Raises
    ------
    IndexError, TypeError, ValueError, ImportError
        As in `gates`.

    Notes
    -----
    The output h is dark beyond -0.9 and 0.9.  The cell state c has no bounds; it is dark where tanh(c) is beyond
    -0.9 and 0.9, that is where c is beyond -1.47 and 1.47.
    """
    high = 1.0 - SATURATED
    bend = float(np.arctanh(high))
    unbounded = (-np.inf, np.inf)
    projected = isinstance(trace, Trace) and trace.h.shape != trace.c.shape
    trace, rows = _picked(trace, sample, units)
    outputs = "element" if projected else "unit"
    panels = [
        _Panel("Cell state c", trace.c, unbounded, (-bend, bend), ("with tanh c near −1", "near 1")),
        _Panel("Output h", trace.h, (-1.0, 1.0), (-high, high), ("near −1", "near 1"), outputs),
    ]
    return _draw(panels, rows, (2, 1), times, figure)


def _picked(trace: Trace, sample: int | str, units: Any) -> tuple[Trace, np.ndarray]:
    """Return the chosen samples, each part (samples, units, time), masked where steps are masked; and the units.

    A projected output, of another width than the cell, keeps all its elements.
    """
    if not isinstance(trace, Trace):
        raise TypeError(f"plot: trace must be what LSTM.trace or lstm_trace returns, got {describe(trace)}.")
    if trace.i.size == 0:
        raise ValueError(f"plot: the trace is empty, its arrays have shape {trace.i.shape}.")
    batch, _, width = trace.i.shape
    rows = np.arange(width)
    if units is not None:
        rows = np.array([_index("unit", unit, width) for unit in units])
        if not rows.size:
            raise ValueError("plot: units must name at least one unit, got none.")
        rows %= width
    samples = slice(None) if sample == "mean" else [_index("sample", sample, batch)]
    hidden = np.isnan(trace.i).all(axis=2, keepdims=True)
    parts = (np.ma.masked_where(np.isnan(values) | hidden, values)[samples].swapaxes(1, 2) for values in trace)
    return Trace(*(part[:, rows] if part.shape[1] == width else part for part in parts)), rows


def _index(name: str, value: Any, count: int) -> int:
    value = integer("plot", name, value)
    if not -count <= value < count:
        raise IndexError(f"plot: {name} must be one of the {count} {name}s in the trace, got {value}.")
    return value


def _draw(
    panels: list[_Panel], rows: np.ndarray, grid: tuple[int, int], times: Any, figure: Figure | SubFigure | None
) -> Figure | SubFigure:
    """Draw the panels one beside or below the other; `rows` are the numbers of the units."""
    if figure is None:
        figure = require("matplotlib.figure", "plot").Figure(figsize=(10, 6), dpi=120, layout="constrained")
    edges, dated = _edges(times, panels[0].values.shape[2])
    axes = figure.subplots(*grid, sharex=True, squeeze=False)
    for axis, panel in zip(axes.flat, panels, strict=True):
        _heat_map(axis, panel, edges)
        if dated:
            locator = require("matplotlib.dates", "plot").AutoDateLocator(maxticks=6)
            axis.xaxis.set_major_locator(locator)
            axis.xaxis.set_major_formatter(require("matplotlib.dates", "plot").ConciseDateFormatter(locator))
        _number_rows(axis, rows if panel.rows == "unit" else np.arange(panel.values.shape[1]))
        if times is None:
            axis.xaxis.get_major_locator().set_params(integer=True)
        if axis in axes[:, 0]:
            axis.set_ylabel(panel.rows)
    for axis in axes[-1] if not dated else ():
        axis.set_xlabel("step")
    return figure


def _number_rows(axis: Axes, numbers: np.ndarray) -> None:
    """Write the numbers of some rows beside their middles."""
    every = -(-len(numbers) // 12)
    axis.set_yticks(np.arange(len(numbers))[::every], [str(number) for number in numbers[::every]], fontsize="small")


def _edges(times: Any, steps: int) -> tuple[np.ndarray, bool]:
    """Return the steps+1 borders of the cells on the time axis, and whether they are dates."""
    centres = np.arange(steps) if times is None else np.asarray(times)
    if centres.shape != (steps,):
        raise ValueError(f"plot: times must have shape ({steps},), one entry for each step, got {centres.shape}.")
    dated = centres.dtype.kind in "MO"
    if dated:
        centres = require("matplotlib.dates", "plot").date2num(centres)
    between = (centres[1:] + centres[:-1]) / 2
    first = centres[0] - (between[0] - centres[0] if steps > 1 else 0.5)
    last = centres[-1] + (centres[-1] - between[-1] if steps > 1 else 0.5)
    return np.concatenate([[first], between, [last]]), dated


def _heat_map(axis: Axes, panel: _Panel, edges: np.ndarray) -> None:
    """Draw one panel with its own scale; the two dark colours of saturation lie beyond its ends."""
    colors = require("matplotlib.colors", "plot")
    values = panel.values
    known = values.compressed()
    bounded = bool(((known >= panel.bounds[0]) & (known <= panel.bounds[1])).all())
    low, high = panel.saturated if bounded else (known.min(), known.max())
    scale = colors.LinearSegmentedColormap.from_list("range", _RANGE)
    scale = scale.with_extremes(under=_BELOW, over=_ABOVE, bad=_MASKED)
    borders = np.arange(values.shape[1] + 1) - 0.5
    mesh = axis.pcolormesh(edges, borders, values.mean(axis=0), cmap=scale, vmin=low, vmax=high, rasterized=True)
    title = panel.title
    if bounded:
        shares = f"{_share(values < low)} {panel.words[0]}, {_share(values > high)} {panel.words[1]}"
        title = f"{title}: {shares}"
    axis.set_title(title, loc="left", fontsize="medium")
    bar = axis.figure.colorbar(mesh, ax=axis, extend="both" if bounded else "neither", pad=0.02, aspect=12)
    bar.ax.tick_params(labelsize="small")


def _share(where: np.ma.MaskedArray) -> str:
    share = where.mean()
    return "–" if share is np.ma.masked else f"{100 * share:.0f} %"
