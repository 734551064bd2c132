"""Weight records: shapes, types, immutability."""

import copy
import pickle

import numpy as np
import pytest

from numbalstm.parameters import GATES, NORM_ARRAYS, LSTMParameters, Norm, Weight


def arrays(rng, features=3, units=5, projection=None, dtype=np.float64):
    out = projection or units
    shapes = {
        "kernel": (features, 4 * units),
        "recurrent_kernel": (out, 4 * units),
        "bias": (4 * units,),
        "peephole_kernel": (3, units),
    }
    if projection:
        shapes["projection_kernel"] = (units, projection)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


def test_gate_order():
    assert GATES == ("i", "f", "g", "o")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("projection", [None, 2])
def test_sizes_and_values(rng, dtype, projection):
    given = arrays(rng, projection=projection, dtype=dtype)
    record = LSTMParameters(**given)
    assert (record.features, record.units, record.output_size) == (3, 5, projection or 5)
    assert record.dtype == dtype
    assert record.packed == {}
    for name, value in given.items():
        np.testing.assert_array_equal(getattr(record, name), value)
    bare = LSTMParameters(given["kernel"], rng.normal(size=(5, 20)).astype(dtype))
    assert bare.bias is bare.peephole_kernel is bare.projection_kernel is None
    assert repr(record).startswith("LSTMParameters(features=3, units=5, dtype=float")
    assert ("projection_kernel" in repr(record)) == bool(projection)


def test_records_do_not_change(rng):
    given = arrays(rng)
    before = {name: value.copy() for name, value in given.items()}
    record = LSTMParameters(**given)
    for name, value in given.items():
        value[:] = 0
        np.testing.assert_array_equal(getattr(record, name), before[name])
        with pytest.raises(ValueError, match="read-only"):
            getattr(record, name)[...] = 1
    with pytest.raises(AttributeError):
        record.kernels = 1


def test_only_safe_arrays_are_shared(rng):
    given = arrays(rng)
    frozen = {name: value.copy() for name, value in given.items()}
    for value in frozen.values():
        value.flags.writeable = False
    assert all(getattr(LSTMParameters(**frozen), name) is value for name, value in frozen.items())
    view = given["kernel"][:]
    view.flags.writeable = False  # its owner may still write
    record = LSTMParameters(view, given["recurrent_kernel"])
    assert not np.shares_memory(record.kernel, given["kernel"])


@pytest.mark.parametrize("form", ["fortran", "strided", "swapped", "list"])
def test_any_layout_gives_the_same_record(rng, form):
    kernel, recurrent = rng.normal(size=(3, 8)), rng.normal(size=(2, 8))
    changed = {
        "fortran": np.asfortranarray(kernel),
        "strided": np.repeat(kernel, 2, axis=1)[:, ::2],
        "swapped": kernel.astype(">f8"),
        "list": kernel.tolist(),
    }[form]
    record = LSTMParameters(changed, recurrent)
    np.testing.assert_array_equal(record.kernel, kernel)
    assert record.kernel.flags.c_contiguous
    assert record.kernel.dtype == np.float64
    assert record.kernel.dtype.isnative


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"kernel": (3, 4, 20)}, ValueError, r"kernel must have shape \(features, 4 \* units\), got \(3, 4, 20\)"),
        ({"kernel": (3, 18)}, ValueError, "18 columns are no positive multiple of 4"),
        ({"kernel": (3, 0)}, ValueError, "0 columns are no positive multiple of 4"),
        ({"recurrent_kernel": (4, 20)}, ValueError, r"recurrent_kernel must have shape \(5, 20\), got \(4, 20\)"),
        ({"recurrent_kernel": (5, 16)}, ValueError, r"recurrent_kernel must have shape \(5, 20\), got \(5, 16\)"),
        ({"bias": (5,)}, ValueError, r"bias must have shape \(20,\), got \(5,\)"),
        ({"bias": (2, 20)}, ValueError, r"bias must have shape \(20,\), got \(2, 20\)"),
        ({"peephole_kernel": (3, 4)}, ValueError, r"peephole_kernel must have shape \(3, 5\), got \(3, 4\)"),
        (
            {"projection_kernel": (4, 2)},
            ValueError,
            r"projection_kernel must have shape \(5, projection\), got \(4, 2\)",
        ),
        ({"projection_kernel": (5, 2)}, ValueError, r"recurrent_kernel must have shape \(2, 20\), got \(5, 20\)"),
        ({"kernel": np.float16}, TypeError, "kernel must be float32 or float64, got float16. Convert it"),
        ({"kernel": int}, TypeError, "kernel must be float32 or float64, got int64"),
        ({"bias": np.float32}, TypeError, "bias must have the kernel's dtype float64, got float32"),
        ({"kernel": object}, TypeError, "kernel must be float32 or float64, got object"),
    ],
)
def test_messages(rng, changes, error, message):
    given = arrays(rng)
    for name, change in changes.items():
        given[name] = given[name].astype(change) if isinstance(change, type) else rng.normal(size=change)
    with pytest.raises(error, match=f"^LSTMParameters: .*{message}"):
        LSTMParameters(**given)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda record: pickle.loads(pickle.dumps(record))])
def test_a_copy_has_no_packed_forms_of_the_original(rng, copied):
    record = LSTMParameters(**arrays(rng))
    record.packed["plan"] = object()
    again = copied(record)
    assert again.packed == {}
    assert record.packed
    for name, given in arrays(rng).items():
        assert not getattr(again, name).flags.writeable
        assert getattr(again, name).shape == given.shape
    np.testing.assert_array_equal(again.kernel, record.kernel)


def test_weight():
    weight = Weight("kernel", np.zeros((2, 3), np.float32), trainable=False)
    assert (weight.shape, weight.dtype, weight.regularizer, weight.constraint) == ((2, 3), np.float32, None, None)
    assert repr(weight) == "Weight('kernel', shape=(2, 3), dtype=float32, trainable=False)"
    weight.value = np.ones(4)
    assert repr(Weight("bias", weight.value)) == "Weight('bias', shape=(4,), dtype=float64)"
    with pytest.raises(AttributeError):
        weight.other = 1


# ---- layer normalisation ----------------------------------------------------------------------------------------


def norm_arrays(rng, units=5, dtype=np.float64):
    widths = (4 * units, 4 * units, 4 * units, 4 * units, units, units)
    return [rng.normal(size=width).astype(dtype) for width in widths]


def test_norm_is_checked_frozen_and_listed_last(rng):
    given, norm = arrays(rng), norm_arrays(rng)
    record = LSTMParameters(**given, norm=Norm(*norm, epsilon=0.01))
    assert list(record.arrays) == [*given, *NORM_ARRAYS]
    assert record.norm.epsilon == 0.01
    for name, array in zip(NORM_ARRAYS, norm, strict=True):
        np.testing.assert_array_equal(record.arrays[name], array)
        assert not record.arrays[name].flags.writeable
        assert not np.shares_memory(record.arrays[name], array)
    for other in (pickle.loads(pickle.dumps(record)), copy.deepcopy(record)):
        assert all(not array.flags.writeable for array in other.arrays.values())
        assert all(np.array_equal(other.arrays[name], array) for name, array in record.arrays.items())
        assert other.norm.epsilon == 0.01
    assert "norm" in repr(record)
    assert list(LSTMParameters(given["kernel"], given["recurrent_kernel"]).arrays) == ["kernel", "recurrent_kernel"]


def test_norm_must_fit(rng):
    given, norm = arrays(rng), norm_arrays(rng)
    with pytest.raises(ValueError, match=r"LSTMParameters: norm.cell_gamma must have shape \(5,\), got \(20,\)"):
        LSTMParameters(**given, norm=Norm(*norm[:4], norm[0], norm[5]))
    with pytest.raises(TypeError, match=r"norm.kernel_beta must have the kernel's dtype float64, got float32"):
        LSTMParameters(**given, norm=Norm(norm[0], norm[1].astype(np.float32), *norm[2:]))
    with pytest.raises(ValueError, match=r"norm.epsilon must be at least 0, got -1"):
        LSTMParameters(**given, norm=Norm(*norm, epsilon=-1))
