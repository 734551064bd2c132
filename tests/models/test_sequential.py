"""Chains of layers: built at once or at the first call, changed, described and rebuilt."""

import json

import numpy as np
import pytest

import numbalstm as nl


def layers():
    return [nl.LSTM(4, name="memory"), nl.Dense(2, name="answer")]


def by_hand(model, x):
    for layer in model.layers:
        x = layer(x)
    return x


def test_built_from_an_input(rng):
    model = nl.Sequential([nl.Input((None, 3)), *layers()], name="s")
    assert model.built
    assert (model.input_shape, model.output_shape) == ((None, None, 3), (None, 2))
    x = rng.standard_normal((5, 7, 3)).astype("f")
    np.testing.assert_array_equal(model(x), by_hand(model, x))
    assert [layer.name for layer in model.layers] == ["memory", "answer"]
    assert model.get_layer("answer") is model.layers[1]
    with pytest.raises(
        ValueError, match=r"Sequential 's', layer 1 'memory' \(LSTM\): .*\(batch, time, 3\), got \(5, 7, 2\)"
    ):
        model(x[..., :2])


@pytest.mark.parametrize(("generation", "steps"), [("keras3", 9), ("keras2", 5)])
def test_sizes_of_the_call_that_built_a_saved_chain_bind_as_in_keras(rng, generation, steps):
    first = nl.Input((5, 3), batch_size=4)  # what Keras writes for a chain that a call on (4, 5, 3) built
    model = nl.Sequential([first, *layers()], name="s", generation=generation)
    x = rng.standard_normal((7, 9, 3)).astype("f")
    np.testing.assert_array_equal(model(x[:, :steps]), by_hand(model, x[:, :steps]))
    np.testing.assert_allclose(model.predict(x[:, :steps]), by_hand(model, x[:, :steps]), rtol=1e-6)
    if generation == "keras2":
        with pytest.raises(ValueError, match=r"input '.*' must have shape \(4, 5, 3\), got \(7, 9, 3\)"):
            model(x)


def test_built_at_the_first_call_for_any_length(rng):
    model = nl.Sequential(layers(), name="s")
    assert not model.built
    assert model.get_weights() == []
    with pytest.raises(ValueError, match="Sequential 's': is not built yet"):
        model.inputs  # noqa: B018
    for steps in (7, 4):
        x = rng.standard_normal((5, steps, 3)).astype("f")
        np.testing.assert_array_equal(model(x), by_hand(model, x))
    assert model.count_params() == 4 * 4 * (3 + 4 + 1) + 10
    with pytest.raises(ValueError, match=r"Sequential 's', layer \d 'memory' \(LSTM\)"):
        model(x[..., :2])


def test_integers_at_the_first_call():
    model = nl.Sequential([nl.Embedding(5, 3, mask_zero=True), nl.LSTM(2)])
    ids = np.array([[1, 4, 0, 0], [2, 2, 3, 0]])
    vectors = model.layers[0](ids)
    np.testing.assert_array_equal(model(ids), model.layers[1](vectors, mask=ids != 0))
    assert model.inputs[0].dtype == "int64"


@pytest.mark.parametrize("hint", [{"input_shape": (None, 3)}, {"batch_input_shape": (None, None, 3)}])
def test_built_from_the_first_layers_hint(hint):
    model = nl.Sequential([nl.LSTM(4, **hint), nl.Dense(2)])
    assert model.input_shape == (None, None, 3)


def test_add_and_pop(rng):
    model = nl.Sequential()
    x = rng.standard_normal((2, 4, 3)).astype("f")
    with pytest.raises(ValueError, match="has no layers"):
        model(x)
    model.add(nl.Input((4, 3)))
    for layer in (nl.LSTM(4, return_sequences=True), nl.Flatten(), nl.Dense(2)):
        model.add(layer)
        assert model.built
    assert len(model.layers[0].nodes) == 1
    np.testing.assert_allclose(model(x), by_hand(model, x))
    last = model.pop()
    assert isinstance(last, nl.Dense)
    assert model.output_shape == (None, 16)
    np.testing.assert_array_equal(model(x), by_hand(model, x))
    model.pop(), model.pop()
    with pytest.raises(IndexError, match="has no layer to remove"):
        model.pop()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: [nl.Dense(1, name="a"), nl.Dense(2, name="a")], ValueError, "two layers have the name 'a'"),
        (lambda: [nl.Dense(1), nl.Input((2,), name="i")], ValueError, "an input can only be the first layer, got 'i'"),
        (
            lambda: nl.Dense(1),
            TypeError,
            "Sequential 's': layers must be a list of layers, got an object of type Dense",
        ),
        (lambda: [np.tanh], TypeError, "layers must be layers or an Input, got an object of type ufunc"),
        (
            lambda: [nl.Input((3,)), nl.Dense(2), nl.LSTM(2, name="l")],
            ValueError,
            r"Sequential 's', layer 1 'l' \(LSTM\): the input must have at least 3 axes, got shape \(None, 2\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        nl.Sequential(make(), name="s")


def test_config_round_trip_built_and_not(rng):
    x = rng.standard_normal((2, 4, 3)).astype("f")
    for model in (nl.Sequential([nl.Input((4, 3)), *layers()]), nl.Sequential(layers(), trainable=False)):
        model(x)
        config = json.loads(json.dumps(model.get_config()))
        again = nl.Sequential.from_config(config)
        again.set_weights(model.get_weights())
        np.testing.assert_array_equal(again(x), model(x))
        assert json.loads(json.dumps(again.get_config())) == config
        assert again.trainable == model.trainable
    assert not nl.Sequential.from_config(nl.Sequential(layers()).get_config()).built


def test_config_of_keras_2():
    first = {"class_name": "LSTM", "config": {"units": 2, "batch_input_shape": [None, 4, 3], "dtype": "float32"}}
    second = {"class_name": "Dense", "config": {"units": 1, "activation": "relu"}}
    for config in ({"name": "old", "layers": [first, second]}, [first, second]):
        model = nl.Sequential.from_config(config)
        assert model.input_shape == (None, 4, 3)
        assert model.count_params() == 51


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "s"}, "its config has no list of 'layers'"),
        ({"name": "s", "layers": [], "optimizer": 1}, "unknown config key 'optimizer'"),
        ({"name": "s", "layers": [{"class_name": "GRU", "config": {}}]}, "Sequential 's', layer 0: .*class 'GRU'"),
    ],
)
def test_bad_configs_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        nl.Sequential.from_config(config)


def test_a_chain_inside_a_graph(rng):
    chain = nl.Sequential([nl.LSTM(4, return_sequences=True), nl.Dense(2)], name="chain")
    x = nl.Input((None, 3))
    model = nl.Model(x, nl.LSTM(3)(chain(nl.Masking()(x))))
    assert chain.built
    data = rng.standard_normal((2, 5, 3)).astype("f")
    data[0, 3:] = 0
    mask = (data != 0).any(axis=-1)
    inner = chain.layers[1](chain.layers[0](data, mask=mask))
    np.testing.assert_array_equal(model(data), model.layers[-1](inner, mask=mask))


def test_a_stateful_chain_built_from_arrays(rng):
    model = nl.Sequential([nl.LSTM(2, stateful=True)])
    x = rng.standard_normal((6, 4, 3)).astype("f")
    model(x[:3])
    with pytest.raises(ValueError, match="is stateful with a batch of 3, got a batch of 2"):
        model(x[:2])


def test_keras2_writes_names_of_dtypes():
    inside = nl.TimeDistributed(nl.Dense(3, dtype="mixed_float16"))
    layers = [
        nl.Input((None, 3)),
        nl.LSTM(4, return_sequences=True, generation="keras2"),
        inside,
        nl.Activation("relu"),
    ]
    model = nl.Sequential(layers, generation="keras2")
    config = model.get_config()
    half = {"class_name": "Policy", "config": {"name": "mixed_float16"}}
    assert [layer["config"]["dtype"] for layer in config["layers"]] == ["float32", "float32", half, "float32"]
    assert config["layers"][2]["config"]["layer"]["config"]["dtype"] == half
    again = nl.Sequential.from_config(config)
    assert again.get_config() == config
    assert again.generation == "keras2"
    x = nl.Input((4,))
    functional = nl.Model(x, nl.Dense(2)(x), generation="keras2").get_config()
    assert functional["layers"][1]["config"]["dtype"] == "float32"
    assert nl.TimeDistributed(nl.LSTM(3, generation="keras2")).get_config()["dtype"] == "float32"
