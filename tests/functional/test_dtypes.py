"""Dtype policies: names, roundings, configs and messages."""

import numpy as np
import pytest

from numbalstm import dtypes

TABLE = [  # name, variable, compute, output
    ("float64", np.float64, np.float64, np.float64),
    ("float32", np.float32, np.float32, np.float32),
    ("float16", np.float16, np.float32, np.float16),
    ("bfloat16", np.float32, np.float32, np.float32),
    ("mixed_float16", np.float32, np.float32, np.float16),
    ("mixed_bfloat16", np.float32, np.float32, np.float32),
]


@pytest.mark.parametrize(("name", "variable", "compute", "output"), TABLE)
def test_policies(name, variable, compute, output):
    policy = dtypes.policy(name)
    assert (policy.name, policy.variable, policy.compute, policy.output) == (name, variable, compute, output)
    array = np.linspace(-1, 1, 7)
    assert policy.to_variable(array).dtype == variable
    assert policy.to_compute(array).dtype == compute
    assert policy.to_output(array).dtype == output


@pytest.mark.parametrize(
    ("identifier", "name"),
    [
        (None, "float32"),
        (np.float64, "float64"),
        (float, "float64"),
        (np.dtype(">f4"), "float32"),
        (np.dtype(np.float16), "float16"),
        (dtypes.policy("mixed_float16"), "mixed_float16"),
        ({"module": "keras", "class_name": "DTypePolicy", "config": {"name": "bfloat16"}}, "bfloat16"),
        ({"class_name": "Policy", "config": {"name": "mixed_bfloat16"}}, "mixed_bfloat16"),
    ],
)
def test_identifiers(identifier, name):
    assert dtypes.policy(identifier).name == name


@pytest.mark.parametrize("generation", ["keras3", "keras2"])
def test_serialized_policies_lead_back(generation):
    for name, *_ in TABLE:
        policy = dtypes.policy(name)
        assert dtypes.policy(dtypes.serialize(policy, generation)) == policy


def test_serialized_policies_are_those_of_keras():
    policy = dtypes.policy("float64")
    assert dtypes.serialize(policy) == {
        "module": "keras",
        "class_name": "DTypePolicy",
        "config": {"name": "float64"},
        "registered_name": None,
    }
    assert dtypes.serialize(policy, "keras2") == "float64"
    mixed = {"class_name": "Policy", "config": {"name": "mixed_float16"}}
    assert dtypes.serialize(dtypes.policy("mixed_float16"), "keras2") == mixed


@pytest.mark.parametrize(
    ("identifier", "shown"),
    [
        ("float65", r"'float65'\. Did you mean 'float64'\?"),
        (object, "'object'"),
        (np.int32, "'int32'"),
        (complex, "'complex128'"),
        ("Float32", "'Float32'"),
        (32, "32"),
        ({"class_name": "QuantizedDTypePolicy", "config": {"name": "float32"}}, "an object of type dict"),
        ({"class_name": "DTypePolicy", "config": {"name": 3}}, "an object of type dict"),
    ],
)
def test_messages(identifier, shown):
    expected = (
        rf"^LSTM: dtype: unknown dtype policy {shown}.*Known: bfloat16, float16, float32, float64, mixed_bfloat16"
    )
    with pytest.raises(ValueError, match=expected):
        dtypes.policy(identifier, where="LSTM: dtype")


def test_bfloat16_rounds_to_nearest_even(rng):
    steps = 2.0**-8  # half the distance of bfloat16 numbers above 1
    np.testing.assert_array_equal(
        dtypes.round_bfloat16([1 + steps, 1 + 3 * steps, 1 + 1.01 * steps, -1 - steps, 0.0]),
        [1.0, 1 + 4 * steps, 1 + 2 * steps, -1.0, 0.0],
    )
    x = rng.normal(size=(3, 50)).astype(np.float32)
    y = dtypes.round_bfloat16(x)
    assert y.dtype == np.float32
    assert not (y.view(np.uint32) & 0xFFFF).any()
    assert (np.abs(y - x) <= np.abs(x) * 2.0**-8).all()
    np.testing.assert_array_equal(dtypes.round_bfloat16(y), y)
    np.testing.assert_array_equal(dtypes.round_bfloat16([np.inf, -np.inf, np.nan]), [np.inf, -np.inf, np.nan])
    assert dtypes.round_bfloat16(x.T[::2]).shape == (25, 3)


def test_half_policies_round_where_keras_does():
    third = np.array([1 / 3], np.float32)
    as_half, as_brain = third.astype(np.float16).astype(np.float32), dtypes.round_bfloat16(third)
    assert dtypes.policy("mixed_float16").to_variable(third) == third
    assert dtypes.policy("mixed_float16").to_compute(third) == as_half
    assert dtypes.policy("float16").to_compute(third) == as_half
    assert dtypes.policy("bfloat16").to_variable(third) == as_brain
    assert dtypes.policy("mixed_bfloat16").to_variable(third) == third
    assert dtypes.policy("mixed_bfloat16").to_output(third) == as_brain
    assert dtypes.policy("float32").to_compute(third) is third


def test_overflow_becomes_infinite_without_a_warning():
    np.testing.assert_array_equal(dtypes.policy("float16").to_variable([1e6, -1e6]), [np.inf, -np.inf])
    np.testing.assert_array_equal(dtypes.policy("float32").to_compute([1e300]), [np.inf])
    np.testing.assert_array_equal(dtypes.policy("bfloat16").to_output([3.4e38]), [np.inf])
