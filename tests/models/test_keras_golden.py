"""Whole models against the numbers of the real Keras, both generations: layers, masks, graphs, configs."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

import numbalstm as nl
from numbalstm.layers.symbolic import leaves

DATA = np.load(Path(__file__).parents[1] / "golden" / "core_layers.npz")
CASES = sorted({key.rpartition("/")[0] for key in DATA.files})
# Keras 3 warns here too; Keras 2 is silent.
LOSING_MASKS = {f"keras3/{name}" for name in ("mask_max", "mask_flatten", "mask_lost_in_reshape")}


def arrays(case, kind):
    count = sum(key.startswith(f"{case}/{kind}") and key[len(case) + 2 :].isdigit() for key in DATA.files)
    return [DATA[f"{case}/{kind}{index}"] for index in range(count)]


def config(case):
    return json.loads(str(DATA[f"{case}/config"]))


def load(case):
    model = nl.Model.from_config(config(case))
    model.set_weights(arrays(case, "w"))
    return model


def compare(case, outputs):
    expected, outputs = arrays(case, "y"), list(leaves(outputs))
    tolerance = 1e-10 if expected[0].dtype == np.float64 else 2e-6
    assert len(outputs) == len(expected)
    for ours, theirs in zip(outputs, expected, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def data(case, model):
    return dict(zip(model.input_names, arrays(case, "x"), strict=True))


@pytest.fixture(autouse=True)
def _mask_warnings(request):
    with warnings.catch_warnings():
        if request.node.callspec.params["case"] in LOSING_MASKS:
            warnings.filterwarnings("ignore", "Model .* does not heed masks")
        yield


@pytest.mark.parametrize("case", CASES)
def test_numbers(case):
    model = load(case)
    compare(case, model.predict(data(case, model), batch_size=3))


@pytest.mark.parametrize("case", CASES)
def test_config_and_weights_round_trip(case):
    model = load(case)
    written = json.loads(json.dumps(model.get_config()))
    again = nl.Model.from_config(written)
    again.set_weights(model.get_weights())
    assert json.loads(json.dumps(again.get_config())) == written
    compare(case, again(data(case, again)))


@pytest.mark.parametrize("case", CASES)
def test_layers_stand_in_the_order_of_keras(case):
    assert [layer.name for layer in load(case).graph.layers] == [layer["name"] for layer in config(case)["layers"]]


@pytest.mark.parametrize("case", sorted(LOSING_MASKS))
def test_a_lost_mask_is_told(case):
    model = load(case)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="does not heed masks"):
            model(data(case, model))


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("keras3/mask")])
def test_masks_are_found_without_the_functions_that_keras_writes(case):
    """The same graph made by our own calls, without the mask tensors of the config, gives the same numbers."""
    description = config(case)
    description["layers"] = [layer for layer in description["layers"] if ".ops" not in layer["module"]]
    for layer in description["layers"]:
        for node in layer["inbound_nodes"]:
            node["kwargs"].pop("mask", None)
    model = nl.Model.from_config(description)
    model.set_weights(arrays(case, "w"))
    compare(case, model(data(case, model)))
