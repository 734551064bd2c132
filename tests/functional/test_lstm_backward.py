"""lstm_backward: against recorded gradients, against differences, and its invariances."""

import itertools
import warnings

import numpy as np
import pytest
from support.cases import make_parameters, make_state, oracle
from support.golden import cases, load
from support.requests import request
from support.variants import CASES, CHOICES, allowed, label, oracle_options, problem

from numbalstm import functional
from numbalstm.backends import reference, reference_backward
from numbalstm.backends.interface import SlowPathWarning
from numbalstm.functional import Variant, lstm_backward, lstm_forward, lstm_step, lstm_trace
from numbalstm.parameters import LSTMParameters, Norm

pytestmark = pytest.mark.filterwarnings("ignore::numbalstm.backends.interface.SlowPathWarning")
every_variant = pytest.mark.parametrize("case", CASES, ids=label)


@pytest.fixture(scope="module", params=["compiled", "reference"], autouse=True)
def backend(request):
    """Run everything twice: on what serves the call by itself, and on the reference."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "reference":
            patch.setattr(functional, "cpu", reference)
            patch.setattr(functional, "compiled_tape", reference_backward)
        yield request.param


def rebuilt(parameters, changes):
    """The parameters with some arrays replaced, by name."""
    arrays = parameters.arrays | changes
    norm = parameters.norm
    if norm is not None:
        norm = Norm(*(arrays.pop(name) for name in Norm._fields[:-1]), norm.epsilon)
    return LSTMParameters(**arrays, norm=norm)


def cotangents(rng, result):
    """Random cotangents of outputs and states; of what an implementation may not mix up, none alike."""
    outputs = result.outputs
    d_outputs = (
        [rng.normal(size=o.shape) for o in outputs] if isinstance(outputs, list) else rng.normal(size=outputs.shape)
    )
    return d_outputs, {"d_h": rng.normal(size=result.h.shape), "d_c": rng.normal(size=result.c.shape)}


def dot(a, b):
    return float(sum(np.vdot(p, q) for p, q in zip(a, b, strict=True)))


def flat(gradients):
    """Every array of gradients, by name."""
    named = {"h": gradients.h, "c": gradients.c} | gradients.parameters
    xs = gradients.x if isinstance(gradients.x, list) else [gradients.x]
    return named | {f"x{row}": array for row, array in enumerate(xs)}


def assert_all(compare, first, *others):
    for name, array in flat(first).items():
        compare(array, *(flat(other)[name] for other in others), err_msg=name)


def same_bits(a, b, err_msg=""):
    assert a.tobytes() == b.tobytes(), err_msg


# ---- every combination ------------------------------------------------------------------------------------------


def test_every_pair_of_choices_occurs():
    for a, b in itertools.combinations(CHOICES, 2):
        for u, v in itertools.product(CHOICES[a], CHOICES[b]):
            occurs = any((case[a], case[b]) == (u, v) for case in CASES)
            assert occurs == allowed({a: u, b: v}), (a, u, b, v)


@every_variant
def test_forward_matches_the_scalar_oracle(rng, case):
    x, parameters, options = problem(rng, case)
    outputs, h, c = oracle(x, parameters, **oracle_options(options))
    expected = np.array(outputs) if options["return_sequences"] else np.array(outputs)[:, -1]
    for found in (lstm_forward(x, parameters, **options), lstm_forward(x, parameters, **options, tape=True)):
        np.testing.assert_allclose(found.outputs, expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.h, h, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.c, c, rtol=0, atol=1e-12)


@every_variant
def test_gradients_match_central_differences(rng, case):
    x, parameters, options = problem(rng, case)
    options.setdefault("initial_state", make_state(rng, parameters, len(x)))
    result = lstm_forward(x, parameters, **options, tape=True)
    d_outputs, states = cotangents(rng, result)
    found = lstm_backward(d_outputs, result.tape, **states)

    def loss(name, value):
        given = dict(zip("hc", options["initial_state"], strict=True)) | ({name: value} if name in "hc" else {})
        weights = rebuilt(parameters, {name: value}) if name in parameters.arrays else parameters
        arguments = options | {"initial_state": (given["h"], given["c"])}
        moved = lstm_forward(value if name == "x" else x, weights, **arguments)
        return dot(moved, (d_outputs, states["d_h"], states["d_c"]))

    inputs = {"x": x, **dict(zip("hc", options["initial_state"], strict=True)), **parameters.arrays}
    for name, value in inputs.items():
        gradient = found.parameters[name] if name in found.parameters else getattr(found, name)
        assert gradient.shape == value.shape
        assert gradient.dtype == value.dtype
        direction = rng.normal(size=value.shape)
        slope = (loss(name, value + 1e-6 * direction) - loss(name, value - 1e-6 * direction)) / 2e-6
        assert np.vdot(gradient, direction) == pytest.approx(slope, rel=2e-7, abs=2e-8), name


@every_variant
@pytest.mark.parametrize("every", [1, 2, 3, 5, 9])
def test_checkpoints_change_no_bit(rng, case, every):
    x, parameters, options = problem(rng, case, time=7)
    whole = lstm_forward(x, parameters, **options, tape=True)
    part = lstm_forward(x, parameters, **options, tape=True, checkpoint_every=every)
    same_bits(part.outputs, whole.outputs)
    assert part.tape.nbytes < whole.tape.nbytes or every > 2
    d_outputs, states = cotangents(rng, whole)
    assert_all(same_bits, *(lstm_backward(d_outputs, one.tape, **states) for one in (part, whole)))


@every_variant
def test_backward_is_linear_and_repeatable(rng, case):
    x, parameters, options = problem(rng, case)
    result = lstm_forward(x, parameters, **options, tape=True)
    d, states = cotangents(rng, result)
    d2, states2 = cotangents(rng, result)
    first = lstm_backward(d, result.tape, **states)
    second = lstm_backward(d2, result.tape, **states2)
    mixed = {name: 2.0 * states[name] - 0.5 * states2[name] for name in states}
    both = lstm_backward(2.0 * d - 0.5 * d2, result.tape, **mixed)

    def compare(mixed, a, b, err_msg):
        np.testing.assert_allclose(mixed, 2.0 * a - 0.5 * b, rtol=1e-11, atol=1e-12, err_msg=err_msg)

    assert_all(compare, both, first, second)
    again = lstm_backward(d, result.tape, **states)
    assert_all(same_bits, again, first)
    for array in flat(again).values():
        array[...] = np.nan
    result.outputs[...], result.h[...], result.c[...] = np.nan, np.nan, np.nan
    assert_all(same_bits, lstm_backward(d, result.tape, **states), first)
    for zero in (lstm_backward(None, result.tape), lstm_backward(np.zeros_like(d), result.tape)):
        assert not any(array.any() for array in flat(zero).values())


@every_variant
def test_nothing_under_a_mask_leaks(rng, case):
    x, parameters, options = problem(rng, case | {"mask": case["mask"] or "repeat"})
    clean = lstm_forward(x, parameters, **options, tape=True)
    rubbish = np.where(options["mask"][..., None], x, rng.choice([np.nan, np.inf, -np.inf], x.shape))
    dirty = lstm_forward(rubbish, parameters, **options, tape=True)
    d_outputs, states = cotangents(rng, clean)
    found = lstm_backward(d_outputs, dirty.tape, **states)
    assert_all(same_bits, found, lstm_backward(d_outputs, clean.tape, **states))
    assert not found.x[~options["mask"]].any()


# ---- recorded gradients -----------------------------------------------------------------------------------------


def assert_recorded(case, found, expected):
    assert np.shape(found) == expected.shape
    tolerance = case["tolerance"]["gradient"] * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", cases("peephole"))
def test_peephole_gradients_of_keras(name):
    case, arrays = load(name)
    weights = [arrays[key] for key in ("kernel", "recurrent_kernel", "bias")]
    parameters = LSTMParameters(*weights, peephole_kernel=np.stack([arrays[f"p_{gate}"] for gate in "ifo"]))
    result = lstm_forward(arrays["x"], parameters, tape=True)
    found = lstm_backward(arrays["g_out"], result.tape, d_h=arrays["g_h"], d_c=arrays["g_c"])
    assert_recorded(case, found.x, arrays["d_x"])
    for key in ("kernel", "recurrent_kernel", "bias"):
        assert_recorded(case, found.parameters[key], arrays[f"d_{key}"])
    for row, gate in enumerate("ifo"):
        assert_recorded(case, found.parameters["peephole_kernel"][row], arrays[f"d_p_{gate}"])


@pytest.mark.parametrize("name", ["pt-1layer", "pt-proj"])
def test_gradients_of_torch(name):
    case, arrays = load(name)
    projection = arrays.get("weight_hr_l0")
    parameters = LSTMParameters(
        arrays["weight_ih_l0"].T,
        arrays["weight_hh_l0"].T,
        arrays["bias_ih_l0"] + arrays["bias_hh_l0"],
        projection_kernel=None if projection is None else projection.T,
    )
    start = [arrays["h0"][0], arrays["c0"][0]]
    result = lstm_forward(arrays["x"].swapaxes(0, 1), parameters, initial_state=start, tape=True)
    d_outputs = arrays["g_out"].swapaxes(0, 1)
    found = lstm_backward(d_outputs, result.tape, d_h=arrays["g_h_n"][0], d_c=arrays["g_c_n"][0])
    assert_recorded(case, found.x.swapaxes(0, 1), arrays["d_x"])
    assert_recorded(case, found.h[None], arrays["d_h0"])
    assert_recorded(case, found.c[None], arrays["d_c0"])
    assert_recorded(case, found.parameters["kernel"].T, arrays["d_weight_ih_l0"])
    assert_recorded(case, found.parameters["recurrent_kernel"].T, arrays["d_weight_hh_l0"])
    for key in ("bias_ih", "bias_hh"):
        assert_recorded(case, found.parameters["bias"], arrays[f"d_{key}_l0"])
    if projection is not None:
        assert_recorded(case, found.parameters["projection_kernel"].T, arrays["d_weight_hr_l0"])


# ---- lists, factors for each step, activations of the user's ----------------------------------------------------


@pytest.mark.parametrize("return_sequences", [True, False])
@pytest.mark.parametrize("every", [None, 2])
def test_a_list_is_each_sequence_alone(rng, return_sequences, every):
    parameters = make_parameters(rng, 3, 5, peephole=True, projection=2, norm=True)
    lengths = (4, 0, 7, 1)
    xs = [rng.normal(size=(length, 3)) for length in lengths]
    h, c = make_state(rng, parameters, 4)
    m_x, m_h = rng.choice([0.0, 2.0], (4, 4, 3)), rng.choice([0.0, 2.0], (4, 2))
    zones = [(rng.random((length, 5)) < 0.5).astype(float) for length in lengths]
    options = {"return_sequences": return_sequences, "tape": True, "checkpoint_every": every, "go_backwards": True}
    variant = Variant(zoneout=(zones, 0.1))
    result = lstm_forward(xs, parameters, initial_state=(h, c), dropout_masks=(m_x, m_h), variant=variant, **options)
    d_outputs, states = cotangents(rng, result)
    found = lstm_backward(d_outputs, result.tape, **states)
    totals = {name: np.zeros_like(array) for name, array in parameters.arrays.items()}
    for row, x in enumerate(xs):
        one = slice(row, row + 1)
        d_state = {name: array[one] for name, array in states.items()}
        if len(x) == 0:
            assert found.x[row].shape == (0, 3)
            assert np.array_equal(found.h[one], d_state["d_h"])
            assert np.array_equal(found.c[one], d_state["d_c"])
            continue
        alone = lstm_forward(
            x[None],
            parameters,
            initial_state=(h[one], c[one]),
            dropout_masks=(m_x[:, one], m_h[one]),
            variant=Variant(zoneout=(zones[row][None], 0.1)),
            **options,
        )
        np.testing.assert_allclose(result.outputs[row], alone.outputs[0], rtol=0, atol=1e-13)
        expected = lstm_backward(d_outputs[row][None], alone.tape, **d_state)
        np.testing.assert_allclose(found.x[row], expected.x[0], rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.h[one], expected.h, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.c[one], expected.c, rtol=0, atol=1e-12)
        for name, total in totals.items():
            total += expected.parameters[name]
    for name, total in totals.items():
        np.testing.assert_allclose(found.parameters[name], total, rtol=0, atol=1e-11, err_msg=name)


def test_no_rows_give_zero_gradients(rng):
    parameters = make_parameters(rng, 3, 5)
    for x in (np.zeros((0, 6, 3)), []):
        result = lstm_forward(x, parameters, tape=True)
        found = lstm_backward(result.outputs, result.tape)
        assert found.h.shape == (0, 5)
        assert found.parameters["kernel"].shape == (3, 20)
        assert not found.parameters["kernel"].any()


def test_factors_for_each_step_scale_the_inputs_gradient(rng):
    parameters = make_parameters(rng, 3, 5)
    x = rng.normal(size=(2, 6, 3))
    factors = rng.choice([0.0, 2.0], x.shape)
    result = lstm_forward(x, parameters, dropout_masks=(factors, None), tape=True)
    plain = lstm_forward(x * factors, parameters, tape=True)
    d_outputs, states = cotangents(rng, result)
    found, expected = (lstm_backward(d_outputs, one.tape, **states) for one in (result, plain))
    same_bits(found.x, expected.x * factors)
    same_bits(found.parameters["kernel"], expected.parameters["kernel"])
    assert result.tape.nbytes == plain.tape.nbytes + x.nbytes


class Sine:
    """A callable of a user's with its derivative."""

    def __call__(self, z):
        return np.sin(z)

    def vjp(self, z, g):
        return g * np.cos(z)


@pytest.mark.parametrize("activation", [Sine(), "softmax", "log_softmax", "sparsemax", "relu", "mish"])
def test_any_activation_with_a_derivative(rng, activation):
    parameters = make_parameters(rng, 3, 5)
    x = rng.normal(size=(2, 6, 3))
    options = {"activation": activation, "recurrent_activation": "softmax", "tape": True}
    result = lstm_forward(x, parameters, **options)
    d_outputs, _ = cotangents(rng, result)
    direction = rng.normal(size=x.shape)
    moved = (lstm_forward(x + step * direction, parameters, **options).outputs for step in (1e-6, -1e-6))
    slope = np.vdot(next(moved) - next(moved), d_outputs) / 2e-6
    found = lstm_backward(d_outputs, result.tape)
    assert np.vdot(found.x, direction) == pytest.approx(slope, rel=1e-6)


def test_float32_stays_float32(rng):
    parameters = make_parameters(rng, 3, 5, np.float32, peephole=True, projection=2, norm=True)
    x = rng.normal(size=(2, 6, 3))
    variant = Variant(gate_clip=1.0, cell_clip=1.0, projection_clip=1.0, zoneout=(0.1, 0.2))
    result = lstm_forward(x, parameters, variant=variant, tape=True, mask=np.ones((2, 6)))
    assert result.outputs.dtype == np.float32
    found = lstm_backward(np.ones((2, 6, 2)), result.tape)
    assert all(array.dtype == np.float32 for array in flat(found).values())


# ---- the variant as an argument ---------------------------------------------------------------------------------


def test_a_variant_of_defaults_is_the_plain_lstm(rng):
    parameters = make_parameters(rng, 3, 5)
    x = rng.normal(size=(2, 6, 3))
    plain = lstm_forward(x, parameters)
    for variant in (Variant(), Variant(zoneout=(None, 0.0)), Variant(zoneout=(None, None))):
        with warnings.catch_warnings():
            warnings.simplefilter("error", SlowPathWarning)
            same_bits(lstm_forward(x, parameters, variant=variant).outputs, plain.outputs)
    assert plain.tape is None
    outputs, h, c = lstm_forward(x, parameters, tape=True)
    assert (outputs.shape, h.shape, c.shape) == ((2, 6, 5), (2, 5), (2, 5))


X = np.zeros((2, 6, 3))
ZONE = np.zeros((2, 6, 5))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"variant": {"coupled": True}}, TypeError, "variant must be a numbalstm.functional.Variant, got an object"),
        ({"variant": Variant(gate_clip=0)}, ValueError, "variant.gate_clip must be above 0 (None: no limit), got 0."),
        ({"variant": Variant(cell_clip=np.nan)}, ValueError, "variant.cell_clip must be finite, got nan."),
        (
            {"variant": Variant(projection_clip=1.0)},
            ValueError,
            "variant.projection_clip needs parameters with a projection_kernel.",
        ),
        (
            {"variant": Variant(activations=("tanh",) * 4)},
            ValueError,
            "variant.activations must be 5, of i, f, g, o and the cell state, got an object of type tuple.",
        ),
        ({"variant": Variant(activations=("tanj",) * 5)}, ValueError, "variant.activations: unknown activation 'tanj'"),
        ({"variant": Variant(zoneout=0.1)}, ValueError, "variant.zoneout must be a pair (z_c, z_h), got 0.1."),
        ({"variant": Variant(zoneout=(1.5, None))}, ValueError, "variant.zoneout[0] must be in [0, 1], got 1.5."),
        (
            {"variant": Variant(zoneout=(None, ZONE[:, :5]))},
            ValueError,
            "variant.zoneout[1] must have shape (2, 6, 5), got (2, 5, 5).",
        ),
        ({"checkpoint_every": 2}, ValueError, "checkpoint_every is for tape=True; without a tape nothing is kept."),
        ({"tape": True, "checkpoint_every": 0}, ValueError, "checkpoint_every must be at least 1, got 0."),
    ],
)
def test_refusals_of_a_forward_pass(rng, options, error, message):
    with pytest.raises(error) as caught:
        lstm_forward(X, make_parameters(rng, 3, 5), **options)
    assert str(caught.value).startswith(f"lstm_forward: {message}")


def test_zoneout_of_lists_needs_lists(rng):
    parameters = make_parameters(rng, 3, 5)
    with pytest.raises(ValueError, match=r"variant.zoneout\[0\] must be a list of 2 arrays, as the inputs, got an"):
        lstm_forward([X[0], X[1]], parameters, variant=Variant(zoneout=(ZONE, None)))
    with pytest.raises(ValueError, match=r"variant.zoneout\[0\]\[1\] must have shape \(6, 5\), got \(5, 5\)"):
        lstm_forward([X[0], X[1]], parameters, variant=Variant(zoneout=([ZONE[0], ZONE[1, 1:]], None)))


def test_an_activation_without_derivative_is_refused_at_once(rng):
    def sine(z):
        return np.sin(z)

    with pytest.raises(TypeError, match=r"activation sine: no derivative is known. Give the callable a method vjp"):
        lstm_forward(X, make_parameters(rng, 3, 5), activation=sine, tape=True)


@pytest.mark.parametrize(
    ("options", "d_outputs", "message"),
    [
        ({}, ZONE[:, 1:], "d_outputs must have shape (2, 6, 5), got (2, 5, 5)."),
        ({"return_sequences": False}, ZONE, "d_outputs must have shape (2, 5), got (2, 6, 5)."),
        ({}, np.full(ZONE.shape, "a"), "d_outputs must hold real numbers, got dtype <U1."),
    ],
)
def test_refusals_of_cotangents(rng, options, d_outputs, message):
    tape = lstm_forward(X, make_parameters(rng, 3, 5), tape=True, **options).tape
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared in full below
        lstm_backward(d_outputs, tape)
    assert str(caught.value).startswith(f"lstm_backward: {message}")


def test_refusals_of_other_cotangents_and_tapes(rng):
    parameters = make_parameters(rng, 3, 5)
    tape = lstm_forward(X, parameters, tape=True).tape
    with pytest.raises(ValueError, match=r"lstm_backward: d_c must have shape \(2, 5\), got \(5, 2\)"):
        lstm_backward(None, tape, d_c=np.zeros((5, 2)))
    tape = lstm_forward(list(X), parameters, tape=True).tape
    with pytest.raises(ValueError, match=r"lstm_backward: d_outputs must be a list of 2 arrays, .* got 1\."):
        lstm_backward([ZONE[0]], tape)
    with pytest.raises(ValueError, match=r"lstm_backward: d_outputs\[1\] must have shape \(6, 5\), got \(5, 5\)"):
        lstm_backward([ZONE[0], ZONE[1, 1:]], tape)
    with pytest.raises(TypeError, match=r"lstm_backward: tape must be the tape of lstm_forward\(.*\), got None"):
        lstm_backward(ZONE, lstm_forward(X, parameters).tape)


def test_the_reference_records_everything():
    assert reference_backward.unsupported_record(None) is None


def test_a_step_and_a_trace_take_the_variant(rng):
    parameters = make_parameters(rng, 3, 5, peephole=True, projection=2, norm=True)
    x = rng.normal(size=(2, 6, 3))
    variant = Variant(gate_clip=0.7, cell_clip=0.4, coupled=True, zoneout=(0.2, 0.3))
    expected = lstm_forward(x, parameters, variant=variant)
    trace = lstm_trace(x, parameters, variant=variant)
    np.testing.assert_allclose(trace.h, expected.outputs, rtol=0, atol=1e-12)
    np.testing.assert_allclose(trace.f, 1 - trace.i, rtol=0, atol=1e-15)
    state = None
    for t in range(6):
        state = lstm_step(x[:, t], parameters, state, variant=variant)
        np.testing.assert_allclose(state[0], expected.outputs[:, t], rtol=0, atol=1e-12)
    np.testing.assert_allclose(state[1], expected.c, rtol=0, atol=1e-12)


def test_the_reference_states_its_memory(rng):
    parameters = make_parameters(rng, 3, 5)
    plain = request(rng.normal(size=(2, 9, 3)), parameters)
    states = 2 * 2 * 5  # h and c of both rows
    _, tape = reference_backward.record(plain, None)
    assert tape.nbytes == 8 * (states + 9 * 2 * 11 * 5)  # four sums, four gates, c, phi(c), h
    _, tape = reference_backward.record(plain, 4)
    assert tape.nbytes == 8 * 3 * states
    tape.pullback(np.ones((2, 9, 5)), None, None)
    assert tape.nbytes == 8 * 3 * states
