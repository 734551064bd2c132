"""The page of all arguments says what the signatures say."""

import inspect
import re
from pathlib import Path

import pytest

import numbalstm as nl
from numbalstm.compat import keras2, r, tf_v1
from numbalstm.compat.r.composing import REQUIRED

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "arguments.md").read_text()
SECTIONS = dict(re.findall(r"^## `?([^\n`]+)`?\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
ROW = re.compile(r"^\| `([\w.]+)` \| (.*?) \| .+ \|$", re.MULTILINE)
DOCUMENTED = {
    "compat.r.keras3.layer_lstm": [r.keras3.layer_lstm, r.layer_lstm],
    "compat.r.keras.layer_lstm": [r.keras.layer_lstm],
    "compat.r.layer_lstm_cell": [r.layer_lstm_cell, r.keras.layer_lstm_cell],
    "compat.tf_v1.LSTM": [tf_v1.LSTM],
}


def signature(thing):
    """Name and default, as the page writes it, of every argument."""
    for name, parameter in inspect.signature(thing).parameters.items():
        default = parameter.default
        if parameter.kind is parameter.VAR_KEYWORD:
            yield "...", ""
        elif name == "object":
            yield name, "missing"
        elif default in (REQUIRED, parameter.empty):
            yield name, "required"
        else:
            yield name, f"`{default!r}`".replace("'", '"')


@pytest.mark.parametrize(("section", "thing"), [(s, thing) for s, things in DOCUMENTED.items() for thing in things])
def test_table_is_the_signature(section, thing):
    assert ROW.findall(SECTIONS[section]) == list(signature(thing))


def test_every_section_with_arguments_is_checked():
    assert {name for name, text in SECTIONS.items() if ROW.findall(text) and "| default |" in text} == set(DOCUMENTED)


def test_python_order_of_keras3_is_that_of_the_layer():
    ours = [name for name, _ in signature(r.layer_lstm)][1:-1]
    assert list(inspect.signature(nl.LSTM).parameters)[: len(ours)] == ours


def keyword_only(function):
    found = inspect.signature(function).parameters.values()
    return {parameter.name: parameter.default for parameter in found if parameter.kind is parameter.KEYWORD_ONLY}


FURTHER = keyword_only(nl.LSTM) | keyword_only(nl.layers.base.Layer)


def test_further_arguments_are_all_there():
    rows = re.findall(r"^\| (`.+?) \|", PAGE[PAGE.index("## In `...`") :], re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert len(set(names)) == len(names)
    assert set(names) == FURTHER.keys() - {"generation", "activity_regularizer"}  # set by the module; in the tables


@pytest.mark.parametrize("make", [nl.LSTM, keras2.LSTM, tf_v1.LSTM, lambda **options: r.layer_lstm(None, **options)])
def test_further_arguments_are_accepted(make):
    options = {name: default for name, default in FURTHER.items() if name not in ("generation", "trainable")}
    layer = make(units=3, trainable=False, **options | {"time_major": True, "name": "a"})
    assert (layer.time_major, layer.trainable, layer.name) == (True, False, "a")


def test_attributes_of_the_old_layer():
    layer = tf_v1.LSTM(2)
    rows = re.findall(
        r"^\| (`.+?) \| .+ \|$", SECTIONS["compat.tf_v1.LSTM"].partition("| attribute |")[2], re.MULTILINE
    )
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert len(names) == 18  # of the page
    for name in names:
        getattr(layer, name)


def test_call_arguments():
    for cls in (nl.LSTM, keras2.LSTM, tf_v1.LSTM):
        assert list(inspect.signature(cls.call).parameters)[:5] == [
            "self",
            "inputs",
            "mask",
            "training",
            "initial_state",
        ]
    assert "constants" in inspect.signature(keras2.RNN.call).parameters
