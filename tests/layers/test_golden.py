"""Every recorded forward case of Keras 3, Keras 2, TensorFlow 1 and PyTorch that the recurrent layers can express."""

import numpy as np
import pytest
from support.differences import Fixed
from support.golden import CASES, assert_close, assert_gradients, cases, load

from numbalstm import constraints, initializers, regularizers
from numbalstm.functional import lstm_forward
from numbalstm.layers.base import Layer
from numbalstm.layers.bidirectional import Bidirectional
from numbalstm.layers.cell import LSTMCell
from numbalstm.layers.core import Dense
from numbalstm.layers.gradients import LayerGradients
from numbalstm.layers.lstm import LSTM
from numbalstm.layers.rnn import RNN
from numbalstm.layers.time_distributed import TimeDistributed
from numbalstm.parameters import LSTMParameters

pytestmark = pytest.mark.filterwarnings("ignore::numbalstm.backends.interface.SlowPathWarning")

WEIGHTS = ("kernel", "recurrent_kernel", "bias")
GENERATIONS = {"keras3": "keras3", "keras2": "keras2", "compat_v1": "v1"}


def options(config):
    """A recorded config as constructor arguments: [class name, arguments] becomes the object."""
    made = {}
    for key, value in config.items():
        for module in (regularizers, constraints, initializers):
            if isinstance(value, list) and key.endswith(module.__name__.rpartition(".")[2].removesuffix("s")):
                value = getattr(module, value[0])(**value[1])
        made[key] = value
    return made


def weights(arrays, prefix=""):
    return [arrays[prefix + name] for name in WEIGHTS if prefix + name in arrays]


def as_list(returned):
    return list(returned) if isinstance(returned, (tuple, list)) else [returned]


def make_lstm(case, **more):
    return LSTM(**options(case["config"]), dtype=case["dtype"], generation=GENERATIONS[case["generation"]], **more)


def call(layer, case, arrays, prefix=""):
    """Call a layer on a case's arrays; returns what came, as a list, and the names of what should come."""
    get = lambda name: arrays.get(prefix + name)  # noqa: E731
    state = None if get("h0") is None else [get("h0"), get("c0")]
    arguments = {"mask": get("mask"), "initial_state": state}
    if case.get("training"):
        arguments |= {"training": True, "dropout_masks": (get("dp_mask"), get("rec_dp_mask"))}
    names = ["out", "h", "c"] if layer.return_state else ["out"]
    return as_list(layer(arrays[prefix + "x"], **arguments)), names


@pytest.mark.parametrize("name", [name for name in cases("lstm") if "calls" not in CASES[name]])
def test_lstm(name):
    case, arrays = load(name)
    layer = make_lstm(case, weights=weights(arrays), batch_input_shape=arrays["x"].shape)
    returned, names = call(layer, case, arrays)
    assert len(returned) == len(names)
    for output, key in zip(returned, names, strict=True):
        assert_close(case, output, arrays[key])
        assert output.dtype == case["dtype"]


@pytest.mark.parametrize("name", [name for name in cases("lstm") if "calls" in CASES[name]])
def test_stateful_lstm(name):
    case, arrays = load(name)
    layer = make_lstm(case, weights=weights(arrays), batch_input_shape=arrays["call0_x"].shape)
    for index, step in enumerate(case["calls"]):
        prefix = f"call{index}_"
        if step["before"] == "reset":
            layer.reset_state()
        elif step["before"] == "reset_states":
            layer.reset_states([arrays[prefix + "reset_h"], arrays[prefix + "reset_c"]])
        returned, names = call(layer, case, arrays, prefix)
        for output, key in zip(returned, names, strict=True):
            assert_close(case, output, arrays[prefix + key])
        for state, key in zip(layer.states, ("state_h", "state_c"), strict=True):
            assert_close(case, state, arrays[prefix + key])


@pytest.mark.parametrize("name", cases("bidirectional"))
def test_bidirectional(name):
    case, arrays = load(name)
    dtype = case["dtype"]
    backward = case["backward_config"]
    layer = Bidirectional(
        LSTM(**case["config"], dtype=dtype),
        merge_mode=case["merge_mode"],
        backward_layer=None if backward is None else LSTM(**backward, dtype=dtype),
        weights=weights(arrays, "fw_") + weights(arrays, "bw_"),
    )
    states = ["fw_h", "fw_c", "bw_h", "bw_c"]
    start = [arrays[f"{state}0"] for state in states] if "fw_h0" in arrays else None
    given = {"mask": arrays.get("mask"), "initial_state": start}
    returned = as_list(layer(arrays["x"], **given))
    names = ["out_fw", "out_bw"] if case["merge_mode"] is None else ["out"]
    names += states if case["config"].get("return_state") else []
    for output, key in zip(returned, names, strict=True):
        assert_close(case, output, arrays[key])
    graded = [f"{direction}_{weight}" for direction in ("fw", "bw") for weight in WEIGHTS]
    starts = [f"{state}0" for state in states] if start else []
    assert_gradients(case, arrays, layer, names, arrays["x"], states=starts, weights=graded, **given)


@pytest.mark.parametrize("name", cases("stacked"))
def test_stacked_cells(name):
    case, arrays = load(name)
    cells = [LSTMCell(**config, dtype=case["dtype"]) for config in case["cells"]]
    count = len(cells)
    layer = RNN(cells, **case["config"], weights=[w for i in range(count) for w in weights(arrays, f"cell{i}_")])
    start = None
    if "cell0_h0" in arrays:
        start = [[arrays[f"cell{i}_h0"], arrays[f"cell{i}_c0"]] for i in range(count)]
    given = {"mask": arrays.get("mask"), "initial_state": start}
    returned = as_list(layer(arrays["x"], **given))
    assert_close(case, returned[0], arrays["out"])
    states = [f"cell{i}_{state}" for i in range(count) for state in ("h", "c")]
    names = ["out", *states] if layer.return_state else ["out"]
    graded = [f"cell{i}_{weight}" for i in range(count) for weight in WEIGHTS]
    starts = [f"{state}0" for state in states] if start else []
    assert_gradients(case, arrays, layer, names, arrays["x"], states=starts, weights=graded, **given)
    if case["config"].get("return_state"):
        for i, (h, c) in enumerate(returned[1:]):
            assert_close(case, h, arrays[f"cell{i}_h"])
            assert_close(case, c, arrays[f"cell{i}_c"])


@pytest.mark.parametrize("name", cases("cell"))
def test_cell(name):
    case, arrays = load(name)
    cell = LSTMCell(**case["config"], dtype=case["dtype"], weights=weights(arrays))
    output, (h, c) = cell(arrays["x"], [arrays["h0"], arrays["c0"]])
    for found, key in ((output, "out"), (h, "h"), (c, "c")):
        assert_close(case, found, arrays[key])
    start = [arrays["h0"], arrays["c0"]]
    assert_gradients(case, arrays, cell, ["out", "h", "c"], arrays["x"], start, states=["h0", "c0"], weights=WEIGHTS)


@pytest.mark.parametrize("name", cases("time_distributed"))
def test_time_distributed(name):
    case, arrays = load(name)
    layer = TimeDistributed(Dense(**case["config"], dtype=case["dtype"]), weights=[arrays["kernel"], arrays["bias"]])
    assert_close(case, layer(arrays["x"]), arrays["out"])
    assert_gradients(case, arrays, layer, ["out"], arrays["x"], weights=["kernel", "bias"])


class ConstantCell(Layer):
    """The recorded cell: h' = tanh(x K + h R + constant C)."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.state_size = units

    def build(self, input_shape):
        shapes = {"kernel": (input_shape[-1], 3), "recurrent_kernel": (3, 3), "const_kernel": (2, 3)}
        self.made = [self.add_weight(name, shape, initializers.get("zeros")) for name, shape in shapes.items()]

    def call(self, inputs, states, constants):
        return self._vjp(inputs, states, constants)[0]

    def _vjp(self, inputs, states, constants):
        operands = (inputs, states[0], constants[0])
        values = [weight.value for weight in self.made]
        h = np.tanh(sum(a @ w for a, w in zip(operands, values, strict=True)))

        def pull(cotangents, regularize):
            dy, (dh,) = cotangents
            dz = sum(d for d in (dy, dh) if d is not None) * (1.0 - h * h)
            dx, d_state, d_constant = (dz @ w.T for w in values)
            weights = {weight: a.T @ dz for weight, a in zip(self.made, operands, strict=True)}
            return LayerGradients(dx, [d_state], [d_constant], weights)

        return (h, [h]), pull


@pytest.mark.parametrize("name", cases("rnn_constants"))
def test_rnn_constants(name):
    case, arrays = load(name)
    cell = ConstantCell(case["config"]["units"], dtype=case["dtype"])
    values = [arrays[key] for key in ("kernel", "recurrent_kernel", "const_kernel")]
    layer = RNN(cell, return_sequences=case["config"]["return_sequences"], weights=values, generation="keras2")
    given = {"constants": [arrays["const"]]}
    assert_close(case, layer(arrays["x"], **given), arrays["out"])
    names = ["kernel", "recurrent_kernel", "const_kernel"]
    checked = Fixed(layer, **given)
    assert_gradients(case, arrays, checked, ["out"], arrays["x"], constants=["const"], weights=names)


@pytest.mark.parametrize("name", cases("peephole"))
def test_peephole(name):
    case, arrays = load(name)
    peephole = np.stack([arrays["p_i"], arrays["p_f"], arrays["p_o"]])
    parameters = LSTMParameters(*weights(arrays), peephole_kernel=peephole)
    found = lstm_forward(arrays["x"], parameters)
    for output, key in zip(found, ("out", "h", "c"), strict=True):
        assert_close(case, output, arrays[key])


@pytest.mark.parametrize("name", ["pt-1layer", "pt-proj"])
def test_torch(name):
    case, arrays = load(name)
    projection = arrays.get("weight_hr_l0")
    parameters = LSTMParameters(
        arrays["weight_ih_l0"].T,
        arrays["weight_hh_l0"].T,
        arrays["bias_ih_l0"] + arrays["bias_hh_l0"],
        projection_kernel=None if projection is None else projection.T,
    )
    found = lstm_forward(arrays["x"].swapaxes(0, 1), parameters, initial_state=[arrays["h0"][0], arrays["c0"][0]])
    assert_close(case, found.outputs.swapaxes(0, 1), arrays["out"])
    assert_close(case, found.h[None], arrays["h_n"])
    assert_close(case, found.c[None], arrays["c_n"])


def test_packed_torch_sequences_are_a_ragged_list():
    case, arrays = load("pt-packed")
    lengths = arrays["lengths"]
    rows = [row[:length] for row, length in zip(arrays["x"].swapaxes(0, 1), lengths, strict=True)]
    layer = Bidirectional(LSTM(3, return_sequences=True, return_state=True, dtype="float64"))
    layer.build((None, None, 3))
    values = []
    for suffix in ("", "_reverse"):
        bias = arrays[f"bias_ih_l0{suffix}"] + arrays[f"bias_hh_l0{suffix}"]
        values += [arrays[f"weight_ih_l0{suffix}"].T, arrays[f"weight_hh_l0{suffix}"].T, bias]
    layer.set_weights(values)
    outputs, *states = layer(rows)
    for row, length in enumerate(lengths):
        assert_close(case, outputs[row], arrays["out"][:length, row])
    assert_close(case, np.stack(states[::2]), arrays["h_n"])
    assert_close(case, np.stack(states[1::2]), arrays["c_n"])


@pytest.mark.parametrize("name", cases("config"))
def test_config(name):
    case = CASES[name]
    kwargs = options(case["config"]["kwargs"])
    kwargs.setdefault("dtype", "float32" if name == "cfg-v1" else case["dtype"])
    layer = LSTM(**kwargs, generation=GENERATIONS[case["generation"]])
    assert layer.get_config() == case["expected_config"]
    again = LSTM.from_config(case["expected_config"])
    assert again.get_config() == case["expected_config"]
    assert not again.built
    assert again.recurrent_activation == layer.recurrent_activation


# ---- recorded errors --------------------------------------------------------------------------------------------

X = np.zeros((2, 3, 4), np.float32)


def provoke(error):
    target, when, kwargs = error["target"], error["when"], error.get("kwargs", {})
    if target == "RNN":
        return RNN(object())
    if target == "TimeDistributed":
        if when == "construct":
            return TimeDistributed(3)
        layer = TimeDistributed(LSTM(2))
        return layer(X[0]) if when == "call2d" else layer(np.zeros((2, 3, 4, 5)), mask=np.ones((2, 2), bool))
    if target == "Bidirectional":
        if when == "reset_not_stateful":
            return Bidirectional(LSTM(2)).reset_state()
        backward = LSTM(**error["backward"]) if "backward" in error else None
        layer = 3 if error.get("layer") == "int" else LSTM(**kwargs)
        return Bidirectional(layer, merge_mode=error.get("merge_mode", "concat"), backward_layer=backward)
    layer = LSTM(**kwargs)
    if when == "call2d":
        return layer(X[0])
    if when == "build_dynamic_batch":
        return layer.build((None, 3, 4))
    layer(X)
    if when == "batch_change":
        return layer(X[:1])
    values = layer.get_weights()
    return layer.set_weights(values[:2] if when == "set_weights_count" else [values[0].T, *values[1:]])


ERRORS = [
    error
    for error in CASES["err-k3"]["expected_errors"]
    if error["target"] in ("LSTM", "RNN", "Bidirectional", "TimeDistributed")
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: f"{error['target']}-{error['when']}")
def test_errors(error):
    kind = {"ValueError": ValueError, "AttributeError": AttributeError, "TypeError": TypeError}[error["raises"]]
    with pytest.raises(kind, match=f"{error['target']}|dtype"):
        provoke(error)
