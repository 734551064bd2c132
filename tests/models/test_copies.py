"""Copies and pickles of layers and models: the same numbers, and nothing shared with the original."""

import copy
import gc
import pickle

import numpy as np
import pytest

import numbalstm as nl


def chain():
    return nl.Sequential([nl.LSTM(4, return_sequences=True), nl.BatchNormalization(), nl.Flatten(), nl.Dense(2)])


def graph():
    x = nl.Input((5, 3))
    shared = nl.Bidirectional(nl.LSTM(2))
    inner = nl.Sequential([nl.Input((5, 3)), nl.LSTM(3, return_sequences=True)])
    return nl.Model(x, nl.Add()([shared(nl.Masking()(inner(x))), shared(inner(x))]))


LAYERS = {
    "lstm": lambda: nl.LSTM(4, activation="softsign", kernel_regularizer="l2", dropout=0.5, seed=1),
    "cells": lambda: nl.RNN([nl.LSTMCell(2), nl.LSTMCell(3)], return_state=True),
    "each step": lambda: nl.TimeDistributed(nl.Dense(2)),
    "chain": chain,
    "graph": graph,
}
WAYS = {"deepcopy": copy.deepcopy, "pickle": lambda layer: pickle.loads(pickle.dumps(layer))}


def numbers(outputs):
    return outputs if isinstance(outputs, np.ndarray) else np.concatenate([outputs[0], *outputs[1], *outputs[2]], 1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_copy_computes_the_same_on_its_own(rng, kind, way):
    layer = LAYERS[kind]()
    x = rng.standard_normal((3, 5, 3)).astype("f")
    expected = numbers(layer(x)).copy()
    again = WAYS[way](layer)
    np.testing.assert_array_equal(numbers(again(x)), expected)
    again.set_weights([weight + 1 for weight in again.get_weights()])
    assert not np.array_equal(numbers(again(x)), expected)
    np.testing.assert_array_equal(numbers(layer(x)), expected)
    again.set_weights(layer.get_weights())
    del layer
    gc.collect()
    np.testing.assert_array_equal(numbers(again(x)), expected)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [nl.Sequential, lambda layers: nl.Model(layers[0].tensor, run(layers))])
def test_a_deep_model_needs_no_deep_recursion(kind, way):
    model = kind([nl.InputLayer((3,)), *(nl.Dense(3, name=f"layer{number}") for number in range(400))])
    x = np.ones((1, 3), np.float32)
    np.testing.assert_array_equal(WAYS[way](model)(x), model(x))


def run(layers):
    tensor = layers[0].tensor
    for layer in layers[1:]:
        tensor = layer(tensor)
    return tensor


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_keeps_the_stored_states(rng, way):
    layer = nl.LSTM(4, stateful=True)
    x = rng.standard_normal((3, 5, 3)).astype("f")
    layer(x)
    again = WAYS[way](layer)
    np.testing.assert_array_equal(again(x), layer(x))


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_of_an_unbuilt_layer_is_unbuilt(way):
    again = WAYS[way](nl.LSTM(4))
    assert not again.built
    assert again(np.ones((1, 2, 3))).shape == (1, 4)
