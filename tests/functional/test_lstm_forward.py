"""lstm_forward, lstm_step and lstm_trace against the scalar oracle, and their invariances."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cases import holes, make_parameters, make_state, oracle

from numbalstm import functional
from numbalstm.backends import arguments, reference
from numbalstm.backends.interface import DeviceUnavailableError, SlowPathWarning
from numbalstm.functional import lstm_forward, lstm_step, lstm_trace


@pytest.fixture(scope="module", params=["compiled", "reference"], autouse=True)
def backend(request):
    """Run everything twice: on what serves the call by itself, and on the reference."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "reference":
            patch.setattr(functional, "cpu", reference)
        yield request.param


TOLERANCE = {np.float64: 1e-12, np.float32: 3e-6}
quiet = pytest.mark.filterwarnings("ignore::numbalstm.backends.interface.SlowPathWarning")


def assert_same(found, expected, tolerance=1e-12):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


# ---- against the oracle -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("batch", "time", "features", "units"), [(1, 1, 1, 1), (3, 5, 4, 7), (5, 1, 3, 9), (2, 13, 1, 17), (9, 4, 11, 3)]
)
def test_matches_the_scalar_oracle(rng, batch, time, features, units, dtype):
    parameters = make_parameters(rng, features, units, dtype)
    x = rng.normal(size=(batch, time, features)).astype(dtype)
    state = make_state(rng, parameters, batch)
    mask = holes(rng, batch, time)
    for options in (
        {},
        {"initial_state": state},
        {"go_backwards": True, "initial_state": state},
        {"mask": mask, "initial_state": state},
        {"mask": mask, "go_backwards": True, "initial_state": state},
        {"mask": mask, "zero_output_for_mask": True},
    ):
        outputs, h, c = oracle(x, parameters, **options)
        found = lstm_forward(x, parameters, **options)
        assert found.outputs.dtype == found.h.dtype == found.c.dtype == dtype
        assert_same(found.outputs, outputs, TOLERANCE[dtype])
        assert_same(found.h, h, TOLERANCE[dtype])
        assert_same(found.c, c, TOLERANCE[dtype])
        last = lstm_forward(x, parameters, return_sequences=False, **options)
        assert_same(last.outputs, np.array(outputs)[:, -1], TOLERANCE[dtype])
        assert_same(last.c, c, TOLERANCE[dtype])


@quiet
@pytest.mark.parametrize("projection", [None, 2])
@pytest.mark.parametrize("peephole", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_variants_match_the_scalar_oracle(rng, bias, peephole, projection):
    parameters = make_parameters(rng, 3, 5, bias=bias, peephole=peephole, projection=projection)
    x = rng.normal(size=(4, 6, 3))
    state = make_state(rng, parameters, 4)
    mask = holes(rng, 4, 6)
    outputs, h, c = oracle(x, parameters, initial_state=state, mask=mask)
    found = lstm_forward(x, parameters, initial_state=state, mask=mask)
    assert_same(found.outputs, outputs)
    assert_same(found.h, h)
    assert_same(found.c, c)


@quiet
@pytest.mark.parametrize("m_x", [None, (4, 3), (4, 4, 3)])
@pytest.mark.parametrize("m_h", [None, (4, 5), (4, 4, 5)])
def test_dropout_factors_match_the_scalar_oracle(rng, m_x, m_h):
    parameters = make_parameters(rng, 3, 5)
    x = rng.normal(size=(4, 6, 3))
    masks = tuple(None if shape is None else rng.choice([0.0, 1.25, 2.0], shape) for shape in (m_x, m_h))
    outputs, h, c = oracle(x, parameters, dropout_masks=masks)
    found = lstm_forward(x, parameters, dropout_masks=masks)
    assert_same(found.outputs, outputs)
    assert_same(found.h, h)
    assert_same(found.c, c)


def test_dropout_factors_for_each_step_multiply_the_input(rng):
    parameters = make_parameters(rng, 3, 5)
    x = rng.normal(size=(2, 6, 3))
    factors = rng.choice([0.0, 2.0], x.shape)
    found = lstm_forward(x, parameters, dropout_masks=(factors, None))
    assert_same(found.outputs, oracle(x * factors, parameters)[0])


@quiet
def test_a_callable_of_the_users_serves_as_activation(rng):
    parameters = make_parameters(rng, 3, 5)
    x = rng.normal(size=(2, 6, 3))
    found = lstm_forward(x, parameters, activation=lambda z: np.sin(z).astype(np.float32).astype(np.float64))
    outputs, _, c = oracle(x, parameters, phi=math.sin)
    assert_same(found.outputs, outputs, 1e-6)
    assert_same(found.c, c, 1e-6)


@quiet
def test_an_activation_that_changes_the_shape_is_refused(rng):
    parameters = make_parameters(rng, 3, 5)

    def sums(z):
        return z.sum(axis=1)

    with pytest.raises(ValueError, match=r"activation sums: must return shape \(2, 5\) for such input, got \(2,\)\."):
        lstm_forward(rng.normal(size=(2, 6, 3)), parameters, activation=sums)


def test_trace_holds_every_gate_of_the_oracle(rng):
    from support.scalar_oracle import lstm

    parameters = make_parameters(rng, 3, 5)
    x = rng.normal(size=(2, 6, 3))
    mask = np.array([[1, 1, 0, 1, 1, 1], [0, 1, 1, 1, 0, 0]], bool)
    trace = lstm_trace(x, parameters, mask=mask)
    weights = (parameters.kernel.tolist(), parameters.recurrent_kernel.tolist(), parameters.bias.tolist())
    for row in range(2):
        *_, h, c, gates = lstm(x[row].tolist(), *weights, mask=mask[row].tolist())
        for name in "ifgo":
            expected = [[math.nan] * 5 if seen is None else seen[name] for seen in gates]
            assert_same(getattr(trace, name)[row], expected)
        assert_same(trace.h[row, -1], h)
        assert_same(trace.c[row, -1], c)
    assert np.array_equal(trace.c[0, 2], trace.c[0, 1])
    assert not trace.c[1, 0].any()


def test_step_by_step_equals_the_whole(rng):
    parameters = make_parameters(rng, 3, 5)
    x = rng.normal(size=(4, 6, 3))
    whole = lstm_forward(x, parameters)
    state = None
    for t in range(6):
        state = lstm_step(x[:, t], parameters, state)
        assert_same(state[0], whole.outputs[:, t])
    assert_same(state[1], whole.c)


# ---- kinds of arrays --------------------------------------------------------------------------------------------


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def misaligned(x):
    buffer = np.empty(x.nbytes + 1, np.uint8)
    result = buffer[1:].view(x.dtype).reshape(x.shape)
    result[...] = x
    return result


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.astype(x.dtype.newbyteorder()),
        lambda x: np.asfortranarray(x),
        lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
        lambda x: np.repeat(x, 3, axis=1)[:, ::3],
        lambda x: x[::-1].copy()[::-1],
        lambda x: x[:, ::-1].copy()[:, ::-1],
        lambda x: np.ascontiguousarray(x.transpose(1, 0, 2)).transpose(1, 0, 2),
        read_only,
        misaligned,
        lambda x: x.astype(np.float64),
        lambda x: x.astype(np.longdouble),
        lambda x: x.astype(np.float16),
        lambda x: x.astype(np.int8),
        lambda x: x.astype(np.uint64),
    ],
)
def test_any_array_of_numbers_gives_the_same(rng, convert):
    parameters = make_parameters(rng, 3, 5, np.float32)
    x = rng.integers(0, 5, (4, 6, 3)).astype(np.float32)
    given_x = convert(x)
    before = given_x.copy()
    found = lstm_forward(given_x, parameters)
    assert np.array_equal(found.outputs, lstm_forward(x, parameters).outputs)
    assert found.outputs.dtype == np.float32
    assert np.array_equal(given_x, before)


def test_states_and_masks_of_any_layout_give_the_same(rng):
    parameters = make_parameters(rng, 3, 5, np.float32)
    x = rng.normal(size=(4, 6, 3)).astype(np.float32)
    h, c = make_state(rng, parameters, 4)
    mask = holes(rng, 4, 6)
    expected = lstm_forward(x, parameters, initial_state=(h, c), mask=mask)
    kept = h.copy(), c.copy()
    for state in ([np.asfortranarray(h), c[::-1].copy()[::-1]], np.stack([h, c]), (read_only(h), c.astype(">f4"))):
        for other in (mask.astype(int) * 3, mask[:, :, None], mask[:, ::-1].copy()[:, ::-1], mask.tolist(), mask * 0.5):
            found = lstm_forward(x, parameters, initial_state=state, mask=other)
            assert np.array_equal(found.outputs, expected.outputs)
            assert np.array_equal(found.c, expected.c)
    assert np.array_equal(h, kept[0])
    assert np.array_equal(c, kept[1])


@pytest.mark.parametrize("return_sequences", [True, False])
def test_out_receives_the_outputs_through_any_strides(rng, return_sequences):
    parameters = make_parameters(rng, 3, 5)
    x = rng.normal(size=(4, 6, 3))
    expected = lstm_forward(x, parameters, return_sequences=return_sequences).outputs
    axes = (1, 0, 2) if return_sequences else (1, 0)
    for out in (np.full(expected.shape, np.nan), np.full(np.transpose(expected, axes).shape, np.nan).transpose(axes)):
        found = lstm_forward(x, parameters, return_sequences=return_sequences, out=out)
        assert found.outputs is out
        assert_same(out, expected)


# ---- empty and ragged -------------------------------------------------------------------------------------------


def test_no_rows_give_empty_arrays(rng):
    parameters = make_parameters(rng, 3, 5)
    found = lstm_forward(np.zeros((0, 6, 3)), parameters, mask=np.zeros((0, 6), bool))
    assert (found.outputs.shape, found.h.shape, found.c.shape) == ((0, 6, 5), (0, 5), (0, 5))
    assert lstm_forward(np.zeros((0, 6, 3)), parameters, return_sequences=False).outputs.shape == (0, 5)
    empty = lstm_forward([], parameters)
    assert empty.outputs == []
    assert empty.c.shape == (0, 5)


@quiet
@pytest.mark.parametrize("go_backwards", [False, True])
def test_ragged_is_each_row_alone(rng, go_backwards):
    parameters = make_parameters(rng, 3, 5)
    sequences = [rng.normal(size=(time, 3)) for time in (4, 0, 7, 1, 4)]
    h, c = make_state(rng, parameters, 5)
    masks = rng.choice([0.0, 2.0], (4, 5, 3)), rng.choice([0.0, 2.0], (5, 5))
    for factors in (None, masks, (masks[0][1], None)):
        options = {"initial_state": (h, c), "go_backwards": go_backwards, "dropout_masks": factors}
        found = lstm_forward(sequences, parameters, **options)
        last = lstm_forward(tuple(sequences), parameters, return_sequences=False, **options)
        outputs, final_h, final_c = oracle(sequences, parameters, **options)
        for row, sequence in enumerate(sequences):
            assert found.outputs[row].shape == (len(sequence), 5)
            assert_same(found.outputs[row], outputs[row])
            assert_same(last.outputs[row], outputs[row][-1] if len(sequence) else np.zeros(5))
        assert_same(found.h, final_h)
        assert_same(found.c, final_c)
        assert_same(last.c, final_c)


# ---- invariances ------------------------------------------------------------------------------------------------

problems = st.tuples(
    st.integers(1, 4), st.integers(1, 6), st.integers(1, 4), st.integers(1, 6), st.integers(0, 2**32 - 1)
)


def draw_problem(problem, dtype=np.float64):
    batch, time, features, units, seed = problem
    rng = np.random.default_rng(seed)
    parameters = make_parameters(rng, features, units, dtype)
    return rng, parameters, rng.normal(size=(batch, time, features)).astype(dtype), make_state(rng, parameters, batch)


@given(problems, st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_chunks_with_carried_state_are_the_whole(problem, cut):
    rng, parameters, x, state = draw_problem(problem)
    mask = rng.random(x.shape[:2]) < 0.7
    cut = min(cut, x.shape[1])
    whole = lstm_forward(x, parameters, initial_state=state, mask=mask, zero_output_for_mask=True)
    first = lstm_forward(x[:, :cut], parameters, initial_state=state, mask=mask[:, :cut], zero_output_for_mask=True)
    assert_same(first.outputs, whole.outputs[:, :cut])
    if cut < x.shape[1]:
        second = lstm_forward(
            x[:, cut:], parameters, initial_state=(first.h, first.c), mask=mask[:, cut:], zero_output_for_mask=True
        )
        assert_same(second.outputs, whole.outputs[:, cut:])
        assert_same(second.c, whole.c)


@given(problems)
@settings(max_examples=40, deadline=None)
def test_a_mask_of_true_is_no_mask(problem):
    _, parameters, x, state = draw_problem(problem)
    plain = lstm_forward(x, parameters, initial_state=state)
    masked = lstm_forward(x, parameters, initial_state=state, mask=np.ones(x.shape[:2], bool))
    assert_same(masked.outputs, plain.outputs)
    assert_same(masked.c, plain.c)


@given(problems, st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_padding_under_a_mask_is_truncation(problem, extra):
    _, parameters, x, state = draw_problem(problem)
    batch, time, features = x.shape
    rubbish = np.resize([np.inf, -np.inf, np.nan], (batch, extra, features))
    padded = np.concatenate([x, rubbish], axis=1)
    mask = np.broadcast_to(np.arange(time + extra) < time, (batch, time + extra))
    plain = lstm_forward(x, parameters, initial_state=state)
    found = lstm_forward(padded, parameters, initial_state=state, mask=mask)
    assert_same(found.outputs[:, :time], plain.outputs)
    assert_same(found.outputs[:, time:], np.repeat(plain.outputs[:, -1:], extra, axis=1))
    assert_same(found.h, plain.h)
    assert_same(found.c, plain.c)


@given(problems)
@settings(max_examples=40, deadline=None)
def test_backwards_is_the_flipped_input(problem):
    rng, parameters, x, state = draw_problem(problem)
    mask = rng.random(x.shape[:2]) < 0.7
    found = lstm_forward(x, parameters, initial_state=state, mask=mask, go_backwards=True)
    flipped = lstm_forward(x[:, ::-1], parameters, initial_state=state, mask=mask[:, ::-1])
    assert_same(found.outputs, flipped.outputs)
    assert_same(found.c, flipped.c)


@given(problems)
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_rows_does_not_matter(problem):
    rng, parameters, x, state = draw_problem(problem)
    order = rng.permutation(len(x))
    found = lstm_forward(x[order], parameters, initial_state=[part[order] for part in state])
    assert_same(found.outputs, lstm_forward(x, parameters, initial_state=state).outputs[order])


# ---- refusals ---------------------------------------------------------------------------------------------------

GOOD = np.zeros((2, 6, 3), np.float32)
STATE = np.zeros((2, 5), np.float32)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (
            np.zeros((6, 3)),
            {},
            "inputs must have shape (batch, time, 3), or be a list of arrays (time, 3), got (6, 3).",
        ),
        (np.zeros((2, 6, 4)), {}, "inputs must have shape (batch, time, 3), got (2, 6, 4)."),
        (np.zeros((2, 0, 3)), {}, "inputs must have at least one time step, got shape (2, 0, 3)."),
        (
            GOOD.astype(object),
            {},
            "inputs must hold real numbers, got dtype object. Convert it with astype('float32').",
        ),
        (
            GOOD.astype(complex),
            {},
            "inputs must hold real numbers, got dtype complex128. Convert it with astype('float32').",
        ),
        (GOOD.astype("U3"), {}, "inputs must hold real numbers, got dtype <U3. Convert it with astype('float32')."),
        (
            np.ma.masked_array(GOOD, GOOD == 0),
            {},
            "inputs must not be a numpy.ma array: its mask would be lost. Pass mask= instead.",
        ),
        ([GOOD[0], GOOD], {}, "inputs[1] must have shape (time, 3), got (2, 6, 3)."),
        ([GOOD[0], np.zeros((2, 4))], {}, "inputs[1] must have shape (time, 3), got (2, 4)."),
        (GOOD, {"mask": np.ones((2, 5), bool)}, "mask must have shape (2, 6), got (2, 5)."),
        (GOOD, {"mask": np.ones((1, 6), bool)}, "mask must have shape (2, 6), got (1, 6)."),
        (GOOD, {"mask": np.full((2, 6), "yes")}, "mask must hold booleans or numbers, got dtype <U3."),
        (
            [GOOD[0]],
            {"mask": np.ones((1, 6), bool)},
            "mask is for one array of sequences; leave it out with a list of sequences.",
        ),
        (
            GOOD,
            {"initial_state": [STATE, np.zeros((1, 5))]},
            "initial_state[1] must have shape (2, 5), got (1, 5).",
        ),
        (GOOD, {"initial_state": [np.zeros((2, 4)), STATE]}, "initial_state[0] must have shape (2, 5), got (2, 4)."),
        (GOOD, {"initial_state": [STATE]}, "initial_state must hold 2 arrays [h, c], got 1."),
        (GOOD, {"initial_state": [STATE] * 3}, "initial_state must hold 2 arrays [h, c], got 3."),
        (GOOD, {"initial_state": 0.0}, "initial_state must be a pair [h, c], got 0.0."),
        (
            GOOD,
            {"initial_state": [STATE.astype(complex), STATE]},
            "initial_state[0] must hold real numbers, got dtype complex128. Convert it with astype('float32').",
        ),
        (GOOD, {"dropout_masks": GOOD}, "dropout_masks must be a pair (m_x, m_h), got an array of shape (2, 6, 3)"),
        (
            GOOD,
            {"dropout_masks": (np.ones((2, 4)), None)},
            "dropout_masks[0] must have shape (2, 3) or (4, 2, 3) or (2, 6, 3), got (2, 4).",
        ),
        (
            GOOD,
            {"dropout_masks": (None, np.ones((5, 2)))},
            "dropout_masks[1] must have shape (2, 5) or (4, 2, 5), got (5, 2).",
        ),
        (GOOD, {"out": np.zeros((2, 5, 6), np.float32)}, "out must have shape (2, 6, 5), got (2, 5, 6)."),
        (
            GOOD,
            {"out": np.zeros((2, 6, 5))},
            "out must be a writeable array of dtype float32, got an array of shape (2, 6, 5) and dtype float64.",
        ),
        ([GOOD[0]], {"out": np.zeros((1, 6, 5))}, "out is for one array of sequences; leave it out with a list"),
        (GOOD, {"device": "gpu"}, "device must be one of 'auto', 'cpu', 'cuda', got 'gpu'."),
        (GOOD, {"threads": 0}, "threads must be at least 1, got 0."),
    ],
)
def test_refusals_name_what_was_wanted_and_what_came(rng, x, options, message):
    parameters = make_parameters(rng, 3, 5, np.float32)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared in full below
        lstm_forward(x, parameters, **options)
    assert str(caught.value).startswith(f"lstm_forward: {message}")


def test_out_over_the_inputs_is_refused(rng):
    parameters = make_parameters(rng, 3, 3)
    x = rng.normal(size=(2, 6, 3))
    with pytest.raises(ValueError, match="lstm_forward: out must not share memory with inputs"):
        lstm_forward(x, parameters, out=x)


def test_cuda_is_refused_with_what_to_do(rng):
    parameters = make_parameters(rng, 3, 3)
    with pytest.raises(DeviceUnavailableError, match=r'device="cuda" was asked for, but no CUDA GPU .* device="auto"'):
        lstm_forward(np.zeros((2, 6, 3)), parameters, device="cuda")


def test_unknown_activations_are_refused(rng):
    parameters = make_parameters(rng, 3, 3)
    with pytest.raises(ValueError, match=r"unknown activation 'tanj'\. Did you mean 'tanh'"):
        lstm_forward(np.zeros((2, 6, 3)), parameters, activation="tanj")


def test_trace_refuses_lists(rng):
    parameters = make_parameters(rng, 3, 3)
    with pytest.raises(ValueError, match=r"lstm_trace: inputs must be one array .* got a list of 1 sequences"):
        lstm_trace([np.zeros((6, 3))], parameters)


def test_the_slow_path_says_why_and_where(rng, backend):
    if backend == "reference":
        pytest.skip("the reference serves everything")
    parameters = make_parameters(rng, 3, 3)
    with pytest.warns(SlowPathWarning, match="lstm_forward: the compiled CPU kernels do not cover ") as caught:
        lstm_forward(np.zeros((2, 6, 3)), parameters, activation="softmax")
    assert caught[0].filename == __file__


def test_a_step_names_itself_in_errors(rng):
    parameters = make_parameters(rng, 3, 5)
    with pytest.raises(ValueError, match=r"lstm_step: inputs must have shape \(batch, 3\), got \(2, 6, 3\)"):
        lstm_step(np.zeros((2, 6, 3)), parameters)
    with pytest.raises(ValueError, match=r"lstm_step: initial_state must hold 2 arrays \[h, c\], got 1"):
        lstm_step(np.zeros((2, 3)), parameters, [np.zeros((2, 5))])


def test_backends_get_no_negative_strides():
    x = np.zeros((4, 6, 3), np.float32)
    for given_x in (x[::-1], x[:, ::-1], x[..., ::-1]):
        assert min(arguments.real_array("f", "x", given_x, x.dtype).strides) > 0
    for given_x in (x, x.swapaxes(0, 1), x[::2, :, 1:]):
        assert arguments.real_array("f", "x", given_x, x.dtype) is given_x
    assert min(arguments.mask("f", np.ones((4, 6), bool)[:, ::-1], x).strides) > 0


def test_the_reference_serves_everything():
    assert reference.unsupported(None) is None
