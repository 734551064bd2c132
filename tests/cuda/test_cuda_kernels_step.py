"""One launch a step, every option of the layer, against the float64 reference: in the warp simulator."""

import numpy as np
import pytest
from simulated_device import SimulatedArray, SimulatedDevice
from simulated_requests import assert_close, differences, make_request
from support.cases import holes, make_parameters, make_state

from numbalstm import activations
from numbalstm.backends.cuda import passes
from numbalstm.backends.interface import Variant
from numbalstm.kernels.formulas import FORMULAS

BATCH, STEPS, FEATURES, UNITS = 3, 4, 5, 6
TOLERANCE = {np.float64: 1e-13, np.float32: 5e-6}
get = activations.get


@pytest.fixture
def x(rng):
    return rng.normal(size=(BATCH, STEPS, FEATURES))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("projection", [None, 2])
@pytest.mark.parametrize("peephole", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_weights_and_directions(rng, x, dtype, projection, peephole, return_sequences):
    parameters = make_parameters(
        rng, FEATURES, UNITS, dtype, bias=not peephole, peephole=peephole, projection=projection
    )
    state = make_state(rng, parameters, BATCH)
    request = make_request(
        x.astype(dtype), parameters, initial_state=state, return_sequences=return_sequences, go_backwards=peephole
    )
    assert_close(differences(rng, request), TOLERANCE[dtype])


@pytest.mark.parametrize("zero_output_for_mask", [False, True])
@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_masks_of_any_pattern_hide_what_lies_under_them(rng, x, zero_output_for_mask, go_backwards, return_sequences):
    parameters = make_parameters(rng, FEATURES, UNITS)
    mask = holes(rng, BATCH, STEPS)
    x[~mask] = np.nan
    request = make_request(
        x, parameters, mask=mask, initial_state=make_state(rng, parameters, BATCH), go_backwards=go_backwards,
        zero_output_for_mask=zero_output_for_mask, return_sequences=return_sequences,
    )  # fmt: skip
    assert_close(differences(rng, request), TOLERANCE[np.float64])


@pytest.mark.parametrize("m_x", [None, (BATCH, FEATURES), (4, BATCH, FEATURES)])
@pytest.mark.parametrize("m_h", [None, (BATCH, UNITS), (4, BATCH, UNITS)])
def test_dropout_factors(rng, x, m_x, m_h):
    parameters = make_parameters(rng, FEATURES, UNITS)
    masks = tuple(None if shape is None else rng.choice([0.0, 1.25, 2.0], shape) for shape in (m_x, m_h))
    assert_close(differences(rng, make_request(x, parameters, dropout_masks=masks)), TOLERANCE[np.float64])


def variants(rng):
    zones = rng.choice([0.0, 1.0], (2, BATCH, STEPS, UNITS))
    named = tuple(map(get, ("hard_sigmoid", "softsign", "gelu", "mish", "elu")))
    return {
        "activations": Variant(activations=named),
        "coupled": Variant(coupled=True),
        "clips": Variant(gate_clip=0.7, cell_clip=0.4),
        "zoneout": Variant(zoneout=(0.3, 0.2)),
        "zoneout of each step": Variant(zoneout=tuple(zones)),
        "zoneout of h": Variant(zoneout=(None, zones[1])),
    }


@pytest.mark.parametrize("name", variants(np.random.default_rng(0)))
def test_variants(rng, x, name):
    variant = variants(rng)[name]
    parameters = make_parameters(rng, FEATURES, UNITS, peephole=variant.zoneout is None)
    request = make_request(
        2 * x, parameters, variant=variant, mask=holes(rng, BATCH, STEPS), go_backwards=name.startswith("zoneout"),
        initial_state=make_state(rng, parameters, BATCH),
    )  # fmt: skip
    assert_close(differences(rng, request), TOLERANCE[np.float64])


def test_clips_of_a_projection(rng, x):
    parameters = make_parameters(rng, FEATURES, UNITS, peephole=True, projection=2)
    variant = Variant(gate_clip=0.7, cell_clip=0.8, projection_clip=0.2)
    assert_close(differences(rng, make_request(2 * x, parameters, variant=variant)), TOLERANCE[np.float64])


@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_sequences_of_different_lengths(rng, go_backwards, return_sequences):
    parameters = make_parameters(rng, FEATURES, UNITS)
    sequences = [rng.normal(size=(length, FEATURES)) for length in (4, 0, 2)]
    zones = ([rng.choice([0.0, 1.0], (length, UNITS)) for length in (4, 0, 2)], None)
    request = make_request(
        sequences, parameters, initial_state=make_state(rng, parameters, 3), go_backwards=go_backwards,
        return_sequences=return_sequences, variant=Variant(zoneout=zones),
    )  # fmt: skip
    assert_close(differences(rng, request), TOLERANCE[np.float64])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_activations_with_numbers_of_their_own(rng, dtype):
    parameters = make_parameters(rng, 2, 3, dtype)
    x, onnx = (2 * rng.normal(size=(4, 2, 2))).astype(dtype), activations.onnx
    families = [onnx("HardSigmoid", 0.3, 0.4), onnx("Affine", 0.6, -0.2), onnx("ScaledTanh", 1.5, 0.7)]
    families += [onnx("Elu", 0.4), onnx("LeakyRelu", 0.3), onnx("ThresholdedRelu", -0.7)]
    for functions in (families[:5], families[1:]):
        request = make_request(x, parameters, variant=Variant(activations=tuple(functions)))
        assert_close(differences(rng, request), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_every_activation(rng, name, dtype):
    parameters = make_parameters(rng, 2, 3, dtype)
    x = (2 * rng.normal(size=(4, 1, 2))).astype(dtype)
    for functions in ({"activation": get(name)}, {"recurrent_activation": get(name)}):
        request = make_request(x, parameters, initial_state=make_state(rng, parameters, 4), **functions)
        assert_close(differences(rng, request), 10 * TOLERANCE[dtype])


def test_what_lies_on_the_device_stays_there(rng, x):
    parameters, device = make_parameters(rng, FEATURES, UNITS), SimulatedDevice()
    state = make_state(rng, parameters, BATCH)
    request = make_request(x, parameters, initial_state=state)
    there = request._replace(
        x=SimulatedArray(np.asfortranarray(x)), initial_state=tuple(SimulatedArray(part) for part in state)
    )
    expected, expected_tape = passes.record(device, request)
    found, tape = passes.record(device, there)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.data, other)
    cotangents = [rng.normal(size=part.shape) for part in expected]
    given = [SimulatedArray(part.copy()) for part in cotangents]
    gradients, wanted = tape.pullback(*given), expected_tape.pullback(*cotangents)
    for one, other, before in zip(gradients[:3], wanted[:3], (x, *state), strict=True):
        np.testing.assert_array_equal(one.data, other)
        assert one.shape == before.shape
    for part, before in zip(given, cotangents, strict=True):
        np.testing.assert_array_equal(part.data, before)  # what the caller gave is not written to
    np.testing.assert_array_equal(gradients.parameters["kernel"], wanted.parameters["kernel"])


def test_no_rows_on_the_device_are_refused(rng):
    request = make_request(SimulatedArray(np.zeros((0, 3, FEATURES))), make_parameters(rng, FEATURES, UNITS))
    with pytest.raises(ValueError, match=r"inputs on a GPU must have at least one row, got shape \(0, 3, 5\)"):
        passes.forward(SimulatedDevice(), request)


def test_strided_inputs_and_outputs(rng):
    parameters = make_parameters(rng, FEATURES, UNITS)
    x = rng.normal(size=(STEPS, FEATURES, BATCH)).transpose(2, 0, 1)
    out = np.full((STEPS, BATCH, UNITS), np.nan).transpose(1, 0, 2)
    expected = passes.forward(SimulatedDevice(), make_request(x.copy(), parameters)).outputs
    assert passes.forward(SimulatedDevice(), make_request(x, parameters, out=out)).outputs is out
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("shape", [(0, 3, FEATURES), (1, 1, FEATURES)])
def test_edges(rng, shape):
    parameters = make_parameters(rng, FEATURES, 1)
    assert_close(differences(rng, make_request(rng.normal(size=shape), parameters)), TOLERANCE[np.float64])


def test_long_inputs_are_multiplied_in_chunks(rng, x, monkeypatch):
    parameters = make_parameters(rng, FEATURES, UNITS)
    monkeypatch.setattr("numbalstm.backends.cuda.tape.CHUNK", 3 * BATCH * 4 * UNITS * 8)
    request = make_request(x, parameters, mask=holes(rng, BATCH, STEPS), go_backwards=True)
    device = SimulatedDevice()
    assert_close(differences(rng, request, device, backward=False), TOLERANCE[np.float64])
    assert device.launches.count("gather") == 2


def test_results_repeat_to_the_bit_under_any_schedule(rng, x):
    parameters = make_parameters(rng, FEATURES, UNITS, np.float32)
    request = make_request(x.astype(np.float32), parameters)
    results = [passes.forward(SimulatedDevice(seed, 0.1), request) for seed in range(3)]
    for result in results[1:]:
        np.testing.assert_array_equal(result.outputs, results[0].outputs)
