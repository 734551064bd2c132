"""The recurrence in clusters, forward and backward, against the float64 reference: in the warp simulator."""

import numpy as np
import pytest
from simulated_device import SimulatedDevice, product_by_numpy
from simulated_requests import assert_close, differences, make_request
from support.cases import holes, make_parameters, make_state

from numbalstm import activations
from numbalstm.backends.cuda import choice, mode, passes, products
from numbalstm.backends.interface import Variant
from numbalstm.kernels.cuda.cluster import backward_fragments, forward_fragments

TOLERANCE = {"fp32": 3e-6, "fp32-fast": 1e-5, "tf32": 2e-3, "bf16": 2e-2}
STEPS, FEATURES = 4, 3


@pytest.fixture(autouse=True)
def only_the_recurrence_is_simulated(monkeypatch):
    monkeypatch.setattr(products, "product", product_by_numpy)


def problem(rng, batch, units, steps=STEPS, **changes):
    parameters = make_parameters(rng, FEATURES, units, np.float32, peephole=changes.pop("peephole", False))
    x = rng.normal(size=(batch, steps, FEATURES)).astype(np.float32)
    return make_request(x, parameters, **({"initial_state": make_state(rng, parameters, batch)} | changes))


def device_of(multiprocessors, *arguments, **options):
    """Return a device of so many multiprocessors: the fewer, the more rows a float32 cluster has."""
    return SimulatedDevice(*arguments, limits=choice.H100._replace(multiprocessors=multiprocessors), **options)


def launched(device, name):
    forward = "cluster_simt" if name.startswith("fp32") else "cluster"
    return {forward, "cluster_backward"} == set(device.launches) - {"gather", "scatter", "column_sums"}


@pytest.mark.parametrize(
    ("name", "batch", "units", "multiprocessors"),
    [
        ("fp32", 1, 17, 132),  # 2 blocks, 1 row
        ("fp32", 3, 9, 2),  # 4 rows
        ("fp32-fast", 2, 5, 2),
        ("tf32", 3, 37, 132),
    ],
)
def test_matches_the_reference(rng, monkeypatch, name, batch, units, multiprocessors):
    monkeypatch.setattr(mode, "_mode", name)
    device = device_of(multiprocessors, switch=0.02)
    found = differences(rng, problem(rng, batch, units, 3), device)
    assert launched(device, name)
    assert_close(found, TOLERANCE[name])
    assert name == "fp32" or max(found.values()) > 1e-7  # it did round


@pytest.mark.parametrize(
    ("name", "batch", "units"),
    [
        ("fp32", 11, 17),  # 2 clusters of 2 blocks, 8 rows in 2 passes
        ("fp32", 9, 33),  # 4 blocks
        ("fp32", 5, 96),  # 8 blocks
        ("fp32", 3, 200),  # a warp has 4 units, 4 rows are 2 passes
        ("bf16", 3, 200),
    ],
)
def test_odd_sizes(rng, monkeypatch, name, batch, units):
    monkeypatch.setattr(mode, "_mode", name)
    device = device_of(4 if units < 20 else 8)
    assert_close(differences(rng, problem(rng, batch, units, 2), device, once=True), TOLERANCE[name])
    assert launched(device, name)


@pytest.mark.parametrize(
    ("name", "batch", "zero_output_for_mask", "fair"),
    [("fp32", 9, False, False), ("fp32", 3, True, True), ("bf16", 9, False, True)],
)
def test_masks(rng, monkeypatch, name, batch, zero_output_for_mask, fair):
    monkeypatch.setattr(mode, "_mode", name)
    mask = holes(rng, batch, STEPS)
    request = problem(rng, batch, 5, mask=mask, go_backwards=True, zero_output_for_mask=zero_output_for_mask)
    request.x[~mask] = np.nan
    request = request._replace(return_sequences=zero_output_for_mask)
    assert_close(differences(rng, request, device_of(4, 3, 0.05 * (not fair), fair=fair), once=True), TOLERANCE[name])


def variant_of(rng, name, batch, units):
    """Return a variant and dropout masks by name."""
    zones = tuple(rng.random((batch, STEPS, units)).astype(np.float32) for _ in range(2))
    names = ("hard_sigmoid", "softsign", "gelu", "mish", "exponential")
    return {
        "coupled, c clipped": (Variant(coupled=True, cell_clip=0.4), None),
        "sums clipped": (Variant(gate_clip=0.7), None),
        "activations": (Variant(activations=tuple(map(activations.get, names))), None),
        "zoneout": (Variant(zoneout=zones), None),
        "zoneout of h": (Variant(zoneout=(None, 0.3)), None),
        "dropout": (Variant(), (None, rng.choice([0, 1.25], (batch, units)).astype(np.float32))),
        "dropout by gate": (Variant(), (None, rng.choice([0, 1.25], (4, batch, units)).astype(np.float32))),
    }[name]


@pytest.mark.parametrize(
    ("name", "variant", "peephole"),
    [
        ("fp32", "coupled, c clipped", False), ("fp32", "sums clipped", True), ("fp32", "activations", True),
        ("fp32", "zoneout", False), ("fp32", "zoneout of h", True), ("fp32", "dropout", True),
        ("fp32", "dropout by gate", False),
        ("tf32", "zoneout", False), ("tf32", "dropout", True),
    ],
)  # fmt: skip
def test_variants(rng, monkeypatch, name, variant, peephole):
    monkeypatch.setattr(mode, "_mode", name)
    variant, factors = variant_of(rng, variant, 3, 5)
    request = problem(rng, 3, 5, variant=variant, dropout_masks=factors, peephole=peephole, mask=holes(rng, 3, STEPS))
    device = device_of(2 if name == "fp32" else 4)
    assert_close(differences(rng, request, device, once=True), TOLERANCE[name])
    assert launched(device, name)


@pytest.mark.parametrize("name", ["fp32", "tf32"])
def test_chunks_go_on_where_the_one_before_ended(rng, monkeypatch, name):
    monkeypatch.setattr(mode, "_mode", name)
    monkeypatch.setattr("numbalstm.backends.cuda.tape.CHUNK", 3 * 2 * 4 * 5 * 4)
    device = device_of(4)
    zones = tuple(rng.random((2, STEPS, 5)).astype(np.float32) for _ in range(2))
    mask = np.array([[True, False, True, False], [False] * 4])  # the last chunk repeats an output of the first
    request = problem(rng, 2, 5, variant=Variant(zoneout=zones), mask=mask, return_sequences=False)
    assert_close(differences(rng, request, device, backward=False), TOLERANCE[name])
    assert len(set(device.launches) - {"gather"}) == 1
    assert len(device.launches) == 4


def test_bits_depend_neither_on_other_rows_nor_on_the_schedule(rng):
    """One row in a cluster or four: every sum is made in the same order."""
    request = problem(rng, 3, 9)
    cotangents = rng.normal(size=(3, STEPS, 9)).astype(np.float32)
    together, tape = passes.record(device_of(2, 1, 0.1), request)
    gradients = tape.pullback(cotangents, None, None)
    for row in range(3):
        alone = slice(row, row + 1)
        h, c = request.initial_state
        one = request._replace(x=request.x[alone], initial_state=(h[alone], c[alone]))
        result, tape = passes.record(device_of(132, row, 0.1, fair=row > 1), one)
        np.testing.assert_array_equal(result.outputs, together.outputs[alone])
        found = tape.pullback(cotangents[alone], None, None)
        np.testing.assert_array_equal(found.h, gradients.h[alone])
        np.testing.assert_array_equal(found.c, gradients.c[alone])


@pytest.mark.parametrize("pack", [forward_fragments, backward_fragments])
@pytest.mark.parametrize(("name", "drop"), [("tf32", 13), ("bf16", 16)])
def test_fragments_hold_every_weight_rounded_once(rng, pack, name, drop):
    weights = rng.normal(size=(32, 4, 32)).astype(np.float32)
    words = pack(weights, name)
    if name == "bf16":
        words = np.concatenate([words << np.uint32(16), words & np.uint32(0xFFFF0000)], axis=None)
    found = np.sort(words.reshape(-1).view(np.float32))
    assert not (found.view(np.uint32) & np.uint32((1 << drop) - 1)).any()
    np.testing.assert_allclose(found, np.sort(weights.reshape(-1)), rtol=2.0 ** -(23 - drop))
