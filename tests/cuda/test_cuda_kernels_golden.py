"""Layers against recorded cases of Keras, TensorFlow and PyTorch, with gradients, all the way: on the simulated device.

Every layer has ``use_cudnn=True``: none of cuDNN's conditions holds here.
"""

from pathlib import Path

import numpy as np
import pytest
from simulated_device import SimulatedDevice
from support.golden import CASES, assert_close, cases, load

from numbalstm.backends.cuda import dispatch, presence
from numbalstm.backends.cuda.choice import H100
from numbalstm.backends.interface import Variant
from numbalstm.functional import lstm_backward, lstm_forward
from numbalstm.layers.lstm import LSTM

WEIGHTS = ("kernel", "recurrent_kernel", "bias")
GENERATIONS = {"keras3": "keras3", "keras2": "keras2", "compat_v1": "v1"}
SERVED = [  # small enough to simulate
    name
    for name in cases("lstm")
    if not {"calls"} & set(CASES[name])
    and not any(isinstance(value, list) for value in CASES[name]["config"].values())
    and CASES[name]["dtype"] in ("float32", "float64")
    and CASES[name]["config"]["units"] <= 16
]


@pytest.fixture
def device(monkeypatch):
    device = SimulatedDevice()
    monkeypatch.setattr(presence, "problem", lambda: None)
    monkeypatch.setattr(dispatch, "device_for", lambda x, stream=None: device)
    return device


def assert_gradient(found, expected, tolerance, name):
    assert np.shape(found) == expected.shape
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=tolerance * max(1.0, np.abs(expected).max()), err_msg=name
    )  # fmt: skip


def assert_recorded(name, in_float32=False):
    """Compare a layer with a recorded case; float64 cases can be computed in float32."""
    case, arrays = load(name)
    bound, dtype = case["tolerance"], case["dtype"]
    if in_float32:
        bound, dtype = {"forward": 1e-5, "gradient": bound["gradient"] and 1e-5}, "float32"
        arrays = {key: array.astype(dtype) if array.dtype == float else array for key, array in arrays.items()}
    layer = LSTM(
        **case["config"], dtype=dtype, generation=GENERATIONS[case["generation"]], use_cudnn=True,
        weights=[arrays[weight] for weight in WEIGHTS if weight in arrays], batch_input_shape=arrays["x"].shape,
    )  # fmt: skip
    arguments = {"mask": arrays.get("mask")}
    if "h0" in arrays:
        arguments["initial_state"] = [arrays["h0"], arrays["c0"]]
    if case.get("training"):
        arguments |= {"training": True, "dropout_masks": (arrays.get("dp_mask"), arrays.get("rec_dp_mask"))}
    returned, pullback = layer.vjp(arrays["x"], **arguments)
    returned = list(returned) if isinstance(returned, tuple | list) else [returned]
    for output, key in zip(returned, ("out", "h", "c"), strict=False):
        assert_close(case | {"tolerance": bound}, output, arrays[key])
        assert isinstance(output, np.ndarray)
    tolerance = bound["gradient"]
    if tolerance is None:
        return
    gradients = pullback(*(arrays[f"g_{key}"] for _, key in zip(returned, ("out", "h", "c"), strict=False)))
    assert_gradient(gradients.inputs, arrays["d_x"], tolerance, "x")
    for weight in layer.weights:
        assert_gradient(gradients.weights[weight.name], arrays[f"d_{weight.name}"], tolerance, weight.name)


@pytest.mark.parametrize("name", SERVED)
def test_a_layer_gives_what_was_recorded(device, name):
    assert_recorded(name)
    assert {"step", "row_step", "grid"} & set(device.launches)


@pytest.mark.parametrize(
    "name", ["k3-f32", "k3-mask-gaps-zero", "k3-mask-backwards", "k3-relu-hardsig", "k3-dropout-both", "v1-mask-state"]
)
def test_a_layer_in_float32_gives_what_was_recorded(device, name):
    device.limits = H100._replace(multiprocessors=2)  # one cluster
    assert_recorded(name, in_float32=True)
    assert {"cluster_simt", "cluster_backward"} <= set(device.launches)


VARIANTS = {
    "tf1_peephole": {"peephole": True},
    "tf1_cell_clip": {"cell_clip": 0.4},
    "tf1_peephole_cell_clip": {"peephole": True, "cell_clip": 0.5},
    "tf1_projection": {"proj_size": 2},
    "tf1_projection_clip": {"proj_size": 2, "projection_clip": 0.2},
    "tf1_everything": {"peephole": True, "cell_clip": 0.6, "proj_size": 2, "projection_clip": 0.25},
    "torch_layer_norm": {"layer_norm": True},
    "torch_coupled": {"input_forget": True},
    "torch_zoneout": {},
    "torch_layer_norm_zoneout_coupled": {"layer_norm": True, "input_forget": True},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_gives_what_was_recorded(device, name):
    with np.load(Path(__file__).parent.parent / "golden" / "variants.npz") as saved:
        arrays = {key.partition("__")[2]: saved[key] for key in saved.files if key.startswith(f"{name}__")}
    layer = LSTM(5, dtype="float64", batch_input_shape=arrays["x"].shape, **VARIANTS[name])
    layer.set_weights([arrays[weight.name] for weight in layer.weights])
    clips = {key: VARIANTS[name].get(key) for key in ("cell_clip", "projection_clip")}
    zones = (arrays["zone_c"], arrays["zone_h"]) if "zone_c" in arrays else None
    variant = Variant(coupled=VARIANTS[name].get("input_forget", False), zoneout=zones, **clips)
    start = arrays["h0"], arrays["c0"]
    result = lstm_forward(
        arrays["x"], layer.parameters, initial_state=start, variant=variant, tape=True, device="cuda",
        checkpoint_every=4 if "norm" in name else None,
    )  # fmt: skip
    for key, found in zip(("out", "h", "c"), result, strict=True):
        np.testing.assert_allclose(found, arrays[key], rtol=0, atol=1e-10, err_msg=key)
    found = lstm_backward(arrays["g_out"], result.tape, d_h=arrays["g_h"], d_c=arrays["g_c"])
    close = {"d_x": found.x, "d_h0": found.h, "d_c0": found.c}
    close |= {f"d_{weight}": gradient for weight, gradient in found.parameters.items()}
    assert {key for key in arrays if key.startswith("d_")} == set(close)
    for key, gradient in close.items():
        assert_gradient(gradient, arrays[key], 1e-9, key)
    assert device.launches
