"""The demonstration: a year of CO2 forecast at once, from the bundled model and the bundled measurements.

The model reads two years of weekly values and answers with the next 52. Values enter as differences from the last
one known, so that the rise of the concentration over the decades needs no extrapolation.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from numbalstm import plot
from numbalstm.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from numbalstm.functional import Trace

HISTORY = 104
HORIZON = 52
SCALE = 5.0  # ppm to one unit of the model's input: about the height of a season
FIRST_UNSEEN = np.datetime64("1990-01-01")
MODEL = "co2_forecast.keras"
SERIES = "co2_weekly.csv"


class Windows(NamedTuple):
    """Histories and the weeks that followed them, one row for each start of a forecast."""

    start: np.ndarray  # (N,) index of the first week to be forecast
    inputs: np.ndarray  # (N, HISTORY, 1) float32
    targets: np.ndarray  # (N, HORIZON) float32
    last: np.ndarray  # (N, 1) ppm, the value that the differences are taken from


class Speed(NamedTuple):
    """What the machine did just now."""

    microseconds_per_step: float  # one sequence, one timestep
    sequences_per_second: float  # all sequences in one call


class Result(NamedTuple):
    """What the demonstration found out."""

    dates: np.ndarray  # (weeks,) of the whole series
    values: np.ndarray  # (weeks,) ppm
    windows: Windows  # of the weeks that the model has not seen
    forecasts: np.ndarray  # (N, HORIZON) ppm
    errors: dict[str, np.ndarray]  # by method: root mean square error of each week ahead, (HORIZON,) ppm
    speed: Speed
    trace: Trace  # of the last history, (1, HISTORY, units)


def data_file(name: str) -> AbstractContextManager[Path]:
    """Give the path of a file that comes with the package, as a context manager."""
    return resources.as_file(resources.files("numbalstm") / "data" / name)


def load_series() -> tuple[np.ndarray, np.ndarray]:
    """Read the bundled series: dates (N,) datetime64[D] and weekly CO2 at Mauna Loa (N,) in ppm."""
    with data_file(SERIES) as path, path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return np.array([row[0] for row in rows], "datetime64[D]"), np.array([float(row[1]) for row in rows])


def make_windows(values: np.ndarray, first: int, stop: int) -> Windows:
    """Cut every history whose HORIZON following weeks all lie in `values[first:stop]`."""
    start = np.arange(max(first, HISTORY), stop - HORIZON + 1)
    last = values[start - 1][:, None]
    history = values[start[:, None] + np.arange(-HISTORY, 0)] - last
    future = values[start[:, None] + np.arange(HORIZON)] - last
    return Windows(start, (history / SCALE)[..., None].astype(np.float32), (future / SCALE).astype(np.float32), last)


def naive_forecasts(windows: Windows) -> dict[str, np.ndarray]:
    """Forecast without a model: last year's values, and the same raised by last year's growth; (N, HORIZON) each."""
    year = windows.inputs[:, -HORIZON:, 0]
    growth = -windows.inputs[:, -HORIZON - 1, :]
    return {"last year again": year, "last year plus its growth": year + growth}


def run() -> Result:
    """Load the bundled model, forecast every week it has not seen, and compare with the truth."""
    from numbalstm.io import load_model  # here, so that the training script can use this module without numba

    dates, values = load_series()
    windows = make_windows(values, int(np.searchsorted(dates, FIRST_UNSEEN)), len(values))
    with data_file(MODEL) as path:
        model = load_model(path)
    answers = model.predict(windows.inputs, batch_size=len(windows.inputs))
    methods = {"LSTM": answers, **naive_forecasts(windows)}
    errors = {name: SCALE * np.sqrt(np.mean((y - windows.targets) ** 2, axis=0)) for name, y in methods.items()}
    speed = Speed(
        1e6 * _best_time(lambda: model.predict(windows.inputs[-1:])) / HISTORY,
        len(answers) / _best_time(lambda: model.predict(windows.inputs, batch_size=len(answers))),
    )
    trace = model.get_layer("memory").trace(windows.inputs[-1:])
    return Result(dates, values, windows, answers * SCALE + windows.last, errors, speed, trace)


def _best_time(action: Callable[[], object], budget: float = 0.15) -> float:
    """Return the shortest of several runs in seconds, the least disturbed; the first may compile and is left out."""
    action()
    times: list[float] = []
    while sum(times) < budget:
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def draw(result: Result) -> Figure:
    """Draw predictions against truth, the error by weeks ahead, and the gates while the last history is read.

    Raises
    ------
    ImportError
        When matplotlib is not installed.
    """
    figure = require("matplotlib.figure", "plot").Figure(figsize=(12, 9.5), dpi=110, layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(2, 3), hspace=0.03)
    forecast, error = above.subplots(1, 2, width_ratios=(7, 3))
    _draw_forecasts(forecast, result)
    _draw_errors(error, result)

    # Units have no order of their own; by the time of their greatest cell state the passing of the season shows.
    order = np.argsort(result.trace.c[0, -HORIZON:].argmax(axis=0))
    weeks = result.windows.start[-1] + np.arange(-HISTORY, 0)
    below.suptitle(
        f"Inside the LSTM while it reads the {HISTORY} weeks before the last forecast"
        " (units in order of when their cell state peaks)",
        fontsize="large",
    )
    plot.gates(result.trace, units=order, times=result.dates[weeks], figure=below)
    return figure


def _draw_forecasts(axis: Axes, result: Result) -> None:
    """Draw a year's forecast made once a year, so that each week of truth meets one forecast."""
    first = result.windows.start[0]
    axis.plot(result.dates[first - HORIZON :], result.values[first - HORIZON :], color="0.25", lw=1, label="measured")
    for row in range(0, len(result.forecasts), HORIZON):
        weeks = result.windows.start[row] + np.arange(HORIZON)
        label = "forecast a year at once" if row == 0 else None
        axis.plot(result.dates[weeks], result.forecasts[row], color="#d1570b", lw=2, alpha=0.85, label=label)
        axis.axvline(result.dates[weeks[0]], color="0.85", lw=0.8, zorder=0)
    axis.set_title("Weekly CO₂ at Mauna Loa: none of these years was used in training", loc="left")
    axis.set_ylabel("ppm")
    axis.margins(x=0.01)
    axis.legend(loc="upper left", frameon=False)


def _draw_errors(axis: Axes, result: Result) -> None:
    ahead = np.arange(1, HORIZON + 1)
    styles = (("#d1570b", "-"), ("0.6", ":"), ("0.35", "--"))
    for (name, error), (color, line) in zip(result.errors.items(), styles, strict=True):
        axis.plot(ahead, error, color=color, ls=line, lw=2, label=name)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("weeks ahead")
    axis.set_ylabel("root mean square error, ppm")
    axis.set_title(f"Error over {len(result.forecasts)} forecasts", loc="left")
    axis.legend(loc="best", frameon=False, fontsize="small")
