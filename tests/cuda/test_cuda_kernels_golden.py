"""Layers with device="cuda" against recorded cases of Keras and TensorFlow, all the way: on the simulated device."""

import numpy as np
import pytest
from simulated_device import SimulatedDevice
from support.golden import CASES, assert_close, cases, load

from numbalstm.backends.cuda import dispatch, presence
from numbalstm.layers.lstm import LSTM

WEIGHTS = ("kernel", "recurrent_kernel", "bias")
GENERATIONS = {"keras3": "keras3", "keras2": "keras2", "compat_v1": "v1"}
SERVED = [  # what a kernel serves, small enough to simulate
    name
    for name in cases("lstm")
    if not {"calls"} & set(CASES[name])
    and not any(isinstance(value, list) for value in CASES[name]["config"].values())
    and "softmax" not in CASES[name]["config"].values()
    and CASES[name]["dtype"] in ("float32", "float64")
    and CASES[name]["config"]["units"] <= 16
]


@pytest.fixture
def device(monkeypatch):
    device = SimulatedDevice()
    monkeypatch.setattr(presence, "problem", lambda: None)
    monkeypatch.setattr(dispatch, "_device", lambda request: device)
    return device


@pytest.mark.parametrize("name", SERVED)
def test_a_layer_gives_what_was_recorded(device, name):
    case, arrays = load(name)
    layer = LSTM(
        **case["config"], dtype=case["dtype"], generation=GENERATIONS[case["generation"]], device="cuda",
        weights=[arrays[weight] for weight in WEIGHTS if weight in arrays], batch_input_shape=arrays["x"].shape,
    )  # fmt: skip
    arguments = {"mask": arrays.get("mask")}
    if "h0" in arrays:
        arguments["initial_state"] = [arrays["h0"], arrays["c0"]]
    if case.get("training"):
        arguments |= {"training": True, "dropout_masks": (arrays.get("dp_mask"), arrays.get("rec_dp_mask"))}
    returned = layer(arrays["x"], **arguments)
    returned = list(returned) if isinstance(returned, tuple | list) else [returned]
    for output, key in zip(returned, ("out", "h", "c"), strict=False):
        assert_close(case, output, arrays[key])
        assert isinstance(output, np.ndarray)
    assert {"step", "grid"} & set(device.launches)
