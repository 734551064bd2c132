"""The recurrence on the whole grid, forward and backward, against the float64 reference: in the warp simulator."""

import numpy as np
import pytest
from simulated_device import SimulatedDevice
from simulated_requests import assert_close, differences, make_request
from support.cases import holes, make_parameters, make_state

from numbalstm import activations
from numbalstm.backends.cuda import exchange, mode, passes
from numbalstm.backends.interface import Variant

TOLERANCE = 3e-6
STEPS, FEATURES = 4, 5


def problem(rng, batch, units, **changes):
    parameters = make_parameters(rng, FEATURES, units, np.float32, peephole=changes.pop("peephole", False))
    x = rng.normal(size=(batch, STEPS, FEATURES)).astype(np.float32)
    return make_request(x, parameters, **({"initial_state": make_state(rng, parameters, batch)} | changes))


@pytest.mark.parametrize(("batch", "units"), [(1, 1), (1, 9), (2, 7), (3, 6), (7, 5)])
def test_matches_the_reference(rng, batch, units):
    device = SimulatedDevice()
    found = differences(rng, problem(rng, batch, units), device)
    assert {"grid", "grid_backward"} <= set(device.launches)
    assert not {"step", "step_backward"} & set(device.launches)
    assert_close(found, TOLERANCE)


def test_units_beyond_one_piece_of_the_lanes(rng):
    """Of 130 units the second 128 are mostly padding."""
    request = problem(rng, 1, 130)
    assert_close(differences(rng, request._replace(x=request.x[:, :2]), backward=False), TOLERANCE)


@pytest.mark.parametrize("fair", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_schedules(rng, seed, fair):
    device = SimulatedDevice(seed=seed, switch=0.05, fair=fair)
    request = problem(rng, 2, 5, mask=holes(rng, 2, STEPS), go_backwards=True)
    assert_close(differences(rng, request, device), TOLERANCE)


@pytest.mark.parametrize("zero_output_for_mask", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_masks(rng, zero_output_for_mask, return_sequences):
    mask = holes(rng, 3, STEPS)
    request = problem(
        rng, 3, 5, mask=mask, zero_output_for_mask=zero_output_for_mask, return_sequences=return_sequences
    )
    request.x[~mask] = np.nan
    assert_close(differences(rng, request), TOLERANCE)


@pytest.mark.parametrize(
    "variant",
    [
        Variant(coupled=True, cell_clip=0.4),
        Variant(gate_clip=0.7),
        Variant(activations=tuple(map(activations.get, ("hard_sigmoid", "softsign", "gelu", "mish", "exponential")))),
    ],
)
@pytest.mark.parametrize("peephole", [False, True])
def test_variants(rng, variant, peephole):
    assert_close(differences(rng, problem(rng, 2, 5, variant=variant, peephole=peephole)), TOLERANCE)


def test_short_activations(rng, monkeypatch):
    monkeypatch.setattr(mode, "_mode", "fp32-fast")
    assert_close(differences(rng, problem(rng, 2, 5)), 1e-5)


def test_chunks_go_on_where_the_one_before_ended(rng, monkeypatch):
    monkeypatch.setattr("numbalstm.backends.cuda.tape.CHUNK", 3 * 2 * 4 * 5 * 4)
    device = SimulatedDevice()
    for return_sequences in (True, False):
        request = problem(rng, 2, 5, mask=holes(rng, 2, STEPS), return_sequences=return_sequences)
        assert_close(differences(rng, request, device, backward=False), TOLERANCE)
    assert device.launches.count("grid") == 4


def test_bits_do_not_depend_on_the_schedule(rng):
    request = problem(rng, 2, 5)
    results = [passes.forward(SimulatedDevice(seed, 0.1, fair=seed > 0), request) for seed in range(3)]
    for result in results[1:]:
        np.testing.assert_array_equal(result.outputs, results[0].outputs)


def test_tags_that_run_out_start_again_in_a_cleared_buffer(rng, monkeypatch):
    monkeypatch.setattr(exchange, "LAST_TAG", 2 * STEPS + 1)
    device = SimulatedDevice()
    for _ in range(3):
        assert_close(differences(rng, problem(rng, 2, 5), device), TOLERANCE)
    words = exchange.Exchange()
    assert [words.take(device, 8, STEPS)[1] for _ in range(4)] == [0, STEPS, 0, STEPS]
    pointer, tag = words.take(device, 9, STEPS)
    assert (pointer.array.size, tag) == (9, 0)
