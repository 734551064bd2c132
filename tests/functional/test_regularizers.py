"""Regularizers: values and gradients of Keras, names, configs and messages."""

import json
from pathlib import Path

import numpy as np
import pytest

from numbalstm import regularizers

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CASES = {case["id"]: case for case in json.loads((GOLDEN / "manifest.json").read_text())["cases"]}
OBJECTS = CASES["fn-regularizers"]["objects"]


def made(name):
    class_name, config = OBJECTS[name]
    return regularizers.get({"class_name": class_name, "config": config})


@pytest.mark.parametrize("name", OBJECTS)
def test_numbers_are_those_of_keras(name):
    case = np.load(GOLDEN / "fn-regularizers.npz")
    regularizer = made(name)
    assert regularizer(case["w"]) == pytest.approx(float(case[f"value_{name}"]), abs=1e-10)
    np.testing.assert_allclose(regularizer.gradient(case["w"]), case[f"grad_{name}"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", OBJECTS)
def test_gradient_is_the_slope(name, rng):
    regularizer = made(name)
    w, direction = rng.normal(size=(2, 5, 3))
    w += np.sign(w) * 0.1  # away from the kink of |w|
    step = 1e-6
    slope = (regularizer(w + step * direction) - regularizer(w - step * direction)) / (2 * step)
    assert (regularizer.gradient(w) * direction).sum() == pytest.approx(slope, rel=1e-6)


def test_by_hand():
    w = np.array([[3.0, -1.0], [0.0, 2.0]])
    assert regularizers.L1(0.5)(w) == 3.0
    assert regularizers.L2(0.5)(w) == 7.0
    assert regularizers.L1L2(0.25, 0.5)(w) == 8.5
    assert type(regularizers.L1()(w)) is float
    cosine = 1.0 / np.sqrt(10)
    assert regularizers.OrthogonalRegularizer(0.5)(w) == pytest.approx(0.5 * cosine, rel=1e-15)


def test_factors_stay_exact():
    assert regularizers.L1().get_config() == {"l1": 0.01}
    assert regularizers.L1(None) == regularizers.L1(0.01)
    assert regularizers.L2(None) == regularizers.L2(0.01)
    assert regularizers.L1L2(None, 1) == regularizers.L1L2(0.0, 1.0)
    w = np.full(3, 2.0)
    assert regularizers.L2()(w) == 0.01 * 12.0


def test_float32_weights(rng):
    w = rng.normal(size=(4, 7)).astype(np.float32)
    for name in OBJECTS:
        gradient = made(name).gradient(w)
        assert gradient.dtype == np.float32
        np.testing.assert_allclose(gradient, made(name).gradient(w.astype(np.float64)), rtol=1e-6, atol=1e-9)


def test_orthogonal_corners():
    regularizer = regularizers.OrthogonalRegularizer(1.0)
    single = np.array([[1.0, 2.0]])
    assert regularizer(single) == 0.0
    np.testing.assert_array_equal(regularizer.gradient(single), np.zeros((1, 2)))
    with_zero_row = np.array([[1.0, 2.0], [0.0, 0.0], [2.0, 1.0]])
    assert regularizer(with_zero_row) == pytest.approx(0.8 / 3, rel=1e-15)
    assert np.isfinite(regularizer.gradient(with_zero_row)).all()
    tiny = np.array([[1e-9, 2e-9], [1.0, 1.0]])
    np.testing.assert_allclose(regularizer.gradient(tiny)[0], 1e7 * np.sqrt([0.5, 0.5]), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("l1", regularizers.L1(0.01)),
        ("L2", regularizers.L2(0.01)),
        ("l1l2", regularizers.L1L2(0.0, 0.0)),
        ("L1L2", regularizers.L1L2(0.0, 0.0)),
        ("l1_l2", regularizers.L1L2(0.01, 0.01)),
        ("orthogonal_regularizer", regularizers.OrthogonalRegularizer(0.01, "rows")),
        (regularizers.L1, regularizers.L1(0.01)),
        (None, None),
    ],
)
def test_identifiers(name, expected):
    assert regularizers.get(name) == expected


def test_callables_stay_themselves():
    def own(w):
        return float(np.abs(w).max())

    assert regularizers.get(own) is own
    assert regularizers.serialize(own) is own
    assert regularizers.serialize(None) is None


def test_configs():
    expected = CASES["cfg-k3"]["expected_config"]["kernel_regularizer"]
    assert regularizers.serialize(regularizers.L2(0.5)) == expected
    for name in OBJECTS:
        written = json.loads(json.dumps(regularizers.serialize(made(name))))
        assert regularizers.get(written) == made(name)
    assert regularizers.L1(0.5) != regularizers.L2(0.5)
    assert len({regularizers.L1(0.5), regularizers.L1(0.5), regularizers.L1(0.25)}) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: regularizers.get("l3", "LSTM: bias_regularizer"),
            r"^LSTM: bias_regularizer: unknown regularizer 'l3'",
        ),
        (lambda: regularizers.get(0.01), "unknown regularizer 0.01"),
        (lambda: regularizers.get({"class_name": "L2", "config": {"l1": 0.1}}), "L2 has no setting 'l1'. Known: l2"),
        (lambda: regularizers.L1(-0.5), "L1: l1 must be at least 0, got -0.5"),
        (lambda: regularizers.L2(np.inf), "L2: l2 must be finite, got inf"),
        (lambda: regularizers.L2(np.nan), "L2: l2 must be finite, got nan"),
        (lambda: regularizers.L1L2("0.1"), "L1L2: l1 must be a number, got '0.1'"),
        (lambda: regularizers.L2(True), "L2: l2 must be a number, got True"),
        (lambda: regularizers.OrthogonalRegularizer(mode="both"), "mode must be one of 'rows', 'columns', got 'both'"),
        (lambda: regularizers.OrthogonalRegularizer()(np.ones(3)), r"must have shape \(rows, columns\), got \(3,\)"),
    ],
)
def test_messages(make, message):
    with pytest.raises(ValueError, match=message):
        make()
