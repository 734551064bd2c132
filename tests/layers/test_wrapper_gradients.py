"""Gradients of RNN, cells, Bidirectional and TimeDistributed against central differences."""

import numpy as np
import pytest
from support.cells import ConstantCell, PlainCell
from support.differences import Fixed, assert_gradient, check, project, random_like

import numbalstm as nl

pytestmark = pytest.mark.filterwarnings("ignore::numbalstm.backends.interface.SlowPathWarning")
F64 = {"dtype": "float64"}


def sample(rng, *shape):
    return rng.standard_normal(shape)


def states(rng, batch, *units):
    """Random [h, c] for each cell."""
    return [[sample(rng, batch, u), sample(rng, batch, u)] for u in units]


def holes(rng, batch, time):
    """A mask with holes; row 0 starts masked, row 1 is masked everywhere."""
    mask = rng.random((batch, time)) < 0.6
    mask[0, 0] = False
    mask[1] = False
    return mask


# RNN


@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("cells", ["lstm", "own"])
def test_rnn_of_a_stack(cells, masked, return_sequences, go_backwards, rng):
    first = nl.LSTMCell(4, activation="softsign", **F64)
    layer = nl.RNN(
        [first, nl.LSTMCell(2, use_bias=False, **F64) if cells == "lstm" else PlainCell(**F64)],
        return_sequences=return_sequences,
        return_state=True,
        go_backwards=go_backwards,
    )
    x = sample(rng, 3, 5, 2)
    start = states(rng, 3, 4, 2) if cells == "lstm" else [states(rng, 3, 4)[0], [sample(rng, 3, 3)]]
    options = {"mask": holes(rng, 3, 5)} if masked else {}
    check(layer, rng, x, initial_state=start, states=start, **options)


@pytest.mark.parametrize("cell", [nl.LSTMCell(3, **F64), PlainCell(**F64)])
def test_steps_that_output_zeros_and_time_first(cell, rng):
    mask = holes(rng, 3, 5)
    layer = nl.RNN(cell, return_sequences=True, zero_output_for_mask=True, time_major=True)
    x = sample(rng, 5, 3, 2)
    found = check(layer, rng, x, mask=mask.T)
    assert not found.inputs[~mask.T].any()
    if isinstance(cell, PlainCell):
        assert [array.shape for array in found.initial_state] == [(3, 3)]


@pytest.mark.parametrize("cell", [nl.LSTMCell(3, **F64), PlainCell(**F64)])
def test_what_lies_under_the_mask_does_not_matter(cell, rng):
    layer = nl.RNN(cell, return_sequences=True)
    x, mask = sample(rng, 3, 5, 2), holes(rng, 3, 5)
    g = sample(rng, 3, 5, 3)
    expected = layer.vjp(np.where(mask[..., None], x, 0.0), mask=mask)[1](g)
    x[~mask] = np.nan
    found = layer.vjp(x, mask=mask)[1](g)
    np.testing.assert_array_equal(found.inputs, expected.inputs)
    for gradient, other in zip(found.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(gradient, other)


@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("cells", ["lstm", "own"])
def test_sequences_of_different_lengths(cells, return_sequences, rng):
    cell = [nl.LSTMCell(3, **F64)] * 1 if cells == "lstm" else PlainCell(**F64)
    layer = nl.RNN(cell, return_sequences=return_sequences)
    x = [sample(rng, length, 2) for length in (3, 1, 0, 4)]
    start = states(rng, 4, 3) if cells == "lstm" else [sample(rng, 4, 3)]
    check(layer, rng, x, initial_state=start, states=start)
    if return_sequences:
        _, pullback = layer.vjp(x)
        g = sample(rng, 4, 3)
        found = pullback([None, None, None, g])
        assert not any(dx.any() for dx in found.inputs[:3])
        assert found.inputs[3].any()


@pytest.mark.parametrize("masked", [False, True])
def test_constants(masked, rng):
    layer = nl.RNN(ConstantCell(), return_sequences=True, return_state=True, **F64)
    x, k = sample(rng, 3, 4, 2), [sample(rng, 3, 5)]
    start = states(rng, 3, 2)[0]
    options = {"mask": holes(rng, 3, 4)} if masked else {}
    check(Fixed(layer, constants=k), rng, x, initial_state=start, states=start, constants=k, **options)


def test_a_cell_without_a_derivative(rng):
    class Bare:
        state_size = 2

        def call(self, x, states):
            return x + states[0], [x + states[0]]

    class Changed(nl.LSTMCell):
        def call(self, inputs, states, training=None):
            output, states = super().call(inputs, states, training)
            return 2.0 * output, states

    with pytest.raises(NotImplementedError, match=r"Bare: a cell needs a method vjp\(x_t, states, ...\)"):
        nl.RNN(Bare()).vjp(sample(rng, 2, 3, 2))
    with pytest.raises(NotImplementedError, match="Changed: has no gradient: its class defines call"):
        nl.RNN(Changed(2)).vjp(sample(rng, 2, 3, 2))


@pytest.mark.parametrize("stacked", [False, True])
def test_dropout_factors_stay_for_the_way_back(stacked, rng):
    cells = [nl.LSTMCell(3, dropout=0.3, recurrent_dropout=0.4, **F64), nl.LSTMCell(2, dropout=0.5, **F64)]
    layer = nl.RNN(cells if stacked else cells[0], return_sequences=True)
    pairs = [(rng.integers(0, 2, (4, 2, 4)) * 1.5, rng.integers(0, 2, (4, 2, 3)) * 2.0)]
    pairs += [(rng.integers(0, 2, (2, 3)) * 2.0, None)] if stacked else []
    check(layer, rng, sample(rng, 2, 5, 4), training=True, dropout_masks=pairs if stacked else pairs[0])


def test_drawn_factors_are_those_of_the_forward_pass(rng):
    """The gradient is that of the call itself: the same as with the factors injected that the seed gives."""
    make = lambda: nl.RNN(nl.LSTMCell(3, dropout=0.5, seed=4, **F64), weights=weights)  # noqa: E731
    weights = [sample(rng, 2, 12), sample(rng, 3, 12), sample(rng, 12)]
    x, g = sample(rng, 4, 5, 2), sample(rng, 4, 3)
    y, pullback = make().vjp(x, training=True)
    np.testing.assert_allclose(y, make()(x, training=True), rtol=1e-12)
    factors = nl.LSTMCell(3, dropout=0.5, seed=4, **F64).draw_input_factors(4, 2)
    expected = make().vjp(x, training=True, dropout_masks=(factors, None))[1](g)
    np.testing.assert_array_equal(pullback(g).inputs, expected.inputs)
    assert (expected.inputs == 0).any()


def test_stored_states_are_constants(rng):
    layer = nl.RNN(nl.LSTMCell(3, **F64), stateful=True, return_sequences=True, batch_input_shape=(2, 4, 5))
    x = sample(rng, 2, 4, 5)
    layer(x)
    before = layer.states
    y, pullback = layer.vjp(x)
    assert not np.array_equal(layer.states[0], before[0])  # the call moved on
    g = sample(rng, *y.shape)
    plain = nl.RNN(nl.LSTMCell(3, **F64), return_sequences=True, weights=layer.get_weights())
    expected = plain.vjp(x, initial_state=before)[1](g)
    found = pullback(g)
    np.testing.assert_array_equal(found.inputs, expected.inputs)
    np.testing.assert_array_equal(found.weights[0], expected.weights[0])


@pytest.mark.parametrize("cells", ["lstm", "own"])
def test_a_learned_start(cells, rng):
    first = nl.LSTMCell(2, learn_initial_state=True, **F64)
    layer = nl.RNN([first, PlainCell(**F64)] if cells == "own" else first)
    x = sample(rng, 3, 4, 2)
    layer.build(x.shape)
    layer.set_weights([sample(rng, *weight.shape) for weight in layer.weights])
    check(layer, rng, x)
    check(layer, rng, [sample(rng, 2, 2), sample(rng, 3, 2)])
    given = layer.vjp(x, initial_state=layer.zero_gradients(3))[1](np.ones((3, layer.output_size)))
    assert not any(given.weights[name].any() for name in given.weights.names if "initial" in name)


# Cells


def test_lstm_cell(rng):
    cell = nl.LSTMCell(3, **F64)
    x, start = sample(rng, 2, 4), states(rng, 2, 3)[0]
    check(cell, rng, x, start, states=start)
    outputs, pullback = cell.vjp(x, start)
    g = random_like(rng, outputs)
    np.testing.assert_array_equal(pullback(g[0]).inputs, pullback(None, [g[0], None]).inputs)


def test_a_cell_in_a_graph(rng):
    x, h, c = nl.Input((4,), dtype="float64"), nl.Input((3,), dtype="float64"), nl.Input((3,), dtype="float64")
    cell = nl.LSTMCell(3, **F64)
    once, state = cell(x, [h, c])
    twice, _ = cell(x, state)
    model = nl.Model([x, h, c], [twice, once])
    check(model, rng, [sample(rng, 2, 4), sample(rng, 2, 3), sample(rng, 2, 3)])


# Bidirectional


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_bidirectional(merge_mode, return_sequences, rng):
    inner = nl.LSTM(3, return_sequences=return_sequences, return_state=True, **F64)
    start = [*states(rng, 3, 3)[0], *states(rng, 3, 3)[0]]
    layer = nl.Bidirectional(inner, merge_mode=merge_mode)
    mask = holes(rng, 3, 5)
    check(layer, rng, sample(rng, 3, 5, 2), mask=mask, initial_state=start, states=start)


@pytest.mark.parametrize("merge_mode", ["concat", "mul", None])
def test_bidirectional_over_lists_and_time_first(merge_mode, rng):
    ragged = nl.Bidirectional(nl.LSTM(2, return_sequences=True, **F64), merge_mode=merge_mode)
    check(ragged, rng, [sample(rng, length, 3) for length in (4, 1, 2)])
    time_major = nl.Bidirectional(nl.LSTM(2, return_sequences=True, time_major=True, **F64), merge_mode=merge_mode)
    check(time_major, rng, sample(rng, 4, 2, 3))


def test_bidirectional_with_layers_of_its_own(rng):
    backward = nl.RNN([nl.LSTMCell(2, **F64), nl.LSTMCell(4, **F64)], go_backwards=True, return_sequences=True)
    layer = nl.Bidirectional(nl.LSTM(3, return_sequences=True, **F64), backward_layer=backward)
    found = check(layer, rng, sample(rng, 2, 4, 3))
    assert [np.shape(leaf) for leaf in found.initial_state[:2]] == [(2, 3), (2, 3)]
    assert [leaf.shape for pair in found.initial_state[2:] for leaf in pair] == [(2, 2), (2, 2), (2, 4), (2, 4)]


def test_one_direction_alone(rng):
    layer = nl.Bidirectional(nl.LSTM(3, return_state=True, **F64), merge_mode=None)
    _, pullback = layer.vjp(sample(rng, 2, 4, 3))
    found = pullback(sample(rng, 2, 3))
    assert all(not found.weights[index].any() for index in (3, 4, 5))
    assert [array.shape for array in found.initial_state] == [(2, 3)] * 4
    assert not found.initial_state[2].any()


@pytest.mark.parametrize("wrapper", ["lstm", "rnn", "bidirectional"])
def test_states_among_the_inputs(wrapper, rng):
    inner = nl.RNN(nl.LSTMCell(3, **F64), generation="keras2") if wrapper == "rnn" else None
    inner = inner or nl.LSTM(3, generation="keras2", **F64)
    layer = nl.Bidirectional(inner) if wrapper == "bidirectional" else inner
    count = 2 if wrapper == "bidirectional" else 1
    start = [state for _ in range(count) for state in states(rng, 2, 3)[0]]
    check(layer, rng, [sample(rng, 2, 4, 5), *start])


def test_constants_reach_both_directions(rng):
    layer = nl.Bidirectional(nl.RNN(ConstantCell(), return_sequences=True, **F64), merge_mode="sum")
    x, k = sample(rng, 3, 4, 2), [sample(rng, 3, 5)]
    start = [state for _ in range(2) for state in states(rng, 3, 2)[0]]
    y, pullback = layer.vjp(x, constants=k, initial_state=start)
    g = sample(rng, *y.shape)
    found = pullback(g)
    assert_gradient(found.constants[0], lambda: project(layer(x, constants=k, initial_state=start), g), k[0])


# TimeDistributed


def test_time_distributed_in_training(rng):
    layer = nl.TimeDistributed(nl.BatchNormalization(**F64))
    check(layer, rng, sample(rng, 3, 4, 2), training=True)


def test_time_distributed_sequences(rng):
    layer = nl.TimeDistributed(nl.LSTM(2, return_state=True, **F64))
    mask = rng.random((2, 3, 4)) < 0.7
    check(layer, rng, sample(rng, 2, 3, 4, 2), mask=mask)


def test_time_distributed_integers(rng):
    layer = nl.TimeDistributed(nl.Embedding(5, 2, **F64))
    ids = rng.integers(0, 5, (2, 3, 4))
    for training in (False, True):
        check(layer, rng, ids, training=training)
