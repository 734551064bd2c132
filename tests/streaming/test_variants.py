"""Streams of the LSTM's variants: the compiled step gives the bits of the compiled sequence."""

import tracemalloc

import numpy as np
import pytest
from support.variants import CHOICES as PASSES
from support.variants import pairwise

import numbalstm as nl
from numbalstm.activations import onnx
from numbalstm.backends import stream as backend
from numbalstm.streaming.stages import LSTMStage, SequenceStage

STEPS = 6
CHOICES = {
    "peephole": (False, True),
    "proj_size": (0, 5, 19),
    "input_forget": (False, True),
    "clip": (None, 0.9),
    "cell_clip": (None, 0.5),
    "zoneout": ((0.0, 0.0), (0.2, 0.0), (0.3, 0.1)),
    "gate_activations": (None, (onnx("HardSigmoid", 0.3, 0.4), onnx("ScaledTanh", 1.5, 0.7), onnx("Elu", 0.5))),
    "dtype": ("float64", "float32"),
    "batch": (1, 3),
    "threads": (1, 2),
}
CASES = pairwise(CHOICES, lambda case: True)


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    """Threads share whatever there is to share."""
    monkeypatch.setattr(backend, "WORTH_SHARING", 0)
    monkeypatch.setattr(backend, "WORTH_WAKING", 0)


def made(rng, units=17, features=7, **options):
    """A layer with weights large enough for clips to clip."""
    layer = nl.LSTM(units, input_shape=(None, features), return_sequences=True, **options)
    layer.set_weights([rng.normal(0.1, 0.5, weight.shape) for weight in layer.weights])
    return layer


def assert_same_bits(got, expected):
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    assert got.tobytes() == expected.tobytes()


def stepped(stream, x):
    return np.stack([stream.step(x[:, t]).copy() for t in range(x.shape[1])], axis=1)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_steps_have_the_bits_of_a_call(rng, case):
    options = dict(case)
    batch, threads = options.pop("batch"), options.pop("threads")
    if options["proj_size"]:
        options["projection_clip"] = 0.3
    layer = made(rng, return_state=True, **options)
    x = rng.normal(size=(batch, STEPS, 7)).astype(layer.policy.compute)
    expected, h, c = layer(x)
    stream = layer.stream(batch, threads=threads)
    assert type(stream.stages[0]) is LSTMStage
    assert_same_bits(stepped(stream, x), expected)
    for got, state in zip(stream.states[0], (h, c), strict=True):
        assert_same_bits(got, state)
    stream.reset()
    assert_same_bits(np.concatenate([stream.run(x[:, :2]), stepped(stream, x[:, 2:])], axis=1), expected)


@pytest.mark.parametrize("units", [1, 16, 40])
def test_other_widths(rng, units):
    layer = made(rng, units=units, peephole=True, proj_size=3, zoneout=(0.2, 0.1))
    x = rng.normal(size=(2, STEPS, 7)).astype("f")
    assert_same_bits(stepped(layer.stream(2), x), layer(x))


def test_layers_of_several_kinds_follow_each_other(rng):
    options = [{"proj_size": 3}, {"peephole": True}, {}, {"zoneout": (0.1, 0.2)}, {"gate_activations": ["relu"] * 5}]
    model = nl.Sequential([nl.Input((None, 7))])
    for each in options:
        model.add(nl.LSTM(9, return_sequences=True, **each))
    model.set_weights([rng.normal(0.1, 0.4, weight.shape) for weight in model.weights])
    x = rng.normal(size=(2, STEPS, 7)).astype("f")
    stream = model.stream(2)
    assert len(stream.stages) == 3  # zoneout and relu have the kernels of the first two, the plain layer has its own
    assert_same_bits(stepped(stream, x), model.predict(x))


def test_an_rnn_of_cells(rng):
    rnn = nl.RNN([nl.LSTMCell(8, peephole=True), nl.LSTMCell(5, proj_size=2, cell_clip=0.3)], return_sequences=True)
    x = rng.normal(size=(2, STEPS, 7)).astype("f")
    expected = rnn(x)
    assert_same_bits(stepped(rnn.stream(2), x), expected)


def test_a_stack(rng):
    stack = nl.StackedLSTM([8, 5], proj_size=3, zoneout=(0.1, 0.2), return_sequences=True)
    x = rng.normal(size=(2, STEPS, 7)).astype("f")
    expected = stack(x)
    stream = stack.stream(2)
    assert len(stream.stages) == 1
    assert_same_bits(stepped(stream, x), expected)


def test_a_pool_advances_some_of_its_streams(rng):
    layer = made(rng, peephole=True, proj_size=5, zoneout=(0.2, 0.1), projection_clip=0.3)
    x = rng.normal(size=(3, STEPS, 7)).astype("f")
    expected = layer(x)
    pool = nl.StreamPool(layer, 4)
    ids = [pool.join() for _ in range(3)]
    done = [0, 0, 0]
    for turn in ([0, 2], [1], [2, 1, 0], [0], [1, 2], [0, 1, 2], [0, 1]):
        found = pool.step([ids[row] for row in turn], np.stack([x[row, done[row]] for row in turn]))
        for row, y in zip(turn, found, strict=True):
            assert_same_bits(y, expected[row, done[row]])
            done[row] += 1
    one = layer.stream()
    one.restore(pool.snapshot(ids[1]))
    assert_same_bits(one.step(x[1, done[1]])[0], expected[1, done[1]])


@pytest.mark.parametrize("options", [{}, {"zoneout": (0.2, 0.1)}, {"proj_size": 5}], ids=str)
def test_narrow_weights(rng, options):
    layer = made(rng, weights_dtype="bfloat16", **options)
    x = rng.normal(size=(2, STEPS, 7)).astype("f")
    assert_same_bits(stepped(layer.stream(2), x), layer(x))


def test_new_weights_act_from_the_next_step(rng):
    layer = made(rng, peephole=True, proj_size=5)
    x = rng.normal(size=(2, 2, 7)).astype("f")
    stream = layer.stream(2)
    stream.step(x[:, 0])
    states = stream.states[0]
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    assert_same_bits(stream.step(x[:, 1])[:, None], layer(x[:, 1:], initial_state=states))


@pytest.mark.parametrize("rows", [2, 1])
def test_layer_normalisation_is_a_sequence_of_one_step(rng, rows, recwarn):
    layer = made(rng, layer_norm=True, peephole=True, dtype="float64")
    x = rng.normal(size=(2, STEPS, 7))
    expected = layer(x)
    stream = layer.stream(2)
    assert type(stream.stages[0]) is SequenceStage
    np.testing.assert_allclose(stepped(stream, x), expected, rtol=0, atol=1e-12)
    pool = nl.StreamPool(layer, 2)
    ids = [pool.join() for _ in range(2)]
    for t in range(STEPS):
        for first in range(0, 2, rows):
            got = pool.step(ids[first : first + rows], x[first : first + rows, t])
            np.testing.assert_allclose(got, expected[first : first + rows, t], rtol=0, atol=1e-12)


def test_steps_allocate_nothing_for_variants(rng):
    layer = made(rng, units=64, peephole=True, proj_size=32, zoneout=(0.1, 0.1))
    stream, x = layer.stream(), np.zeros((1, 7), "f")
    for _ in range(3):
        stream.step(x)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(50):
            stream.step(x)
        assert tracemalloc.get_traced_memory()[0] - before < 2048
    finally:
        tracemalloc.stop()


def test_every_option_of_a_pass_is_among_the_cases():
    """What a cell can do at inference, so that a new variant is not forgotten here."""
    ours = {"peephole", "projection", "coupled", "gate_clip", "cell_clip", "projection_clip", "zoneout", "activations"}
    assert ours | {"norm"} <= PASSES.keys()
