"""Layers and models with weights of lower precision, and the trained models that they are tried on."""

import inspect
from pathlib import Path

import numpy as np

import numbalstm as nl

ROOT = Path(__file__).parents[2]
_MODELS = {"digits": "digits_keras3", "words": "words_keras3", "co2": "co2_keras3"}


def _rebuilt(thing, **options):
    """Return a layer or model with the same weights whose LSTM layers all have these options."""
    if not set(options) <= set(inspect.signature(nl.LSTM.__init__).parameters):
        raise NotImplementedError(f"LSTM takes no {', '.join(options)}")
    config = thing.get_config()
    other = type(thing).from_config(config | options if isinstance(thing, nl.LSTM) else _changed(config, options))
    if isinstance(thing, nl.LSTM):
        other.build((None, None, thing.kernel.shape[0]))
    other.set_weights(thing.get_weights())
    return other


def _changed(value, options):
    """Return a config with the options in every description of an LSTM in it."""
    if isinstance(value, list):
        return [_changed(item, options) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: _changed(item, options) for key, item in value.items()}
    if changed.get("class_name") == "LSTM":
        changed["config"] = changed["config"] | options
    return changed


def lower_precision(thing, dtype):
    """Return a layer or model whose LSTM weights are stored as `dtype`."""
    return _rebuilt(thing, weights_dtype=dtype)


def quick_arithmetic(layer):
    """Return a layer that multiplies in bfloat16."""
    return _rebuilt(layer, compute_dtype="bfloat16")


def models():
    """Give (name, model, inputs, whether it tells classes) of models that Keras trained, checked against Keras."""
    folder = ROOT / "tests" / "golden" / "models"
    for name, file in _MODELS.items():
        model, expected = nl.load_model(folder / f"{file}.keras"), np.load(folder / f"{file}.expected.npz")
        np.testing.assert_allclose(model.predict(expected["x0"]), expected["y0"], atol=1e-5)
        yield name, model, expected["x0"], expected["y0"].shape[1] > 1
