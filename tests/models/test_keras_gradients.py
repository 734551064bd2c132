"""Gradients of whole models against those of the real Keras in float64, both generations."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

import numbalstm as nl
from numbalstm.layers.symbolic import leaves

FOLDER = Path(__file__).parents[1] / "golden"
MODELS = np.load(FOLDER / "core_layers.npz")
DATA = np.load(FOLDER / "core_gradients.npz")
CASES = sorted({key.rpartition("/")[0] for key in DATA.files})


def arrays(source, case, kind):
    count = sum(key.startswith(f"{case}/{kind}") and key[len(f"{case}/{kind}") :].isdigit() for key in source.files)
    return [source[f"{case}/{kind}{index}"] for index in range(count)]


def assert_close(found, expected):
    """Relative to the largest element; what TensorFlow gives as zeros may be the None of an embedding's integers."""
    assert found.shape == expected.shape
    tolerance = 1e-9 * max(np.abs(expected).max(initial=0.0), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
def test_gradients(case):
    training = case.endswith("/training")
    name = case.removesuffix("/training")
    text = str(MODELS[f"{name}/config"]).replace('"float32"', '"float64"').replace('"rate": 0.3', '"rate": 0.0')
    model = nl.Model.from_config(json.loads(text))
    model.set_weights(arrays(MODELS, name, "w"))
    given = [x.astype("float64") if x.dtype.kind == "f" else x for x in arrays(MODELS, name, "x")]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Model .* does not heed masks")
        outputs, pullback = model.vjp(dict(zip(model.input_names, given, strict=True)), training=training)
    outputs = list(leaves(outputs))
    cotangents = arrays(DATA, case, "g")
    names = model.output_names if isinstance(model.output, dict) else None
    found = pullback(dict(zip(names, cotangents, strict=True))) if names else pullback(*cotangents)
    inputs = [dx for dx in found.inputs.values() if dx is not None]
    trainable = [gradient for gradient in found.weights if gradient is not None]
    for ours, kind in ((inputs, "dx"), (trainable, "dw")):
        for gradient, expected in zip(ours, arrays(DATA, case, kind), strict=True):
            assert_close(gradient, expected)
    if training:
        for ours, kind in ((outputs, "y"), (model.get_weights(), "m")):
            for array, expected in zip(ours, arrays(DATA, case, kind), strict=True):
                assert_close(array, expected)
