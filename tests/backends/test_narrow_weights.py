"""Weights stored as bfloat16 and int8: what they compute, how exact they are, and the same bits as ever."""

from pathlib import Path

import numpy as np
import pytest
from support.requests import request, weights

import numbalstm as nl
from numbalstm import activations
from numbalstm.backends import cpu, hardware, reference
from numbalstm.dtypes import round_bfloat16
from numbalstm.kernels.cpu.packing import column_scales, pack_bfloat16, pack_int8, to_int8
from numbalstm.parameters import LSTMParameters

MODELS = Path(__file__).parents[1] / "golden" / "models"


HALF = {"compute_dtype": "bfloat16"}
FORMS = [{"weights_dtype": "bfloat16"}, {"weights_dtype": "int8"}, HALF]


def test_parameters_hold_what_is_stored(rng):
    exact = weights(np.random.default_rng(1), 5, 7)
    rounded = weights(np.random.default_rng(1), 5, 7, weights_dtype="bfloat16")
    assert np.array_equal(rounded.kernel, round_bfloat16(exact.kernel))
    assert np.array_equal(rounded.bias, exact.bias)
    integers = weights(np.random.default_rng(1), 5, 7, weights_dtype="int8")
    scales = np.abs(exact.recurrent_kernel).max(0) / np.float32(127)
    steps = integers.recurrent_kernel / scales
    assert np.abs(steps - np.rint(steps)).max() < 1e-4
    assert np.abs(integers.recurrent_kernel - exact.recurrent_kernel).max(0).tolist() < (0.51 * scales).tolist()


@pytest.mark.parametrize(("depth", "groups", "steps"), [(1, 1, 21), (4, 1, 6), (4, 16, 16), (2, 16, 16)])
def test_packing_int8_loses_nothing(depth, groups, steps, rng):
    matrix = weights(rng, 6, 21, weights_dtype="int8").recurrent_kernel
    packed, columns = pack_int8(matrix, 16, depth, groups)
    assert packed.shape == (2, steps, 4, 16, depth)
    whole = packed.transpose(1, 4, 2, 0, 3).reshape(-1, 4, 32)
    unpacked = whole[:21, :, :21] * columns[:, :4].transpose(1, 0, 2).reshape(4, -1)[:, :21]
    np.testing.assert_allclose(unpacked.reshape(21, -1), matrix, rtol=3e-7)
    assert not whole[21:].any()
    taken_off = columns[:, 4:].view(np.int32).transpose(1, 0, 2).reshape(4, -1)
    assert np.array_equal(taken_off, -128 * whole.astype(np.int32).sum(0))


def test_packing_bfloat16_is_the_upper_half(rng):
    parameters = weights(rng, 3, 17, weights_dtype="bfloat16")
    packed = pack_bfloat16(parameters.kernel, 16)
    back = (packed.astype(np.uint32) << 16).view(np.float32)
    assert np.array_equal(back.transpose(1, 2, 0, 3).reshape(3, 4, -1)[:, :, :17].reshape(3, -1), parameters.kernel)


def test_a_column_of_zeros_stays_zero():
    matrix = np.zeros((3, 4), np.float32)
    assert not to_int8(matrix, column_scales(matrix)).any()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("sizes", [(1, 9, 3, 5), (17, 7, 1, 100), (40, 5, 19, 33), (1, 30, 40, 150)])
def test_bfloat16_weights_are_multiplied_exactly(sizes, threads, rng):
    batch, steps, features, units = sizes
    call = request(
        rng.standard_normal((batch, steps, features)).astype("float32"),
        weights(rng, features, units, weights_dtype="bfloat16"),
    )
    got, wanted = cpu.forward(call._replace(threads=threads)), reference.forward(call)
    np.testing.assert_allclose(got.outputs, wanted.outputs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["tanh", "softsign"])
@pytest.mark.parametrize("sizes", [(1, 9, 3, 5), (17, 7, 1, 100), (40, 5, 19, 33), (1, 30, 40, 150), (150, 4, 70, 70)])
def test_int8_weights_are_near(sizes, name, threads, rng):
    batch, steps, features, units = sizes
    call = request(
        rng.standard_normal((batch, steps, features)).astype("float32"),
        weights(rng, features, units, weights_dtype="int8"),
        activation=activations.get(name),
        mask=rng.random((batch, steps)) < 0.8,
        threads=threads,
    )
    got, wanted = cpu.forward(call), reference.forward(call)
    np.testing.assert_allclose(got.outputs, wanted.outputs, rtol=0, atol=2e-3)
    np.testing.assert_allclose(got.c, wanted.c, rtol=0, atol=6e-3)


def use(processor, form, monkeypatch):
    """Let forward passes use another processor's products: of "plain", with "dot" products or with "amx" units."""
    have = hardware.features()
    if processor != "amx":
        monkeypatch.setattr(hardware, "has_amx", lambda: False)
    if processor == "plain":
        monkeypatch.setattr(hardware, "features", lambda: have - {"avx512vnni", "avx512bf16"})
    wanted = (form.get("weights_dtype"), form.get("compute_dtype"))
    tile = hardware.tile.__wrapped__(np.dtype("float32"), False, *wanted)
    kind = wanted[0] or wanted[1]
    on_vectors, on_amx = {"int8": ("avx512vnni", "amx-int8"), "bfloat16": ("avx512bf16", "amx-bf16")}[kind]
    needed = {"plain": set(), "dot": {on_vectors}, "amx": {on_vectors, on_amx}}[processor]
    if (
        not needed <= have
        or (needed and hardware.vector_bytes() < 64)
        or (processor == "amx" and not hardware.has_amx())
    ):
        pytest.skip("this processor has no such products")
    assert tile.weights == (kind if processor == "plain" else f"{kind} {processor}")
    monkeypatch.setattr(hardware, "tile", lambda *_: tile)


@pytest.mark.parametrize("form", [{"weights_dtype": "int8"}, HALF])
def test_without_narrow_products_the_weights_alone_are_rounded(form, rng, monkeypatch):
    use("plain", form, monkeypatch)
    for batch, features in ((1, 5), (9, 50)):
        call = request(rng.standard_normal((batch, 7, features)).astype("float32"), weights(rng, features, 43, **form))
        np.testing.assert_allclose(cpu.forward(call).outputs, reference.forward(call).outputs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("sizes", [(1, 9, 3, 5), (3, 9, 70, 29), (4, 8, 64, 64), (150, 3, 70, 70), (1, 30, 40, 150)])
def test_int8_products_have_the_same_bits_on_vectors_and_on_amx(sizes, threads, rng, monkeypatch):
    batch, steps, features, units = sizes
    parameters = weights(rng, features, units, weights_dtype="int8")
    x = rng.standard_normal((batch, steps, features)).astype("float32")
    found = []
    for processor in ("dot", "amx"):
        with monkeypatch.context() as patch:
            use(processor, {"weights_dtype": "int8"}, patch)
            parameters.packed.clear()
            found.append([a.tobytes() for a in cpu.forward(request(x, parameters, threads=threads))])
    assert found[0] == found[1]


@pytest.mark.parametrize("processor", ["dot", "amx"])
@pytest.mark.parametrize("sizes", [(1, 3, 5), (2, 70, 29), (17, 33, 64), (40, 64, 19), (17, 1100, 19)])
def test_bfloat16_products_round_x_and_h_and_nothing_else(sizes, processor, rng, monkeypatch):
    batch, features, units = sizes
    use(processor, HALF, monkeypatch)
    x = rng.standard_normal((batch, 1, features)).astype("float32")
    state = tuple(rng.standard_normal((batch, units)).astype("float32") for _ in "hc")
    call = request(x, weights(rng, features, units, **HALF), initial_state=state)
    rounded = call._replace(x=round_bfloat16(x), initial_state=(round_bfloat16(state[0]), state[1]))
    np.testing.assert_allclose(cpu.forward(call).outputs, reference.forward(rounded).outputs, rtol=0, atol=5e-6)


def test_a_small_input_kernel_keeps_its_values():
    rng = np.random.default_rng(2)
    for units, small in ((32, True), (33, False)):
        exact, narrow = (
            weights(np.random.default_rng(1), 32, units, **form) for form in ({}, {"weights_dtype": "int8"})
        )
        assert np.array_equal(exact.kernel, narrow.kernel) == small
        assert not np.array_equal(exact.recurrent_kernel, narrow.recurrent_kernel)
        call = request(rng.standard_normal((5, 6, 32)).astype("float32"), narrow)
        np.testing.assert_allclose(cpu.forward(call).outputs, reference.forward(call).outputs, rtol=0, atol=2e-3)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("sizes", [(1, 9, 3, 5), (17, 7, 1, 100), (40, 5, 19, 33), (1, 30, 40, 150), (64, 3, 33, 64)])
def test_bfloat16_products_are_near(sizes, threads, rng):
    batch, steps, features, units = sizes
    call = request(
        rng.standard_normal((batch, steps, features)).astype("float32"),
        weights(rng, features, units, **HALF),
        mask=rng.random((batch, steps)) < 0.8,
        threads=threads,
    )
    got, wanted = cpu.forward(call), reference.forward(call)
    np.testing.assert_allclose(got.outputs, wanted.outputs, rtol=0, atol=4e-3)


@pytest.mark.parametrize("processor", ["dot", "amx"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_sample_has_the_same_bits_in_any_company(form, threads, processor, rng, monkeypatch):
    if form != FORMS[0]:
        use(processor, form, monkeypatch)
    parameters = weights(rng, 70, 65, **form)
    x = rng.standard_normal((23, 11, 70)).astype("float32")
    whole = cpu.forward(request(x, parameters, threads=threads))
    for rows in (slice(0, 1), slice(4, 9), slice(None, None, -1)):
        part = cpu.forward(request(x[rows], parameters))
        assert [a.tobytes() for a in part] == [np.ascontiguousarray(a[rows]).tobytes() for a in whole]


@pytest.mark.parametrize("features", [5, 70])
@pytest.mark.parametrize("form", FORMS)
def test_nan_reaches_the_output_of_its_row(form, features, rng):
    parameters = weights(rng, features, 65, **form)
    x = rng.standard_normal((3, 6, features)).astype("float32")
    clean = cpu.forward(request(x, parameters)).outputs
    x[1, 2, 4] = np.nan
    y = cpu.forward(request(x, parameters)).outputs
    assert np.isnan(y[1, 2:]).all()
    assert y[[0, 2]].tobytes() == clean[[0, 2]].tobytes()


def test_zero_inputs_are_zero(rng):
    parameters = weights(rng, 5, 20, weights_dtype="int8")
    x = np.zeros((2, 3, 5), "float32")
    call = request(x, parameters)
    np.testing.assert_allclose(cpu.forward(call).outputs, reference.forward(call).outputs, atol=1e-3)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["digits_keras3", "words_keras3"])
def test_real_models_keep_their_answers(name, form):
    expected = np.load(MODELS / f"{name}.expected.npz")
    model = nl.load_model(MODELS / f"{name}.keras", **form)
    y = model.predict(expected["x0"])
    assert np.abs(y - expected["y0"]).max() < 0.05
    assert (y.argmax(-1) != expected["y0"].argmax(-1)).mean() <= 0.005
    assert all(layer.dtype == np.float32 for layer in model.get_weights())


def test_the_layer_switches_back_and_forth(rng):
    layer = nl.LSTM(9, weights_dtype="int8")
    x = rng.standard_normal((2, 5, 3)).astype("float32")
    narrow = layer(x)
    before = layer.get_weights()
    layer.weights_dtype = None
    exact = layer(x)
    assert 0 < np.abs(narrow - exact).max() < 0.01
    assert all(np.array_equal(a, b) for a, b in zip(layer.get_weights(), before, strict=True))
    layer.weights_dtype = "int8"
    assert layer(x).tobytes() == narrow.tobytes()
    assert layer.clone().weights_dtype == "int8"


def test_refusals():
    with pytest.raises(ValueError, match=r"LSTM: weights_dtype must be one of None, 'bfloat16', 'int8', got 'int4'"):
        nl.LSTM(3, weights_dtype="int4")
    with pytest.raises(
        ValueError, match=r"LSTM: weights_dtype='int8' needs float32 arithmetic, got the dtype policy 'float64'"
    ):
        nl.LSTM(3, weights_dtype="int8", dtype="float64")
    with pytest.raises(ValueError, match=r"LSTM: compute_dtype='bfloat16' does not go with weights_dtype=\"int8\""):
        nl.LSTM(3, weights_dtype="int8", compute_dtype="bfloat16")
    with pytest.raises(ValueError, match=r"weights_dtype='int8' needs float32 weights, got float64"):
        LSTMParameters(np.ones((1, 4)), np.ones((1, 4)), weights_dtype="int8")
