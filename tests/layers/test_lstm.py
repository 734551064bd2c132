"""The LSTM layer: calls, states, layouts, dropout, weights, configs."""

import numpy as np
import pytest
from support.cases import holes, oracle

from numbalstm import activations, initializers
from numbalstm.functional import lstm_forward
from numbalstm.layers.lstm import LSTM
from numbalstm.parameters import LSTMParameters

quiet = pytest.mark.filterwarnings("ignore::numbalstm.backends.interface.SlowPathWarning")


def made(rng, units=5, features=3, **options):
    """A built float64 layer with random weights that no two gates share."""
    layer = LSTM(units, **{"dtype": "float64", "batch_input_shape": (None, None, features), **options})
    layer.set_weights([rng.normal(0.1, 0.5, weight.shape) for weight in layer.weights])
    return layer


def assert_same(found, expected, tolerance=1e-12):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


# ---- what a call returns ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("return_state", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("generation", ["keras3", "keras2", "v1"])
def test_returns_in_the_form_of_the_generation(rng, generation, return_sequences, return_state):
    layer = made(rng, return_sequences=return_sequences, return_state=return_state, generation=generation)
    x = rng.normal(size=(2, 6, 3))
    outputs, h, c = oracle(x, layer.parameters, rho=layer.recurrent_activation)
    returned = layer(x)
    expected_type = np.ndarray if not return_state else tuple if generation == "keras3" else list
    assert type(returned) is expected_type
    parts = returned if return_state else [returned]
    assert_same(parts[0], outputs if return_sequences else h)
    if return_state:
        assert_same(parts[1], h)
        assert_same(parts[2], c)
    assert layer.compute_output_shape((2, 6, 3)) == (
        tuple(part.shape for part in parts)
        if generation == "keras3" and return_state
        else [part.shape for part in parts]
        if return_state
        else returned.shape
    )


@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_time_major_is_the_transposed_layout(rng, return_sequences, go_backwards, with_mask):
    options = {"return_sequences": return_sequences, "go_backwards": go_backwards, "return_state": True}
    layer = made(rng, **options)
    turned = made(rng, time_major=True, **options)
    turned.set_weights(layer.get_weights())
    x = rng.normal(size=(4, 6, 3))
    mask = holes(rng, 4, 6) if with_mask else None
    state = rng.normal(size=(2, 4, 5))
    expected, h, c = layer(x, mask=mask, initial_state=list(state))
    out, turned_h, turned_c = turned(
        np.ascontiguousarray(x.swapaxes(0, 1)), mask=None if mask is None else mask.T[:, :, None], initial_state=state
    )
    assert out.flags.c_contiguous
    assert_same(out, expected.swapaxes(0, 1) if return_sequences else expected)
    assert_same(turned_h, h)
    assert_same(turned_c, c)
    assert turned.compute_output_shape((6, 4, 3))[0] == out.shape


def test_a_list_of_sequences_gives_a_list(rng):
    layer = made(rng, return_sequences=True, return_state=True)
    rows = [rng.normal(size=(time, 3)) for time in (4, 0, 6, 1)]
    outputs, h, c = layer(rows)
    expected, final_h, final_c = oracle(rows, layer.parameters)
    assert [len(row) for row in outputs] == [4, 0, 6, 1]
    for row, want in zip(outputs, expected, strict=True):
        assert_same(row, want)
    assert_same(h, final_h)
    assert_same(c, final_c)
    last = made(rng)
    last.set_weights(layer.get_weights())
    assert_same(last(rows), final_h)
    fresh = LSTM(5, dtype="float64")
    assert fresh(rows).shape == (4, 5)


def test_keras2_takes_the_state_among_the_inputs(rng):
    layer = made(rng, generation="keras2", return_sequences=True)
    x, state = rng.normal(size=(2, 6, 3)), list(rng.normal(size=(2, 2, 5)))
    assert np.array_equal(layer([x, *state]), layer(x, initial_state=state))
    assert np.array_equal(layer([x]), layer(x))
    with pytest.raises(ValueError, match="the initial state came twice"):
        layer([x, *state], initial_state=state)
    with pytest.raises(ValueError, match=r"inputs\[0\] must have shape \(time, 3\), got \(2, 6, 3\)"):
        made(rng)([x, *state])


def test_a_list_of_masks_gives_its_first(rng):
    layer = made(rng, return_sequences=True)
    x, mask = rng.normal(size=(3, 6, 3)), holes(rng, 3, 6)
    assert np.array_equal(layer(x, mask=[mask, None]), layer(x, mask=mask))
    assert np.array_equal(layer(x, mask=[None]), layer(x))
    assert np.array_equal(layer(x, mask=mask.tolist()), layer(x, mask=mask))


def test_trace_agrees_with_the_call(rng):
    for time_major in (False, True):
        layer = made(rng, return_sequences=True, return_state=True, time_major=time_major, go_backwards=True)
        x = rng.normal(size=(4, 6, 3))
        state = list(rng.normal(size=(2, *((6, 5) if time_major else (4, 5)))))
        mask = holes(rng, 4, 6)
        trace = layer.trace(x, mask=mask, initial_state=state)
        axis = 0 if time_major else 1
        _, h, c = layer(x, mask=mask, initial_state=state)
        assert_same(trace.h.take(-1, axis), h)
        assert_same(trace.c.take(-1, axis), c)
        before = np.expand_dims(state[1], axis)
        previous = np.concatenate([before, trace.c.take(range(x.shape[axis] - 1), axis)], axis)
        real = ~np.isnan(trace.i)
        assert real.any()
        assert_same((trace.f * previous + trace.i * trace.g)[real], trace.c[real])


# ---- stateful ---------------------------------------------------------------------------------------------------


def test_stateful_calls_are_one_long_call(rng):
    layer = made(rng, stateful=True, return_sequences=True, batch_input_shape=(3, None, 3))
    x, mask = rng.normal(size=(3, 9, 3)), holes(rng, 3, 9)
    outputs, h, c = oracle(x, layer.parameters, mask=mask, zero_output_for_mask=True)
    layer.zero_output_for_mask = True
    parts = [layer(x[:, a:b], mask=mask[:, a:b]) for a, b in ((0, 2), (2, 3), (3, 9))]
    assert_same(np.concatenate(parts, axis=1), outputs)
    assert_same(layer.states[0], h)
    assert_same(layer.states[1], c)
    kept = [state.copy() for state in layer.states]
    layer.trace(x)
    assert np.array_equal(layer.states, kept)
    layer.states[0][:] = 7  # a copy
    assert np.array_equal(layer.states, kept)
    layer.reset_state()
    assert not np.any(layer.states)


def test_stateful_rows_of_a_list_keep_their_states(rng):
    layer = made(rng, stateful=True, batch_input_shape=(2, None, 3))
    rows = [rng.normal(size=(time, 3)) for time in (5, 3)]
    _, h, c = oracle(rows, layer.parameters)
    layer([row[:2] for row in rows])
    layer([row[2:] for row in rows])
    assert_same(layer.states, [h, c])


def test_reset_takes_states(rng):
    layer = made(rng, stateful=True, return_state=True, batch_input_shape=(2, None, 3))
    x, state = rng.normal(size=(2, 6, 3)), rng.normal(size=(2, 2, 5))
    layer.reset_states(states=list(state))
    assert np.array_equal(layer.states, state)
    found = layer(x)
    for part, want in zip(found, layer(x, initial_state=state), strict=True):
        assert np.array_equal(part, want)


def test_a_given_state_and_stored_states(rng):
    x, state = rng.normal(size=(2, 6, 3)), list(rng.normal(size=(2, 2, 5)))
    for generation, used in (("keras3", True), ("keras2", False), ("v1", False)):
        layer = made(rng, stateful=True, generation=generation, batch_input_shape=(2, None, 3))
        fresh = layer(x, initial_state=state)
        carried = layer(x)
        layer.reset_states()
        assert_same(layer(x, initial_state=state), fresh)
        again = layer(x, initial_state=state)
        assert np.array_equal(again, fresh) == used
        assert np.array_equal(again, carried) != used


def test_refusals_of_stateful_layers(rng):
    x = rng.normal(size=(2, 6, 3))
    layer = LSTM(5, stateful=True, name="s", dtype="float64")
    with pytest.raises(ValueError, match="LSTM 's': has no known batch size yet, so no states; give batch_in"):
        layer.reset_state()
    assert layer.states is None
    with pytest.raises(ValueError, match="LSTM 's': stateful=True needs a known batch size"):
        layer.build((None, 6, 3))
    layer(x)
    with pytest.raises(ValueError, match="LSTM 's': is stateful with a batch of 2, got a batch of 3"):
        layer(np.concatenate([x, x[:1]]))
    for states, message in (
        ([np.zeros((2, 5))], r"states must hold 2 states, got 1\."),
        ([np.zeros((2, 5)), np.zeros((3, 5))], r"states\[1\] must have shape \(2, 5\), got \(3, 5\)\."),
        ([np.zeros((2, 5)), np.zeros((2, 5), complex)], r"states\[1\] must hold real numbers, got dtype complex128"),
        ([np.zeros((2, 5)), np.full((2, 5), "a")], r"states\[1\] must hold real numbers, got dtype <U1"),
        (3, r"states must be a list of 2, got 3\."),
    ):
        with pytest.raises(ValueError, match="LSTM 's': " + message):
            layer.reset_state(states)
    with pytest.raises(AttributeError, match="LSTM 'p': only a stateful layer has states to reset; make it with"):
        LSTM(5, name="p").reset_states()
    assert made(rng).states is None


# ---- dropout ----------------------------------------------------------------------------------------------------


@quiet
def test_dropout_acts_in_training_only_and_follows_its_seed(rng):
    x = rng.normal(size=(40, 6, 3))
    layers = [made(rng, dropout=0.4, recurrent_dropout=0.3, seed=seed) for seed in (1, 1, 2)]
    for layer in layers[1:]:
        layer.set_weights(layers[0].get_weights())
    plain = layers[0](x)
    assert np.array_equal(plain, layers[0](x, training=False))
    first = [layer(x, training=True) for layer in layers]
    second = [layer(x, training=True) for layer in layers]
    assert np.array_equal(first[0], first[1])
    assert np.array_equal(second[0], second[1])
    assert not np.array_equal(first[0], first[2])
    assert not np.array_equal(first[0], second[0])
    assert not np.array_equal(first[0], plain)


@pytest.mark.parametrize(
    ("options", "input_shape", "state_shape"),
    [
        ({"dropout": 0.5}, (2, 3), None),
        ({"dropout": 0.5, "implementation": 1}, (4, 2, 3), None),
        ({"dropout": 0.5, "generation": "v1"}, (4, 2, 3), None),
        ({"dropout": 0.5, "recurrent_dropout": 0.5}, (4, 2, 3), (4, 2, 5)),
        ({"recurrent_dropout": 0.5}, None, (4, 2, 5)),
    ],
)
def test_shapes_of_the_drawn_factors(rng, options, input_shape, state_shape):
    layer = made(rng, **options)
    shapes = [None if f is None else f.shape for f in (layer.draw_input_factors(2, 3), layer.draw_state_factors(2))]
    assert shapes == [input_shape, state_shape]


def test_factors_are_zero_at_the_rate_and_scaled_up_else(rng):
    layer = made(rng, dropout=0.2, seed=5)
    factors = layer.draw_factors((200, 500), 0.2)
    assert set(np.unique(factors)) == {0.0, 1.25}
    assert abs((factors == 0).mean() - 0.2) < 0.01
    assert not layer.draw_factors((20, 50), 1.0).any()


@quiet
@pytest.mark.parametrize("time_major", [False, True])
def test_keras2_draws_for_each_step_on_its_fused_path(rng, time_major):
    layer = made(rng, generation="keras2", dropout=0.5, return_sequences=True, time_major=time_major)
    assert layer.whole_input_dropout
    x = rng.normal(size=(4, 4, 3))  # as many steps and rows as gates
    factors = rng.choice([0.0, 2.0], x.shape)
    assert_same(layer(x, training=True, dropout_masks=(factors, None)), layer(x * factors))
    other = made(rng, dropout=0.5, time_major=time_major, return_sequences=True)
    assert not np.allclose(other(x, training=True, dropout_masks=(factors, None)), other(x * factors))
    for options in ({"unroll": True}, {"use_bias": False}, {"activation": "relu"}, {"recurrent_dropout": 0.1}):
        assert not LSTM(3, generation="keras2", **options).whole_input_dropout
    x = np.ones((3, 50, 3))
    drawn = layer(x.swapaxes(0, 1) if time_major else x, training=True)
    assert not np.allclose(drawn, layer(x.swapaxes(0, 1) if time_major else x))
    layer([x[0], x[1, :4]], training=True)


@quiet
def test_factors_for_each_step_and_of_the_state_together(rng):
    layer = made(rng, dropout=0.5, recurrent_dropout=0.5)
    x, m_x, m_h = rng.normal(size=(2, 6, 3)), rng.choice([0.0, 2.0], (2, 6, 3)), rng.choice([0.0, 2.0], (4, 2, 5))
    expected = oracle(x * m_x, layer.parameters, dropout_masks=(None, m_h))[1]
    assert_same(layer(x, training=True, dropout_masks=(m_x, m_h)), expected)


def test_refusals_of_dropout_masks(rng):
    layer = made(rng, name="d", dropout=0.5)
    x, ones = rng.normal(size=(2, 6, 3)), np.ones((2, 3))
    with pytest.raises(ValueError, match="LSTM 'd': dropout_masks are for training=True"):
        layer(x, dropout_masks=(ones, None))
    with pytest.raises(ValueError, match=r"LSTM 'd': dropout_masks must be a pair \(m_x, m_h\), got an array"):
        layer(x, training=True, dropout_masks=ones)
    with pytest.raises(ValueError, match=r"LSTM 'd': dropout_masks\[0\] must have shape .*, got \(2, 4\)"):
        layer(x, training=True, dropout_masks=(np.ones((2, 4)), None))


# ---- dtypes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "mixed_float16", "bfloat16", "mixed_bfloat16"])
def test_half_precision_computes_in_float32_on_rounded_numbers(rng, dtype):
    layer = made(rng, dtype=dtype, return_sequences=True, return_state=True)
    x = rng.normal(size=(2, 6, 3)).astype(np.float32)
    round_ = layer.policy.to_compute
    parameters = LSTMParameters(*(round_(value) for value in layer.get_weights()))
    outputs, h, c = oracle(round_(x), parameters)
    found = layer(x)
    for part, want in zip(found, (np.array(outputs), h, c), strict=True):
        assert part.dtype == (np.float32 if "bf" in dtype else np.float16)
        assert_same(part, want, 4e-2 if "bf" in dtype else 3e-3)
        assert np.array_equal(part, layer.policy.to_output(part))
    exact = lstm_forward(round_(x), parameters)
    for part, want in zip(found, exact, strict=True):
        assert np.array_equal(part, layer.policy.to_output(want))
    for part, row in zip(layer([x[0], x[1, :4]])[0], found[0], strict=True):
        assert part.dtype == row.dtype
        assert_same(part, row[: len(part)], 2e-2)
    turned = made(rng, dtype=dtype, time_major=True, return_sequences=True)
    turned.set_weights(layer.get_weights())
    assert np.array_equal(turned(x.swapaxes(0, 1)), found[0].swapaxes(0, 1))


@pytest.mark.parametrize("dtype", ["float16", "mixed_float16", "bfloat16", "mixed_bfloat16"])
def test_half_precision_stores_states_in_the_type_of_the_weights(rng, dtype):
    layer = made(rng, dtype=dtype, stateful=True, batch_input_shape=(2, None, 3))
    x, given = rng.normal(size=(2, 6, 3)).astype(np.float32), rng.normal(size=(2, 2, 5)).astype(np.float32)
    layer(x, initial_state=given)
    exact = lstm_forward(
        layer.policy.to_compute(x), layer.parameters, initial_state=[layer.policy.to_compute(state) for state in given]
    )
    for state, want in zip(layer.states, exact[1:], strict=True):
        assert state.dtype == layer.policy.variable
        assert np.array_equal(state, layer.policy.to_variable(want))
    assert np.isfinite(layer(x)).all()


# ---- weights and building ---------------------------------------------------------------------------------------


def test_weights_have_their_order_shapes_and_first_values():
    layer = LSTM(5)
    assert layer.get_weights() == []
    layer.build((None, None, 3))
    assert [weight.name for weight in layer.weights] == ["kernel", "recurrent_kernel", "bias"]
    kernel, recurrent, bias = layer.get_weights()
    assert (kernel.shape, recurrent.shape) == ((3, 20), (5, 20))
    assert np.array_equal(bias, [0.0] * 5 + [1.0] * 5 + [0.0] * 10)
    assert_same(recurrent @ recurrent.T, np.eye(5), 1e-5)
    assert np.abs(kernel).max() <= np.sqrt(6 / 23)
    assert layer.count_params() == 60 + 100 + 20
    assert len(made(np.random.default_rng(1), use_bias=False).get_weights()) == 2
    assert not LSTM(5, unit_forget_bias=False, input_shape=(None, 3)).get_weights()[2].any()


@pytest.mark.parametrize("seed", [3, None])
def test_pieces_of_the_bias_come_from_one_stream(seed):
    layer = LSTM(4, bias_initializer=initializers.RandomNormal(seed=seed), input_shape=(None, 3))
    bias = layer.get_weights()[2]
    assert np.array_equal(bias[4:8], np.ones(4))
    assert len(np.unique(np.delete(bias, range(4, 8)))) == 12
    again = LSTM(4, bias_initializer=initializers.RandomNormal(seed=seed), input_shape=(None, 3)).get_weights()[2]
    assert np.array_equal(bias, again) == (seed is not None)


def test_arrays_and_callables_as_initializers():
    array = np.arange(16.0)
    layer = LSTM(4, bias_initializer=array, kernel_initializer=lambda shape, dtype: np.full(shape, 2.5, dtype))
    layer.build((1, 1, 2))
    kernel, _, bias = layer.get_weights()
    assert np.array_equal(kernel, np.full((2, 16), 2.5))
    assert np.array_equal(bias, [0, 1, 2, 3, 1, 1, 1, 1, *range(8, 16)])
    with pytest.raises(ValueError, match=r"must have shape \(3, 16\), got \(2, 2\)"):
        LSTM(4, kernel_initializer=np.ones((2, 2)), input_shape=(None, 3)).get_weights()


def test_new_weights_are_used_at_once(rng):
    layer = made(rng)
    x = rng.normal(size=(2, 6, 3))
    before = layer(x)
    values = layer.get_weights()
    layer.set_weights([value * 0.5 for value in values])
    after = layer(x)
    assert not np.allclose(before, after)
    layer.bias.value = values[2] * 3
    assert not np.allclose(layer(x), after)
    again = layer(x)
    layer.recurrent_kernel.value = values[1] * 3
    assert not np.allclose(layer(x), again)
    with pytest.raises(ValueError, match="read-only"):
        layer.kernel.value[0, 0] = 1.0
    assert layer.parameters is layer.parameters
    values[0][:] = np.nan  # copies
    assert np.isfinite(layer(x)).all()


def test_weights_argument_and_shapes_build_at_construction(rng):
    values = made(rng).get_weights()
    layer = LSTM(5, input_shape=(None, 3), weights=values, dtype="float64")
    assert layer.built
    assert np.array_equal(layer.get_weights()[0], values[0])
    assert LSTM(5, batch_size=2, input_shape=(7, 3), stateful=True).states[0].shape == (2, 5)
    assert LSTM(5, batch_input_shape=(7, 2, 3), stateful=True, time_major=True).states[0].shape == (2, 5)
    with pytest.raises(ValueError, match="expected 3 weight arrays, got 2"):
        LSTM(5, input_shape=(None, 3), weights=values[:2])


def test_inputs_after_building_must_have_the_same_features(rng):
    layer = made(rng, name="f")
    with pytest.raises(ValueError, match=r"LSTM 'f': inputs must have shape \(batch, time, 3\), got \(2, 6, 4\)\."):
        layer(np.zeros((2, 6, 4)))
    for shape in ((6, 3), (2, 6, 3, 1), (3,)):
        with pytest.raises(ValueError, match="LSTM 'f': inputs must have shape"):
            layer(np.zeros(shape))
        with pytest.raises(ValueError, match="must have"):
            LSTM(5)(np.zeros(shape))
    with pytest.raises(ValueError, match="with known features"):
        LSTM(5).build((2, 6, None))


# ---- configs ----------------------------------------------------------------------------------------------------

CONFIGS = [
    {},
    {"activation": "relu", "recurrent_activation": "hard_sigmoid", "use_bias": False},
    {"kernel_initializer": "he_normal", "bias_initializer": {"class_name": "Constant", "config": {"value": 0.5}}},
    {"kernel_regularizer": "l2", "bias_constraint": "non_neg", "activity_regularizer": "l1"},
    {"dropout": 0.25, "recurrent_dropout": 0.125, "seed": 7},
    {"return_sequences": True, "return_state": True, "go_backwards": True, "stateful": True, "unroll": True},
    {"time_major": True, "zero_output_for_mask": True, "implementation": 1, "dtype": "mixed_float16"},
    {"name": "mine", "trainable": False, "unit_forget_bias": False, "dtype": "float64"},
]


@pytest.mark.parametrize("generation", ["keras3", "keras2"])
@pytest.mark.parametrize("options", CONFIGS)
def test_config_round_trip(options, generation):
    layer = LSTM(5, **options, generation=generation)
    again = LSTM.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert again.generation == generation
    assert not again.built
    assert repr(again) == repr(layer)
    names = [name for name in options if not name.endswith(("activation", "initializer", "regularizer", "dtype"))]
    assert [getattr(again, name) for name in names] == [getattr(layer, name) for name in names]
    assert (again.activation, again.recurrent_activation) == (layer.activation, layer.recurrent_activation)


def test_hard_sigmoid_is_that_of_the_generation():
    keras2, keras3 = activations.get("hard_sigmoid_keras2"), activations.get("hard_sigmoid_keras3")
    assert LSTM(2, recurrent_activation="hard_sigmoid").recurrent_activation == keras3
    assert LSTM(2, recurrent_activation="hard_sigmoid", generation="keras2").recurrent_activation == keras2
    assert LSTM(2, generation="v1").recurrent_activation == keras2
    assert LSTM(2, recurrent_activation="sigmoid", generation="v1").recurrent_activation == activations.get("sigmoid")
    assert LSTM(2).recurrent_activation == activations.get("sigmoid")
    assert (LSTM(2).implementation, LSTM(2, generation="v1").implementation) == (2, 1)


def test_unknown_config_keys_are_refused():
    config = LSTM(5).get_config()
    with pytest.raises(ValueError, match="LSTM: unknown argument 'peephole_size'"):
        LSTM.from_config({**config, "peephole_size": 3})


def test_clone_keeps_what_configs_leave_out():
    layer = LSTM(5, generation="v1", implementation=2, device="cpu", use_cudnn=False, name="a")
    clone = layer.clone(name="b", go_backwards=True)
    assert (clone.generation, clone.implementation, clone.device, clone.use_cudnn) == ("v1", 2, "cpu", False)
    assert (clone.name, clone.go_backwards, clone.units) == ("b", True, 5)


def test_repr_shows_what_is_not_the_default(rng):
    layer = made(rng, activation=None, return_sequences=True, name="r")
    assert repr(layer) == ("LSTM(5, features=3, activation='linear', return_sequences=True, dtype='float64', name='r')")
    assert repr(LSTM(2, name="q")) == "LSTM(2, name='q')"


def test_masks_go_on_with_sequences_only():
    mask = np.ones((2, 6), bool)
    assert LSTM(5, return_sequences=True).compute_mask(None, mask) is mask
    assert LSTM(5).compute_mask(None, mask) is None
    assert LSTM(5, return_sequences=True, return_state=True).compute_mask(None, mask) == [mask, None, None]
    assert LSTM(5, return_sequences=True).compute_mask(None, [mask, None]) is mask


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_out_receives_the_output(rng, return_sequences, time_major):
    layer = made(rng, return_sequences=return_sequences, time_major=time_major, return_state=True)
    x = rng.normal(size=(2, 6, 3))
    expected = layer(x)
    buffer = np.full((*expected[0].shape[:-1], 9), np.nan)
    for call in ({}, {"mask": np.ones((2, 6), bool)}):
        out = buffer[..., 2:7]
        found = layer(x, out=out, **call)
        assert np.shares_memory(found[0], buffer)
        assert_same(out, expected[0])
        assert np.isnan(buffer[..., [0, 1, 7, 8]]).all()
        assert_same(found[2], expected[2])
        buffer[:] = np.nan
    for dtype, given_x, message in (
        ("float16", x, "out is not for a layer with the dtype policy 'float16'"),
        ("float64", list(x), "out is for one array of sequences"),
    ):
        with pytest.raises(ValueError, match=message):
            made(rng, dtype=dtype)(given_x, out=buffer)
