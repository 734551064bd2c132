"""The variants of the LSTM layer and cell: numbers of other frameworks, weights, configs, training, streams."""

import copy
import json
import math
import pickle

import numpy as np
import pytest
from support.cases import holes, oracle
from support.golden import FOLDER, assert_close, load

from numbalstm import activations, initializers
from numbalstm.functional import Variant, lstm_backward, lstm_forward
from numbalstm.layers.base import deserialize
from numbalstm.layers.cell import LSTMCell
from numbalstm.layers.lstm import LSTM
from numbalstm.layers.rnn import RNN
from numbalstm.parameters import NORM_ARRAYS, WEIGHT_NAMES

pytestmark = pytest.mark.filterwarnings("ignore::numbalstm.backends.interface.SlowPathWarning")

PLAIN = ("kernel", "recurrent_kernel", "bias")


def recorded(name):
    with np.load(FOLDER / "variants.npz") as arrays:
        return {key.partition("__")[2]: arrays[key] for key in arrays.files if key.startswith(f"{name}__")}


def weight_names(layer):
    return [weight.name for weight in layer.weights]


# ---- numbers of TensorFlow 1 and PyTorch ------------------------------------------------------------------------

RECORDED = {
    "tf1_peephole": {"peephole": True},
    "tf1_cell_clip": {"cell_clip": 0.4},
    "tf1_peephole_cell_clip": {"peephole": True, "cell_clip": 0.5},
    "tf1_projection": {"proj_size": 2},
    "tf1_projection_clip": {"proj_size": 2, "projection_clip": 0.2},
    "tf1_everything": {"peephole": True, "cell_clip": 0.6, "proj_size": 2, "projection_clip": 0.25},
    "torch_layer_norm": {"layer_norm": True},
    "torch_coupled": {"input_forget": True},
}


@pytest.mark.parametrize("name", RECORDED)
def test_numbers_and_gradients_of_tensorflow_1_and_torch(name):
    arrays = recorded(name)
    layer = LSTM(5, return_sequences=True, return_state=True, dtype="float64", **RECORDED[name])
    layer.build(arrays["x"].shape)
    layer.set_weights([arrays[weight] for weight in weight_names(layer)])
    returned, pullback = layer.vjp(arrays["x"], initial_state=[arrays["h0"], arrays["c0"]])
    called = layer(arrays["x"], initial_state=[arrays["h0"], arrays["c0"]])
    for key, *found in zip(("out", "h", "c"), returned, called, strict=True):
        for array in found:
            np.testing.assert_allclose(array, arrays[key], rtol=0, atol=1e-10, err_msg=key)
    gradients = pullback(arrays["g_out"], arrays["g_h"], arrays["g_c"])
    close = {"d_x": gradients.inputs, "d_h0": gradients.initial_state[0], "d_c0": gradients.initial_state[1]}
    close |= {f"d_{weight}": gradients.weights[weight] for weight in weight_names(layer)}
    for key, found in close.items():
        tolerance = 1e-9 * max(1.0, np.abs(arrays[key]).max())
        np.testing.assert_allclose(found, arrays[key], rtol=0, atol=tolerance, err_msg=key)


@pytest.mark.parametrize("name", ["torch_zoneout", "torch_layer_norm_zoneout_coupled"])
def test_zoneout_of_given_masks_in_torch(name):
    arrays = recorded(name)
    norm = "torch_layer_norm_zoneout_coupled" == name
    cell = LSTMCell(5, layer_norm=norm, input_forget=norm, dtype="float64")
    cell.build((None, arrays["x"].shape[2]))
    cell.set_weights([arrays[weight] for weight in weight_names(cell)])
    variant = Variant(coupled=norm, zoneout=(arrays["zone_c"], arrays["zone_h"]))
    start = (arrays["h0"], arrays["c0"])
    result = lstm_forward(arrays["x"], cell.parameters, initial_state=start, variant=variant, tape=True)
    for key in ("h", "c"):
        np.testing.assert_allclose(getattr(result, key), arrays[key], rtol=0, atol=1e-10)
    np.testing.assert_allclose(result.outputs, arrays["out"], rtol=0, atol=1e-10)
    found = lstm_backward(arrays["g_out"], result.tape, d_h=arrays["g_h"], d_c=arrays["g_c"])
    np.testing.assert_allclose(found.x, arrays["d_x"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.c, arrays["d_c0"], rtol=0, atol=1e-9)
    for weight in weight_names(cell):
        expected = arrays[f"d_{weight}"]
        atol = 1e-9 * max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(found.parameters[weight], expected, rtol=0, atol=atol, err_msg=weight)


def test_projection_of_torch():
    case, arrays = load("pt-proj")
    bias = arrays["bias_ih_l0"] + arrays["bias_hh_l0"]
    projection = arrays["weight_hr_l0"].T
    weights = [arrays["weight_ih_l0"].T, arrays["weight_hh_l0"].T, bias, projection]
    layer = LSTM(
        projection.shape[0],
        proj_size=projection.shape[1],
        return_sequences=True,
        return_state=True,
        time_major=True,
        dtype="float64",
        weights=weights,
        batch_input_shape=arrays["x"].shape,
    )
    start = [arrays["h0"][0], arrays["c0"][0]]
    returned, pullback = layer.vjp(arrays["x"], initial_state=start)
    for output, key in zip(layer(arrays["x"], initial_state=start), ("out", "h_n", "c_n"), strict=True):
        assert_close(case, output if key == "out" else output[None], arrays[key])
    found = pullback(arrays["g_out"], arrays["g_h_n"][0], arrays["g_c_n"][0])
    np.testing.assert_allclose(found.inputs, arrays["d_x"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.weights["projection_kernel"].T, arrays["d_weight_hr_l0"], rtol=0, atol=1e-9)
    assert returned[0].flags.c_contiguous


# ---- numbers of ONNX --------------------------------------------------------------------------------------------


def of_onnx(arrays, **options):
    """A layer with the weights of an ONNX node of one direction, whose gates stand in the order i, o, f, c."""

    def turned(rows):
        i, o, f, g = np.split(rows, 4)
        return np.concatenate([i, f, g, o])

    units = arrays["R"].shape[2]
    weights = [turned(arrays["W"][0]).T, turned(arrays["R"][0]).T]
    weights.append(turned(arrays["B"][0][: 4 * units]) + turned(arrays["B"][0][4 * units :]))
    if "P" in arrays:
        p_i, p_o, p_f = np.split(arrays["P"][0], 3)
        weights.append(np.stack([p_i, p_f, p_o]))
    shape = (None, None, arrays["X"].shape[2])
    options = {"return_sequences": True, "return_state": True, "dtype": arrays["X"].dtype, **options}
    return LSTM(units, batch_input_shape=shape, weights=weights, **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ox-clip", {"clip": 0.75}),
        ("ox-input-forget", {"input_forget": True}),
        ("ox-peephole", {"peephole": True}),
        (
            "ox-activations",
            {
                "gate_activations": [
                    activations.onnx("HardSigmoid", 0.3, 0.4),
                    activations.onnx("ScaledTanh", 1.5, 0.7),
                    activations.onnx("Elu", 0.5),
                ]
            },
        ),
    ],
)
def test_numbers_of_onnx(name, options):
    case, arrays = load(name)
    layer = of_onnx(arrays, **options)
    start = [arrays["initial_h"][0], arrays["initial_c"][0]] if "initial_h" in arrays else None
    x = arrays["X"].swapaxes(0, 1)
    y, h, c = layer(x, initial_state=start)
    assert_close(case, y.swapaxes(0, 1)[:, None], arrays["Y"])
    assert_close(case, h[None], arrays["Y_h"])
    assert_close(case, c[None], arrays["Y_c"])
    again = LSTM.from_config(json.loads(json.dumps(layer.get_config())))
    again.build(x.shape)
    again.set_weights(layer.get_weights())
    assert np.array_equal(again(x, initial_state=start)[0], y)


# ---- every option: weights, config, copies, trace, gradients ----------------------------------------------------

OPTIONS = {
    "plain": {},
    "peephole": {"peephole": True},
    "projection": {"proj_size": 3},
    "coupled": {"input_forget": True},
    "clip": {"clip": 0.8},
    "cell_clip": {"cell_clip": 0.4},
    "projection_clip": {"proj_size": 3, "projection_clip": 0.2},
    "layer_norm": {"layer_norm": True, "layer_norm_epsilon": 1e-3},
    "zoneout": {"zoneout": (0.3, 0.2)},
    "weight_drop": {"weight_drop": 0.4},
    "learned": {"learn_initial_state": True},
    "gates": {"gate_activations": ("sigmoid", "hard_sigmoid", "softsign", "relu", activations.onnx("LeakyRelu"))},
    "onnx": {"gate_activations": ["hard_sigmoid", "elu", "tanh"]},
    "chrono": {"bias_initializer": initializers.ChronoInitializer(20, seed=1)},
    "all": {
        "peephole": True,
        "proj_size": 3,
        "input_forget": True,
        "clip": 2.0,
        "cell_clip": 1.0,
        "projection_clip": 0.9,
        "layer_norm": True,
        "zoneout": (0.3, 0.0),
        "weight_drop": 0.2,
        "learn_initial_state": True,
        "gate_activations": ["sigmoid", "tanh", "softsign"],
    },
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def made(rng, options, cls=LSTM, features=2, **more):
    """A built layer of 4 units with random weights."""
    layer = cls(4, **options, seed=5, dtype="float64", **more)
    layer.build((None, None, features) if cls is LSTM else (None, features))
    layer.set_weights([weight.value + rng.normal(0, 0.3, weight.shape) for weight in layer.weights])
    return layer


@every_option
@pytest.mark.parametrize("cls", [LSTM, LSTMCell])
def test_config_and_copies_keep_everything(rng, options, cls):
    layer = made(rng, options, cls)
    config = json.loads(json.dumps(layer.get_config()))
    again = deserialize({"class_name": cls.__name__, "config": config})
    assert again.get_config() == layer.get_config()
    again.build((None, None, 2) if cls is LSTM else (None, 2))
    assert [weight.shape for weight in again.weights] == [weight.shape for weight in layer.weights]
    assert weight_names(again) == weight_names(layer)
    again.set_weights(layer.get_weights())
    x = rng.normal(size=(3, 5, 2))
    copies = [again, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]

    def run(one):
        if cls is LSTM:
            return one(x)
        return one(x[:, 0], one.get_initial_state(3))[0]

    assert all(np.array_equal(run(one), run(layer)) for one in copies)


def test_a_plain_layer_has_the_config_of_keras():
    mine = set(OPTIONS["all"]) | {"layer_norm_epsilon", "checkpoint_every"}
    assert not mine & LSTM(4, checkpoint_every=3).get_config().keys()
    assert not mine & LSTMCell(4).get_config().keys()
    assert LSTM(4, checkpoint_every=3).clone().checkpoint_every == 3


def test_weights_come_in_the_stated_order(rng):
    layer = made(rng, OPTIONS["all"])
    expected = {
        "kernel": (2, 16),
        "recurrent_kernel": (3, 16),
        "bias": (16,),
        "peephole_kernel": (3, 4),
        "projection_kernel": (4, 3),
        **{name: (4,) if name.startswith("cell") else (16,) for name in NORM_ARRAYS},
        "initial_h": (3,),
        "initial_c": (4,),
    }
    assert {weight.name: weight.shape for weight in layer.weights} == expected
    assert weight_names(layer) == list(expected)
    assert list(expected)[: len(WEIGHT_NAMES)] == list(WEIGHT_NAMES)
    assert layer.count_params() == sum(math.prod(shape) for shape in expected.values())
    fresh = LSTM(4, **OPTIONS["all"], batch_input_shape=(None, None, 2))
    values = dict(zip(expected, fresh.get_weights(), strict=True))
    assert all((values[name] == 1).all() for name in NORM_ARRAYS if name.endswith("gamma"))
    zeros = [name for name in NORM_ARRAYS if name.endswith("beta")] + ["initial_h", "initial_c"]
    assert not any(values[name].any() for name in zeros)
    assert (values["bias"][4:8] == 1).all()
    assert 0 < np.abs(values["peephole_kernel"]).max() < math.sqrt(6 / 8)
    assert 0 < np.abs(values["projection_kernel"]).max() < math.sqrt(6 / 7)


def test_chrono_goes_before_unit_forget_bias():
    layer = LSTM(50, bias_initializer=initializers.ChronoInitializer(100, seed=2), batch_input_shape=(1, None, 2))
    i, f, g, o = np.split(layer.bias.value, 4)
    assert np.array_equal(i, -f)
    assert np.exp(f).max() > 80
    assert not np.concatenate([g, o]).any()


@every_option
def test_trace_shows_what_a_call_computes(rng, options):
    x, mask = rng.normal(size=(3, 6, 2)), holes(rng, 3, 6)
    layer = made(rng, options, return_sequences=True, return_state=True)
    trace = layer.trace(x, mask=mask)
    y, h, c = layer(x, mask=mask)
    np.testing.assert_allclose(trace.h[mask], y[mask], rtol=0, atol=1e-12)
    np.testing.assert_allclose(trace.h[:, -1], h, rtol=0, atol=1e-12)
    np.testing.assert_allclose(trace.c[:, -1], c, rtol=0, atol=1e-12)
    for gate in trace[:4]:
        assert gate.shape == (3, 6, 4)
        assert np.array_equal(np.isnan(gate), np.broadcast_to(~mask[:, :, None], gate.shape))
    if options.get("input_forget"):
        np.testing.assert_allclose(trace.f[mask], 1 - trace.i[mask])


@every_option
@pytest.mark.parametrize("training", [False, True])
def test_gradients_are_slopes(rng, options, training):
    """Of calls with the same draws, every weight and the inputs; a fresh layer of one seed draws the same."""
    x = rng.normal(size=(3, 5, 2))
    values = made(rng, options).get_weights()

    def fresh(values):
        layer = LSTM(4, **options, seed=5, dtype="float64", return_sequences=True)
        layer.build((None, None, 2))
        layer.set_weights(values)
        return layer

    layer = fresh(values)
    y, pullback = layer.vjp(x, training=training)
    np.testing.assert_allclose(y, fresh(values)(x, training=training), rtol=0, atol=1e-12)
    dy = rng.normal(size=y.shape)
    found = pullback(dy)
    assert found.weights.names == tuple(weight_names(layer))

    def loss(x, values):
        return np.vdot(fresh(values)(x, training=training), dy)

    directions = [rng.normal(size=value.shape) for value in (x, *values)]
    for index, gradient in enumerate((found.inputs, *found.weights)):
        sides = []
        for step in (1e-6, -1e-6):
            moved = [x, *values]
            moved[index] = moved[index] + step * directions[index]
            sides.append(loss(moved[0], moved[1:]))
        slope = (sides[0] - sides[1]) / 2e-6
        assert np.vdot(gradient, directions[index]) == pytest.approx(slope, rel=3e-7, abs=1e-8), index


@every_option
def test_a_list_of_sequences_is_each_alone(rng, options):
    layer = made(rng, options)
    xs = [rng.normal(size=(time, 2)) for time in (4, 1, 6)]
    np.testing.assert_allclose(layer(xs), np.concatenate([layer(x[None]) for x in xs]), rtol=0, atol=1e-12)
    assert layer(xs, training=True).shape == (3, layer.output_size)


@every_option
def test_a_cell_over_time_is_the_layer(rng, options):
    x, mask = rng.normal(size=(3, 5, 2)), holes(rng, 3, 5)
    layer = made(rng, options, return_state=True)
    rnn = RNN(LSTMCell(4, **options, dtype="float64"), return_state=True, dtype="float64")
    rnn.build((None, None, 2))
    rnn.set_weights(layer.get_weights())
    for found, expected in zip(rnn(x, mask=mask), layer(x, mask=mask), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    cell, state = rnn.cell, rnn.cell.get_initial_state(3)
    assert [part.shape[1] for part in state] == cell.state_size == layer.state_size
    for t in range(5):
        output, state = cell(x[:, t], state)
    np.testing.assert_allclose(output, layer(x)[0], rtol=0, atol=1e-12)
    dy = rng.normal(size=output.shape)
    expected, found = (one.vjp(x)[1](dy) for one in (layer, rnn))
    for a, b in zip(found.weights, expected.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


@every_option
def test_half_precision_and_time_major(rng, options):
    layer = LSTM(4, **options, dtype="float16", return_sequences=True, return_state=True, time_major=True)
    x = rng.normal(size=(5, 3, 2)).astype(np.float16)
    y, h, c = layer(x)
    assert (y.shape, h.shape, c.shape) == ((5, 3, layer.output_size), (3, layer.output_size), (3, 4))
    assert layer.compute_output_shape((5, 3, 2)) == (y.shape, h.shape, c.shape)
    assert {y.dtype, h.dtype, c.dtype} == {np.dtype(np.float16)}
    full = LSTM(4, **options, return_sequences=True, batch_input_shape=(None, None, 2))
    full.set_weights(layer.get_weights())
    np.testing.assert_allclose(full(x.swapaxes(0, 1)), y.swapaxes(0, 1), rtol=0, atol=5e-3)


# ---- what training draws ----------------------------------------------------------------------------------------


def test_zoneout_mixes_in_inference_and_draws_in_training(rng):
    x = rng.normal(size=(3, 5, 2))
    layer = made(rng, {"zoneout": (0.3, 0.2)}, return_sequences=True)
    expected, _, _ = oracle(x, layer.parameters, zoneout=(0.3, 0.2))
    np.testing.assert_allclose(layer(x), expected, rtol=0, atol=1e-12)
    draws = np.random.default_rng(5)
    zones = tuple((draws.random((3, 5, 4)) < rate).astype(float) for rate in (0.3, 0.2))
    expected, _, _ = oracle(x, layer.parameters, zoneout=zones)
    np.testing.assert_allclose(layer(x, training=True), expected, rtol=0, atol=1e-12)
    frozen = made(rng, {"zoneout": (1.0, 1.0)}, return_sequences=True)
    for training in (False, True):
        assert not frozen(x, training=training).any()


def test_weight_drop_drops_weights_for_the_whole_call(rng):
    x = rng.normal(size=(3, 5, 2))
    layer = made(rng, {"weight_drop": 0.4}, return_sequences=True)
    kept = np.random.default_rng(5).random((4, 16)) >= 0.4
    dropped = made(rng, {}, return_sequences=True)
    kernel, recurrent, bias = layer.get_weights()
    dropped.set_weights([kernel, recurrent * kept / 0.6, bias])
    np.testing.assert_allclose(layer(x, training=True), dropped(x), rtol=0, atol=1e-12)
    plain = made(rng, {}, return_sequences=True)
    plain.set_weights(layer.get_weights())
    assert np.array_equal(layer(x), plain(x))
    _, pullback = layer.vjp(x, training=True)
    assert (pullback(np.ones((3, 5, 4))).weights["recurrent_kernel"] != 0).mean() < 0.8


def test_draws_of_plain_layers_are_those_of_before(rng):
    """The variants' draws come after the dropout's."""
    x = rng.normal(size=(3, 5, 2))
    layer = LSTM(4, dropout=0.5, recurrent_dropout=0.5, zoneout=(0.5, 0.5), seed=3, dtype="float64")
    layer(x, training=True)
    random = np.random.default_rng(3)
    for size in (4 * 3 * 2, 4 * 3 * 4, 2 * 3 * 5 * 4):
        random.random(size)
    assert layer._random.random() == random.random()


# ---- learned initial states -------------------------------------------------------------------------------------


def test_learned_states_start_every_row_that_is_given_none(rng):
    x = rng.normal(size=(3, 5, 2))
    layer = made(rng, {"learn_initial_state": True, "proj_size": 3}, return_state=True)
    *_, h, c = layer.get_weights()
    start = [np.tile(h, (3, 1)), np.tile(c, (3, 1))]
    given = layer(x, initial_state=start)
    for found, expected in zip(layer(x), given, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    _, pullback = layer.vjp(x, initial_state=start)
    gradients = pullback(np.ones((3, 3)))
    assert not gradients.weights["initial_c"].any()
    _, pullback = layer.vjp(x)
    learned = pullback(np.ones((3, 3)))
    np.testing.assert_allclose(learned.weights["initial_c"], gradients.initial_state[1].sum(axis=0), atol=1e-12)
    np.testing.assert_allclose(learned.weights["initial_h"], gradients.initial_state[0].sum(axis=0), atol=1e-12)
    masked = layer(x, mask=np.zeros((3, 5)))
    np.testing.assert_array_equal(masked[1], start[0])


# ---- streams ----------------------------------------------------------------------------------------------------


@every_option
@pytest.mark.parametrize("in_a_cell", [False, True])
def test_streams_run_every_variant_or_say_why_not(rng, options, in_a_cell):
    x = rng.normal(size=(3, 5, 2))
    layer = made(rng, options, return_sequences=True)
    if in_a_cell:
        rnn = RNN(LSTMCell(4, **options, dtype="float64"), return_sequences=True, dtype="float64")
        rnn.build((None, None, 2))
        rnn.set_weights(layer.get_weights())
        layer = rnn
    if options.get("learn_initial_state"):
        with pytest.raises(ValueError, match="cannot run step by step: has learn_initial_state=True, and a stream st"):
            layer.stream()
        return
    stream = layer.stream(batch=3)
    steps = [stream.step(x[:, t]).copy() for t in range(2)]
    rest = stream.run(x[:, 2:])
    found = np.concatenate([np.stack(steps, axis=1), rest], axis=1)
    np.testing.assert_allclose(found, layer(x), rtol=0, atol=1e-12)


# ---- refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [LSTM, LSTMCell])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"proj_size": -1}, ValueError, "proj_size must be at least 0, got -1."),
        ({"proj_size": True}, TypeError, "proj_size must be an integer, got True."),
        ({"clip": 0}, ValueError, "clip must be above 0 (None: no limit), got 0."),
        ({"cell_clip": math.inf}, ValueError, "cell_clip must be finite, got inf."),
        ({"projection_clip": 1.0}, ValueError, "projection_clip needs a projection; give proj_size too."),
        ({"zoneout": 0.1}, ValueError, "zoneout must be a pair of rates (c, h), got 0.1."),
        ({"zoneout": (0.1, 1.1)}, ValueError, "zoneout[1] must be in [0, 1], got 1.1."),
        ({"weight_drop": -0.1}, ValueError, "weight_drop must be in [0, 1], got -0.1."),
        ({"layer_norm_epsilon": -1}, ValueError, "layer_norm_epsilon must be at least 0, got -1."),
        (
            {"gate_activations": ["tanh"] * 4},
            ValueError,
            "gate_activations must be 3 (gates, candidate, cell state) or 5 (i, f, g, o, cell state), got 4.",
        ),
        (
            {"gate_activations": ["tanh", "tan", "tanh"]},
            ValueError,
            "gate_activations[1]: unknown activation 'tan'. Did you mean 'tanh'?",
        ),
        (
            {"gate_activations": ["tanh"] * 3, "activation": "relu"},
            ValueError,
            "gate_activations replace activation and recurrent_activation; leave those at their defaults.",
        ),
        ({"peepholes": True}, ValueError, "unknown argument 'peepholes'. Did you mean 'peephole'?"),
    ],
)
def test_refusals(cls, options, error, message):
    with pytest.raises(error) as caught:
        cls(4, **options)
    assert str(caught.value).startswith(f"{cls.__name__}: {message}")


def test_refusals_of_layers():
    with pytest.raises(ValueError, match="LSTM: learn_initial_state does not go with stateful=True"):
        LSTM(4, learn_initial_state=True, stateful=True)
    with pytest.raises(ValueError, match="LSTM: checkpoint_every must be at least 1, got 0"):
        LSTM(4, checkpoint_every=0)


def test_repr_names_the_options():
    layer = LSTM(4, peephole=True, zoneout=(0.1, 0.0), name="l")
    assert repr(layer) == "LSTM(4, peephole=True, zoneout=[0.1, 0.0], name='l')"
