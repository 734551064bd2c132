"""Small models to train."""

import numpy as np
import pytest

import numbalstm as nl
from numbalstm.layers.symbolic import leaves
from numbalstm.models.snapshot import passing_state


@pytest.fixture
def data(rng):
    """Sequences and which of three features is largest on average."""
    x = rng.normal(size=(45, 7, 3)).astype("float32")
    return x, x.mean(axis=1).argmax(axis=1)


@pytest.fixture
def make(rng):
    """Make the same model again and again: same weights, same seeds."""
    values = [rng.normal(size=shape) * 0.5 for shape in ((3, 16), (4, 16), (16,), (4, 3), (3,))]

    def build(optimizer="adam", dropout=0.25, metrics=("accuracy",), **options):
        model = nl.Sequential(
            [
                nl.Input((None, 3)),
                nl.LSTM(4, dropout=dropout, recurrent_dropout=dropout, seed=5, **options),
                nl.Dropout(dropout, seed=6),
                nl.Dense(3, activation="softmax"),
            ]
        )
        model.set_weights(values)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=list(metrics))
        return model

    return build


@pytest.fixture
def same_training():
    """Compare two trainings to the bit: weights, optimizer, random numbers, logs."""

    def assert_same(first, second):
        for one, other in zip(first.weights, second.weights, strict=True):
            assert one.value.tobytes() == other.value.tobytes(), one.name
        states = first.optimizer.state(), second.optimizer.state()
        assert states[0].keys() == states[1].keys()
        assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
        one, other = passing_state(first), passing_state(second)
        assert one["random"] == other["random"]
        assert all(map(np.array_equal, leaves(one["states"]), leaves(other["states"])))
        assert first.history.history == second.history.history
        assert first.history.epoch == second.history.epoch

    return assert_same
