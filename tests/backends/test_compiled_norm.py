"""The kernels of the layer-normalised LSTM: statistics of rows, the bits of a sample, what the tape keeps."""

import warnings

import numpy as np
import pytest
from support.cases import holes, make_norm, make_parameters, make_state
from support.recorded import check, factors, normal, parts
from support.requests import request

import numbalstm as nl
from numbalstm import activations
from numbalstm.backends import compiled_backward, compiled_tape, cpu, plan, reference, reference_backward
from numbalstm.backends.interface import SlowPathWarning, Variant
from numbalstm.parameters import LSTMParameters, Norm

SHAPES = [(1, 1, 3, 1), (5, 7, 1, 3), (5, 7, 4, 17), (1, 7, 70, 33), (120, 3, 5, 20), (0, 3, 4, 4), (3, 5, 6, 130)]


def asked_for(rng, shape, dtype="float64", **options):
    batch, steps, features, units = shape
    parameters = make_parameters(rng, features, units, dtype, norm=True, **options)
    return request(normal(rng, batch, steps, features, dtype=dtype), parameters)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_reference(shape, dtype, rng):
    asked = asked_for(rng, shape, dtype)
    start = make_state(rng, asked.parameters, shape[0])
    slack = 10 if dtype == "float32" else 1  # rows of few units may nearly lack variance
    check(rng, asked, dtype, slack)
    check(rng, asked._replace(threads=2, initial_state=start, go_backwards=True, return_sequences=False), dtype, slack)
    if shape[0]:
        check(rng, asked._replace(threads=2, mask=holes(rng, *shape[:2]), initial_state=start), dtype, slack)


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"peephole": True, "projection": 5}, {"projection": 40}])
@pytest.mark.parametrize("backwards", [False, True])
def test_lists_and_dropout(options, backwards, rng):
    parameters = make_parameters(rng, 4, 19, norm=True, **options)
    x = [normal(rng, length, 4) for length in (3, 0, 9, 1, 9, 5, 2)]
    asked = request(x, parameters, threads=2, go_backwards=backwards)
    check(rng, asked)
    for m_x, m_h in ((True, True), (True, False), (False, True)):
        masks = factors(rng, 4, 7, 4) if m_x else None, factors(rng, 4, 7, parameters.output_size) if m_h else None
        check(rng, asked._replace(dropout_masks=masks))
    rates = Variant(zoneout=(0.3, 0.1), cell_clip=0.4, gate_clip=0.7, coupled=True)
    check(rng, asked._replace(variant=rates))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[0]])
def test_recorded_passes_and_checkpoints_have_the_bits_of_inference(shape, dtype, rng):
    for options in ({}, {"peephole": True, "projection": 7}):
        asked = asked_for(rng, shape, dtype, **options)
        wanted = cpu.forward(asked)
        for every in (None, 2):
            for a, b in zip(compiled_tape.record(asked, every)[0], wanted, strict=True):
                np.testing.assert_array_equal(a, b)


def bits(asked, d_outputs):
    forward, tape = compiled_tape.record(asked, None)
    return [("y", forward.outputs), ("c", forward.c), *parts(tape.pullback(d_outputs, None, None))]


@pytest.mark.parametrize("batch", [1, 7, 110])
def test_threads_and_chunks_change_no_bit(batch, rng, monkeypatch):
    asked = asked_for(rng, (batch, 20, 9, 70), "float32")._replace(mask=rng.random((batch, 20)) < 0.7)
    d_outputs = normal(rng, batch, 20, 70, dtype="float32")
    expected, inference = bits(asked, d_outputs), cpu.forward(asked).outputs
    for threads, rows, chunk in ((2, 96, 128), (5, 7, 512), (1, 1, 1), (2, 1000, 90)):
        monkeypatch.setattr(compiled_backward, "NORMED_CHUNK_ROWS", chunk)
        monkeypatch.setattr(plan, "CHUNK_ROWS", rows)
        for module in (compiled_tape, plan):
            monkeypatch.setattr(module, "split", lambda *_, n=threads: (min(n, batch), False))
        for (name, a), (_, b) in zip(bits(asked, d_outputs), expected, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"{name} {threads} {rows} {chunk}")
        np.testing.assert_array_equal(cpu.forward(asked).outputs, inference)


def test_units_are_never_shared(rng, monkeypatch):
    asked = asked_for(rng, (1, 4, 300, 600), "float32")._replace(threads=2)
    monkeypatch.setattr(plan, "BARRIER_CYCLES", 0)
    monkeypatch.setattr(plan, "FORK_CYCLES", 0)
    tape = compiled_tape.record(asked, None)[1]
    assert (tape.workers, tape._share_units) == (1, False)
    wanted = reference.forward(asked).outputs
    np.testing.assert_allclose(cpu.forward(asked).outputs, wanted, rtol=0, atol=2e-5)


def test_a_sample_does_not_depend_on_its_batch_mates(rng):
    asked = asked_for(rng, (113, 6, 5, 37), "float32")
    d_outputs = normal(rng, 113, 6, 37, dtype="float32")
    whole, inference = dict(bits(asked, d_outputs)), cpu.forward(asked).outputs
    for some in (slice(0, 1), slice(4, 6), slice(10, 23), slice(96, 113)):
        part = asked._replace(x=asked.x[some])
        np.testing.assert_array_equal(cpu.forward(part).outputs, inference[some])
        found = dict(bits(part, d_outputs[some]))
        for name in ("y", "x", "h", "c"):
            np.testing.assert_array_equal(found[name], whole[name][some], err_msg=name)


@pytest.mark.parametrize("units", [1, 3, 17, 33])
def test_rows_without_variance(units, rng):
    """Of x K, where x is 0 or all columns are the same; of h R at the first step; of c, where all units are alike."""
    norm = make_norm(rng, units)._replace(epsilon=1e-5)
    same = np.full((2, 4 * units), 0.37)
    parameters = LSTMParameters(same, normal(rng, units, 4 * units), normal(rng, 4 * units), norm=norm)
    x = normal(rng, 5, 4, 2)
    x[1:3] = 0
    check(rng, request(x, parameters), slack=30)  # what rounding leaves of no deviation is divided by sqrt(epsilon)
    flat = Norm(
        *(
            np.ones_like(one) if name.endswith("gamma") else np.zeros_like(one)
            for name, one in list(zip(Norm._fields, norm, strict=True))[:-1]
        ),
        epsilon=1e-3,
    )
    alike = LSTMParameters(same, np.full((units, 4 * units), 0.2), np.full(4 * units, 0.5), norm=flat)
    check(rng, request(x, alike), slack=30)


@pytest.mark.parametrize("offset", [0, 30, 1000])
def test_float32_is_as_precise_as_in_numpy(offset, rng):
    """Also where the mean of a row is far larger than its deviations, which sums of squares do not bear."""
    given = make_parameters(rng, 6, 40, norm=True)
    kernel = given.kernel + offset * np.array([1.0, -1, 2, 0.5, 1, 1])[:, None]
    arrays = {**given.arrays, "kernel": kernel}

    def record(dtype):
        values = {name: array.astype(dtype) for name, array in arrays.items()}
        norm = Norm(*(values.pop(name) for name in Norm._fields[:-1]), epsilon=1e-3)
        return LSTMParameters(**values, norm=norm)

    x = normal(rng, 8, 30, 6)
    asked = request(x.astype("float32"), record("float32"))
    exact = request(asked.x.astype("float64"), record("float32").__class__(**_doubled(record("float32"))))
    wanted = reference.forward(exact).outputs
    error, numpys = (np.abs(backend.forward(asked).outputs - wanted).max() for backend in (cpu, reference))
    assert error < 4 * max(numpys, 1e-7)


def _doubled(parameters):
    """The float64 arguments of the same values."""
    values = {name: array.astype("float64") for name, array in parameters.arrays.items()}
    norm = Norm(*(values.pop(name) for name in Norm._fields[:-1]), epsilon=parameters.norm.epsilon)
    return {**values, "norm": norm}


def test_what_fills_up_a_vector_stays_out_of_the_statistics(rng):
    """With all gates at exp its cells grow without bounds, and those of the units do not."""
    exponential = activations.get("exponential")
    norm = Norm(*(np.full(width, value) for width, value in ((12, 1.0), (12, -9.0)) * 2 + ((3, 0.1), (3, -1.0))))
    parameters = LSTMParameters(normal(rng, 1, 12), normal(rng, 3, 12), norm=norm)
    asked = request(normal(rng, 2, 1200, 1), parameters, activation=exponential, recurrent_activation=exponential)
    _, found = check(rng, asked)
    assert all(np.isfinite(array).all() for _, array in found)


def test_the_tape_takes_ten_numbers_a_unit_and_step(rng):
    batch, steps, units = 5, 31, 64
    asked = asked_for(rng, (batch, steps, 8, units), "float32")
    whole = compiled_tape.record(asked, None)[1].nbytes
    rows = batch * steps
    assert rows % 2 == 1  # an even number gets one more
    assert whole == 4 * (units * (10 * rows + 2 * batch) + 2 * rows)  # with the initial states, and two scales a row
    assert compiled_tape.record(asked, 6)[1].nbytes == 4 * units * batch * 2 * 6


def test_what_lies_under_a_mask_reaches_nothing(rng):
    mask = rng.random((6, 9)) < 0.5
    asked = asked_for(rng, (6, 9, 4, 11))._replace(mask=mask)
    d_outputs = normal(rng, 6, 9, 11)
    clean = bits(asked, d_outputs)
    asked.x[~mask] = np.nan
    for (name, a), (_, b) in zip(bits(asked, d_outputs), clean, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.mark.parametrize(("weights_dtype", "tolerance"), [("bfloat16", 1e-5), ("int8", 0.05)])
def test_narrow_weights(weights_dtype, tolerance, rng):
    given = make_parameters(rng, 40, 128, np.float32, norm=True)
    arrays = {name: array for name, array in given.arrays.items() if name not in Norm._fields}
    parameters = LSTMParameters(**arrays, norm=given.norm, weights_dtype=weights_dtype)
    asked = request(normal(rng, 7, 5, 40, dtype="float32"), parameters)
    wanted = reference.forward(asked).outputs
    np.testing.assert_allclose(cpu.forward(asked).outputs, wanted, rtol=0, atol=tolerance)


def test_a_layer_takes_the_compiled_kernels(rng):
    layer = nl.LSTM(9, layer_norm=True, recurrent_dropout=0.2, zoneout=(0.1, 0.1), return_sequences=True)
    x = rng.normal(size=(3, 5, 4)).astype("float32")
    with warnings.catch_warnings():
        warnings.simplefilter("error", SlowPathWarning)
        layer(x)
        outputs, pullback = layer.vjp(x, training=True)
        pullback(np.ones_like(outputs))


def test_an_infinite_input_spoils_its_row_only(rng):
    asked = asked_for(rng, (4, 3, 5, 18))
    clean = cpu.forward(asked).outputs
    asked.x[2, 1, 3] = np.inf
    found = cpu.forward(asked).outputs
    np.testing.assert_array_equal(found[[0, 1, 3]], clean[[0, 1, 3]])
    assert np.isnan(found[2, 1:]).all()
    with np.errstate(invalid="ignore"):
        assert np.isnan(reference_backward.record(asked, None)[0].outputs[2, 1:]).all()
