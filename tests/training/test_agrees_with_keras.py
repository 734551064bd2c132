"""The same data, weights and batches as the real Keras: the same weights and logs after 20 updates."""

import json
from pathlib import Path

import numpy as np
import pytest

import numbalstm as nl

FILE = Path(__file__).parents[1] / "golden" / "training.npz"
with np.load(FILE) as _archive:
    NAMES = [key.removesuffix("/case") for key in _archive.files if key.endswith("/case")]


def load(name):
    """A case: its description, and its arrays by kind."""
    with np.load(FILE) as archive:
        case = json.loads(str(archive[f"{name}/case"]))
        for kind in ("w", "x", "y", "s", "v", "after"):
            count = sum(key.rstrip("0123456789") == f"{name}/{kind}" for key in archive.files)
            case[kind] = [archive[f"{name}/{kind}{index}"] for index in range(count)]
    return case


def one(arrays):
    return None if not arrays else arrays[0] if len(arrays) == 1 else arrays


def trained(name):
    case = load(name)
    model = getattr(nl, {"Functional": "Model"}.get(case["class"], case["class"])).from_config(case["config"])
    model.set_weights(case["w"])
    model.compile(**case["compile"])
    options = case["fit"]
    if "class_weight" in options:
        options["class_weight"] = {int(label): weight for label, weight in options["class_weight"].items()}
    history = model.fit(
        one(case["x"]), one(case["y"]), case["batch_size"], epochs=4, verbose=0, shuffle=False,
        sample_weight=one(case["s"]), validation_data=tuple(case["v"]) or None, **options,
    )  # fmt: skip
    return case, model, history


@pytest.mark.parametrize("name", NAMES)
def test_weights_and_logs_are_those_of_keras(name):
    case, model, history = trained(name)
    assert model.optimizer.iterations == (16 if "validation_split" in case["fit"] else 20)
    for weight, found, expected, start in zip(
        model.weights, model.get_weights(), case["after"], case["w"], strict=True
    ):
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9, err_msg=weight.name)
        if weight in model.trainable_weights:
            assert np.abs(expected - start).max() > 1e-3
    assert history.history.keys() == case["history"].keys()
    for key, values in case["history"].items():
        np.testing.assert_allclose(history.history[key], values, rtol=1e-6, err_msg=key)
