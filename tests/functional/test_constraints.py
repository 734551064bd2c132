"""Constraints: numbers of Keras, names, configs and messages."""

import json
from pathlib import Path

import numpy as np
import pytest

from numbalstm import constraints

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CASES = {case["id"]: case for case in json.loads((GOLDEN / "manifest.json").read_text())["cases"]}
OBJECTS = CASES["fn-constraints"]["objects"]


def made(name):
    class_name, config = OBJECTS[name]
    return constraints.get({"class_name": class_name, "config": config})


@pytest.mark.parametrize("name", OBJECTS)
def test_numbers_are_those_of_keras(name):
    case = np.load(GOLDEN / "fn-constraints.npz")
    before = case["w"].copy()
    w = before.copy()
    np.testing.assert_allclose(made(name)(w), case[f"out_{name}"], rtol=0, atol=1e-10)
    np.testing.assert_array_equal(w, before)


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize(("dtype", "slack"), [(np.float32, 1e-6), (np.float16, 2e-3)])
def test_types_are_kept(name, dtype, slack, rng):
    w = rng.normal(size=(5, 4)).astype(dtype)
    result = made(name)(w)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, made(name)(w.astype(np.float64)), rtol=slack, atol=slack)


def test_norms(rng):
    w = 5 * rng.normal(size=(6, 3))
    columns = np.linalg.norm(w, axis=0)
    limit = np.sort(columns)[1]
    np.testing.assert_allclose(
        np.linalg.norm(constraints.MaxNorm(limit)(w), axis=0), np.minimum(columns, limit), rtol=1e-6
    )
    np.testing.assert_allclose(np.linalg.norm(constraints.UnitNorm(axis=(0, 1))(w)), 1.0, rtol=1e-6)
    assert constraints.NonNeg()(w).min() == 0.0
    np.testing.assert_array_equal(constraints.UnitNorm()(np.zeros((3, 2))), np.zeros((3, 2)))
    assert np.isnan(constraints.NonNeg()(np.array([np.nan, -1.0]))).tolist() == [True, False]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("max_norm", constraints.MaxNorm(2, 0)),
        ("MaxNorm", constraints.MaxNorm()),
        ("non_neg", constraints.NonNeg()),
        ("unit_norm", constraints.UnitNorm(0)),
        ("min_max_norm", constraints.MinMaxNorm(0.0, 1.0, 1.0, 0)),
        (constraints.UnitNorm, constraints.UnitNorm()),
        (None, None),
    ],
)
def test_identifiers(name, expected):
    assert constraints.get(name) == expected


def test_callables_stay_themselves():
    assert constraints.get(np.abs) is np.abs
    assert constraints.serialize(np.abs) is np.abs


def test_configs():
    assert constraints.serialize(constraints.MinMaxNorm()) == {
        "module": "keras.constraints",
        "class_name": "MinMaxNorm",
        "config": {"min_value": 0.0, "max_value": 1.0, "rate": 1.0, "axis": 0},
        "registered_name": None,
    }
    for constraint in (*map(made, OBJECTS), constraints.MaxNorm(3, axis=(0, 1))):
        written = json.loads(json.dumps(constraints.serialize(constraint)))
        assert constraints.get(written) == constraint
        assert constraints.get({"class_name": written["class_name"], "config": written["config"]}) == constraint
    assert repr(constraints.MaxNorm(3, axis=[0, 1])) == "MaxNorm(max_value=3.0, axis=[0, 1])"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: constraints.get("maxnorm", "LSTM: kernel_constraint"),
            ValueError,
            r"^LSTM: kernel_constraint: unknown constraint 'maxnorm'\. Did you mean 'max_norm'\? Known: max_norm, .*",
        ),
        (lambda: constraints.get(2), ValueError, "unknown constraint 2"),
        (
            lambda: constraints.get({"class_name": "NonNeg", "config": {"axis": 0}}),
            ValueError,
            "NonNeg has no setting 'axis'. Known: none",
        ),
        (lambda: constraints.MaxNorm(-1), ValueError, "MaxNorm: max_value must be at least 0, got -1"),
        (lambda: constraints.MinMaxNorm(rate=np.nan), ValueError, "MinMaxNorm: rate must be finite"),
        (lambda: constraints.UnitNorm(axis=0.5), TypeError, "UnitNorm: axis must be an integer, got 0.5"),
        (
            lambda: constraints.NonNeg()(np.ones(2, int)),
            TypeError,
            "NonNeg: the weight must have a float type, got int64",
        ),
    ],
)
def test_messages(make, error, message):
    with pytest.raises(error, match=message):
        make()
