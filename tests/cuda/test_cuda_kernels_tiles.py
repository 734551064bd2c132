"""The recurrence on tiles, forward and backward, against the float64 reference: in the warp simulator."""

import numpy as np
import pytest
from simulated_device import SimulatedDevice
from simulated_requests import assert_close, differences, distance, make_request
from support.cases import holes, make_parameters, make_state
from support.golden import load

from numbalstm import activations
from numbalstm.backends.cuda import mode, passes, products, tile_sizes
from numbalstm.backends.cuda import tiles as launches
from numbalstm.backends.cuda.choice import H100
from numbalstm.backends.interface import Variant
from numbalstm.kernels.cuda import tiles_backward, tiles_forward
from numbalstm.kernels.cuda.tiling import PAD, Tiling, packed, rounded
from numbalstm.parameters import LSTMParameters

TOLERANCE = {"fp32": 3e-6, "fp32-fast": 1e-5, "tf32": 2e-3, "bf16": 2e-2}
STEPS, FEATURES = 3, 2


@pytest.fixture(autouse=True)
def on_tiles(monkeypatch):
    monkeypatch.setattr(mode, "_kernel", "tiles")
    monkeypatch.setattr(products, "product", product)


def product(device, element, a, b, c, sizes, bias=None, add=False, **_):
    """`products.product` by NumPy: its kernels have tests of their own."""

    def matrix(operand, rows, columns):
        pointer, *strides = operand
        flat = pointer.array.reshape(-1)[pointer.offset :]
        return np.lib.stride_tricks.as_strided(flat, (rows, columns), [4 * stride for stride in strides])

    m, n, k = sizes
    made = matrix(a, m, k) @ matrix(b, n, k).T
    if bias is not None:
        made += matrix((bias, 0, 1), m, n)
    matrix(c, m, n)[...] = made + matrix(c, m, n) if add else made


def problem(rng, batch, units, steps=STEPS, **changes):
    parameters = make_parameters(rng, FEATURES, units, np.float32, peephole=changes.pop("peephole", False))
    x = rng.normal(size=(batch, steps, FEATURES)).astype(np.float32)
    return make_request(x, parameters, **({"initial_state": make_state(rng, parameters, batch)} | changes))


@pytest.mark.parametrize("name", ["fp32", "tf32", "bf16"])
def test_matches_the_reference(rng, monkeypatch, name):
    """Two tiles of units, all warps on the same sums."""
    monkeypatch.setattr(mode, "_mode", name)
    device = SimulatedDevice(switch=0.01)
    found = differences(rng, problem(rng, 9, 17), device)
    assert {"tiles", "tiles_backward"} <= set(device.launches)
    assert not {"step", "step_backward"} & set(device.launches)
    assert_close(found, TOLERANCE[name])
    assert (max(found.values()) > 1e-5) == (name != "fp32")  # it did round


def test_odd_sizes_and_masks(rng, monkeypatch):
    monkeypatch.setattr(mode, "_mode", "tf32")
    mask = holes(rng, 17, 2)
    request = problem(rng, 17, 33, 2, mask=mask, go_backwards=True)
    request.x[~mask] = np.nan
    assert_close(differences(rng, request), TOLERANCE["tf32"])


def test_weights_that_do_not_stay(rng, monkeypatch):
    def streamed(*sizes, **backward):
        found = tile_sizes.tiles(*sizes, **backward)
        return found._replace(tiling=found.tiling._replace(pieces=0))

    monkeypatch.setattr(launches, "tiles", streamed)
    device = SimulatedDevice(3, 0.01, fair=False)
    assert_close(differences(rng, problem(rng, 2, 17, 2), device), TOLERANCE["fp32"])


def test_more_pieces_than_stages(rng, monkeypatch):
    monkeypatch.setattr(tile_sizes, "FORWARD", ((32, 128),))
    device = SimulatedDevice(limits=H100._replace(shared_bytes=120_000))  # too little for the weights
    assert_close(differences(rng, problem(rng, 17, 200, 1), device, backward=False), TOLERANCE["fp32"])
    assert_close(differences(rng, problem(rng, 1, 130, 1), device), TOLERANCE["fp32"])


def test_the_largest_tiles(rng, monkeypatch):
    monkeypatch.setattr(tile_sizes, "FORWARD", ((64, 128),))
    monkeypatch.setattr(tile_sizes, "BACKWARD", ((64, 32),))
    assert_close(differences(rng, problem(rng, 40, 5, 2, mask=holes(rng, 40, 2))), TOLERANCE["fp32"])


def test_rows_that_do_not_fit_at_once_follow(rng, monkeypatch):
    monkeypatch.setattr(tile_sizes, "FORWARD", ((16, 64),))
    monkeypatch.setattr(tile_sizes, "BACKWARD", ((16, 16),))
    device = SimulatedDevice(limits=H100._replace(multiprocessors=1))
    request = problem(rng, 19, 3, 2, mask=holes(rng, 19, 2), return_sequences=False)
    assert_close(differences(rng, request, device), TOLERANCE["fp32"])
    assert device.launches.count("tiles") == device.launches.count("tiles_backward") == 4


@pytest.mark.parametrize("zero_output_for_mask", [False, True])
def test_masks(rng, zero_output_for_mask):
    mask = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
    request = problem(rng, 3, 5, mask=mask, zero_output_for_mask=zero_output_for_mask)
    request.x[~mask] = np.nan
    assert_close(differences(rng, request), TOLERANCE["fp32"])


@pytest.mark.parametrize(
    ("peephole", "variant"),
    [
        (True, Variant(coupled=True, cell_clip=0.4)),
        (False, Variant(gate_clip=0.7)),
        (True, Variant(activations=tuple(map(activations.get, ("hard_sigmoid", "softsign", "gelu", "mish", "relu"))))),
    ],
)
def test_variants(rng, peephole, variant):
    assert_close(differences(rng, problem(rng, 2, 5, variant=variant, peephole=peephole)), TOLERANCE["fp32"])


@pytest.mark.parametrize("name", ["fp32-fast", "bf16"])
def test_dropout_and_zoneout(rng, monkeypatch, name):
    """Factors of h, one set for all gates, and of the old state, of each step or of all."""
    monkeypatch.setattr(mode, "_mode", name)
    factors = None, rng.choice([0.0, 1.25], (3, 6)).astype(np.float32)
    zones = rng.choice([0.0, 1.0], (3, STEPS, 6)).astype(np.float32), 0.25
    request = problem(rng, 3, 6, dropout_masks=factors, variant=Variant(zoneout=zones), mask=holes(rng, 3, STEPS))
    assert_close(differences(rng, request), TOLERANCE[name])
    zones = 0.5, rng.choice([0.0, 1.0], (3, STEPS, 6)).astype(np.float32)
    request = request._replace(variant=Variant(zoneout=zones), mask=None, go_backwards=True)
    assert_close(differences(rng, request), TOLERANCE[name])


@pytest.mark.parametrize("name", ["k3-f32", "k3-mask-left-init", "k3-mask-backwards", "k3-mask-gaps-zero"])
def test_what_keras_recorded(name):
    case, arrays = load(name)
    arrays = {key: value if value.dtype == bool else value.astype(np.float32) for key, value in arrays.items()}
    parameters = LSTMParameters(arrays["kernel"], arrays["recurrent_kernel"], arrays["bias"])
    request = make_request(
        arrays["x"], parameters, mask=arrays.get("mask"), go_backwards=case["config"].get("go_backwards", False),
        initial_state=(arrays["h0"], arrays["c0"]) if "h0" in arrays else None,
        zero_output_for_mask=case["config"].get("zero_output_for_mask", False),
    )  # fmt: skip
    device = SimulatedDevice()
    result, tape = passes.record(device, request)
    gradients = tape.pullback(arrays["g_out"], arrays.get("g_h"), arrays.get("g_c"))
    assert {"tiles", "tiles_backward"} <= set(device.launches)
    found = {"out": result.outputs, "h": result.h, "c": result.c, "d_x": gradients.x}
    found |= {f"d_{weight}": gradient for weight, gradient in gradients.parameters.items()}
    for key in found.keys() & arrays.keys():
        assert distance(found[key], arrays[key]) < 1e-5, key


def test_chunks_go_on_where_the_one_before_ended(rng, monkeypatch):
    monkeypatch.setattr("numbalstm.backends.cuda.tape.CHUNK", 2 * 2 * 4 * 5 * 4)
    device = SimulatedDevice()
    zones = tuple(rng.choice([0.0, 1.0], (2, STEPS, 5)).astype(np.float32) for _ in range(2))
    for changes in ({"return_sequences": False}, {"variant": Variant(zoneout=zones)}):
        request = problem(rng, 2, 5, mask=holes(rng, 2, STEPS), **changes)
        assert_close(differences(rng, request, device, backward=False), TOLERANCE["fp32"])
    assert device.launches.count("tiles") == 4


def test_bits_depend_on_neither_the_schedule_nor_other_rows(rng):
    request = problem(rng, 3, 5, 2)
    alone = request._replace(x=request.x[1:2], initial_state=tuple(state[1:2] for state in request.initial_state))
    first, tape = passes.record(SimulatedDevice(1), request)
    again, tape_again = passes.record(SimulatedDevice(2, 0.1, fair=False), request)
    single, tape_single = passes.record(SimulatedDevice(3), alone)
    np.testing.assert_array_equal(first.outputs, again.outputs)
    np.testing.assert_array_equal(first.outputs[1:2], single.outputs)
    ones = np.ones_like(first.outputs)
    gradients = tape.pullback(ones, None, None)
    np.testing.assert_array_equal(gradients.x, tape_again.pullback(ones, None, None).x)
    np.testing.assert_array_equal(gradients.x[1:2], tape_single.pullback(ones[1:2], None, None).x)


def test_a_block_that_waits_in_vain_says_so_and_goes_on(rng, monkeypatch):
    request, device = problem(rng, 2, 5, 2), SimulatedDevice()
    made = passes.record(device, request)[1]
    for module, run in (
        (tiles_forward, lambda: passes.forward(device, request)),
        (tiles_backward, lambda: made.pullback(np.ones((2, 2, 5), np.float32), None, None)),
    ):
        monkeypatch.setattr(module, "POLLS", 0)
        device.trouble.data[0] = 0
        with pytest.raises(AssertionError):
            run()


@pytest.mark.parametrize(("name", "drop"), [("fp32", 0), ("tf32", 13), ("bf16", 16)])
def test_packed_weights_hold_every_weight_rounded_once(rng, name, drop):
    tiling, units = Tiling(32, 64, 4), 70
    weights = rng.normal(size=(4 * units, units)).astype(np.float32)
    words = packed(weights, tiling, units, name)
    tiles, pieces, columns, pitch = words.shape
    assert (tiles, columns, pitch) == (5, 64, tiling.depth + PAD)
    assert pieces == tiling.count(units, name)
    assert not words[..., tiling.depth :].any()
    words = words[..., : tiling.depth].transpose(0, 2, 1, 3).reshape(tiles * columns, -1)
    if name == "bf16":
        words = np.stack([words << np.uint32(16), words & np.uint32(0xFFFF0000)], axis=-1).reshape(tiles * columns, -1)
    assert not (words & np.uint32((1 << drop) - 1)).any()
    values = words.view(np.float32)
    np.testing.assert_allclose(values[: 4 * units, :units], weights, rtol=2.0 ** -(24 - drop))
    assert not values[4 * units :].any()
    assert not values[:, units:].any()
    assert rounded(np.ones((1, 2)), name).dtype == np.uint32
