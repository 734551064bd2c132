"""Functional models: several inputs and outputs, shared and nested layers, masks, training, and errors with a place."""

import gc
import weakref

import numpy as np
import pytest

import numbalstm as nl
from numbalstm.layers.base import Layer


class Probe(Layer):
    """Passes arrays on; keeps weak references to what it made, and what it was told."""

    supports_mask = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.made, self.told = [], []

    def call(self, inputs, mask=None, training=None):
        self.told.append((mask, training))
        result = np.array(inputs)
        self.made.append(weakref.ref(result))
        return result


class Alive(Layer):
    """Counts how many arrays of a probe live when it is called."""

    def __init__(self, probe, **kwargs):
        super().__init__(**kwargs)
        self.probe = probe

    def call(self, inputs):
        gc.collect()
        self.count = sum(reference() is not None for reference in self.probe.made)
        return inputs + 1


def ints(*shape):
    return np.arange(np.prod(shape)).reshape(shape) % 5


def test_inputs_and_outputs_in_every_form(rng):
    a, b = nl.Input((3,), name="a"), nl.Input((2,), name="b")
    joined = nl.Concatenate(name="joined")([a, b])
    total = nl.Dense(4, name="total")(joined)
    x, y = rng.standard_normal((6, 3)).astype("f"), rng.standard_normal((6, 2)).astype("f")
    expected = np.concatenate([x, y], axis=1)

    model = nl.Model([a, b], joined)
    np.testing.assert_array_equal(model([x, y]), expected)
    np.testing.assert_array_equal(model({"b": y, "a": x}), expected)
    np.testing.assert_array_equal(nl.Model([b, a], joined)([y, x]), expected)
    np.testing.assert_array_equal(nl.Model([a, b], [joined])([x, y]), expected)
    model = nl.Model({"first": a, "second": b}, {"j": joined, "t": total})
    outputs = model({"second": y, "first": x})
    assert list(outputs) == ["j", "t"]
    np.testing.assert_array_equal(outputs["j"], expected)
    assert model.output_shape == {"j": (None, 5), "t": (None, 4)}
    assert model.input_shape == {"first": (None, 3), "second": (None, 2)}
    named = nl.Model([a, b], [joined, total]).run({"a": x, "b": y})
    np.testing.assert_array_equal(named["joined"], expected)
    assert named["total"].shape == (6, 4)


def test_outputs_of_one_layer_have_their_own_names():
    x = nl.Input((None, 3), name="x")
    y, h, c = nl.LSTM(2, return_state=True, name="memory")(x)
    assert nl.Model(x, [y, h, c]).output_names == ["memory", "memory:1", "memory:2"]


def test_shared_layers_have_one_set_of_weights(rng):
    a, b = nl.Input((None, 3)), nl.Input((None, 3))
    shared = nl.LSTM(2, dtype="float64")
    model = nl.Model([a, b], [shared(a), shared(b)])
    x, y = rng.standard_normal((2, 4, 3)), rng.standard_normal((2, 6, 3))
    first, second = model([x, y])
    np.testing.assert_array_equal(first, shared(x.astype("f")))
    np.testing.assert_array_equal(second, shared(y.astype("f")))
    assert len(model.weights) == 3
    assert model.count_params() == 4 * 2 * (3 + 2 + 1)


def test_nested_models_pass_masks_in_and_out(rng):
    i = nl.Input((None, 3), name="i")
    inner = nl.Model(i, [nl.Masking()(i), nl.Dense(2)(i)], name="inner")
    x = nl.Input((None, 3))
    masked, plain = inner(x)
    ends = [Probe(name="masked"), Probe(name="plain")]
    model = nl.Model(x, [ends[0](masked), ends[1](plain)])
    data = rng.standard_normal((2, 4, 3)).astype("f")
    data[0, 1] = 0
    model(data)
    np.testing.assert_array_equal(ends[0].told[0][0], [[True, False, True, True], [True] * 4])
    assert ends[1].told[0][0] is None
    mask = np.array([[True, True, False, False]] * 2)
    model(data, mask=mask)
    np.testing.assert_array_equal(ends[1].told[1][0], mask)
    assert model.get_layer("inner") is inner


def test_a_model_on_an_inner_tensor():
    x = nl.Input((3,))
    middle = nl.Dense(4, name="middle")(x)
    end = nl.Dense(2, name="end")(middle)
    whole, tail = nl.Model(x, end), nl.Model(middle, end)
    assert [layer.name for layer in tail.layers] == ["end"]
    data = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(tail(nl.Model(x, middle)(data)), whole(data))


def test_arrays_are_dropped_after_their_last_use():
    probe = Probe()
    alive = Alive(probe)
    x = nl.Input((3,))
    value = x
    for _ in range(4):
        value = probe(value)
    nl.Model(x, alive(value))(np.ones((2, 3)))
    assert len(probe.made) == 4
    assert alive.count == 1


def test_mask_rules_of_the_generations():
    """Keras 3 hands the mask over only where it is called with nothing else symbolic; Keras 2 always does."""
    x, h = nl.Input((None,), dtype="int32"), nl.Input((2,))
    embedded = nl.Embedding(5, 3, mask_zero=True)(x)
    memory = nl.LSTM(2, return_sequences=True)
    y = memory(embedded, initial_state=[h, h])
    ids, state = np.array([[1, 0, 2, 0]]), np.ones((1, 2), np.float32)
    vectors = nl.Model(x, embedded)(ids)
    for generation, mask in (("keras3", None), ("keras2", ids != 0)):
        model = nl.Model([x, h], y, generation=generation)
        expected = memory(vectors, mask=mask, initial_state=[state, state])
        np.testing.assert_array_equal(model([ids, state]), expected)


def test_an_explicit_mask_stands_above_the_one_that_travels():
    x, m = nl.Input((None, 3)), nl.Input((None,), dtype="bool")
    probe, after = Probe(), Probe()
    model = nl.Model([x, m], after(probe(nl.Masking()(x), mask=m)))
    mask = np.array([[True, False]])
    model([np.ones((1, 2, 3)), mask])
    np.testing.assert_array_equal(probe.told[0][0], mask)
    np.testing.assert_array_equal(after.told[0][0], mask)


@pytest.mark.parametrize(
    ("generation", "fixed", "given", "expected"),
    [
        ("keras3", True, None, True),
        ("keras3", True, False, False),
        ("keras3", None, True, True),
        ("keras2", True, False, True),
        ("keras2", None, True, True),
        ("keras2", None, None, None),
    ],
)
def test_training_in_the_graph_and_in_the_call(generation, fixed, given, expected):
    x, probe = nl.Input((3,)), Probe()
    y = probe(x) if fixed is None else probe(x, training=fixed)
    nl.Model(x, nl.Dense(2)(y), generation=generation)(np.ones((1, 3)), training=given)
    assert probe.told[0][1] is expected


def test_a_batch_size_binds_stateful_models_only(rng):
    x = rng.standard_normal((7, 4, 3)).astype("f")
    entry = nl.Input((4, 3), batch_size=2, name="x")
    model = nl.Model(entry, nl.LSTM(2)(entry), name="m")
    np.testing.assert_array_equal(model(x), model.layers[1](x))
    np.testing.assert_array_equal(model.predict(x, batch_size=3), model.layers[1](x))
    with pytest.raises(ValueError, match=r"Model 'm': input 'x' must have shape \(2, 4, 3\), got \(7, 3, 3\)"):
        model(x[:, 1:])
    stateful = nl.Model(entry, nl.LSTM(2, stateful=True)(entry), name="m")
    with pytest.raises(ValueError, match=r"Model 'm', layer 1 .*: is stateful with a batch of 2, got a batch of 7"):
        stateful(x)


def test_stateful_layers_are_reset_at_any_depth(rng):
    inner = nl.Sequential([nl.Input((4, 3), batch_size=2), nl.LSTM(2, stateful=True)])
    x = nl.Input((4, 3), batch_size=2)
    model = nl.Model(x, nl.Dense(1)(inner(x)))
    data = rng.standard_normal((2, 4, 3)).astype("f")
    first, second = model(data), model(data)
    assert not np.array_equal(first, second)
    assert model.stateful
    model.reset_states()
    np.testing.assert_array_equal(model(data), first)


def test_shapes_through_the_graph():
    x = nl.Input((None, 3))
    y, h, _ = nl.LSTM(4, return_sequences=True, return_state=True)(x)
    model = nl.Model(x, [nl.Dense(2)(y), nl.Concatenate()([h, h])])
    assert model.output_shape == [(None, None, 2), (None, 8)]
    assert model.compute_output_shape((5, 7, 3)) == [(5, 7, 2), (5, 8)]


def test_trainable_reaches_the_layers():
    x = nl.Input((3,))
    model = nl.Model(x, nl.Dense(2)(x), trainable=False)
    assert not model.layers[1].trainable
    assert len(model.non_trainable_weights) == 2


# Errors


@pytest.fixture
def model():
    a, b = nl.Input((None, 3), name="a"), nl.Input((2,), dtype="int32", name="b")
    y = nl.Dense(4, name="wide")(nl.LSTM(2, name="memory")(a))
    return nl.Model([a, b], nl.Concatenate()([y, nl.Flatten()(nl.Embedding(5, 2, name="words")(b))]), name="m")


X, IDS = np.ones((2, 4, 3), np.float32), ints(2, 2)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([X], ValueError, r"Model 'm': needs 2 inputs \(a, b\), got 1"),
        (X, ValueError, r"Model 'm': needs 2 inputs \(a, b\), got an array"),
        ({"a": X}, ValueError, "Model 'm': the input 'b' is missing, got 'a'"),
        ({"a": X, "c": IDS}, ValueError, "Model 'm': unknown input 'c'"),
        ([X[..., :2], IDS], ValueError, r"input 'a' must have shape \(None, None, 3\), got \(2, 4, 2\)"),
        ([X[0], IDS], ValueError, r"input 'a' must have shape \(None, None, 3\), got \(4, 3\)"),
        ([X, IDS + 0.5], ValueError, "input 'b' must hold numbers of type int32, got others of type float64"),
        ([X.astype(complex), IDS], TypeError, "input 'a' must be an array of real numbers, got dtype complex128"),
        ([X, IDS + 9], ValueError, r"Model 'm', layer \d 'words' \(Embedding\): integers must be in 0..4, got"),
    ],
)
def test_a_call_refuses(model, given, error, message):
    with pytest.raises(error, match=message):
        model(given)


def test_an_error_inside_a_nested_model_names_both_places():
    i = nl.Input((), dtype="int32", name="i")
    inner = nl.Model(i, nl.Embedding(3, 2, name="words")(i), name="inner")
    x = nl.Input((), dtype="int32")
    outer = nl.Model(x, inner(x), name="outer")
    with pytest.raises(
        ValueError, match=r"Model 'outer', layer 1 'inner' \(Model\): .*layer 1 'words' \(Embedding\): int"
    ):
        outer(np.array([7]))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda x, y, z: nl.Model(x, y, name="m"),
            ValueError,
            r"Model 'm': an output depends on the input 'x2'.*\('x1'\)",
        ),
        (lambda x, y, z: nl.Model([], z), ValueError, "inputs must not be empty"),
        (lambda x, y, z: nl.Model(x, []), ValueError, "outputs must not be empty"),
        (lambda x, y, z: nl.Model(x, 3), TypeError, "outputs must be symbolic tensors, got 3"),
        (lambda x, y, z: nl.Model([x, x], z), ValueError, "an input is given twice"),
        (lambda x, y, z: nl.Model(x, [z, nl.Dense(1, name="z")(x)]), ValueError, "2 layers have the name 'z'"),
        (lambda x, y, z: nl.Model(x, z, generation="keras4"), ValueError, "generation must be one of"),
        (lambda x, y, z: nl.Model(x, z, weight=3), ValueError, "unknown argument 'weight'"),
    ],
)
def test_a_graph_is_refused(make, error, message):
    x1, x2 = nl.Input((3,), name="x1"), nl.Input((3,), name="x2")
    with pytest.raises(error, match=message):
        make(x1, nl.Add()([x1, x2]), nl.Dense(1, name="z")(x1))


def test_get_layer(model):
    assert model.get_layer("memory").units == 2
    assert model.get_layer(index=-1) is model.layers[-1]
    with pytest.raises(ValueError, match=r"unknown layer 'memroy'\. Did you mean 'memory'"):
        model.get_layer("memroy")
    with pytest.raises(ValueError, match="has 7 layers, so none at index 9"):
        model.get_layer(index=9)
    with pytest.raises(ValueError, match="either a name or an index"):
        model.get_layer()


# Configs


def described(**changes):
    x = nl.Input((3,), name="x")
    config = nl.Model(x, nl.Dense(2, name="b")(nl.Dense(2, name="a")(x)), name="m").get_config()
    return config | changes


def test_a_circle_is_refused():
    config = described()
    config["layers"][1]["inbound_nodes"][0]["args"][0]["config"]["keras_history"] = ["b", 0, 0]
    with pytest.raises(ValueError, match=r"Model 'm': the graph runs in a circle or refers to calls .* at a, b"):
        nl.Model.from_config(config)


def test_a_config_straight_from_keras_holds_tuples():
    def tupled(value):
        if isinstance(value, dict):
            return {key: tupled(item) for key, item in value.items()}
        return tuple(map(tupled, value)) if isinstance(value, list) else value

    config = described()
    for layer in config["layers"]:
        layer["inbound_nodes"] = [tupled(node) for node in layer["inbound_nodes"]]
    assert [layer.name for layer in nl.Model.from_config(config).layers] == ["x", "a", "b"]


@pytest.mark.parametrize(
    ("history", "message"),
    [
        (["q", 0, 0], "layer 'a' gets an input from 'q', which does not exist"),
        (["x", 3, 0], "refers to calls that do not exist, at a, b"),
        (["x", 0, 1], "layer 'a': layer 'x' has 1 outputs, so none with number 1"),
        (["x", 0], r"a tensor must be given as \[layer, call, output\]"),
        (["x", -1, 0], r"a tensor must be given as \[layer, call, output\]"),
    ],
)
def test_bad_references_are_refused(history, message):
    config = described()
    config["layers"][1]["inbound_nodes"][0]["args"][0]["config"]["keras_history"] = history
    with pytest.raises(ValueError, match=message):
        nl.Model.from_config(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_layers": [["b", 1, 0]]}, "an input or output refers to"),
        ({"output_layers": 3}, r"inputs and outputs must be given as \[layer, call, output\]"),
        ({"layers": {}}, "'layers' must be a list"),
        ({"strategy": 1}, "unknown config key 'strategy'"),
    ],
)
def test_bad_configs_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        nl.Model.from_config(described(**changes))


def test_an_unsupported_layer_is_named_with_its_place():
    config = described()
    config["layers"][2]["class_name"] = "Conv1D"
    with pytest.raises(ValueError, match=r"Model 'm', layer 2 'b': .*unknown layer class 'Conv1D'"):
        nl.Model.from_config(config)
    config = described()
    config["layers"][2]["name"] = "a"
    with pytest.raises(ValueError, match="two layers have the name 'a'"):
        nl.Model.from_config(config)


def test_a_deep_chain_needs_no_deep_recursion():
    x = nl.Input((1,), name="x")
    y = x
    for _ in range(1500):
        y = nl.Activation("linear")(y)
    model = nl.Model.from_config(nl.Model(x, y).get_config())
    assert len(model.layers) == 1501
    assert model(np.ones((1, 1))) == 1
