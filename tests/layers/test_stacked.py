"""A stack of LSTM layers: torch's numbers and gradients, its own widths, lengths, dropout, states, config, streams."""

import json
import pickle

import numpy as np
import pytest
from support.golden import FOLDER, assert_close, load

import numbalstm as nl

# A projection may run on the reference; `test_runs_on_the_compiled_kernels` says what does not.
reference_allowed = pytest.mark.filterwarnings("ignore::numbalstm.backends.interface.SlowPathWarning")

with np.load(FOLDER / "stacked.npz") as file:
    RECORDED = {}
    for key in file.files:
        RECORDED.setdefault(key.partition("/")[0], {})[key.partition("/")[2]] = file[key]
CONFIGS = {name: json.loads(str(arrays["config"])) for name, arrays in RECORDED.items()}
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


def torch_weights(arrays, config, prefix=""):
    """Weights in torch's layout (or with the prefix d_ their gradients) as the layer orders them."""
    widths = config["units"] if isinstance(config["units"], list) else None
    layers = len(widths) if widths else config["num_layers"]
    found = []
    for layer in range(layers):
        for suffix in ("", "_reverse")[: 1 + config["bidirectional"]]:
            at = f"{prefix}{layer}_{{}}_l0{suffix}" if widths else f"{prefix}{{}}_l{layer}{suffix}"
            w_ih, w_hh, b_ih, b_hh, w_hr = (arrays.get(at.format(name)) for name in NAMES)
            found += [w_ih.T, w_hh.T]
            if b_ih is not None:
                found.append(b_ih if prefix else b_ih + b_hh)
            found += [] if w_hr is None else [w_hr.T]
    return found


def make(name, **more):
    """The layer of a recorded case, and its arrays."""
    arrays, config = RECORDED[name], CONFIGS[name]
    weights = torch_weights(arrays, config)
    options = {"return_sequences": True, "return_state": True, "dtype": arrays["x"].dtype} | more
    return nl.StackedLSTM(**config, **options, weights=weights, input_shape=arrays["x"].shape[1:]), arrays


def arguments(arrays):
    found = {}
    if "h_0" in arrays:
        found["initial_state"] = [arrays["h_0"], arrays["c_0"]]
    if "lengths" in arrays:
        found["lengths"] = arrays["lengths"]
    if "factors0" in arrays:
        found |= {"training": True, "dropout_masks": several(arrays, "factors")}
    return found


def several(arrays, name):
    """The arrays name0, name1, ..."""
    return [arrays[f"{name}{number}"] for number in range(len(arrays)) if f"{name}{number}" in arrays]


def states(arrays, prefix=""):
    """Recorded h_n and c_n, or their cotangents."""
    return [arrays.get(f"{prefix}{name}") if f"{prefix}{name}" in arrays else several(arrays, prefix + name)
            for name in ("h_n", "c_n")]  # fmt: skip


def assert_equal_states(found, expected, tolerance):
    for part, wanted in zip(found, expected, strict=True):
        assert type(part) is type(wanted)
        for one, other in zip(part, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


def tolerances(arrays):
    return (1e-10, 1e-9) if arrays["x"].dtype == np.float64 else (1e-5, 1e-4)


# ---- torch's numbers ---------------------------------------------------------------------------------------------


@reference_allowed
@pytest.mark.parametrize("name", RECORDED)
def test_forward(name):
    layer, arrays = make(name)
    y, *found = layer(arrays["x"], **arguments(arrays))
    tolerance, _ = tolerances(arrays)
    assert y.dtype == arrays["x"].dtype
    np.testing.assert_allclose(y, arrays["y"], rtol=0, atol=tolerance)
    assert_equal_states(found, states(arrays), tolerance)


@reference_allowed
@pytest.mark.parametrize("name", RECORDED)
def test_gradients(name):
    layer, arrays = make(name)
    (y, *found), pullback = layer.vjp(arrays["x"], **arguments(arrays))
    _, tolerance = tolerances(arrays)
    np.testing.assert_allclose(y, arrays["y"], rtol=0, atol=tolerance)
    assert_equal_states(found, states(arrays), tolerance)
    gradients = pullback(arrays["g_y"], *states(arrays, "g_"))
    np.testing.assert_allclose(gradients.inputs, arrays["d_x"], rtol=0, atol=tolerance)
    if "d_h_0" in arrays:
        assert_equal_states(gradients.initial_state, [arrays["d_h_0"], arrays["d_c_0"]], tolerance)
    expected = torch_weights(arrays, CONFIGS[name], "d_")
    for path, gradient, wanted in zip(layer.weight_paths(), gradients.weights, expected, strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=0, atol=tolerance, err_msg=path)


@reference_allowed
@pytest.mark.parametrize("name", ["pt-1layer", "pt-2layer-bi", "pt-packed", "pt-proj"])
def test_recorded_modules(name):
    case, arrays = load(name)
    config = case["config"]
    layer = nl.StackedLSTM(
        config["hidden_size"],
        config["num_layers"],
        config["bidirectional"],
        proj_size=config["proj_size"],
        time_major=not config["batch_first"],
        return_sequences=True,
        return_state=True,
        dtype="float64",
    )
    layer.build((None, None, case["shape"]["F"]))
    named = {"num_layers": config["num_layers"], "bidirectional": config["bidirectional"], "units": 0}
    layer.set_weights(torch_weights(arrays, named))
    more = {"lengths": arrays["lengths"]} if case["packed"] else {"initial_state": [arrays["h0"], arrays["c0"]]}
    for found, key in zip(layer(arrays["x"], **more), ("out", "h_n", "c_n"), strict=True):
        assert_close(case, found, arrays[key])
    _, pullback = layer.vjp(arrays["x"], **more)
    gradients = pullback(arrays["g_out"], arrays["g_h_n"], arrays["g_c_n"])
    tolerance = case["tolerance"]["gradient"]
    np.testing.assert_allclose(gradients.inputs, arrays["d_x"], rtol=0, atol=tolerance)
    for found, wanted in zip(gradients.weights, torch_weights(arrays, named, "d_"), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)
    if not case["packed"]:
        assert_equal_states(gradients.initial_state, [arrays["d_h0"], arrays["d_c0"]], tolerance)


def test_gradients_of_other_calls(rng):
    """Lists, lengths, no states returned: as the call they stand for."""
    options = {"dtype": "float64", "bidirectional": True, "return_sequences": True}
    layer = nl.StackedLSTM([4, 2], **options)
    x, g = rng.normal(size=(3, 5, 2)), rng.normal(size=(3, 5, 4))
    lengths = np.array([2, 5, 4])
    mask = np.arange(5) < lengths[:, None]
    g[~mask] = 0
    _, pullback = layer.vjp(x, lengths=lengths)
    whole = pullback(g)
    assert [part.shape for part in whole.initial_state[0]] == [(3, 4), (3, 4), (3, 2), (3, 2)]
    assert not whole.inputs[~mask].any()
    assert whole.weights["layer_1/backward_layer_1/kernel"].shape == (8, 8)
    rows = [row[:length] for row, length in zip(x, lengths, strict=True)]
    _, pullback = layer.vjp(rows)
    found = pullback([row[:length] for row, length in zip(g, lengths, strict=True)])
    for number, length in enumerate(lengths):
        np.testing.assert_allclose(found.inputs[number], whole.inputs[number, :length], rtol=0, atol=1e-12)
    for one, two in zip(found.weights, whole.weights, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-12)


def test_a_zero_cotangent_gives_zeros(rng):
    layer = nl.StackedLSTM(3, return_state=True, dtype="float64")
    (_, h_n, _), pullback = layer.vjp(rng.normal(size=(2, 4, 2)))
    gradients = pullback(None, None, np.zeros_like(h_n))
    assert gradients.inputs.shape == (2, 4, 2)
    assert [part.shape for part in gradients.initial_state] == [(2, 2, 3), (2, 2, 3)]
    assert not any(array.any() for array in (gradients.inputs, *gradients.weights, *gradients.initial_state))


def test_pullbacks_keep_their_dropout(rng):
    layer = nl.StackedLSTM(6, 2, dropout=0.5, dtype="float64", seed=2)
    x, g = rng.normal(size=(2, 3, 2)), rng.normal(size=(2, 6))
    y, pullback = layer.vjp(x, training=True)
    step = 1e-6 * rng.normal(size=x.shape)
    layer.layers[0]._random = np.random.default_rng(2)  # the numbers of the seed again
    moved = layer(x + step, training=True)
    np.testing.assert_allclose(((moved - y) * g).sum(), (pullback(g).inputs * step).sum(), rtol=1e-4)


# ---- the same thing said in other ways -----------------------------------------------------------------------------


@pytest.fixture
def layer(rng):
    return nl.StackedLSTM([5, 3], bidirectional=True, return_sequences=True, return_state=True, dtype="float64", seed=4)


def test_is_its_layers_on_top_of_each_other(layer, rng):
    x = rng.normal(size=(3, 6, 2))
    y, h_n, c_n = layer(x)
    below = nl.Bidirectional(nl.LSTM(5, return_sequences=True, return_state=True), dtype="float64")
    above = nl.Bidirectional(nl.LSTM(3, return_sequences=True, return_state=True, dtype="float64"))
    below = nl.Bidirectional(nl.LSTM(5, return_sequences=True, return_state=True, dtype="float64"))
    for part, values in ((below, layer.get_weights()[:6]), (above, layer.get_weights()[6:])):
        part.build((None, None, 2 if part is below else 10))
        part.set_weights(values)
    middle, *first = below(x)
    expected, *second = above(middle)
    np.testing.assert_array_equal(y, expected)
    for found, wanted in zip([*h_n, *c_n], [*first[::2], *second[::2], *first[1::2], *second[1::2]], strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_lengths_masks_and_lists_say_the_same(layer, rng):
    x = rng.normal(size=(4, 7, 2))
    lengths = np.array([3, 7, 0, 5])
    mask = np.arange(7) < lengths[:, None]
    x[~mask] = np.nan
    y, *finals = layer(x, lengths=lengths)
    assert not y[~mask].any()
    by_mask, *mask_finals = layer(x, mask=mask)
    np.testing.assert_array_equal(y, by_mask)
    rows, *list_finals = layer([row[:length] for row, length in zip(x, lengths, strict=True)])
    for found, row, length in zip(rows, y, lengths, strict=True):
        np.testing.assert_array_equal(found, row[:length])
    for part in (mask_finals, list_finals):
        for found, wanted in zip([*part[0], *part[1]], [*finals[0], *finals[1]], strict=True):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_last_output_is_that_of_the_last_step_that_counts(rng, bidirectional):
    options = {"bidirectional": bidirectional, "dtype": "float64"}
    whole = nl.StackedLSTM(3, return_sequences=True, **options)
    last = nl.StackedLSTM(3, **options)
    x = rng.normal(size=(3, 5, 2))
    y = whole(x, lengths=[5, 2, 4])
    last.build(x.shape)
    last.set_weights(whole.get_weights())
    found = last(x, lengths=[5, 2, 4])
    for row, length in enumerate((5, 2, 4)):
        np.testing.assert_array_equal(found[row], np.concatenate([y[row, length - 1, :3], y[row, 0, 3:]]))
        assert not y[row, length:].any()


def test_time_major(layer, rng):
    other = nl.StackedLSTM.from_config(layer.get_config() | {"time_major": True})
    x = rng.normal(size=(3, 6, 2))
    y, h_n, _ = layer(x, lengths=[6, 2, 3])
    other.build((6, 3, 2))
    other.set_weights(layer.get_weights())
    found, other_h, _ = other(x.swapaxes(0, 1), lengths=[6, 2, 3])
    np.testing.assert_array_equal(found.swapaxes(0, 1), y)
    for one, two in zip(other_h, h_n, strict=True):
        np.testing.assert_array_equal(one, two)


def test_in_a_model(rng):
    x = nl.Input((None, 2))
    lengths = nl.Input((), dtype="int32")
    y, h_n, c_n = nl.StackedLSTM(4, 3, return_sequences=True, return_state=True)(x, lengths=lengths)
    assert y.shape == (None, None, 4)
    assert h_n.shape == c_n.shape == (3, None, 4)
    model = nl.Model([x, lengths], nl.GlobalMaxPooling1D()(y))
    values = rng.normal(size=(3, 5, 2)).astype(np.float32)
    found = model([values, np.array([5, 1, 3])])
    expected = model.layers[2](values, lengths=[5, 1, 3])[0].max(axis=1)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("units", [3, [3, 2]])
def test_states_of_one_stack_start_another(rng, units):
    source, target = nl.Input((None, 2), dtype="float64"), nl.Input((None, 4), dtype="float64")
    encoder = nl.StackedLSTM(units, return_state=True, dtype="float64")
    decoder = nl.StackedLSTM(units, return_sequences=True, dtype="float64")
    _, h_n, c_n = encoder(source)
    model = nl.Model([source, target], decoder(target, initial_state=[h_n, c_n]))
    x, y = rng.normal(size=(3, 5, 2)), rng.normal(size=(3, 4, 4))
    (_, h, c), pull_encoder = encoder.vjp(x)
    expected, pull_decoder = decoder.vjp(y, initial_state=[h, c])
    found, pullback = model.vjp([x, y])
    np.testing.assert_array_equal(found, expected)
    g = rng.normal(size=expected.shape)
    after = pull_decoder(g)
    before = pull_encoder(None, *after.initial_state)
    gradients = pullback(g)
    np.testing.assert_allclose(gradients.inputs[0], before.inputs, rtol=0, atol=1e-13)
    np.testing.assert_allclose(gradients.inputs[1], after.inputs, rtol=0, atol=1e-13)
    for one, two in zip(gradients.weights, [*before.weights, *after.weights], strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-13)


def test_states_are_nothing_to_predict(rng):
    x = nl.Input((None, 2))
    _, h_n, _ = nl.StackedLSTM(3, 4, return_state=True)(x)
    model = nl.Model(x, h_n)
    values = rng.normal(size=(8, 5, 2)).astype(np.float32)
    assert model(values).shape == (4, 8, 3)
    with pytest.raises(ValueError, match=r"output 'stacked_lstm.*' has shape \(4, None, 3\)\. Call the model instead"):
        model.predict(values, batch_size=4)


def test_mask_of_a_model(rng):
    values = rng.normal(size=(3, 6, 2)).astype(np.float32)
    values[0, 4:] = values[2, 1:] = 0
    model = nl.Sequential([nl.Input((None, 2)), nl.Masking(), nl.StackedLSTM(3), nl.Dense(2)])
    stack = model.layers[1]
    np.testing.assert_array_equal(model(values), model.layers[2](stack(values, lengths=[4, 6, 1])))


def test_empty_batches():
    layer = nl.StackedLSTM(3, return_state=True)
    y, h_n, c_n = layer(np.zeros((0, 5, 2)), lengths=[])
    assert y.shape == (0, 3)
    assert h_n.shape == c_n.shape == (2, 0, 3)


def test_masks_travel_on_with_sequences(layer):
    mask = np.ones((2, 4), bool)
    passed, *none = layer.compute_mask(None, mask)
    assert passed is mask
    assert none == [[None] * 4, [None] * 4]
    values = np.ones((2, 5, 2), np.float32)
    values[0, 3:] = 0
    inside = [nl.Masking(), nl.StackedLSTM(3, return_sequences=True), nl.GlobalAveragePooling1D()]
    model = nl.Sequential([nl.Input((None, 2)), *inside])
    expected = model.layers[1](values, lengths=[3, 5])
    np.testing.assert_allclose(model(values), [expected[0, :3].mean(axis=0), expected[1].mean(axis=0)], rtol=1e-6)
    assert nl.StackedLSTM(3).compute_mask(None, mask) is None
    assert nl.StackedLSTM(3, return_state=True).compute_mask(None, mask) == [None, None, None]


def test_runs_on_the_compiled_kernels(recwarn, rng):
    layer = nl.StackedLSTM(6, 3, bidirectional=True, dropout=0.3, return_state=True)
    x = rng.normal(size=(2, 9, 3))
    _, h_n, c_n = layer(x, training=True)
    layer(x, lengths=[9, 4], initial_state=[h_n, c_n])
    layer([x[0], x[1, :4]], training=True)
    assert not recwarn  # SlowPathWarning names what they do not cover


@reference_allowed
def test_options_of_the_cell_reach_every_layer(rng):
    layer = nl.StackedLSTM([4, 3], bidirectional=True, peephole=True, use_bias=False, activation="softsign")
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    y = layer(x)
    assert [direction.activation.name for direction in layer.directions] == ["softsign"] * 4
    assert [weight.shape for weight in layer.weights] == [(3, 16), (4, 16), (3, 4)] * 2 + [(8, 12), (3, 12), (3, 3)] * 2
    below = nl.Bidirectional(nl.LSTM(4, peephole=True, use_bias=False, activation="softsign", return_sequences=True))
    above = nl.Bidirectional(nl.LSTM(3, peephole=True, use_bias=False, activation="softsign"))
    below.build((None, None, 3))
    above.build((None, None, 8))
    below.set_weights(layer.get_weights()[:6])
    above.set_weights(layer.get_weights()[6:])
    np.testing.assert_array_equal(above(below(x)), y)
    assert nl.StackedLSTM.from_config(layer.get_config()).get_config() == layer.get_config()


# ---- dropout -------------------------------------------------------------------------------------------------------


def test_dropout_acts_between_layers_only(rng):
    layer = nl.StackedLSTM(40, 2, dropout=0.4, return_sequences=True, dtype="float64", seed=1)
    x = rng.normal(size=(3, 5, 2))
    plain = layer(x)
    first = layer(x, training=True)
    assert not np.array_equal(first, layer(x, training=True))
    np.testing.assert_array_equal(layer(x), plain)
    assert first.all()  # nothing is dropped from what the last layer returns
    seen = np.zeros((3, 5, 40))
    for _ in range(60):
        middle = layer.layers[0](x)[0]
        factors = layer._factors(layer.layers[0], middle, None, True)
        assert set(np.unique(factors)) == {0, 1 / 0.6}
        seen += factors
    assert np.abs(seen / 60 - 1).max() < 0.6  # each element and step by itself
    assert abs(seen.mean() / 60 - 1) < 0.02


def test_a_seed_repeats_the_dropout(rng):
    x = rng.normal(size=(3, 5, 2))
    layer = nl.StackedLSTM(4, 3, dropout=0.5, seed=7)
    layer.build(x.shape)
    again = nl.StackedLSTM.from_config(layer.get_config())
    again.build(x.shape)
    again.set_weights(layer.get_weights())
    for _ in range(2):
        np.testing.assert_array_equal(layer(x, training=True), again(x, training=True))


def test_dropout_of_a_list(rng):
    layer = nl.StackedLSTM(4, 2, dropout=0.5, return_sequences=True, dtype="float64")
    rows = [rng.normal(size=(length, 2)) for length in (3, 6)]
    factors = [rng.integers(0, 2, (length, 4)) * 2.0 for length in (3, 6)]
    found = layer(rows, training=True, dropout_masks=[factors])
    for row, factor, y in zip(rows, factors, found, strict=True):
        expected = layer(row[None], training=True, dropout_masks=[factor[None]])
        np.testing.assert_allclose(y, expected[0], rtol=0, atol=1e-14)


# ---- config, weights, text -----------------------------------------------------------------------------------------


def test_config_makes_an_equal_layer(layer):
    layer = nl.StackedLSTM(
        [4, 2], dropout=0.25, bidirectional=True, time_major=True, seed=3, use_bias=False, activation="softsign",
        kernel_initializer="he_normal", recurrent_regularizer="l2", recurrent_dropout=0.5, name="stack",
    )  # fmt: skip
    config = json.loads(json.dumps(layer.get_config()))
    again = nl.layers.deserialize({"class_name": "StackedLSTM", "config": config})
    assert again.get_config() == layer.get_config()
    assert [d.activation.name for d in again.directions] == ["softsign"] * 4
    assert again.directions[3].recurrent_dropout == 0.5
    assert not again.built


def test_weights(layer):
    layer.build((None, None, 2))
    shapes = [weight.shape for weight in layer.weights]
    assert shapes == [
        (2, 20),
        (5, 20),
        (20,),
        (2, 20),
        (5, 20),
        (20,),
        (10, 12),
        (3, 12),
        (12,),
        (10, 12),
        (3, 12),
        (12,),
    ]
    assert layer.count_params() == sum(np.prod(shape) for shape in shapes)
    layer.trainable = False
    assert layer.trainable_weights == []
    frozen = nl.StackedLSTM(3, trainable=False, input_shape=(None, 2))
    assert len(frozen.non_trainable_weights) == 6


def test_copies(layer, rng):
    x = rng.normal(size=(2, 4, 3))
    y = layer(x)[0]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(layer))(x)[0], y)


def test_repr(layer):
    assert repr(nl.StackedLSTM(3, 2, dropout=0.5, name="s")) == "StackedLSTM([3, 3], dropout=0.5, name='s')"


# ---- looking inside, streams ---------------------------------------------------------------------------------------


def test_trace(layer, rng):
    x = rng.normal(size=(3, 6, 2))
    start = [[rng.normal(size=(3, width)) for width in (5, 5, 3, 3)] for _ in range(2)]
    y, _, c_n = layer(x, initial_state=start)
    traces = layer.trace(x, initial_state=start)
    assert [trace.i.shape for trace in traces] == [(3, 6, 5), (3, 6, 5), (3, 6, 3), (3, 6, 3)]
    np.testing.assert_allclose(np.concatenate([traces[2].h, traces[3].h[:, ::-1]], axis=-1), y, atol=1e-12)
    for trace, c in zip(traces, c_n, strict=True):
        np.testing.assert_allclose(trace.c[:, -1], c, atol=1e-12)


def test_trace_heeds_lengths(layer, rng):
    traces = layer.trace(rng.normal(size=(2, 4, 2)), lengths=[1, 4])
    assert np.isnan(traces[0].i[0, 1:]).all()
    assert np.isnan(traces[1].i[0, :3]).all()  # backwards: the padding comes first
    assert not np.isnan(traces[2].i[1]).any()


def test_stream(rng):
    layer = nl.StackedLSTM([4, 3], return_sequences=True)
    x = rng.normal(size=(1, 5, 2)).astype(np.float32)
    y = layer(x)
    stream = layer.stream()
    for t in range(5):
        np.testing.assert_array_equal(stream.step(x[:, t]), y[:, t])


def test_no_stream_in_both_directions(rng):
    layer = nl.StackedLSTM(4, bidirectional=True, input_shape=(None, 2))
    with pytest.raises(ValueError, match="reads the sequence from its end too"):
        layer.stream()


# ---- variants in a stack -------------------------------------------------------------------------------------------

HARD = nl.activations.onnx("HardSigmoid", 0.3, 0.4)
VARIANTS = {
    "peephole": {"peephole": True, "peephole_regularizer": "l2"},
    "projection": {"proj_size": 2, "projection_clip": 0.4, "projection_initializer": "orthogonal"},
    "gates": {"input_forget": True, "clip": 0.7, "cell_clip": 0.4, "gate_activations": [HARD, "tanh", "softsign"]},
    "layer_norm": {"layer_norm": True, "gamma_initializer": nl.initializers.Constant(0.5)},
    "zoneout": {"zoneout": (0.3, 0.2)},
    "weight_drop": {"weight_drop": 0.3},
    "learned": {"learn_initial_state": True, "initial_state_initializer": "ones"},
}


@reference_allowed
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_every_variant_in_a_stack(rng, tmp_path, options, bidirectional):
    def model():
        made = nl.StackedLSTM([5, 4], bidirectional=bidirectional, dropout=0.2, seed=3, **options, dtype="float64",
                              return_sequences=True)  # fmt: skip
        again = nl.StackedLSTM.from_config(json.loads(json.dumps(made.get_config())))
        assert again.get_config() == made.get_config()
        return nl.Sequential([nl.Input((None, 2), dtype="float64"), again])

    one, other, x = model(), model(), rng.normal(size=(3, 6, 2))
    one.set_weights([rng.normal(0.1, 0.4, weight.shape) for weight in one.weights])
    one.save_checkpoint(tmp_path / "stack")
    other.load_checkpoint(tmp_path / "stack")
    y = one(x)
    np.testing.assert_array_equal(other(x), y)
    layer, lengths = one.layers[0], np.array([2, 6, 4])
    found, pullback = layer.vjp(x, lengths=lengths)
    alone = layer([row[:length] for row, length in zip(x, lengths, strict=True)])
    for row, length, sequence in zip(found, lengths, alone, strict=True):
        np.testing.assert_allclose(row[:length], sequence, rtol=0, atol=1e-12)
    g, direction = rng.normal(size=found.shape), rng.normal(size=x.shape)
    above, below = (layer(x + e * direction, lengths=lengths) for e in (1e-6, -1e-6))
    gradients = pullback(g)
    assert np.vdot(gradients.inputs, direction) == pytest.approx(np.vdot(above - below, g) / 2e-6, rel=1e-6, abs=1e-7)
    assert [gradient.shape for gradient in gradients.weights] == [weight.shape for weight in layer.weights]
    assert all(gradient.any() for gradient in gradients.weights)
    assert [trace.h.shape[:2] for trace in layer.trace(x, lengths=lengths)] == [(3, 6)] * len(layer.directions)
    if not bidirectional and "learn_initial_state" not in options:
        stream = one.stream(3)
        steps = np.stack([stream.step(x[:, t]).copy() for t in range(6)], axis=1)
        np.testing.assert_allclose(steps, y, rtol=0, atol=1e-12)


# ---- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"units": 0}, ValueError, "units must be at least 1"),
        ({"units": [3, 2.0]}, TypeError, r"units\[1\] must be an integer, got 2.0"),
        ({"units": []}, ValueError, "units must hold at least one width, got 0"),
        ({"units": [3, 4], "num_layers": 3}, ValueError, "units must hold 3 widths, one for each layer, got 2"),
        ({"units": 3, "num_layers": 0}, ValueError, "num_layers must be at least 1"),
        ({"units": 3, "dropout": 1.5}, ValueError, r"dropout must be in \[0, 1\]"),
        ({"units": 3, "num_layers": 1, "dropout": 0.5}, ValueError, "dropout acts between layers"),
        ({"units": 3, "proj_size": -1}, ValueError, "proj_size must be at least 0"),
        ({"units": 3, "stateful": True}, ValueError, "unknown argument 'stateful'"),
        ({"units": 3, "activation": "tahn"}, ValueError, "Did you mean 'tanh'"),
    ],
)
def test_wrong_options(options, error, message):
    with pytest.raises(error, match=message):
        nl.StackedLSTM(**options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lengths": [3, 5]}, r"lengths must have shape \(3,\), got \(2,\)"),
        ({"lengths": [3, 5, 2.0]}, "lengths must be integers, got dtype float64"),
        ({"lengths": [3, 6, 2]}, r"lengths must be in 0 ... 5, the steps of the inputs, got 2 ... 6"),
        ({"lengths": [3, -1, 2]}, r"lengths must be in 0 ... 5, the steps of the inputs, got -1 ... 3"),
        ({"lengths": [3, 1, 2], "mask": np.ones((3, 5))}, "give mask or lengths, not both"),
        ({"initial_state": np.zeros((4, 3, 5))}, r"initial_state must be a pair \[h_0, c_0\], got an array"),
        ({"initial_state": [np.zeros((4, 3, 5))]}, r"initial_state must be a pair \[h_0, c_0\], got 1 states"),
        ({"initial_state": [np.zeros((3, 5))] * 2}, r"initial_state\[0\] must hold 4 arrays"),
        (
            {"initial_state": [np.zeros((4, 3, 5))] * 2},
            r"StackedLSTM: initial_state\[0\]\[2\] must have shape \(3, 3\), got \(3, 5\)",
        ),
        ({"dropout_masks": [np.ones((3, 5, 10))]}, "dropout_masks are for training=True"),
        ({"dropout_masks": np.ones((3, 5, 10)), "training": True}, "dropout_masks must be a list of 1 arrays"),
        (
            {"dropout_masks": [np.ones((3, 10))], "training": True},
            r"dropout_masks\[0\] must have shape \(3, 5, 10\), got \(3, 10\)",
        ),
    ],
)
def test_wrong_arguments(layer, arguments, message):
    with pytest.raises(ValueError, match=message):
        layer(np.zeros((3, 5, 2)), **arguments)


def test_lengths_are_not_for_lists(layer):
    with pytest.raises(ValueError, match="lengths are for one padded array"):
        layer([np.zeros((3, 2))], lengths=[3])
