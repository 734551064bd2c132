"""Bidirectional and TimeDistributed."""

import numpy as np
import pytest
from support.cases import holes, oracle

import numbalstm as nl
from numbalstm.layers.base import Layer
from numbalstm.layers.bidirectional import Bidirectional
from numbalstm.layers.cell import LSTMCell
from numbalstm.layers.core import Dense, Masking
from numbalstm.layers.dropout import Dropout
from numbalstm.layers.lstm import LSTM
from numbalstm.layers.rnn import RNN
from numbalstm.layers.time_distributed import TimeDistributed

pytestmark = pytest.mark.filterwarnings("ignore::numbalstm.backends.interface.SlowPathWarning")


def randomise(rng, layer, shape=(None, None, 3)):
    layer.build(shape)
    layer.set_weights([rng.normal(0.1, 0.5, weight.shape) for weight in layer.weights])
    return layer


def lstm(units=4, **options):
    return LSTM(units, dtype="float64", **options)


def assert_same(found, expected, tolerance=1e-12):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def both(layer, x, **options):
    """Outputs (in the order of the input), h and c of both directions, by the scalar oracle."""
    first = oracle(x, layer.forward_layer.parameters, **options)
    second = oracle(x, layer.backward_layer.parameters, go_backwards=True, **options)
    return first, ([row[::-1] for row in second[0]], *second[1:])


MERGED = {
    "concat": lambda a, b: np.concatenate([a, b], axis=-1),
    "sum": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "ave": lambda a, b: (a + b) / 2,
    None: lambda a, b: (a, b),
}


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("merge_mode", MERGED)
def test_merge_modes(rng, merge_mode, return_sequences, time_major):
    layer = Bidirectional(
        lstm(return_sequences=return_sequences, return_state=True, time_major=time_major), merge_mode=merge_mode
    )
    randomise(rng, layer)
    x = rng.normal(size=(2, 6, 3))
    (y, h, c), (y_b, h_b, c_b) = both(layer, x)
    turn = (lambda a: a.swapaxes(0, 1)) if time_major else (lambda a: a)
    merged = MERGED[merge_mode](np.array(y), np.array(y_b)) if return_sequences else MERGED[merge_mode](h, h_b)
    if return_sequences:
        merged = tuple(turn(part) for part in merged) if merge_mode is None else turn(merged)
    expected = [*(merged if merge_mode is None else [merged]), h, c, h_b, c_b]
    returned = layer(turn(x))
    assert type(returned) is tuple
    for found, want in zip(returned, expected, strict=True):
        assert_same(found, want)
    shapes = layer.compute_output_shape(turn(x).shape)
    assert shapes == tuple(part.shape for part in returned)
    assert layer.compute_mask(None, "mask") == (
        ["mask" if return_sequences else None] * (2 if merge_mode is None else 1) + [None] * 4
    )


def test_one_output_comes_alone_and_two_in_the_form_of_the_generation(rng):
    x = rng.normal(size=(2, 6, 3))
    assert isinstance(Bidirectional(lstm())(x), np.ndarray)
    assert Bidirectional(lstm()).compute_output_shape((2, 6, 3)) == (2, 8)
    assert isinstance(Bidirectional(lstm(), merge_mode=None)(x), tuple)
    assert isinstance(Bidirectional(lstm(generation="keras2"), merge_mode=None)(x), list)
    assert isinstance(Bidirectional(lstm(), merge_mode=None, generation="keras2")(x), list)
    assert isinstance(Bidirectional(lstm(return_state=True, generation="v1"))(x), list)


def test_masks_states_and_zeros(rng):
    layer = randomise(rng, Bidirectional(lstm(return_sequences=True, return_state=True)))
    x, mask = rng.normal(size=(4, 6, 3)), holes(rng, 4, 6)
    state, state_b = rng.normal(size=(2, 4, 4)), rng.normal(size=(2, 4, 4))
    y, h, c = oracle(x, layer.forward_layer.parameters, mask=mask, initial_state=state, zero_output_for_mask=True)
    y_b, h_b, c_b = oracle(
        x,
        layer.backward_layer.parameters,
        mask=mask,
        initial_state=state_b,
        zero_output_for_mask=True,
        go_backwards=True,
    )
    found = layer(x, mask=mask, initial_state=[*state, *state_b])
    expected = np.concatenate([y, np.flip(y_b, 1)], axis=-1)
    for part, want in zip(found, (expected, h, c, h_b, c_b), strict=True):
        assert_same(part, want)
    assert not found[0][~mask].any()


def test_last_output_repeats_over_masked_steps(rng):
    layer = randomise(rng, Bidirectional(lstm()))
    x, mask = rng.normal(size=(4, 6, 3)), holes(rng, 4, 6)
    y, *_ = oracle(x, layer.forward_layer.parameters, mask=mask)
    y_b, *_ = oracle(x, layer.backward_layer.parameters, mask=mask, go_backwards=True)
    assert_same(layer(x, mask=mask), np.concatenate([np.array(y)[:, -1], np.array(y_b)[:, -1]], axis=-1))


def test_lists_of_sequences(rng):
    layer = randomise(rng, Bidirectional(lstm(return_sequences=True)))
    rows = [rng.normal(size=(time, 3)) for time in (5, 0, 2)]
    (y, *_), (y_b, *_) = both(layer, rows)
    for found, a, b in zip(layer(rows), y, y_b, strict=True):
        assert_same(found, np.concatenate([a, b], axis=-1))


def test_a_backward_layer_of_its_own_is_used_as_it_is(rng):
    backward = lstm(2, go_backwards=True, return_sequences=True, name="mine")
    layer = randomise(rng, Bidirectional(lstm(return_sequences=True), backward_layer=backward))
    assert layer.backward_layer is backward
    x = rng.normal(size=(2, 6, 3))
    (y, *_), (y_b, *_) = both(layer, x)
    assert_same(layer(x), np.concatenate([y, y_b], axis=-1))
    assert layer.compute_output_shape((2, 6, 3)) == (2, 6, 6)


def test_the_backward_layers_output_is_flipped_even_if_it_runs_forwards(rng):
    turned = Bidirectional(
        lstm(return_sequences=True, go_backwards=True), backward_layer=lstm(return_sequences=True), merge_mode=None
    )
    randomise(rng, turned)
    x = rng.normal(size=(2, 6, 3))
    y, y_b = turned(x)
    assert_same(y, oracle(x, turned.forward_layer.parameters, go_backwards=True)[0])
    assert_same(y_b, np.flip(oracle(x, turned.backward_layer.parameters)[0], 1))


def test_keras2_negates_the_direction(rng):
    layer = Bidirectional(lstm(go_backwards=True, generation="keras2"))
    assert (layer.forward_layer.go_backwards, layer.backward_layer.go_backwards) == (True, False)


def test_both_layers_are_made_anew_with_their_options():
    inner = LSTM(4, name="inner", generation="keras2", recurrent_activation="hard_sigmoid", device="cpu", seed=3)
    layer = Bidirectional(inner)
    forward, backward = layer.forward_layer, layer.backward_layer
    assert (forward.name, backward.name) == ("forward_inner", "backward_inner")
    assert forward is not inner
    assert not inner.zero_output_for_mask
    for made in (forward, backward):
        assert made.recurrent_activation == inner.recurrent_activation
        assert (made.generation, made.device, made.seed) == ("keras2", "cpu", 3)
    layer.build((None, None, 3))
    assert not np.array_equal(forward.get_weights()[0], backward.get_weights()[0])


def test_weights_are_the_forward_layers_then_the_backward_layers(rng):
    first = randomise(rng, lstm()).get_weights()
    second = randomise(rng, lstm()).get_weights()
    layer = Bidirectional(lstm(), weights=first + second, input_shape=(None, 3))
    assert np.array_equal(layer.forward_layer.get_weights()[1], first[1])
    assert np.array_equal(layer.backward_layer.get_weights()[1], second[1])
    assert layer.count_params() == 2 * layer.forward_layer.count_params()
    assert len(layer.trainable_weights) == 6
    assert layer.policy.name == "float64"


def test_dropout_factors_for_each_direction(rng):
    layer = randomise(rng, Bidirectional(lstm()))
    x = rng.normal(size=(4, 6, 3))
    pairs = [(rng.choice([0.0, 2.0], (4, 3)), rng.choice([0.0, 2.0], (4, 4, 4))) for _ in range(2)]
    _, h, _ = oracle(x, layer.forward_layer.parameters, dropout_masks=pairs[0])
    _, h_b, _ = oracle(x, layer.backward_layer.parameters, dropout_masks=pairs[1], go_backwards=True)
    assert_same(layer(x, training=True, dropout_masks=pairs), np.concatenate([h, h_b], axis=-1))
    with pytest.raises(ValueError, match="dropout_masks must be a pair, forward and backward"):
        layer(x, training=True, dropout_masks=pairs[:1])


@pytest.mark.parametrize("cells", [False, True])
def test_stateful(rng, cells):
    options = {"stateful": True, "return_state": True}
    inner = RNN([LSTMCell(3, dtype="float64"), LSTMCell(4, dtype="float64")], **options) if cells else lstm(**options)
    layer = randomise(rng, Bidirectional(inner, merge_mode="ave"), (2, None, 3))
    x = rng.normal(size=(2, 6, 3))
    first = layer(x)
    states = layer.states
    second = layer(x)
    assert not np.allclose(first[0], second[0])
    layer.reset_states()
    assert_same(layer(x)[0], first[0])
    layer.reset_state(states)
    assert_same(layer(x)[0], second[0])
    with pytest.raises(ValueError, match="states must be a list of 4 states, 2 for the forward and 2 for the backward"):
        layer.reset_state(states[:3])


def test_keras2_takes_the_states_among_the_inputs(rng):
    layer = randomise(rng, Bidirectional(lstm(generation="keras2")))
    x, states = rng.normal(size=(2, 6, 3)), list(rng.normal(size=(4, 2, 4)))
    assert np.array_equal(layer([x, *states]), layer(x, initial_state=states))


def test_of_rnn_cells_and_constants(rng):
    class Shift(Layer):
        state_size = 3

        def call(self, inputs, states, constants):
            return states[0] + inputs + constants[0], [states[0] + inputs + constants[0]]

    layer = Bidirectional(RNN(Shift(dtype="float64"), return_sequences=True), merge_mode=None)
    x, constant = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 3))
    y, y_b = layer(x, constants=[constant])
    moved = x + constant[:, None]
    assert_same(y, np.cumsum(moved, 1))
    assert_same(y_b, np.flip(np.cumsum(np.flip(moved, 1), 1), 1))


@pytest.mark.parametrize("generation", ["keras3", "keras2"])
def test_config_round_trip(rng, generation):
    backward = lstm(2, go_backwards=True, return_sequences=True, generation=generation)
    layer = Bidirectional(lstm(return_sequences=True, generation=generation), backward_layer=backward, name="b")
    again = Bidirectional.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert repr(again) == repr(layer)
    assert (again.generation, again.merge_mode) == (generation, "concat")
    if generation == "keras2":  # tf_keras knows no other keys, and takes the type as a name
        assert "generation" not in layer.get_config()
        assert layer.get_config()["dtype"] == layer.policy.name
    keras2 = {"name": "b", "merge_mode": "sum", "layer": {"class_name": "LSTM", "config": {"units": 3, "name": "l"}}}
    assert Bidirectional.from_config(keras2).backward_layer.name == "backward_l"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bidirectional(3), "layer must be a recurrent layer (LSTM or RNN), got 3."),
        (
            lambda: Bidirectional(Dense(3)),
            "layer must be a recurrent layer (LSTM or RNN), got an object of type Dense.",
        ),
        (lambda: Bidirectional(lstm(), "add"), "merge_mode must be one of 'sum', 'mul', 'ave', 'concat', None, got"),
        (
            lambda: Bidirectional(lstm(), backward_layer=3),
            "backward_layer must be a recurrent layer (LSTM or RNN), got 3.",
        ),
        (lambda: Bidirectional(lstm(go_backwards=True)), "layer must have go_backwards=False when no backward_layer"),
        (lambda: Bidirectional(lstm(), backward_layer=lstm()), "backward_layer must have go_backwards=True, the oppo"),
        (
            lambda: Bidirectional(lstm(stateful=True), backward_layer=lstm(go_backwards=True)),
            "backward_layer must have stateful=True like layer, got False.",
        ),
        (
            lambda: Bidirectional(lstm(), backward_layer=lstm(go_backwards=True, return_sequences=True)),
            "backward_layer must have return_sequences=False like layer, got True.",
        ),
        (
            lambda: Bidirectional(lstm(), backward_layer=lstm(go_backwards=True, return_state=True)),
            "backward_layer must have return_state=False like layer, got True.",
        ),
        (
            lambda: Bidirectional(lstm(), "sum", backward_layer=lstm(5, go_backwards=True)),
            "merge_mode='sum' needs layers of one width, got 4 and 5.",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(make, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
        make()
    assert str(caught.value).startswith(f"Bidirectional: {message}")


def test_refusals_of_calls(rng):
    layer = Bidirectional(lstm(), name="b")
    x = rng.normal(size=(2, 6, 3))
    with pytest.raises(ValueError, match=r"Bidirectional 'b': initial_state must be a list of 4 states, .* got 3\."):
        layer(x, initial_state=[np.ones((2, 4))] * 3)
    with pytest.raises(AttributeError, match="Bidirectional 'b': only stateful layers have states to reset"):
        layer.reset_state()
    assert layer.states is None


# ---- TimeDistributed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
def test_time_distributed_is_the_layer_at_each_step(rng, training):
    dense = Dense(4, activation="tanh", dtype="float64")
    layer = TimeDistributed(dense)
    x = rng.normal(size=(2, 5, 3))
    found = layer(x, training=training)
    assert_same(found, np.stack([dense(x[:, t]) for t in range(5)], axis=1))
    assert layer.compute_output_shape((None, 5, 3)) == (None, 5, 4)
    assert layer.get_weights()[0].shape == (3, 4)
    assert layer.compute_mask(x, "mask") == "mask"


def test_time_distributed_gives_each_step_its_mask(rng):
    inner = lstm(return_sequences=True, return_state=True)
    layer = TimeDistributed(inner)
    x, mask = rng.normal(size=(2, 4, 5, 3)), rng.random((2, 4, 5)) < 0.6
    found = layer(x, mask=mask)
    assert [part.shape for part in found] == [(2, 4, 5, 4), (2, 4, 4), (2, 4, 4)]
    assert layer.compute_output_shape(x.shape) == tuple(part.shape for part in found)
    for t in range(4):
        for part, want in zip(found, inner(x[:, t], mask=mask[:, t]), strict=True):
            assert_same(part[:, t], want)
    stepwise = layer(x, mask=mask, training=True)
    for part, want in zip(stepwise, found, strict=True):
        assert_same(part, want)


@pytest.mark.parametrize("inner", ["sequences", "last", "states", "model"])
def test_masks_above_time_distributed(rng, inner):
    x = rng.normal(size=(2, 3, 4, 5))
    x[0, 1] = x[1, 2] = x[1, 0, 2:] = 0  # two whole steps, and a part of one
    layer = lstm(return_sequences=inner == "sequences", return_state=inner == "states")
    if inner == "model":
        layer = nl.Sequential([nl.Input((4, 5)), layer])
    start = nl.Input((3, 4, 5), dtype="float64")
    y = nl.Masking(dtype="float64")(start)
    outputs = [nl.TimeDistributed(layer)(y)] if inner != "states" else list(nl.TimeDistributed(layer)(y))
    if inner == "sequences":
        outputs = [nl.TimeDistributed(lstm(units=2))(outputs[0])]
    last = lstm(units=2)
    model = nl.Model(start, [*outputs, *(last(output) for output in outputs)])
    found = model(x)
    for rows, end in zip(found[: len(outputs)], found[len(outputs) :], strict=True):
        assert_same(end, last(rows, mask=x.any(axis=(2, 3))))
    assert_same(found[0][0, 1], np.zeros(found[0].shape[-1]))


def test_time_distributed_keeps_the_states_of_a_stateful_layer_in_order(rng):
    inner = lstm(stateful=True)
    layer = TimeDistributed(inner)
    x = rng.normal(size=(2, 4, 5, 3))
    found = layer(x)
    inner.reset_state()
    for t in range(4):
        assert_same(found[:, t], inner(x[:, t]))


def test_time_distributed_does_not_mix_the_steps_in_training(rng):
    class Centred(Layer):
        def call(self, inputs, training=None):
            return inputs - inputs.mean(axis=0) if training else inputs

    x = rng.normal(size=(4, 5, 3))
    assert_same(TimeDistributed(Centred())(x, training=True), x - x.mean(axis=0))


def test_time_distributed_draws_dropout_for_each_step():
    found = TimeDistributed(Dropout(0.5, seed=1))(np.ones((3, 40, 7)), training=True)
    assert len({step.tobytes() for step in found.swapaxes(0, 1)}) == 40


def test_time_distributed_config_round_trip():
    layer = TimeDistributed(Dense(4, activation="relu"), name="t")
    again = TimeDistributed.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert repr(again).startswith("TimeDistributed(")


def test_refusals_of_time_distributed():
    layer = TimeDistributed(Masking(), name="t")
    with pytest.raises(ValueError, match=r"TimeDistributed: layer must be a layer, got 3\."):
        TimeDistributed(3)
    with pytest.raises(ValueError, match=r"TimeDistributed 't': inputs must have at least 3 axes .*, got shape"):
        layer(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"TimeDistributed 't': mask must have shape \(2, 5, ...\), got \(2, 4\)"):
        layer(np.ones((2, 5, 4, 3)), mask=np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"TimeDistributed 't': inputs must have at least one time step, got"):
        layer(np.ones((2, 0, 4, 3)))


@pytest.mark.parametrize("merge_mode", ["concat", "ave"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "mixed_bfloat16"])
def test_joined_outputs_have_the_type_of_the_policy(rng, dtype, merge_mode):
    layer = Bidirectional(LSTM(4, return_sequences=True, dtype=dtype), merge_mode=merge_mode)
    randomise(rng, layer)
    x = rng.normal(size=(2, 6, 3)).astype(np.float32)
    found = layer(x)
    assert found.dtype == layer.policy.output
    y, y_b = layer.forward_layer(x), layer.backward_layer(x)[:, ::-1]
    assert np.array_equal(found, MERGED[merge_mode](y, y_b))
    rows = layer([x[0], x[1, :2]])
    assert_same(rows[0], found[0], 1e-6 if dtype == "float32" else 1e-2)
