"""Activations: numbers of Keras 2 and Keras 3, derivatives, types, names and messages."""

import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from numba import njit

from numbalstm import activations
from numbalstm.kernels.families import FAMILIES
from numbalstm.kernels.formulas import FORMULAS
from numbalstm.kernels.linked import register_jitable
from numbalstm.kernels.memory import load, store
from numbalstm.kernels.simd import Tile
from numbalstm.parametric import DEFAULTS

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CASES = {case["id"]: case for case in json.loads((GOLDEN / "manifest.json").read_text())["cases"]}
FLOAT32_CONSTANTS = ("gelu", "leaky_relu")  # TensorFlow keeps their constants in float32
KINKS = (-3.0, -2.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.5, 3.0, 6.0)
VECTORS = ("softmax", "log_softmax", "sparsemax")


def golden(kind):
    return [
        pytest.param(generation, name, id=f"{generation}-{name}")
        for generation in ("keras3", "keras2")
        for name in CASES[f"fn-activations-k{generation[-1]}"][kind]
    ]


def arrays(generation):
    return np.load(GOLDEN / f"fn-activations-k{generation[-1]}.npz")


def smooth_points():
    x = np.linspace(-8.03, 8.07, 173)
    return x[np.min(np.abs(x[:, None] - np.array(KINKS)), axis=1) > 1e-3]


# ---- numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("generation", "name"), golden("elementwise"))
def test_elementwise_numbers_are_those_of_keras(generation, name):
    case, f = arrays(generation), activations.get(name, generation)
    slack = 1e-7 if name in FLOAT32_CONSTANTS else 0.0
    x = case["x"]
    np.testing.assert_allclose(f(x), case[f"y_{name}"], rtol=0, atol=1e-10 + slack)
    np.testing.assert_allclose(f.vjp(x, np.ones_like(x)), case[f"dy_{name}"], rtol=0, atol=1e-9 + slack)


@pytest.mark.parametrize(("generation", "name"), golden("vector"))
def test_vector_numbers_are_those_of_keras(generation, name):
    case, f = arrays(generation), activations.get(name, generation)
    np.testing.assert_allclose(f(case["x2"]), case[f"y_{name}"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(f.vjp(case["x2"], case["g2"]), case[f"dx_{name}"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", FORMULAS)
def test_scalar_definitions(name):
    f = activations.get(name)
    for x in (-7.3, -2.7, -1.2, -0.6, -0.3, 0.0, 0.2, 0.7, 1.4, 2.8, 6.4):
        assert float(f(x)) == pytest.approx(definition(name, x), rel=1e-13, abs=1e-14), x


def definition(name, x):
    """Each function from its textbook definition in Python floats."""

    def clip(v, low, high):
        return min(max(v, low), high)

    s, plus = 1.0 / (1.0 + math.exp(-x)), math.log(1.0 + math.exp(x))
    grown = math.exp(x) - 1.0
    return {
        "linear": x,
        "tanh": math.tanh(x),
        "sigmoid": s,
        "hard_sigmoid": clip(x / 6 + 0.5, 0, 1),
        "hard_sigmoid_keras2": clip(0.2 * x + 0.5, 0, 1),
        "relu": max(x, 0.0),
        "relu6": clip(x, 0, 6),
        "leaky_relu": x if x >= 0 else 0.2 * x,
        "elu": x if x > 0 else grown,
        "celu": x if x > 0 else grown,
        "selu": 1.0507009873554804934 * (x if x > 0 else 1.6732632423543772848 * grown),
        "exponential": math.exp(x),
        "softplus": plus,
        "softsign": x / (1 + abs(x)),
        "silu": x * s,
        "hard_silu": x * clip(x / 6 + 0.5, 0, 1),
        "gelu": x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
        "mish": x * math.tanh(plus),
        "log_sigmoid": math.log(s),
        "sparse_sigmoid": clip((x + 1) / 2, 0, 1),
        "sparse_plus": 0.0 if x <= -1 else x if x >= 1 else (x + 1) ** 2 / 4,
        "squareplus": (x + math.sqrt(x * x + 4)) / 2,
        "tanh_shrink": x - math.tanh(x),
        "soft_shrink": math.copysign(max(abs(x) - 0.5, 0), x),
        "hard_shrink": x if abs(x) > 0.5 else 0.0,
        "hard_tanh": clip(x, -1, 1),
    }[name]


@pytest.mark.parametrize("name", FORMULAS)
def test_derivative_is_the_slope(name):
    f, x, step = activations.get(name), smooth_points(), 1e-5
    slope = (f(x + step) - f(x - step)) / (2 * step)
    np.testing.assert_allclose(f.vjp(x, np.ones_like(x)), slope, rtol=1e-6, atol=2e-10)


@pytest.mark.parametrize("name", VECTORS)
def test_vector_vjp_is_the_slope(name, rng):
    f = activations.get(name)
    x, g, direction = rng.normal(size=(3, 2, 5, 7))
    step = 1e-6
    slope = ((f(x + step * direction) - f(x - step * direction)) * g).sum() / (2 * step)
    assert (f.vjp(x, g) * direction).sum() == pytest.approx(slope, rel=1e-7, abs=1e-9)


KINK_SLOPES = [
    ("relu", 0.0, 0.0),
    ("relu6", 0.0, 0.0),
    ("relu6", 6.0, 0.0),
    ("leaky_relu", 0.0, 0.2),
    ("elu", 0.0, 1.0),
    ("selu", 0.0, 1.0507009873554805 * 1.6732632423543772),
    ("hard_sigmoid", -3.0, 0.0),
    ("hard_sigmoid", 3.0, 0.0),
    ("hard_sigmoid_keras2", 2.5, 0.0),
    ("hard_sigmoid_keras2", -2.5, 0.0),
    ("sparse_sigmoid", -1.0, 0.0),
    ("sparse_sigmoid", 1.0, 0.0),
    ("hard_tanh", -1.0, 0.0),
    ("hard_tanh", 1.0, 0.0),
    ("hard_silu", -3.0, 0.0),
    ("hard_silu", 3.0, 1.0),
    ("soft_shrink", 0.5, 0.0),
    ("soft_shrink", -0.5, 0.0),
    ("hard_shrink", 0.5, 0.0),
]


@pytest.mark.parametrize(("name", "x", "slope"), KINK_SLOPES)
def test_slopes_at_kinks(name, x, slope):
    assert float(activations.get(name).vjp(x, 1.0)) == pytest.approx(slope, rel=1e-15)


@pytest.mark.parametrize("generation", activations.GENERATIONS)
def test_hard_sigmoids_are_told_apart(generation):
    x = np.array([-2.75, -1.0, 1.0, 2.75])
    k3, k2 = np.clip(x / 6 + 0.5, 0, 1), np.clip(0.2 * x + 0.5, 0, 1)
    np.testing.assert_allclose(activations.get("hard_sigmoid_keras2", generation)(x), k2, rtol=1e-15)
    np.testing.assert_allclose(activations.get("hard_sigmoid_keras3", generation)(x), k3, rtol=1e-15)
    np.testing.assert_allclose(
        activations.get("hard_sigmoid", generation)(x), k3 if generation == "keras3" else k2, rtol=1e-15
    )


# ---- sparsemax has no reference numbers: its properties ----------------------------------------------------------


def test_sparsemax_is_the_projection_on_the_simplex(rng):
    x = rng.normal(size=(40, 6)) * rng.uniform(0.1, 3.0, (40, 1))
    y = activations.sparsemax(x)
    assert (y >= 0).all()
    np.testing.assert_allclose(y.sum(axis=-1), 1.0, rtol=1e-14)
    # Of all points of the simplex the projection is nearest: the optimality condition against every corner.
    gap = ((x - y)[:, None, :] * (np.eye(6)[None] - y[:, None, :])).sum(axis=-1)
    assert gap.max() < 1e-12
    assert 0 < (y == 0).mean() < 1


def test_sparsemax_by_hand():
    np.testing.assert_allclose(activations.sparsemax([0.5, 0.25, -1.0]), [0.625, 0.375, 0.0], rtol=1e-15)
    np.testing.assert_array_equal(activations.sparsemax([3.0, 1.0]), [1.0, 0.0])
    np.testing.assert_array_equal(activations.sparsemax(np.zeros((2, 0))), np.zeros((2, 0)))


# ---- types, extremes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*FORMULAS, *VECTORS])
def test_float32_agrees_with_float64(name, rng):
    f = activations.get(name)
    x, g = (rng.normal(size=(2, 9, 13)) * 4).astype(np.float32)
    y, dx = f(x), f.vjp(x, g)
    assert y.dtype == dx.dtype == np.float32
    np.testing.assert_allclose(y, f(x.astype(np.float64)), rtol=3e-6, atol=1e-6)
    np.testing.assert_allclose(dx, f.vjp(x.astype(np.float64), g.astype(np.float64)), rtol=3e-6, atol=2e-6)


@pytest.mark.parametrize("name", [*FORMULAS, *VECTORS])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_stays_nan_and_neighbours_do_not(name, dtype):
    f = activations.get(name)
    x = np.array([[0.3, np.nan, -4.0, 2.0], [0.1, 0.2, 0.3, -0.4]], dtype)
    y, dx = f(x), f.vjp(x, np.ones_like(x))
    spread = name in VECTORS
    expected = np.array([[spread, True, spread, spread], [False] * 4])
    np.testing.assert_array_equal(np.isnan(y), expected)
    np.testing.assert_array_equal(np.isnan(dx), expected)


LIMITS = {  # at -infinity and at infinity
    **dict.fromkeys(("linear", "leaky_relu", "tanh_shrink", "soft_shrink", "hard_shrink"), (-np.inf, np.inf)),
    **dict.fromkeys(("relu", "exponential", "softplus", "sparse_plus", "squareplus"), (0.0, np.inf)),
    **dict.fromkeys(("silu", "hard_silu", "gelu", "mish"), (0.0, np.inf)),
    **dict.fromkeys(("sigmoid", "hard_sigmoid", "hard_sigmoid_keras2", "sparse_sigmoid"), (0.0, 1.0)),
    **dict.fromkeys(("tanh", "softsign", "hard_tanh"), (-1.0, 1.0)),
    **dict.fromkeys(("elu", "celu"), (-1.0, np.inf)),
    "selu": (-1.0507009873554805 * 1.6732632423543772, np.inf),
    "relu6": (0.0, 6.0),
    "log_sigmoid": (-np.inf, 0.0),
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_inputs_reach_the_limits(name, dtype):
    f = activations.get(name)
    largest = np.finfo(dtype).max
    x = np.array([-np.inf, np.inf, -largest, largest], dtype)
    y, slopes = f(x), f.vjp(x, np.ones_like(x))
    np.testing.assert_allclose(y[:2], LIMITS[name], rtol=1e-6)
    assert not np.isnan(y).any()
    flat = np.isfinite(LIMITS[name])
    np.testing.assert_array_equal(slopes[:2][flat], 0.0)
    np.testing.assert_array_equal(slopes[2:][flat], 0.0)
    assert not np.isnan(slopes).any()


def test_small_tails_keep_their_precision():
    x = np.array([-60.0, -40.0], np.float32)
    tail = np.exp(x.astype(np.float64))
    for name in ("sigmoid", "softplus"):
        np.testing.assert_allclose(activations.get(name)(x), tail, rtol=1e-5)
    for name in ("tanh", "sigmoid"):
        scale = 4.0 if name == "tanh" else 1.0
        argument = x / 2 if name == "tanh" else x
        for sign in (1, -1):
            slope = activations.get(name).vjp(sign * argument, np.ones_like(x))
            np.testing.assert_allclose(slope, scale * tail, rtol=1e-5)
    np.testing.assert_allclose(activations.elu(np.float32(-1e-6)), -1e-6, rtol=2e-6)
    np.testing.assert_allclose(activations.log_sigmoid(-x), -tail, rtol=1e-5)


def test_other_types():
    half = np.array([-1.5, 0.25, 3.0], np.float16)
    assert activations.tanh(half).dtype == np.float16
    np.testing.assert_array_equal(activations.tanh(half), np.tanh(half.astype(np.float32)).astype(np.float16))
    assert activations.sigmoid(np.arange(3)).dtype == np.float32
    np.testing.assert_allclose(activations.relu(np.array([-3, 2])), [0.0, 2.0])
    swapped = np.array([0.5, -0.25], ">f8")
    np.testing.assert_array_equal(activations.tanh(swapped), np.tanh([0.5, -0.25]))
    assert activations.tanh(swapped).dtype == np.float64
    with pytest.raises(TypeError, match="activation tanh: x must be real numbers, got dtype complex128"):
        activations.tanh(np.ones(2, complex))


def test_empty_and_readonly_inputs_stay_as_they_are(rng):
    for name in FORMULAS:
        assert activations.get(name)(np.zeros((0, 3), np.float32)).shape == (0, 3)
        x = rng.normal(size=(4, 3))
        before = x.copy()
        x.flags.writeable = False
        activations.get(name).vjp(x, x)
        np.testing.assert_array_equal(x, before)


WITH_NUMBERS = [
    activations.onnx(*call)
    for call in (
        ("Affine", 1.5, -0.25),
        ("Elu", 0.5),
        ("HardSigmoid", 0.3, 0.4),
        ("HardSigmoid", -0.3, 0.4),
        ("LeakyRelu", 1.75),
        ("ScaledTanh", 1.5, 0.7),
        ("ThresholdedRelu", -0.5),
    )
]

# ---- compiled ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [*map(activations.get, FORMULAS), *WITH_NUMBERS], ids=lambda one: one.name)
def test_vectors_and_arrays_agree(f):
    code, alpha, beta = f.kernel_form
    families = {formula.code: formula for formula in FAMILIES.values()}
    if code in families:
        _, of_family, of_slope = families[code]
        forward = register_jitable(lambda x: of_family(x, alpha, beta))
        derivative = register_jitable(lambda x: of_slope(x, alpha, beta))
    else:
        _, forward, derivative = FORMULAS[f.name]

    @njit(error_model="numpy")
    def on_vectors(tile, x, y, dy, count):
        for i in range(0, 4 * count, 32):
            v = load(tile, x + i)
            store(tile, y + i, forward(v))
            store(tile, dy + i, derivative(v))

    x = np.concatenate([np.linspace(-11.7, 12.3, 209), KINKS, [-0.0, np.nan, -np.inf, np.inf, -1e30]])
    x = x[: len(x) // 8 * 8].astype(np.float32)
    assert np.isnan(x).any()
    y, dy = np.empty_like(x), np.empty_like(x)
    on_vectors(Tile(np.float32, 8, 1), x.ctypes.data, y.ctypes.data, dy.ctypes.data, len(x))
    np.testing.assert_allclose(y, f(x), rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(dy, f.vjp(x, np.ones_like(x)), rtol=2e-6, atol=1e-6)


def test_codes_are_fixed():
    codes = {name: formula.code for name, formula in FORMULAS.items()}
    assert (codes["linear"], codes["tanh"], codes["sigmoid"]) == (0, 1, 2)
    assert codes.pop("celu") == codes["elu"]
    families = [formula.code for formula in FAMILIES.values()]
    assert sorted(codes.values()) + families == list(range(len(codes) + len(families)))
    assert activations.onnx("Affine", 2.0, 3.0).kernel_form == (len(codes), 2.0, 3.0)
    assert activations.onnx("LeakyRelu").kernel_form[1:] == (0.01, 0.0)
    assert activations.get("mish").kernel_form == (codes["mish"], 0.0, 0.0)
    assert set(FAMILIES) == set(DEFAULTS)
    assert [activations.get(name).code for name in VECTORS] == [None] * 3


# ---- names ------------------------------------------------------------------------------------------------------


def test_identifiers():
    tanh = activations.get("tanh")
    assert activations.get(None).name == "linear"
    assert activations.get(tanh) is tanh is activations.tanh
    assert activations.get("swish") == activations.silu
    assert activations.get("hard_swish") == activations.hard_silu
    k3 = {"module": "builtins", "class_name": "function", "config": "tanh", "registered_name": "function"}
    assert activations.get(k3) == tanh
    hard = activations.get({"class_name": "function", "config": "hard_sigmoid"}, "keras2")
    assert hard.name == "hard_sigmoid_keras2"
    assert repr(tanh) == "<activation tanh>"
    assert tanh != activations.sigmoid
    assert len({tanh, activations.get("tanh"), activations.relu}) == 2
    assert "mish" in dir(activations)


@pytest.mark.parametrize("generation", activations.GENERATIONS)
def test_serialized_names_lead_back(generation):
    names = activations.KERAS2_NAMES if generation == "keras2" else activations.KERAS3_NAMES
    for name in names:
        activation = activations.get(name, generation)
        assert activations.get(activations.serialize(activation, generation), generation) == activation


def test_serialized_names_are_those_of_keras():
    assert activations.serialize(activations.get("swish")) == "silu"
    assert activations.serialize(activations.get("silu", "keras2"), "keras2") == "swish"
    assert activations.serialize(activations.get("hard_sigmoid", "keras2"), "keras2") == "hard_sigmoid"
    assert activations.serialize(activations.get("hard_sigmoid")) == "hard_sigmoid"
    assert activations.serialize(activations.get(None)) == "linear"
    assert activations.serialize(None) is None


def test_callables():
    def cube(x):
        return x**3

    f = activations.get(cube)
    assert (f.name, f.code) == ("cube", None)
    np.testing.assert_array_equal(f(np.array([2.0, -1.0])), [8.0, -1.0])
    with pytest.raises(TypeError, match=r"activation cube: no derivative is known\. Give the callable a method vjp"):
        f.vjp(np.ones(2), np.ones(2))
    cube.vjp = lambda x, g: 3 * x**2 * g
    np.testing.assert_array_equal(activations.get(cube).vjp([2.0, -1.0], [1.0, 2.0]), [12.0, 6.0])
    assert activations.serialize(f) is cube
    assert f == activations.get(cube) != activations.get("relu")


def test_a_callable_with_a_known_name_is_still_the_callers():
    def tanh(x):
        return 2 * x

    assert activations.get(tanh)(np.float64(3)) == 6.0
    assert activations.serialize(activations.get(tanh)) is tanh
    assert activations.get(tanh) != activations.tanh


@pytest.mark.parametrize(
    ("identifier", "generation", "message"),
    [
        ("tahn", "keras3", r"^LSTM: activation: unknown activation 'tahn'\. Did you mean 'tanh'\? Known: celu, .*\.$"),
        ("Tanh", "keras3", "unknown activation 'Tanh'"),
        ("sparse_plus", "keras2", "unknown activation 'sparse_plus'"),
        (3, "keras3", "unknown activation 3"),
        (["tanh"], "keras3", "unknown activation an object of type list"),
        ({"class_name": "LeakyReLU", "config": {"alpha": 0.1}}, "keras3", "unknown activation 'LeakyReLU'"),
        ({"class_name": "function", "config": ["os", "system"]}, "keras3", "unknown activation an object of type list"),
        ({"config": "tanh"}, "keras3", r'given as a dict needs "class_name" and "config", got \[\'config\'\]'),
        (
            {"class_name": "function", "config": "f", "registered_name": "mine>f"},
            "keras3",
            "custom activation 'mine>f' cannot be loaded",
        ),
        ("glu", "keras3", "LSTM: activation: 'glu' cannot be used: it halves the width"),
        ("threshold", "keras3", "LSTM: activation: 'threshold' cannot be used: it needs arguments"),
        ("tanh", "keras4", "LSTM: activation: generation must be one of 'keras3', 'keras2', got 'keras4'"),
    ],
)
def test_refused(identifier, generation, message):
    with pytest.raises(ValueError, match=message):
        activations.get(identifier, generation, "LSTM: activation")


def test_cotangent_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"activation tanh: g must have shape \(2, 3\), got \(3,\)"):
        activations.tanh.vjp(np.ones((2, 3)), np.ones(3))


def test_unknown_module_name():
    with pytest.raises(AttributeError, match="no attribute 'tahn'"):
        activations.tahn  # noqa: B018


# ---- with alpha and beta ----------------------------------------------------------------------------------------

ONNX = {
    ("Affine", 1.5, -0.25): lambda x: 1.5 * x - 0.25,
    ("Elu", 0.5, None): lambda x: x if x >= 0 else 0.5 * (math.exp(x) - 1),
    ("Elu", None, None): lambda x: x if x >= 0 else math.exp(x) - 1,
    ("HardSigmoid", 0.3, 0.4): lambda x: min(max(0.3 * x + 0.4, 0), 1),
    ("HardSigmoid", None, None): lambda x: min(max(0.2 * x + 0.5, 0), 1),
    ("LeakyRelu", None, None): lambda x: x if x >= 0 else 0.01 * x,
    ("LeakyRelu", 1.75, None): lambda x: x if x >= 0 else 1.75 * x,
    ("ScaledTanh", 1.5, 0.7): lambda x: 1.5 * math.tanh(0.7 * x),
    ("ThresholdedRelu", None, None): lambda x: x if x >= 1 else 0,
    ("ThresholdedRelu", -0.5, None): lambda x: x if x >= -0.5 else 0,
    ("Relu", None, None): lambda x: max(x, 0),
    ("Sigmoid", None, None): lambda x: 1 / (1 + math.exp(-x)),
    ("Softplus", None, None): lambda x: math.log(1 + math.exp(x)),
    ("Softsign", None, None): lambda x: x / (1 + abs(x)),
    ("Tanh", None, None): math.tanh,
}


@pytest.mark.parametrize("call", ONNX, ids=str)
def test_functions_of_onnx(call):
    f, definition = activations.onnx(*call), ONNX[call]
    points = np.array([-7.3, -2.7, -1.2, -0.6, -0.3, 0.2, 0.7, 1.4, 2.8, 6.4])
    np.testing.assert_allclose(f(points), [definition(x) for x in points], rtol=1e-13, atol=1e-15)
    slope = [(definition(x + 1e-6) - definition(x - 1e-6)) / 2e-6 for x in points]
    np.testing.assert_allclose(f.vjp(points, 2 * np.ones(10)), 2 * np.array(slope), rtol=1e-8, atol=1e-9)
    for dtype in (np.float32, np.float16):
        assert f(points.astype(dtype)).dtype == f.vjp(points.astype(dtype), points.astype(dtype)).dtype == dtype
    assert np.isnan(f(np.nan))
    assert np.isnan(f.vjp(np.nan, 1.0))
    assert activations.get(json.loads(json.dumps(activations.serialize(f)))) == f
    copied = pickle.loads(pickle.dumps(f))
    np.testing.assert_array_equal(copied(points), f(points))
    assert copied == f
    assert hash(copied) == hash(f)


def test_functions_of_onnx_are_ours_where_they_are_equal():
    assert activations.onnx("HardSigmoid") is activations.get("hard_sigmoid", "keras2")
    assert activations.onnx("ScaledTanh", 1, 1) is activations.tanh
    assert activations.onnx("Elu").code == activations.elu.code
    assert activations.onnx("Elu", 0.5) != activations.onnx("Elu", 0.25)
    assert activations.onnx("Elu", 0.5) != activations.elu
    assert repr(activations.onnx("HardSigmoid", 0.3)) == "<activation HardSigmoid, alpha=0.3, beta=0.5>"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("sigmoid",), r"activations.onnx: unknown activation 'sigmoid'\. Did you mean 'Sigmoid'\?"),
        (("Tanh", 1.0), r"activations.onnx\('Tanh'\): has no alpha, got 1.0"),
        (("Elu", 1.0, 2.0), r"activations.onnx\('Elu'\): has no beta, got 2.0"),
        (("Affine", 1.0), r"activations.onnx\('Affine'\): needs beta; it has no default"),
        (("Elu", math.nan), r"activations.onnx\('Elu'\): alpha must be finite, got nan"),
    ],
)
def test_refused_functions_of_onnx(call, message):
    with pytest.raises(ValueError, match=message):
        activations.onnx(*call)


def test_a_config_cannot_make_anything_else():
    made = {"class_name": "OnnxActivation", "config": {"name": "Elu", "gamma": 3}}
    with pytest.raises(ValueError, match="onnx has no setting 'gamma'"):
        activations.get(made)
    with pytest.raises(ValueError, match="the config of onnx must be a dict, got None"):
        activations.get({"class_name": "OnnxActivation"})
