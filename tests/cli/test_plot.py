"""Figures of gates and states: every value at its place, saturation where it is."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from numbalstm import plot
from numbalstm.backends.interface import Trace


@pytest.fixture
def trace(rng):
    gate = lambda: rng.uniform(0.2, 0.8, (3, 7, 5))  # noqa: E731
    return Trace(gate(), gate(), gate() - 0.5, gate(), gate() * 6 - 3, gate() - 0.5)


def meshes(figure):
    return {axis.get_title(loc="left"): axis.collections[0] for axis in figure.axes if axis.get_title(loc="left")}


def test_gates_draws_every_value(trace):
    drawn = meshes(plot.gates(trace, sample=1))
    assert [title.split(":")[0] for title in drawn] == ["Input gate i", "Forget gate f", "Output gate o", "Candidate g"]
    for mesh, values in zip(drawn.values(), (trace.i, trace.f, trace.o, trace.g), strict=True):
        np.testing.assert_array_equal(np.reshape(mesh.get_array(), (5, 7)), values[1].T)


def test_saturation_is_counted_and_coloured(trace):
    trace.i[0, 2, 1] = 0.05
    trace.i[0, 3:5, 1] = 0.99
    title, mesh = next(iter(meshes(plot.gates(trace)).items()))
    assert title == f"Input gate i: {100 / 35:.0f} % shut, {200 / 35:.0f} % open"
    mesh.update_scalarmappable()
    colours = mesh.to_rgba(np.reshape(mesh.get_array(), (5, 7)))
    assert (colours[1, 2] == mesh.cmap(-1.0)).all()
    assert (colours[1, 3] == colours[1, 4]).all()
    assert (colours[1, 3] == mesh.cmap(2.0)).all()
    assert len({tuple(c) for c in (colours[1, 2], colours[1, 3], colours[0, 0])}) == 3


def test_other_activations_have_their_own_range(trace):
    trace.f[0, 0, 0] = 7.5  # softplus, say
    title = list(meshes(plot.gates(trace)))[1]
    assert title == "Forget gate f"
    mesh = meshes(plot.gates(trace))[title]
    assert mesh.get_clim() == (trace.f[0].min(), 7.5)


def test_mean_leaves_masked_steps_out(trace):
    trace.g[0, 3] = np.nan
    drawn = list(meshes(plot.gates(trace, "mean")).values())[3]
    found = np.reshape(drawn.get_array(), (5, 7))
    np.testing.assert_allclose(found[:, 3], trace.g[1:, 3].mean(axis=0))
    np.testing.assert_allclose(found[:, 2], trace.g[:, 2].mean(axis=0))


def test_saturation_of_a_mean_counts_every_sample(trace):
    trace.o[0, :4] = 0.99
    trace.o[1, :4] = 0.01
    assert list(meshes(plot.gates(trace, "mean")))[2] == "Output gate o: 19 % shut, 19 % open"


def test_units_are_drawn_in_the_order_asked_for(trace):
    figure = plot.gates(trace, sample=2, units=[3, 0, -1])
    mesh = next(iter(meshes(figure).values()))
    np.testing.assert_array_equal(np.reshape(mesh.get_array(), (3, 7)), trace.i[2].T[[3, 0, 4]])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["3", "0", "4"]


def test_many_units_have_few_numbers(rng):
    big = Trace(*(rng.uniform(0.2, 0.8, (1, 3, 100)) for _ in range(6)))
    labels = [label.get_text() for label in plot.states(big).axes[0].get_yticklabels()]
    assert labels == [str(number) for number in range(0, 100, 9)]


def test_projected_outputs_have_rows_of_their_own(trace, rng):
    projected = trace._replace(h=rng.uniform(-0.8, 0.8, (3, 7, 2)))
    figure = plot.states(projected, units=[4, 1])
    c, h = meshes(figure).values()
    np.testing.assert_array_equal(np.reshape(c.get_array(), (2, 7)), trace.c[0].T[[4, 1]])
    np.testing.assert_array_equal(np.reshape(h.get_array(), (2, 7)), projected.h[0].T)
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert (labels, figure.axes[1].get_ylabel()) == (["0", "1"], "element")
    plot.gates(projected)


def test_nothing_but_masked_steps(trace, tmp_path):
    hidden = Trace(*(np.full_like(part, np.nan) for part in trace[:4]), *trace[4:])
    for draw in (plot.gates, plot.states):
        draw(hidden).savefig(tmp_path / "a.png")


def test_states_carried_over_masked_steps_are_not_drawn(trace):
    for gate in trace[:4]:
        gate[1, 4:] = np.nan
    trace.c[1, :4], trace.c[1, 4:] = 0, 5
    for title, mesh in meshes(plot.states(trace, sample=1)).items():
        drawn = np.ma.reshape(mesh.get_array(), (5, 7))
        np.testing.assert_array_equal(np.ma.getmaskarray(drawn), np.arange(7) >= np.full((5, 1), 4))
        assert ", 0 % near 1" in title


def test_steps_are_counted_in_whole_numbers(trace):
    figure = plot.gates(Trace(*(part[:, :2] for part in trace)))
    figure.draw_without_rendering()
    assert all(tick == int(tick) for tick in figure.axes[0].get_xticks())


def test_states(trace, tmp_path):
    figure = plot.states(trace, sample=-1, times=np.datetime64("2001-01-01") + 7 * np.arange(7))
    title_c, title_h = meshes(figure)
    high = np.mean(np.tanh(trace.c[2]) > 0.9)
    assert title_c.endswith(f"{100 * high:.0f} % near 1")
    assert title_h == "Output h: 0 % near −1, 0 % near 1"
    figure.savefig(tmp_path / "a.png")


def test_one_step_and_one_unit(tmp_path):
    tiny = Trace(*(np.full((1, 1, 1), 0.5) for _ in range(6)))
    plot.gates(tiny).savefig(tmp_path / "a.png")


def test_draws_into_a_given_figure(trace):
    from matplotlib.figure import Figure

    figure = Figure()
    assert plot.gates(trace, figure=figure) is figure


def test_pyplot_stays_out(trace):
    plot.gates(trace)
    assert "matplotlib.pyplot" not in sys.modules


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sample": 3}, IndexError, "sample must be one of the 3 samples in the trace, got 3"),
        ({"sample": -4}, IndexError, "sample must be one of the 3 samples in the trace, got -4"),
        ({"sample": 1.0}, TypeError, "sample must be an integer"),
        ({"sample": "average"}, TypeError, "sample must be an integer, got 'average'"),
        ({"units": [0, 5]}, IndexError, "unit must be one of the 5 units in the trace, got 5"),
        ({"units": []}, ValueError, "units must name at least one unit"),
        ({"times": np.arange(6)}, ValueError, r"times must have shape \(7,\), one entry for each step, got \(6,\)"),
    ],
)
def test_mistakes(trace, arguments, error, message):
    with pytest.raises(error, match=message):
        plot.gates(trace, **arguments)


def test_no_trace(trace):
    with pytest.raises(TypeError, match=r"trace must be what LSTM\.trace or lstm_trace returns, got an array"):
        plot.gates(trace.i)


def test_empty_trace():
    with pytest.raises(ValueError, match="the trace is empty"):
        plot.states(Trace(*(np.empty((0, 4, 2)) for _ in range(6))))


def test_example_draws_the_pictures_of_the_documentation(tmp_path, monkeypatch):
    example = Path(__file__).parents[2] / "examples" / "look_inside.py"
    monkeypatch.setattr(sys, "argv", [str(example), str(tmp_path)])
    runpy.run_path(str(example), run_name="__main__")
    assert {path.name for path in tmp_path.iterdir()} == {"gates.png", "states.png"}
