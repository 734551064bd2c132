"""Figures of gates and states: every value at its place, saturation where it is."""

import sys

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
    drawn = list(meshes(plot.gates(trace, sample=None)).values())[3]
    found = np.reshape(drawn.get_array(), (5, 7))
    np.testing.assert_allclose(found[:, 3], trace.g[1:, 3].mean(axis=0))
    np.testing.assert_allclose(found[:, 2], trace.g[:, 2].mean(axis=0))


def test_nothing_but_masked_steps(trace, tmp_path):
    hidden = Trace(*(np.full_like(part, np.nan) for part in trace[:4]), *trace[4:])
    plot.gates(hidden).savefig(tmp_path / "a.png")


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
        ({"sample": 3}, IndexError, "sample must be one of the 3 sequences in the trace, got 3"),
        ({"sample": 1.0}, TypeError, "sample must be an integer"),
        ({"times": np.arange(6)}, ValueError, r"times must have shape \(7,\), one entry for each step, got \(6,\)"),
    ],
)
def test_mistakes(trace, arguments, error, message):
    with pytest.raises(error, match=message):
        plot.gates(trace, **arguments)


def test_empty_trace():
    with pytest.raises(ValueError, match="the trace is empty"):
        plot.states(Trace(*(np.empty((0, 4, 2)) for _ in range(6))))
