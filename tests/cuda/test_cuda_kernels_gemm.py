"""The tuned matrix products, and which of them a pass takes: in the warp simulator."""

import numpy as np
import pytest
from simulated_device import SimulatedDevice
from simulated_requests import assert_close, differences, make_request
from support.cases import make_parameters

from numbalstm.backends.cuda import choice, mode, products
from numbalstm.kernels.cuda.gemm import MODES

TOLERANCE = {"fp32": 1e-6, "tf32": 1e-3, "bf16": 1e-2}
SHAPES = [  # A and B contiguous along k or not; M, N, K, pieces of k
    (True, True, 131, 66, 68, 1),
    (True, False, 35, 132, 37, 1),
    (False, False, 68, 36, 99, 2),
]


@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize(("a_k_fast", "b_k_fast", "m", "n", "k", "parts"), SHAPES)
def test_products_of_every_layout(rng, monkeypatch, name, a_k_fast, b_k_fast, m, n, k, parts):
    monkeypatch.setattr(choice, "tuned", lambda *sizes: True)
    monkeypatch.setattr(choice, "pieces", lambda *sizes: parts)
    device = SimulatedDevice()
    a, b = (rng.normal(size=(rows, k)).astype(np.float32) for rows in (m, n))
    bias = rng.normal(size=n).astype(np.float32) if parts == 1 else None
    operands = []
    for values, k_fast in ((a, a_k_fast), (b, b_k_fast)):
        kept = device.upload(values if k_fast else values.T.copy())
        operands.append((kept.at(), k, 1) if k_fast else (kept.at(), 1, len(values)))
    c = device.empty((m, n), "float32")
    bias_at = None if bias is None else device.upload(bias).at()
    products.product(device, "float32", *operands, (c.at(), n, 1), (m, n, k), bias_at, mode=name)
    expected = a.astype(float) @ b.T.astype(float) + (0 if bias is None else bias)
    assert device.launches == ["gemm"] + ["column_sums"] * (parts > 1)
    assert np.linalg.norm(c.data - expected) < TOLERANCE[name] * np.linalg.norm(expected)


@pytest.mark.parametrize(("name", "tolerance"), [("fp32", 5e-6), ("bf16", 3e-2)])
def test_a_pass_takes_them_where_they_are_worth_it(rng, monkeypatch, name, tolerance):
    monkeypatch.setattr(mode, "_mode", name)
    monkeypatch.setattr(choice, "tuned", lambda m, n, k: m * n * k > 300)
    parameters = make_parameters(rng, 5, 4, np.float32)
    x = rng.normal(size=(3, 4, 5)).astype(np.float32)
    device = SimulatedDevice()
    assert_close(differences(rng, make_request(x, parameters), device), tolerance)
    assert device.launches.count("gemm") >= 4  # forward, recorded, and the gradients


def test_plain_products_serve_what_is_strided(rng, monkeypatch):
    monkeypatch.setattr(choice, "tuned", lambda *sizes: True)
    device = SimulatedDevice()
    a, b = rng.normal(size=(7, 6)).astype(np.float32), rng.normal(size=(4, 6)).astype(np.float32)
    c = device.zeros((7, 4, 3), "float32")
    where = (c.at(1), 12, 3)
    left, right = (device.upload(values).at() for values in (a, b))
    products.product(device, "float32", (left, 6, 2), (right, 6, 2), where, (7, 4, 3), add=True, mode="fp32")
    assert device.launches == ["product"]
    np.testing.assert_allclose(c.data[:, :, 1], a[:, ::2] @ b[:, ::2].T, rtol=1e-5)
    assert not c.data[:, :, (0, 2)].any()


def test_pieces_follow_from_the_sizes_alone():
    assert choice.pieces(4096, 512, 100_000) == 2
    assert choice.pieces(512, 64, 100) == 1
    assert choice.pieces(512, 64, 1 << 20) == 16
