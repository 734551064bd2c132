"""Cells, stacks of cells, and the layer that runs them over time."""

import numpy as np
import pytest
from support.cases import holes, oracle

from numbalstm.layers.base import Layer
from numbalstm.layers.cell import LSTMCell, StackedRNNCells
from numbalstm.layers.lstm import LSTM
from numbalstm.layers.rnn import RNN

pytestmark = pytest.mark.filterwarnings("ignore::numbalstm.backends.interface.SlowPathWarning")


class StepCell:
    """An LSTM cell that RNN does not know, so that it goes step by step; a plain object, no layer."""

    def __init__(self, cell):
        self.cell = cell
        self.state_size = cell.state_size

    def build(self, shape):
        self.cell.build(shape)

    def call(self, x, states, training=None):
        return self.cell.call(x, states, training=training)


class Decay:
    """h' = (h + sum of x) / 2, output -h': one state, an output that is not the state, a start that is not zero."""

    state_size = 2
    output_size = 1

    def call(self, x, states):
        assert isinstance(states, list)
        h = (states[0] + x.sum(axis=1, keepdims=True)) / 2
        return -h[:, :1], h

    def get_initial_state(self, batch_size):
        return np.full((batch_size, 2), 3.0)


def randomise(rng, layer, features=3):
    layer.build((None, None, features) if not layer.stateful else (4, None, features))
    layer.set_weights([rng.normal(0.1, 0.5, weight.shape) for weight in layer.weights])
    return layer


def cells(*units, **options):
    return [LSTMCell(count, dtype="float64", **options) for count in units]


def assert_same(found, expected, tolerance=1e-12):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def flat(returned):
    """Arrays out of nested lists and tuples."""
    if isinstance(returned, (list, tuple)):
        return [array for part in returned for array in flat(part)]
    return [returned]


# ---- the cell ---------------------------------------------------------------------------------------------------


def test_cell_is_one_step_of_the_oracle(rng):
    cell = LSTMCell(5, dtype="float64")
    x, h, c = rng.normal(size=(4, 3)), rng.normal(size=(4, 5)), rng.normal(size=(4, 5))
    output, states = cell(x, [h, c])
    _, expected_h, expected_c = oracle(x[:, None], cell.parameters, initial_state=(h, c))
    assert_same(output, expected_h)
    assert_same(states[0], expected_h)
    assert_same(states[1], expected_c)
    assert cell.state_size == [5, 5]
    assert cell.output_size == 5
    assert [state.shape for state in cell.get_initial_state(7)] == [(7, 5), (7, 5)]
    assert cell.compute_output_shape((4, 3)) == ((4, 5), [(4, 5), (4, 5)])


def test_cell_keeps_its_dropout_until_it_is_reset(rng):
    cell = LSTMCell(5, dtype="float64", dropout=0.5, recurrent_dropout=0.5, seed=1)
    x, state = rng.normal(size=(4, 3)), [rng.normal(size=(4, 5))] * 2
    plain = cell(x, state)[0]
    first = cell(x, state, training=True)[0]
    assert not np.allclose(first, plain)
    assert np.array_equal(cell(x, state, training=True)[0], first)
    cell.reset_dropout_mask()
    second = cell(x, state, training=True)[0]
    assert not np.allclose(second, first)
    cell.reset_recurrent_dropout_mask()
    assert not np.allclose(cell(x, state, training=True)[0], second)


@pytest.mark.parametrize("generation", ["keras3", "keras2", "v1"])
def test_cell_config_round_trip(generation):
    cell = LSTMCell(5, activation="relu", recurrent_activation="hard_sigmoid", dropout=0.5, generation=generation)
    config = cell.get_config()
    assert "return_sequences" not in config
    assert "activity_regularizer" not in config
    again = LSTMCell.from_config(config)
    assert again.get_config() == config
    assert again.recurrent_activation == cell.recurrent_activation


@pytest.mark.parametrize(
    ("act", "kind", "message"),
    [
        (
            lambda cell: cell(np.ones((4, 2)), [np.ones((4, 5))] * 2),
            ValueError,
            "inputs must have shape (batch, 3), got",
        ),
        (
            lambda cell: cell(np.ones((4, 3)), [np.ones((4, 5))]),
            ValueError,
            "initial_state must hold 2 arrays [h, c], got",
        ),
        (
            lambda cell: cell(np.ones((4, 3)), [np.ones((4, 5)), np.ones((3, 5))]),
            ValueError,
            "initial_state[1] must have shape (4, 5), got (3, 5).",
        ),
        (lambda cell: cell.get_initial_state(), ValueError, "get_initial_state needs batch_size, got None."),
    ],
)
def test_refusals_of_the_cell(act, kind, message):
    cell = LSTMCell(5, name="k", input_shape=(3,))
    with pytest.raises(kind) as caught:
        act(cell)
    assert str(caught.value).startswith(f"LSTMCell 'k': {message}")


def test_cell_constructor_refusals():
    with pytest.raises(ValueError, match="LSTMCell: has no argument 'activity_regularizer'"):
        LSTMCell(5, activity_regularizer="l2")
    with pytest.raises(ValueError, match="LSTMCell: units must be at least 1, got 0"):
        LSTMCell(0)
    with pytest.raises(ValueError, match=r"inputs must have shape \(batch, features\)"):
        LSTMCell(3).build((2, 6, 3))


# ---- RNN of LSTM cells ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("go_backwards", [False, True])
def test_rnn_of_a_cell_is_the_lstm_layer(rng, go_backwards):
    options = {"return_sequences": True, "return_state": True, "go_backwards": go_backwards}
    rnn = randomise(rng, RNN(*cells(5), **options))
    lstm = LSTM(5, **options, dtype="float64", input_shape=(None, 3), weights=rnn.get_weights())
    x, state, mask = rng.normal(size=(4, 6, 3)), list(rng.normal(size=(2, 4, 5))), holes(rng, 4, 6)
    for call in ({}, {"mask": mask}, {"mask": mask, "initial_state": state}):
        for found, expected in zip(rnn(x, **call), lstm(x, **call), strict=True):
            assert np.array_equal(found, expected)
    assert rnn.policy.name == "float64"
    assert rnn.compute_output_shape((4, 6, 3)) == lstm.compute_output_shape((4, 6, 3))


@pytest.mark.parametrize("zero_output_for_mask", [False, True])
@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_layer_by_layer_is_step_by_step(rng, return_sequences, go_backwards, zero_output_for_mask):
    stack = cells(3, 4, 2)
    options = {
        "return_sequences": return_sequences,
        "return_state": True,
        "go_backwards": go_backwards,
        "zero_output_for_mask": zero_output_for_mask,
    }
    fast = randomise(rng, RNN(stack, **options))
    slow = RNN([StepCell(cell) for cell in stack], **options, dtype="float64")
    x, mask = rng.normal(size=(4, 6, 3)), holes(rng, 4, 6)
    state = [[rng.normal(size=(4, units)) for _ in range(2)] for units in (3, 4, 2)]
    for call in ({}, {"initial_state": state}, {"mask": mask}, {"mask": mask, "initial_state": state}):
        found, expected = fast(x, **call), slow(x, **call)
        assert [type(part) for part in found] == [np.ndarray, list, list, list]
        for part, want in zip(flat(found), flat(expected), strict=True):
            assert_same(part, want)
    rows = [x[0], x[1, :3], x[2, :0]]
    start = [[part[:3] for part in pair] for pair in state]
    found, expected = fast(rows, initial_state=start), slow(rows, initial_state=start)
    for part, want in zip(flat(found), flat(expected), strict=True):
        assert_same(part, want)
    whole, part = fast(x[:1], initial_state=[[a[:1] for a in pair] for pair in state]), flat(found)
    assert_same(part[0] if return_sequences else part[0][0], whole[0][0])


def test_masked_content_does_not_matter_step_by_step(rng):
    stack = cells(3, 4)
    slow = RNN([StepCell(cell) for cell in stack], return_sequences=True, dtype="float64")
    slow.build((None, None, 3))
    x, mask = rng.normal(size=(4, 6, 3)), holes(rng, 4, 6)
    dirty = np.where(mask[..., None], x, [np.inf, -np.inf, np.nan])
    for rnn in (slow, RNN(Decay(), return_sequences=True, dtype="float64")):
        assert np.array_equal(rnn(dirty, mask=mask), rnn(x, mask=mask))


@pytest.mark.parametrize("stack", [False, True])
def test_plain_cells_run_on_the_sequence_kernels(rng, monkeypatch, stack):
    layer = RNN(cells(4, 2) if stack else cells(4)[0], return_sequences=True)
    monkeypatch.setattr(LSTMCell, "_step", None)  # no step can be run alone
    y, pullback = layer.vjp(rng.normal(size=(3, 5, 2)))
    assert pullback(np.ones_like(y)).inputs.shape == (3, 5, 2)
    assert layer(rng.normal(size=(3, 5, 2))).shape == y.shape


def test_a_stack_of_one_cell_nests_its_states(rng):
    single = randomise(rng, RNN(cells(5), return_state=True))
    out, states = single(rng.normal(size=(4, 6, 3)))
    assert [type(states), len(states), states[0].shape] == [list, 2, (4, 5)]
    assert np.array_equal(out, states[0])
    assert single.compute_output_shape((4, 6, 3)) == ((4, 5), [(4, 5), (4, 5)])
    assert isinstance(single.cell, StackedRNNCells)


def test_dropout_factors_can_be_given_for_each_cell(rng):
    rnn = randomise(rng, RNN(cells(5, 2), return_sequences=True))
    x = rng.normal(size=(4, 6, 3))
    masks = [
        (rng.choice([0.0, 2.0], (4, 3)), rng.choice([0.0, 2.0], (4, 4, 5))),
        (rng.choice([0.0, 2.0], (4, 4, 5)), None),
    ]
    middle, *_ = oracle(x, rnn.cell.cells[0].parameters, dropout_masks=masks[0])
    expected, *_ = oracle(middle, rnn.cell.cells[1].parameters, dropout_masks=masks[1])
    assert_same(rnn(x, training=True, dropout_masks=masks), expected)
    single = randomise(rng, RNN(*cells(5)))
    assert_same(
        single(x, training=True, dropout_masks=masks[0]), oracle(x, single.cell.parameters, dropout_masks=masks[0])[1]
    )
    with pytest.raises(ValueError, match="dropout_masks must be a list of 2 pairs"):
        rnn(x, training=True, dropout_masks=masks[:1])
    with pytest.raises(ValueError, match="dropout_masks are for training=True"):
        rnn(x, dropout_masks=masks)


def test_dropout_is_drawn_anew_with_each_call(rng):
    for make in (lambda cell: cell, StepCell):
        cell = LSTMCell(5, dtype="float64", dropout=0.5, recurrent_dropout=0.5)
        rnn = RNN(make(cell), dtype="float64")
        x = rng.normal(size=(30, 6, 3))
        assert np.array_equal(rnn(x), rnn(x, training=False))
        assert not np.allclose(rnn(x), rnn(x, training=True))
    mixed = RNN([LSTMCell(5, dtype="float64", dropout=0.5), Decay()], dtype="float64")
    assert not np.allclose(mixed(x, training=True), mixed(x, training=True))


# ---- any cell ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("time_major", [False, True])
def test_a_users_cell_runs_step_by_step(rng, time_major):
    x, mask = rng.normal(size=(3, 5, 4)), holes(rng, 3, 5)
    expected, h = np.zeros((3, 5, 1)), np.full((3, 2), 3.0)
    for t in range(5):
        new = (h + x[:, t].sum(axis=1, keepdims=True)) / 2
        h = np.where(mask[:, t, None], new, h)
        previous = expected[:, t - 1] if t else np.zeros((3, 1))
        expected[:, t] = np.where(mask[:, t, None], -new[:, :1], previous)
    rnn = RNN(Decay(), return_sequences=True, return_state=True, dtype="float64", time_major=time_major)
    turn = (lambda a: a.swapaxes(0, 1)) if time_major else (lambda a: a)
    out, final = rnn(turn(x), mask=turn(mask))
    assert_same(turn(out), expected)
    assert_same(final, h)
    assert rnn.compute_output_shape(turn(x).shape) == (out.shape, (3, 2))
    assert rnn.get_weights() == []
    rows = [x[0, :2], x[1, :0], x[2]]
    sequences, states = RNN(Decay(), return_sequences=True, return_state=True, dtype="float64")(rows)
    assert [len(row) for row in sequences] == [2, 0, 5]
    assert np.array_equal(states[1], [3.0, 3.0])


@pytest.mark.parametrize("stack", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_stateful_rnn(rng, plain, stack):
    made = cells(5, 2) if stack else cells(5)
    made = made if plain else [StepCell(cell) for cell in made]
    rnn = RNN(made if stack else made[0], stateful=True, return_sequences=True, dtype="float64")
    x = rng.normal(size=(4, 6, 3))
    whole = rnn(x)
    final = flat(rnn.states)
    rnn.reset_state()
    assert not any(state.any() for state in flat(rnn.states))
    assert_same(np.concatenate([rnn(x[:, :2]), rnn(x[:, 2:])], axis=1), whole)
    for found, want in zip(flat(rnn.states), final, strict=True):
        assert_same(found, want)
    again = rnn(x)
    states = (
        [[state * 1.0 for state in pair] for pair in [[final[0], final[1]], [final[2], final[3]]]] if stack else final
    )
    rnn.reset_states(states)
    assert_same(rnn(x), again)
    with pytest.raises(ValueError, match="is stateful with a batch of 4, got a batch of 3"):
        rnn(x[:3])
    with pytest.raises(ValueError, match=r"states must hold 2 states, got 1"):
        rnn.reset_state(states[:1])


def test_one_array_resets_one_state():
    rnn = RNN(Decay(), stateful=True, dtype="float64", batch_input_shape=(3, None, 4))
    rnn.reset_state(np.full((3, 2), 5.0))
    assert np.array_equal(rnn.states[0], np.full((3, 2), 5.0))


class AddConstant(Layer):
    """output = h' = h + x + constants[0]."""

    state_size = 3

    def build(self, input_shape):
        self.seen = input_shape

    def call(self, inputs, states, constants=None):
        h = states[0] + inputs + (constants[0] if constants is not None else 0)
        return h, [h]


def test_constants_reach_the_cells_that_take_them(rng):
    x, constant = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 3))
    rnn = RNN(AddConstant(dtype="float64"), return_sequences=True)
    expected = np.cumsum(x + constant[:, None], axis=1)
    assert_same(rnn(x, constants=[constant]), expected)
    assert rnn.cell.seen == (2, 3)
    mixed = RNN([AddConstant(dtype="float64"), Decay()], return_sequences=True, dtype="float64")
    assert_same(mixed(x, constants=[constant]), RNN(Decay(), return_sequences=True, dtype="float64")(expected))
    with pytest.raises(ValueError, match=r"got constants, but call\(\) of its cell has no parameter"):
        RNN(*cells(5))(x, constants=[constant])
    with pytest.raises(ValueError, match="constants are for one array of sequences, not for a list"):
        rnn(list(x), constants=[constant])


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (object(), "RNN: a cell must have call() and state_size, but an object of type object has no call"),
        (np.tanh, "RNN: a cell must have call() and state_size"),
        ([], "StackedRNNCells: cells must be a list of cells, got an object of type list."),
        ([LSTMCell(2), 3], "StackedRNNCells: cells[1]: a cell must have call() and state_size, but 3 has no call"),
        (
            type("C", (), {"call": len, "state_size": "big"})(),
            "RNN: state_size must be a positive integer or a list of them",
        ),
    ],
)
def test_what_is_no_cell_is_refused(cell, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
        RNN(cell)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("plain", [False, True])
def test_refusals_of_calls(rng, plain):
    stack = cells(3, 2) if plain else [StepCell(cell) for cell in cells(3, 2)]
    rnn = RNN(stack, name="r", dtype="float64")
    x = rng.normal(size=(4, 6, 3))
    rnn(x)
    for call, message in (
        ({"inputs": x[:, :0]}, r"inputs must have at least one time step, got shape \(4, 0, 3\)\."),
        ({"inputs": x[0]}, r"inputs must have shape \(batch, time, features\), got \(6, 3\)\."),
        ({"inputs": x.astype(str)}, "inputs must hold real numbers, got dtype <U32"),
        ({"inputs": x, "mask": np.ones((4, 5))}, r"mask must have shape \(4, 6\), got \(4, 5\)\."),
        ({"inputs": x, "initial_state": [np.ones((4, 3))] * 3}, r"initial_state must hold 2 states, got 3\."),
        (
            {"inputs": x, "initial_state": [[np.ones((4, 3))] * 2, [np.ones((4, 2)), np.ones((4, 3))]]},
            r"initial_state\[1\]\[1\] must have shape \(4, 2\), got \(4, 3\)\.",
        ),
    ):
        with pytest.raises(ValueError, match="RNN 'r': " + message):
            rnn(**call)


@pytest.mark.parametrize("generation", ["keras3", "keras2"])
def test_config_round_trip(generation):
    stack = [LSTMCell(3, activation="relu", generation=generation), LSTMCell(2, generation=generation)]
    for cell in (stack[0], stack):
        rnn = RNN(cell, return_sequences=True, go_backwards=True, generation=generation, time_major=True, name="n")
        again = RNN.from_config(rnn.get_config())
        assert again.get_config() == rnn.get_config()
        assert (again.generation, again.time_major, again.go_backwards) == (generation, True, True)
        if generation == "keras2":  # tf_keras knows no other keys, and takes the type as a name
            assert "generation" not in rnn.get_config()
            assert rnn.get_config()["dtype"] == rnn.cell.get_config()["dtype"] == "float32"
        clone = rnn.clone(go_backwards=False)
        assert clone.get_config() == {**rnn.get_config(), "go_backwards": False}
        assert clone.cell is not rnn.cell
    with pytest.raises(TypeError, match="an object of type Decay is no layer and has no config"):
        RNN(Decay()).get_config()


def test_empty_batches(rng):
    for stack in (cells(3, 2), [StepCell(cell) for cell in cells(3, 2)]):
        rnn = RNN(stack, return_sequences=True, return_state=True, dtype="float64")
        out, *states = rnn(np.zeros((0, 6, 3)))
        assert out.shape == (0, 6, 2)
        assert [state.shape for state in flat(states)] == [(0, 3), (0, 3), (0, 2), (0, 2)]
