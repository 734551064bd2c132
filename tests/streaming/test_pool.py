"""Streams of a pool have the bits that each would have alone, whoever joins and leaves beside them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numbalstm as nl
from numbalstm.backends import stream as backend
from numbalstm.backends.interface import SlowPathWarning

FEATURES = 3


def slow_tanh(x):
    return np.tanh(x)


def randomize(source, seed=0):
    rng = np.random.default_rng(seed)
    source.set_weights([rng.uniform(-0.5, 0.6, weight.shape) ** 2 for weight in source.weights])
    return source


def sequential(*layers):
    return randomize(nl.Sequential([nl.Input((None, FEATURES)), *layers]))


SOURCES = {
    "layer": randomize(nl.LSTM(17, input_shape=(None, FEATURES))),
    "float64": randomize(nl.LSTM(9, input_shape=(None, FEATURES), dtype="float64", activation="relu")),
    "float16": randomize(nl.LSTM(5, input_shape=(None, FEATURES), dtype="float16")),
    "cells": randomize(nl.RNN([nl.LSTMCell(4), nl.LSTMCell(7)], input_shape=(None, FEATURES))),
    "model": sequential(
        nl.Dense(6, "relu"), nl.LSTM(18, return_sequences=True), nl.LSTM(5, return_sequences=True),
        nl.LayerNormalization(), nl.LSTM(4), nl.BatchNormalization(), nl.Dense(33, "softmax"),
    ),
}  # fmt: skip


class Alone:
    """Every stream by itself, with the interface of the pool."""

    def __init__(self, source):
        self.source, self.streams, self.kept, self.count = source, {}, {}, 0

    def join(self):
        self.streams[self.count] = self.source.stream()
        self.count += 1
        return self.count - 1

    def step(self, ids, x):
        return np.concatenate([self.streams[i].step(row[None]) for i, row in zip(ids, x, strict=True)])


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["join", "join", "leave", "reset", "snapshot", "restore", *["step"] * 6]),
        st.integers(0, 10**6),
        st.sets(st.integers(0, 6)),
    ),
    min_size=12,
    max_size=40,
)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(sorted(SOURCES)), ACTIONS, st.integers(0, 10**6), st.booleans())
def test_churn(name, actions, seed, threads):
    source, capacity, rng = SOURCES[name], 5, np.random.default_rng(seed)
    before, backend.WORTH_SHARING = backend.WORTH_SHARING, 0 if threads else backend.WORTH_SHARING
    try:
        pool, alone = nl.StreamPool(source, capacity, threads=2), Alone(source)
        kept = None
        for action, number, chosen in actions:
            there = list(alone.streams)
            some = there[number % len(there)] if there else None
            if action == "join" and len(there) < capacity:
                assert pool.join() == alone.join()
            elif some is None:
                continue
            elif action == "leave":
                pool.leave(some)
                del alone.streams[some]
            elif action == "reset":
                pool.reset(some)
                alone.streams[some].reset()
            elif action == "snapshot":
                kept = pool.snapshot(some), alone.streams[some].snapshot()
            elif action == "restore" and kept is not None:
                pool.restore(some, kept[number % 2])
                alone.streams[some].restore(kept[1 - number % 2])
            elif action == "step":
                ids = [there[i] for i in sorted(chosen, reverse=bool(number % 2)) if i < len(there)]
                x = rng.normal(size=(len(ids), FEATURES)).astype("f")
                got = pool.step(ids, x) if number % 3 else pool.step(dict(zip(ids, x, strict=True)))
                if ids:
                    expected = alone.step(ids, x)
                    assert got.dtype == expected.dtype
                    assert got.tobytes() == expected.tobytes()
            assert pool.ids == list(alone.streams)
    finally:
        backend.WORTH_SHARING = before


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["layer", "model"])
def test_hundreds_of_streams_are_those_of_a_call(rng, monkeypatch, name, threads):
    monkeypatch.setattr(backend, "WORTH_SHARING", 0)
    source, count, steps = SOURCES[name], 333, 5
    x = rng.normal(size=(count, steps, FEATURES)).astype("f")
    pool = nl.StreamPool(source, count, threads=threads)
    order = rng.permutation([pool.join() for _ in range(count)])
    for t in range(steps):
        y = pool.step(order, x[order, t])
    assert y.tobytes() == source(x)[order].tobytes()
    y = pool.step(order[:7], x[:7, 0])
    assert y.shape == (7, source(x[:1]).shape[-1])


def test_activation_without_a_kernel(rng):
    layer = randomize(nl.LSTM(19, activation=slow_tanh, input_shape=(None, FEATURES)))
    with pytest.warns(SlowPathWarning, match="slow_tanh"):
        pool, stream = nl.StreamPool(layer, 4), layer.stream()
    ids = [pool.join() for _ in range(3)]
    x = rng.normal(size=(4, 3, FEATURES)).astype("f")
    for x_t in x:
        assert pool.step(ids, x_t)[2:].tobytes() == stream.step(x_t[2:]).tobytes()


def test_tokens(rng):
    model = nl.Sequential([nl.Input((None,), dtype="int64"), nl.Embedding(9, 4), nl.LSTM(6), nl.Dense(2)])
    pool, stream = nl.StreamPool(model, 4), model.stream()
    ids = [pool.join(), pool.join()]
    for token in (3, 8, 1):
        assert pool.step({ids[1]: token, ids[0]: 2})[:1].tobytes() == stream.step(token).tobytes()
    assert pool.step([], []).shape == (0, 2)
    assert pool.step({}).dtype == np.float32


def test_a_free_place_is_clean(rng):
    pool, stream = nl.StreamPool(SOURCES["model"], 1), SOURCES["model"].stream()
    x = rng.normal(size=(1, FEATURES)).astype("f")
    first = pool.join()
    for _ in range(3):
        pool.step([first], x)
    pool.leave(first)
    assert pool.step([pool.join()], x).tobytes() == stream.step(x).tobytes()


def test_results_are_new_arrays(rng):
    pool = nl.StreamPool(SOURCES["layer"], 2)
    ids = [pool.join(), pool.join()]
    first = pool.step(ids, np.ones((2, FEATURES), "f"))
    before = first.copy()
    pool.step(ids, np.ones((2, FEATURES), "f"))
    np.testing.assert_array_equal(first, before)


def test_new_weights_act_from_the_next_step(rng):
    layer = randomize(nl.LSTM(6, input_shape=(None, FEATURES)))
    pool, stream = nl.StreamPool(layer, 3), layer.stream()
    ids = [pool.join(), pool.join()]
    x = rng.normal(size=(3, FEATURES)).astype("f")
    for rows in (2, 1):
        for seed, x_t in enumerate(x):
            randomize(layer, seed)
            y = pool.step(ids[2 - rows :], np.repeat(x_t[None], rows, axis=0))
            if rows == 2:
                assert y[1:].tobytes() == stream.step(x_t).tobytes()


def test_what_a_pool_says_of_itself():
    pool = nl.StreamPool(SOURCES["layer"], 3)
    ids = [pool.join() for _ in range(3)]
    with pytest.raises(RuntimeError, match="is full: all 3 streams are taken"):
        pool.join()
    pool.leave(ids[1])
    last = pool.join()
    assert last not in ids
    assert pool.ids == [ids[0], ids[2], last]
    assert len(pool) == 3
    assert last in pool
    assert ids[1] not in pool


def test_wrong_arguments():
    pool = nl.StreamPool(SOURCES["layer"], 3)
    a, b = pool.join(), pool.join()
    x = np.ones((2, FEATURES), "f")
    snapshot = pool.snapshot(a)
    refused = {
        "has no stream 99": lambda: pool.step([a, 99], x),
        "has no stream 98": lambda: pool.leave(98),
        "has no stream 97": lambda: pool.reset(97),
        "has no stream 96": lambda: pool.snapshot(96),
        "has no stream 95": lambda: pool.restore(95, snapshot),
        "has no stream an object of type list": lambda: pool.step([a, [b]], x),
        "stream 1 comes twice": lambda: pool.step([b, b], x),
        r"x must have shape \(2, 3\), got \(1, 3\)": lambda: pool.step([a, b], x[:1]),
        r"x must have shape \(1, 3\), got \(3,\)": lambda: pool.step([a], x[0]),
        r"the input of stream 1 must have shape \(3,\), got \(2,\)": lambda: pool.step({a: x[0], b: x[0, :2]}),
        "capacity must be at least 1": lambda: nl.StreamPool(SOURCES["layer"], 0),
        "needs all steps": lambda: nl.StreamPool(
            sequential(nl.LSTM(3, return_sequences=True), nl.GlobalMaxPooling1D()), 1
        ),
    }
    other = nl.StreamPool(SOURCES["model"], 1)
    refused["another kind"] = lambda: pool.restore(a, other.snapshot(other.join()))
    for message, call in refused.items():
        with pytest.raises(ValueError, match=message):
            call()
    for message, call in {
        "needs the inputs x": lambda: pool.step([a]),
        "x must be left out": lambda: pool.step({a: x[0]}, x),
        "ids must be a list": lambda: pool.step(a, x),
        "real numbers": lambda: pool.step([a, b], x.astype(complex)),
        "needs a snapshot": lambda: pool.restore(a, None),
        "needs a layer that runs over time": lambda: nl.StreamPool(nl.Dense(2), 1),
    }.items():
        with pytest.raises(TypeError, match=message):
            call()
    fresh = nl.StreamPool(SOURCES["layer"], 1)
    assert pool.step([b], x[:1]).tobytes() == fresh.step([fresh.join()], x[:1]).tobytes()
