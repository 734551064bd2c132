"""Figures of trainings: every value at its epoch."""

import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

import numbalstm as nl
from numbalstm.callbacks import History


@pytest.fixture
def history(rng):
    history = History()
    for epoch in range(6):
        logs = {"loss": rng.random(), "accuracy": rng.random(), "learning_rate": 0.1**epoch}
        if epoch % 2:
            logs |= {"val_loss": rng.random(), "val_accuracy": rng.random()}
        history.on_epoch_end(epoch, logs)
    return history


def test_every_value_is_drawn_at_its_epoch(history, tmp_path):
    figure = history.plot()
    loss, accuracy, rate = figure.axes
    for axis, name in ((loss, "loss"), (accuracy, "accuracy")):
        assert axis.get_title(loc="left") == name
        trained, validated = axis.lines[:2]
        np.testing.assert_array_equal(trained.get_xdata(), np.arange(1, 7))
        np.testing.assert_array_equal(trained.get_ydata(), history.history[name])
        np.testing.assert_array_equal(validated.get_xdata(), [2, 4, 6])
        np.testing.assert_array_equal(validated.get_ydata(), history.history[f"val_{name}"])
    best = int(np.argmin(history.history["val_loss"]))
    assert loss.lines[2].get_xdata()[0] == [2, 4, 6][best]
    assert loss.get_legend().get_texts()[2].get_text() == f"best: epoch {[2, 4, 6][best]}"
    assert len(accuracy.lines) == 2
    assert rate.get_yscale() == "log"
    figure.savefig(tmp_path / "a.png")
    assert "matplotlib.pyplot" not in sys.modules


def test_into_a_given_figure_from_a_dict(history):
    figure = Figure()
    assert nl.plot.history(history.history, figure=figure) is figure
    assert len(figure.axes) == 3


def test_one_epoch_without_validation(tmp_path):
    figure = nl.plot.history({"loss": [0.5]})
    assert len(figure.axes) == 1
    assert figure.axes[0].get_legend() is None
    figure.savefig(tmp_path / "a.png")


def test_many_metrics_stand_in_rows():
    figure = nl.plot.history({name: [1.0, 2.0] for name in ("loss", "a", "b", "c", "d")})
    assert len(figure.axes) == 5
    assert len({axis.get_position().y0 for axis in figure.axes}) == 2


@pytest.mark.parametrize(
    ("given", "error", "message"), [({}, ValueError, "no epoch"), ([1], TypeError, "what fit returned")]
)
def test_mistakes(given, error, message):
    with pytest.raises(error, match=message):
        nl.plot.history(given)
