"""The recurrence in clusters on tensor cores against the float64 reference: in the warp simulator."""

import numpy as np
import pytest
from simulated_device import SimulatedDevice
from simulated_requests import assert_close, differences, make_request
from support.cases import holes, make_parameters, make_state

from numbalstm.backends.cuda import mode
from numbalstm.backends.interface import Variant
from numbalstm.kernels.cuda.cluster import fragments

TOLERANCE = {"tf32": 2e-3, "bf16": 2e-2}
STEPS, FEATURES = 4, 3


def problem(rng, batch, units, **changes):
    parameters = make_parameters(rng, FEATURES, units, np.float32, peephole=changes.pop("peephole", False))
    x = rng.normal(size=(batch, STEPS, FEATURES)).astype(np.float32)
    return make_request(x, parameters, **({"initial_state": make_state(rng, parameters, batch)} | changes))


@pytest.mark.parametrize("name", ["tf32", "bf16"])
def test_matches_the_reference(rng, monkeypatch, name):
    monkeypatch.setattr(mode, "_mode", name)
    device = SimulatedDevice(switch=0.02)
    found = differences(rng, problem(rng, 3, 37), device)
    assert {"cluster", "grid_backward"} <= set(device.launches)
    assert_close(found, TOLERANCE[name])
    assert max(found.values()) > 1e-6  # it did round


@pytest.mark.parametrize("name", ["tf32", "bf16"])
def test_several_clusters_masks_and_the_last_output(rng, monkeypatch, name):
    monkeypatch.setattr(mode, "_mode", name)
    mask = holes(rng, 9, STEPS)
    request = problem(rng, 9, 5, mask=mask, go_backwards=True, return_sequences=False)
    request.x[~mask] = np.nan
    assert_close(differences(rng, request, SimulatedDevice(3, 0.05, fair=False)), TOLERANCE[name])


def test_variants_and_chunks(rng, monkeypatch):
    monkeypatch.setattr(mode, "_mode", "tf32")
    monkeypatch.setattr("numbalstm.backends.cuda.tape.CHUNK", 3 * 2 * 4 * 5 * 4)
    variant = Variant(coupled=True, cell_clip=0.9, gate_clip=2.0)
    request = problem(rng, 2, 5, variant=variant, peephole=True)
    assert_close(differences(rng, request, backward=False), TOLERANCE["tf32"])


@pytest.mark.parametrize(("name", "drop"), [("tf32", 13), ("bf16", 16)])
def test_fragments_hold_every_weight_rounded_once(rng, name, drop):
    weights = rng.normal(size=(32, 4, 32)).astype(np.float32)
    words = fragments(weights, name)
    if name == "bf16":
        words = np.concatenate([words << np.uint32(16), words & np.uint32(0xFFFF0000)], axis=None)
    found = np.sort(words.reshape(-1).view(np.float32))
    assert not (found.view(np.uint32) & np.uint32((1 << drop) - 1)).any()
    np.testing.assert_allclose(found, np.sort(weights.reshape(-1)), rtol=2.0 ** -(23 - drop))
