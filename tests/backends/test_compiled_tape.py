"""Recorded passes of the compiled kernels and their way back, against the equations in NumPy."""

import os
import subprocess
import sys
from itertools import combinations, pairwise, product
from pathlib import Path

import numpy as np
import pytest
from support.cases import make_norm
from support.recorded import check, factors, normal, parts, worst
from support.requests import request, weights
from support.variants import FAMILIES
from support.variants import pairwise as covering

from numbalstm import activations
from numbalstm.backends import compiled_backward, compiled_tape, cpu, hardware, reference_backward
from numbalstm.backends.interface import Variant
from numbalstm.parameters import LSTMParameters

TESTS = Path(__file__).parents[1]


SHAPES = [(1, 7, 3, 5), (3, 9, 7, 33), (17, 5, 1, 100), (40, 6, 20, 17), (2, 4, 70, 130), (0, 3, 4, 4)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_reference(shape, dtype, threads, rng):
    batch, steps, features, units = shape
    x = normal(rng, batch, steps, features, dtype=dtype)
    start = normal(rng, batch, units, dtype=dtype), normal(rng, batch, units, dtype=dtype)
    plain = request(x, weights(rng, features, units, dtype), threads=threads)
    check(rng, plain, dtype)
    check(rng, plain._replace(return_sequences=False, go_backwards=True), dtype)
    mask = rng.random((batch, steps)) < 0.6
    for zeros in (False, True):
        masked = plain._replace(mask=mask, initial_state=start, zero_output_for_mask=zeros, go_backwards=zeros)
        check(rng, masked, dtype)
        check(rng, masked._replace(return_sequences=False), dtype)


@pytest.mark.parametrize("return_sequences", [True, False])
@pytest.mark.parametrize("backwards", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
def test_lists_of_sequences(threads, backwards, return_sequences, rng):
    x = [normal(rng, length, 4) for length in (3, 0, 9, 1, 9, 5, 2)]
    options = {"threads": threads, "go_backwards": backwards, "return_sequences": return_sequences}
    check(rng, request(x, weights(rng, 4, 19, "float64"), **options))


CHOICES = {
    "peephole": (False, True),
    "projection": (None, 5, 40),
    "norm": (False, True),
    "activations": (None, ("sigmoid", "hard_sigmoid", "tanh", "sigmoid", "softsign"), tuple(FAMILIES)[:5]),
    "coupled": (False, True),
    "gate_clip": (None, 0.4),
    "cell_clip": (None, 0.3),
    "zoneout": (None, "rate", "arrays"),
    "dropout": (False, True),
    "rows": ("dense", "masked", "list"),
    "threads": (1, 2),
    "sizes": ((3, 6, 4, 9), (13, 5, 7, 33)),
    "go_backwards": (False, True),
    "return_sequences": (False, True),
}
CASES = covering(CHOICES, lambda case: True)


def test_every_pair_of_choices_occurs():
    for a, b in combinations(CHOICES, 2):
        assert {(case[a], case[b]) for case in CASES} == {*product(CHOICES[a], CHOICES[b])}


@pytest.mark.parametrize("number", range(len(CASES)))
def test_variants_agree_with_the_reference(number):
    rng, choice = np.random.default_rng(number), CASES[number]
    batch, steps, features, units = choice["sizes"]
    width = choice["projection"] or units
    parameters = LSTMParameters(
        normal(rng, features, 4 * units),
        normal(rng, width, 4 * units),
        normal(rng, 4 * units),
        peephole_kernel=normal(rng, 3, units) if choice["peephole"] else None,
        projection_kernel=normal(rng, units, width) if choice["projection"] else None,
        norm=make_norm(rng, units) if choice["norm"] else None,
    )
    x = normal(rng, batch, steps, features)
    zoneout = {None: None, "rate": (0.2, None if choice["projection"] else 0.7)}.get(choice["zoneout"], "arrays")
    if zoneout == "arrays":
        zoneout = tuple((rng.random((batch, steps, size)) < 0.4).astype(float) for size in (units, width))
    if choice["rows"] == "list":
        lengths = rng.integers(0, steps + 1, batch)
        x = [row[:length] for row, length in zip(x, lengths, strict=True)]
        if isinstance(zoneout, tuple) and choice["zoneout"] == "arrays":
            zoneout = tuple([row[:n] for row, n in zip(part, lengths, strict=True)] for part in zoneout)
    names = choice["activations"]
    asked = request(
        x,
        parameters,
        initial_state=(normal(rng, batch, width), normal(rng, batch, units)),
        mask=rng.random((batch, steps)) < 0.6 if choice["rows"] == "masked" else None,
        go_backwards=choice["go_backwards"],
        return_sequences=choice["return_sequences"],
        threads=choice["threads"],
        dropout_masks=(factors(rng, 4, batch, features), factors(rng, 4, batch, width)) if choice["dropout"] else None,
        variant=Variant(
            names and tuple(map(activations.get, names)),
            choice["coupled"],
            choice["gate_clip"],
            choice["cell_clip"],
            0.6 if choice["projection"] else None,
            zoneout,
        ),
    )
    assert compiled_tape.unsupported_record(asked) is None
    forward, _ = check(rng, asked)
    if cpu.unsupported(asked) is None:
        for a, b in zip([*cpu.forward(asked).outputs], [*forward.outputs], strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_clipped_projection_with_a_zoneout_that_mixes_is_run_but_not_recorded(rng):
    parameters = LSTMParameters(
        normal(rng, 3, 36), normal(rng, 4, 36), normal(rng, 36), projection_kernel=3 * normal(rng, 9, 4)
    )
    for zone in (0.3, rng.random((2, 5, 4)), [rng.random((5, 4)) for _ in range(2)]):
        x = normal(rng, 2, 5, 3)
        x = [*x] if isinstance(zone, list) else x
        asked = request(x, parameters, variant=Variant(projection_clip=0.2, zoneout=(None, zone)))
        assert "clipped projection" in compiled_tape.unsupported_record(asked)
        assert compiled_tape.unsupported(asked) is None
        found, expected = compiled_tape.forward(asked), reference_backward.record(asked, None)[0]
        assert worst([*found.outputs, found.h, found.c], [*expected.outputs, expected.h, expected.c]) < 3e-13
        assert np.max(np.abs(found.h)) > 0.199


KNOWN = [known for _, known in sorted(activations.NAMED.items()) if known.code is not None]


@pytest.mark.parametrize("activation", [*KNOWN, *FAMILIES], ids=lambda one: one.name)
def test_every_activation_in_both_places(activation, rng):
    x = normal(rng, 3, 2, 5)  # two steps: exponential grows without bounds
    check(rng, request(x, weights(rng, 5, 18, "float64"), activation=activation, recurrent_activation=activation))


@pytest.mark.parametrize("dropped", ["x", "h", "both"])
def test_factors_of_x_and_of_states(dropped, rng):
    x = normal(rng, 5, 4, 3)
    shared = factors(rng, 5, 3), factors(rng, 5, 17)
    m_x, m_h = (None if dropped == "h" else shared[0], None if dropped == "x" else shared[1])
    check(rng, request(x, weights(rng, 3, 17, "float64"), dropout_masks=(m_x, m_h)))


@pytest.mark.parametrize("dropped", ["x", "h", "both"])
@pytest.mark.parametrize("shape", [(1, 3, 70, 23), (9, 4, 41, 70), (60, 3, 2, 55)])
def test_factors_by_gate(shape, dropped, rng):
    """Tiles of units and of features that do and do not fill a group, and rows that do not fit one chunk."""
    batch, steps, features, units = shape
    m_x, m_h = factors(rng, 4, batch, features), factors(rng, 4, batch, units)
    masks = (None if dropped == "h" else m_x, None if dropped == "x" else m_h)
    asked = request(normal(rng, batch, steps, features), weights(rng, features, units, "float64"), dropout_masks=masks)
    check(rng, asked)
    for threads in (1, 2):
        inference = compiled_tape.forward(asked._replace(threads=threads))
        np.testing.assert_array_equal(inference.outputs, compiled_tape.record(asked, None)[0].outputs)


def test_the_outputs_have_the_bits_of_inference(rng):
    for dtype, (batch, steps, features, units) in zip(("float32", "float64") * 2, SHAPES, strict=False):
        asked = request(normal(rng, batch, steps, features, dtype=dtype), weights(rng, features, units, dtype))
        for a, b in zip(compiled_tape.record(asked, None)[0], cpu.forward(asked), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("rows", ["dense", "masked", "list"])
def test_zoneout_has_the_bits_of_inference(rows, backwards, rng):
    x, units = normal(rng, 7, 9, 4), 21
    zones = tuple((rng.random((7, 9, units)) < 0.4).astype(float) for _ in range(2))
    mask = rng.random((7, 9)) < 0.6 if rows == "masked" else None
    if rows == "list":
        lengths = rng.integers(0, 10, 7)
        x, *zones = ([row[:n] for row, n in zip(part, lengths, strict=True)] for part in (x, *zones))
    for variant in (Variant(zoneout=tuple(zones)), Variant(zoneout=(0.3, 0.1)), Variant(zoneout=(None, 0.2))):
        asked = request(
            x, weights(rng, 4, units, "float64"), mask=mask, go_backwards=backwards, threads=2, variant=variant
        )
        forward, _ = check(rng, asked)
        for a, b in zip([*cpu.forward(asked).outputs], [*forward.outputs], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rows", ["dense", "masked", "dropped"])
@pytest.mark.parametrize("batch", [1, 7, 70])
def test_threads_and_chunks_change_no_bit(batch, rows, rng, monkeypatch):
    x = normal(rng, batch, 60, 9, dtype="float32")
    mask = rng.random((batch, 60)) < 0.7 if rows == "masked" else None
    drop = tuple(factors(rng, 4, batch, n, dtype="float32") for n in (9, 70)) if rows == "dropped" else None
    asked = request(x, weights(rng, 9, 70), mask=mask, threads=1, dropout_masks=drop)
    d_outputs = normal(rng, batch, 60, 70, dtype="float32")

    def gradients(threads):
        return parts(compiled_tape.record(asked._replace(threads=threads), None)[1].pullback(d_outputs, None, None))

    expected = gradients(1)
    for threads, chunk in ((2, 512), (5, 512), (1, 1), (2, 90)):
        monkeypatch.setattr(compiled_backward, "CHUNK_ROWS", chunk)
        for share in (False, True):
            monkeypatch.setattr(compiled_tape, "split", lambda *_, n=threads, share=share: (min(n, batch), share))
            for (name, a), (_, b) in zip(gradients(threads), expected, strict=True):
                np.testing.assert_array_equal(a, b, err_msg=f"{name} {threads} {chunk} {share}")


def test_a_samples_gradients_do_not_depend_on_its_batch_mates(rng):
    x, d_outputs = normal(rng, 23, 8, 5, dtype="float32"), normal(rng, 23, 8, 37, dtype="float32")
    parameters = weights(rng, 5, 37)
    whole = compiled_tape.record(request(x, parameters), None)[1].pullback(d_outputs, None, None)
    for some in (slice(0, 1), slice(4, 6), slice(10, 23)):
        part = compiled_tape.record(request(x[some], parameters), None)[1].pullback(d_outputs[some], None, None)
        np.testing.assert_array_equal(part.x, whole.x[some])
        np.testing.assert_array_equal(part.h, whole.h[some])
        np.testing.assert_array_equal(part.c, whole.c[some])


def test_what_lies_under_a_mask_reaches_no_gradient(rng):
    x, mask = normal(rng, 6, 9, 4), rng.random((6, 9)) < 0.5
    asked = request(x, weights(rng, 4, 11, "float64"), mask=mask)
    d_outputs = normal(rng, 6, 9, 11)
    clean = parts(compiled_tape.record(asked, None)[1].pullback(d_outputs, None, None))
    x[~mask] = np.nan
    for (name, a), (_, b) in zip(
        parts(compiled_tape.record(asked, None)[1].pullback(d_outputs, None, None)), clean, strict=True
    ):
        np.testing.assert_array_equal(a, b, err_msg=name)


def test_units_that_fill_up_a_vector_stay_out_of_the_gradients(rng):
    """They overflow here: with all gates at exp, their cell grows although nothing comes in."""
    x = np.full((2, 120, 1), -9, "float32")
    parameters = LSTMParameters(
        *(array.astype("float32") for array in (np.ones((1, 12)), np.zeros((3, 12)), np.zeros(12)))
    )
    exponential = activations.get("exponential")
    asked = request(x, parameters, activation=exponential, recurrent_activation=exponential)
    _, tape = compiled_tape.record(asked, None)
    gradients = tape.pullback(np.ones((2, 120, 3), "float32"), None, None)
    assert all(np.isfinite(array).all() for _, array in parts(gradients))


def test_the_tape_takes_six_numbers_a_unit_and_step(rng):
    batch, steps, units = 5, 31, 64
    asked = request(normal(rng, batch, steps, 8, dtype="float32"), weights(rng, 8, units))
    whole = compiled_tape.record(asked, None)[1].nbytes
    # and the initial states; the gates of an odd number of rows, so that tiles share no set of a cache
    assert whole == 4 * units * (batch * (6 * steps + 2) + 4 * (batch * steps % 2 == 0))
    segments = -(-steps // 6)
    assert compiled_tape.record(asked, 6)[1].nbytes == 4 * units * batch * 2 * segments


def test_strided_outputs_receive_the_result(rng):
    x = normal(rng, 3, 5, 4)
    asked = request(x, weights(rng, 4, 6, "float64"))
    out = np.zeros((5, 3, 6)).swapaxes(0, 1)
    forward, _ = compiled_tape.record(asked._replace(out=out), None)
    assert forward.outputs is out
    np.testing.assert_array_equal(out, cpu.forward(asked).outputs)


def test_shares_of_rows_cover_the_batch_once(rng):
    for _ in range(30):
        lengths = -np.sort(-rng.integers(0, 9, rng.integers(0, 12)))
        bounds = compiled_tape._bounds(lengths, int(rng.integers(1, 6)))
        assert bounds[0][0] == 0
        assert bounds[-1][1] == len(lengths)
        assert all(a[1] == b[0] for a, b in pairwise(bounds))


def test_a_wide_projection_with_fewer_shares_of_rows_than_threads(rng):
    parameters = LSTMParameters(
        normal(rng, 2, 20), normal(rng, 300, 20), normal(rng, 20), projection_kernel=normal(rng, 5, 300)
    )
    x = [normal(rng, length, 2) for length in (40, 1, 1, 1)]
    asked = request(x, parameters)
    d_outputs = [normal(rng, len(row), 300) for row in x]
    expected = parts(compiled_tape.record(asked, None)[1].pullback(d_outputs, None, None))
    tape = compiled_tape.record(asked, None)[1]
    tape.workers = 4
    for (name, a), (_, b) in zip(parts(tape.pullback(d_outputs, None, None)), expected, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


AT_A_WIDTH = """
import numpy as np
from support.cases import make_parameters
from support.recorded import check, factors, normal
from support.requests import request, weights
rng = np.random.default_rng(3)
for dtype in ("float64", "float32"):
    for batch, steps, features, units in ((1, 5, 3, 9), (7, 4, 19, 34)):
        x = normal(rng, batch, steps, features, dtype=dtype)
        asked = request(x, weights(rng, features, units, dtype))
        check(rng, asked, dtype)
        drop = factors(rng, 4, batch, features, dtype=dtype), factors(rng, 4, batch, units, dtype=dtype)
        check(rng, asked._replace(dropout_masks=drop), dtype)
        check(rng, asked._replace(parameters=make_parameters(rng, features, units, dtype, norm=True)), dtype)
"""


@pytest.mark.parametrize("width", [width for width in (16, 32) if width < hardware.vector_bytes()])
def test_every_vector_width(width, tmp_path):
    environment = dict(os.environ, NUMBALSTM_SIMD=str(width), NUMBA_CACHE_DIR=str(tmp_path), PYTHONPATH=str(TESTS))
    subprocess.run([sys.executable, "-c", AT_A_WIDTH], env=environment, check=True, timeout=300)
