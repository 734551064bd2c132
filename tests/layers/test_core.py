"""The plain layers against formulas written here, element by element or by other means than the layers use."""

import math

import numpy as np
import pytest

import numbalstm as nl
from numbalstm.layers.base import deserialize


def sample(rng, *shape, dtype="float64"):
    return rng.standard_normal(shape).astype(dtype)


# Dense, Activation


def test_dense_sums_products_for_every_position(rng):
    layer = nl.Dense(4, activation="relu", dtype="float64")
    x = sample(rng, 2, 3, 5)
    layer.build(x.shape)
    kernel, bias = sample(rng, 5, 4), sample(rng, 4)
    layer.set_weights([kernel, bias])
    y = layer(x)
    for place in np.ndindex(2, 3, 4):
        b, t, unit = place
        z = math.fsum(x[b, t, i] * kernel[i, unit] for i in range(5)) + bias[unit]
        assert abs(y[place] - max(z, 0.0)) < 1e-13


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3)])
def test_dense_of_nothing(shape):
    assert nl.Dense(4)(np.zeros(shape)).shape == (*shape[:-1], 4)


@pytest.mark.parametrize(
    "change",
    [np.asfortranarray, lambda x: x.astype(">f4"), lambda x: np.repeat(x, 2, axis=1)[:, ::2], lambda x: x.astype("f8")],
)
def test_any_layout_gives_the_same_numbers(rng, change):
    x = sample(rng, 6, 5, 3, dtype="float32")
    layer = nl.Dense(4)
    expected = layer(x)
    changed = change(x)
    changed.flags.writeable = False
    np.testing.assert_allclose(layer(changed), expected, rtol=1e-6, atol=1e-7)
    assert layer(changed).dtype == np.float32


def test_dense_refuses():
    with pytest.raises(ValueError, match="Dense: units must be at least 1, got 0"):
        nl.Dense(0)
    with pytest.raises(TypeError, match=r"Dense: units must be an integer, got 2\.0"):
        nl.Dense(2.0)
    with pytest.raises(ValueError, match=r"axis -1 of the input must have a known size, got shape \(None, None\)"):
        nl.Dense(2)(nl.Input((None,)))
    with pytest.raises(ValueError, match="unknown activation"):
        nl.Dense(2, activation="rleu")
    with pytest.raises(ValueError, match="must have at least 2 axes"):
        nl.Dense(2)(np.zeros(3))


@pytest.mark.parametrize(("dtype", "digits"), [("float16", 11), ("mixed_float16", 11), ("mixed_bfloat16", 8)])
def test_half_precision_rounds_inputs_and_results(rng, dtype, digits):
    layer = nl.Dense(3, dtype=dtype)
    x = sample(rng, 7, 5)
    y = layer(x)
    exact = x @ layer.get_weights()[0].astype("float64")
    error = np.abs(y - exact).max() / np.abs(exact).max()
    assert 2.0**-24 < error < 2.0 ** (3 - digits)
    assert y.dtype == (np.float16 if "16" in dtype and "b" not in dtype else np.float32)
    assert layer(nl.Input((5,))).dtype == ("bfloat16" if "bfloat" in dtype else "float16")


def test_activation_takes_a_callable(rng):
    x = sample(rng, 3, 4, dtype="float32")
    np.testing.assert_array_equal(nl.Activation(np.square)(x), x * x)


# Masking, Embedding


def test_masking_marks_and_clears_steps():
    x = np.array([[[2, 2], [2, 0], [0, 0], [np.nan, 2]]], np.float32)
    layer = nl.Masking(2)
    np.testing.assert_array_equal(layer.compute_mask(x), [[False, True, True, True]])
    np.testing.assert_array_equal(layer(x), [[[0, 0], [2, 0], [0, 0], [np.nan, 2]]])
    assert layer(x[:, :3].astype("int32")).dtype == np.int32


@pytest.mark.parametrize("value", ["0", None, True])
def test_masking_refuses(value):
    with pytest.raises(TypeError, match="Masking: mask_value must be a number"):
        nl.Masking(value)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "float32"])
def test_embedding_looks_rows_up(rng, dtype):
    table = sample(rng, 6, 3, dtype="float32")
    layer = nl.Embedding(6, 3, mask_zero=True, weights=[table])
    ids = np.array([[0, 5, 2], [3, 0, 0]], dtype)
    np.testing.assert_array_equal(layer(ids)[0, 1], table[5])
    np.testing.assert_array_equal(layer(ids)[1], [table[3], table[0], table[0]])
    np.testing.assert_array_equal(layer.compute_mask(ids), [[False, True, True], [True, False, False]])
    assert nl.Embedding(6, 3).compute_mask(ids) is None
    assert layer(ids[:0]).shape == (0, 3, 3)


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([[6]], ValueError, r"integers must be in 0..5, got 6"),
        ([[0, -1]], ValueError, r"integers must be in 0..5, got -1"),
        ([[0.5]], ValueError, "must hold integers, got other numbers of dtype float64"),
        ([[np.nan]], ValueError, "must hold integers"),
        ([["a"]], TypeError, "must hold integers, got dtype <U1"),
    ],
)
def test_embedding_refuses(ids, error, message):
    with pytest.raises(error, match=message):
        nl.Embedding(6, 3, name="e")(np.array(ids))


def test_embedding_with_the_length_of_keras_2():
    layer = nl.Embedding.from_config({"input_dim": 6, "output_dim": 3, "input_length": 4})
    assert layer.built
    assert layer.build_shape == (None, 4)


# Dropout


@pytest.mark.parametrize("layer", [nl.Dropout(0.3), nl.SpatialDropout1D(0.3)])
def test_dropout_is_nothing_in_inference(rng, layer):
    x = sample(rng, 4, 5, 3, dtype="float32")
    np.testing.assert_array_equal(layer(x), x)
    np.testing.assert_array_equal(layer(x, training=False), x)


@pytest.mark.parametrize("rate", [0.2, 0.7])
def test_dropout_drops_its_share_and_scales_the_rest(rate):
    x = np.full((200, 500), 3.0, np.float32)
    y = nl.Dropout(rate, seed=5)(x, training=True)
    assert set(np.unique(y)) == {0.0, np.float32(3.0) / np.float32(1 - rate)}
    assert abs((y == 0).mean() - rate) < 0.01
    assert y.dtype == np.float32


def test_dropout_follows_its_seed_from_call_to_call():
    x = np.ones((3, 40), np.float32)
    layer, twin = nl.Dropout(0.5, seed=11), nl.Dropout(0.5, seed=11)
    first, second = layer(x, training=True), layer(x, training=True)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(twin(x, training=True), first)
    layer.reset_seed()
    np.testing.assert_array_equal(layer(x, training=True), first)
    assert not np.array_equal(nl.Dropout(0.5)(x, training=True), nl.Dropout(0.5)(x, training=True))


@pytest.mark.parametrize(("rate", "value"), [(0, 1.0), (1, 0.0)])
def test_dropout_of_nothing_and_of_all(rate, value):
    np.testing.assert_array_equal(nl.Dropout(rate)(np.ones((2, 3)), training=True), np.full((2, 3), value))


def test_spatial_dropout_drops_whole_features():
    y = nl.SpatialDropout1D(0.5, seed=1)(np.ones((20, 6, 30), np.float32), training=True)
    dropped = (y == 0).all(axis=1)
    np.testing.assert_array_equal(dropped, (y == 0).any(axis=1))
    assert 0.4 < dropped.mean() < 0.6
    assert len(np.unique(dropped, axis=0)) == 20


def test_noise_shape_ties_elements():
    y = nl.Dropout(0.5, noise_shape=(None, 1), seed=2)(np.ones((50, 9)), training=True)
    assert {len(set(row)) for row in y.tolist()} == {1}
    assert 10 < (y[:, 0] == 0).sum() < 40
    with pytest.raises(ValueError, match=r"noise_shape .* does not fit an input of shape"):
        nl.Dropout(0.5, noise_shape=(None, 1))(np.ones((2, 3, 4)), training=True)


@pytest.mark.parametrize("rate", [-0.1, 1.5, np.nan])
def test_dropout_refuses_rates(rate):
    with pytest.raises(ValueError, match=r"Dropout: rate must be in \[0, 1\]"):
        nl.Dropout(rate)


# Shapes


def test_flatten_orders_elements(rng):
    x = sample(rng, 2, 3, 4, dtype="float32")
    np.testing.assert_array_equal(nl.Flatten()(x)[1], [x[1, t, f] for t in range(3) for f in range(4)])
    last = nl.Flatten("channels_first")(x)
    np.testing.assert_array_equal(last[1], [x[1, t, f] for f in range(4) for t in range(3)])
    assert nl.Flatten()(x[:, 0, 0]).shape == (2, 1)
    assert nl.Flatten().compute_output_shape((None, None, 3)) == (None, None)
    assert nl.Flatten()(np.ones((2, 3), np.int16)).dtype == np.int16


def test_reshape_works_out_a_size():
    layer = nl.Reshape((-1, 3))
    assert layer(np.zeros((2, 4, 6))).shape == (2, 8, 3)
    assert layer(np.zeros((0, 4, 6))).shape == (0, 8, 3)
    assert layer.compute_output_shape((None, None, 6)) == (None, None, 3)
    with pytest.raises(ValueError, match=r"a sample of shape \(5,\) does not fit target_shape \(-1, 3\)"):
        layer(np.zeros((6, 5)))
    with pytest.raises(ValueError, match="does not fit target_shape"):
        nl.Reshape((2, 2))(nl.Input((5,)))
    with pytest.raises(ValueError, match="may hold one -1"):
        nl.Reshape((-1, -1))


def test_repeat_vector(rng):
    x = sample(rng, 2, 3, dtype="float32")
    y = nl.RepeatVector(4)(x)
    assert y.shape == (2, 4, 3)
    for t in range(4):
        np.testing.assert_array_equal(y[:, t], x)
    with pytest.raises(ValueError, match="must have 2 axes, got shape"):
        nl.RepeatVector(4)(x[None])
    with pytest.raises(TypeError, match="n must be an integer"):
        nl.RepeatVector(1.5)


def test_layer_normalization_stores_axes_in_the_order_of_keras(rng):
    layer = nl.LayerNormalization(axis=[1, -1], dtype="float64")
    x = sample(rng, 2, 3, 4)
    layer.build(x.shape)
    assert [weight.shape for weight in layer.weights] == [(4, 3), (4, 3)]
    gamma, beta = sample(rng, 4, 3), sample(rng, 4, 3)
    layer.set_weights([gamma, beta])
    plain = nl.LayerNormalization(axis=[1, 2], dtype="float64")
    np.testing.assert_allclose(layer(x), plain(x) * gamma.reshape(3, 4) + beta.reshape(3, 4), rtol=1e-12)


# Configs, inputs


@pytest.mark.parametrize(
    "layer",
    [
        nl.Dense(3, "tanh", kernel_regularizer="l2", bias_constraint="non_neg", dtype="mixed_float16", trainable=False),
        nl.Activation("elu"),
        nl.Masking(-1.5),
        nl.Dropout(0.25, noise_shape=(None, 1, 3), seed=4),
        nl.Embedding(4, 3, mask_zero=True, embeddings_initializer="ones"),
        nl.Flatten("channels_first"),
        nl.Reshape((2, -1)),
        nl.RepeatVector(3),
        nl.Concatenate(axis=1, generation="keras2"),
        nl.Multiply(),
        nl.LayerNormalization(axis=[1, 2], scale=False),
        nl.BatchNormalization(axis=1, momentum=0.8, beta_initializer="ones"),
        nl.GlobalMaxPooling1D(keepdims=True),
        nl.InputLayer((None, 3), dtype="int32", name="i"),
        nl.SpatialDropout1D(0.1, seed=3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_config_round_trip(layer):
    config = layer.get_config()
    again = deserialize({"class_name": type(layer).__name__, "config": config})
    assert type(again) is type(layer)
    assert again.get_config() == config
    assert again.name == layer.name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nl.Dense(2, "rellu"), "Dense: activation: unknown activation 'rellu'. Did you mean 'relu'?"),
        (lambda: nl.Activation("xx"), "Activation: activation: unknown activation 'xx'"),
        (lambda: nl.Dense(2, bias_initializer="no"), "Dense: bias_initializer: unknown initializer 'no'"),
        (lambda: nl.Dense(2, activity_regularizer="l9"), "Dense: activity_regularizer: unknown regularizer 'l9'"),
        (lambda: nl.Embedding(3, 2, "no"), "Embedding: embeddings_initializer: unknown initializer 'no'"),
        (lambda: nl.LayerNormalization(gamma_constraint="no"), "LayerNormalization: gamma_constraint: unknown constr"),
        (lambda: nl.BatchNormalization(beta_initializer="no"), "BatchNormalization: beta_initializer: unknown init"),
        (lambda: nl.Dense(2, dtype="int8"), "Dense: dtype: unknown dtype policy 'int8'"),
    ],
)
def test_unknown_names_are_named_with_the_layer(make, message):
    with pytest.raises(ValueError, match="unknown") as caught:
        make()
    assert str(caught.value).startswith(message)


def test_none_is_the_default_initializer():
    layer = nl.Dense(2, kernel_initializer=None, bias_initializer=None)
    layer.build((None, 3))
    assert np.ptp(layer.get_weights()[0]) > 0
    assert not layer.get_weights()[1].any()


def test_inputs_of_both_generations():
    for config in (
        {"batch_shape": [None, 5, 2]},
        {"batch_input_shape": [None, 5, 2], "sparse": False, "ragged": False},
    ):
        assert nl.InputLayer.from_config(config | {"dtype": "float64", "name": "i"}).batch_shape == (None, 5, 2)
    x = nl.Input((5, 2), batch_size=3, dtype=np.int32, name="ids")
    assert (x.shape, x.dtype, x.name) == ((3, 5, 2), "int32", "ids")
    assert nl.Input(batch_shape=(3, None)).shape == (3, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either shape or batch_shape"),
        ({"shape": (2,), "batch_shape": (1, 2)}, "give either shape or batch_shape"),
        ({"batch_shape": (1, 2), "batch_size": 1}, "give batch_size with shape"),
        ({"shape": (2,), "dtype": "string"}, "unknown dtype 'string'"),
        ({"shape": (-2,)}, "a size must be at least 0"),
    ],
)
def test_inputs_refuse(options, message):
    with pytest.raises(ValueError, match=message):
        nl.Input(**options)
