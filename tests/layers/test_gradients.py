"""Gradients of the layers against central differences, and what a pullback takes and returns."""

import json

import numpy as np
import pytest
from support.differences import arrays_of, check, random_like

import numbalstm as nl
from numbalstm.layers import operations
from numbalstm.layers.base import Layer
from numbalstm.layers.gradients import LayerGradients

F64 = {"dtype": "float64"}


def sample(rng, *shape):
    return rng.standard_normal(shape)


def randomised(layer, rng, shape):
    """Build a layer and give it random weights; variances are positive."""
    layer.build(shape)
    values = [rng.standard_normal(weight.shape) * 0.6 for weight in layer.weights]
    names = [weight.name for weight in layer.weights]
    layer.set_weights([np.abs(v) + 0.3 if "variance" in name else v for v, name in zip(values, names, strict=True)])
    return layer


SINGLE = {
    "dense": lambda: nl.Dense(4, activation="gelu", **F64),
    "dense of softmax": lambda: nl.Dense(4, activation="softmax", use_bias=False, **F64),
    "activation": lambda: nl.Activation("softsign", **F64),
    "log_softmax": lambda: nl.Activation("log_softmax", **F64),
    "dropout in inference": lambda: nl.Dropout(0.5, **F64),
    "flatten": lambda: nl.Flatten(**F64),
    "flatten, channels first": lambda: nl.Flatten("channels_first", **F64),
    "reshape": lambda: nl.Reshape((5, -1), **F64),
    "layer normalisation": lambda: nl.LayerNormalization(**F64),
    "over two axes": lambda: nl.LayerNormalization(axis=[-1, 1], epsilon=0.1, **F64),
    "without weights": lambda: nl.LayerNormalization(axis=1, center=False, scale=False, **F64),
    "batch normalisation": lambda: nl.BatchNormalization(**F64),
    "of another axis": lambda: nl.BatchNormalization(axis=1, scale=False, epsilon=0.1, **F64),
    "mean": lambda: nl.GlobalAveragePooling1D(**F64),
    "mean, channels first": lambda: nl.GlobalAveragePooling1D("channels_first", keepdims=True, **F64),
    "max": lambda: nl.GlobalMaxPooling1D(keepdims=True, **F64),
    "max, channels first": lambda: nl.GlobalMaxPooling1D("channels_first", **F64),
    "time distributed": lambda: nl.TimeDistributed(nl.Dense(2, activation="tanh", **F64)),
    "time distributed pooling": lambda: nl.TimeDistributed(nl.LayerNormalization(axis=1, **F64)),
}


@pytest.mark.parametrize("name", SINGLE)
def test_layer(name, rng):
    x = sample(rng, 3, 5, 3)
    check(randomised(SINGLE[name](), rng, x.shape), rng, x)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", SINGLE)
def test_float32_stays(name, training, rng):
    config = SINGLE[name]().get_config()
    config = json.loads(json.dumps(config).replace("float64", "float32"))
    layer = type(SINGLE[name]()).from_config(config)
    y, pullback = layer.vjp(sample(rng, 3, 5, 3), training=training)
    assert {array.dtype.name for array in [y, *arrays_of(pullback(sample(rng, *y.shape)))]} == {"float32"}
    assert {weight.value.dtype.name for weight in layer.weights} <= {"float32"}


@pytest.mark.parametrize("name", ["batch normalisation", "of another axis"])
def test_batch_statistics(name, rng):
    x = sample(rng, 3, 5, 3)
    check(randomised(SINGLE[name](), rng, x.shape), rng, x, training=True)


def test_batch_statistics_with_a_mask(rng):
    x = sample(rng, 3, 5, 3)
    mask = rng.random((3, 5)) < 0.6
    layer = randomised(SINGLE["batch normalisation"](), rng, x.shape)
    found = check(layer, rng, x, training=True, mask=mask)
    assert found.inputs[~mask].any()  # what does not count is normalised all the same


def test_a_fixed_batch_normalisation_has_gradients_of_its_inputs_only(rng):
    layer = randomised(SINGLE["batch normalisation"](), rng, (3, 4))
    layer.trainable = False
    before = layer.get_weights()
    check(layer, rng, sample(rng, 3, 4), training=True)
    np.testing.assert_array_equal(layer.get_weights(), before)


def test_repeat_vector(rng):
    check(nl.RepeatVector(4, **F64), rng, sample(rng, 3, 2))


def test_masking(rng):
    x = sample(rng, 3, 5, 2)
    x[0, 2] = x[1, 4] = 7.0
    y, pullback = nl.Masking(7.0, **F64).vjp(x)
    g = sample(rng, *y.shape)
    expected = g.copy()
    expected[0, 2] = expected[1, 4] = 0.0
    np.testing.assert_array_equal(pullback(g).inputs, expected)


@pytest.mark.parametrize("name", ["mean", "mean, channels first"])
def test_masked_mean(name, rng):
    x = sample(rng, 3, 4, 5)
    steps = 5 if "first" in name else 4
    mask = rng.random((3, steps)) < 0.5
    mask[0] = True
    mask[1, :2] = True
    mask[2] = False
    x[~mask if steps == 4 else np.broadcast_to(~mask[:, None], x.shape)] = np.nan
    layer = SINGLE[name]()
    y, pullback = layer.vjp(x, mask=mask)
    assert np.isnan(y[2]).all()
    g = sample(rng, *y.shape)
    found = pullback(g).inputs
    for b, i, j in np.ndindex(*x.shape):
        step, feature = (j, i) if steps == 5 else (i, j)
        expected = g.reshape(3, -1)[b, feature] / mask[b].sum() if mask[b, step] else 0.0
        assert abs(found[b, i, j] - expected) < 1e-15


def test_steps_that_share_the_maximum_share_its_gradient():
    x = np.array([[[1.0, 3.0], [4.0, 3.0], [4.0, 0.0], [4.0, 3.0]]])
    _, pullback = nl.GlobalMaxPooling1D(**F64).vjp(x)
    found = pullback(np.array([[6.0, 12.0]])).inputs
    np.testing.assert_array_equal(found, [[[0.0, 4.0], [2.0, 4.0], [2.0, 0.0], [2.0, 4.0]]])


@pytest.mark.parametrize("layer", [nl.Dropout(0.4, seed=3, **F64), nl.SpatialDropout1D(0.4, seed=3, **F64)])
def test_dropout_goes_back_through_what_it_kept(layer, rng):
    x = sample(rng, 3, 5, 4)
    found = check(layer, rng, x, training=True, before=layer.reset_seed).inputs
    assert 0.1 < np.mean(found == 0.0) < 0.7


def test_dropout_of_everything(rng):
    y, pullback = nl.Dropout(1.0, **F64).vjp(sample(rng, 3, 4), training=True)
    assert not y.any()
    assert not pullback(sample(rng, 3, 4)).inputs.any()


def test_embedding_adds_the_rows_of_an_integer(rng):
    layer = nl.Embedding(6, 3, **F64)
    ids = np.array([[4, 0, 4], [1, 4, 0]])
    y, pullback = layer.vjp(ids)
    g = sample(rng, *y.shape)
    found = pullback(g)
    assert found.inputs is None
    expected = np.zeros((6, 3))
    for place in np.ndindex(2, 3):
        expected[ids[place]] += g[place]
    np.testing.assert_allclose(found.weights["embeddings"], expected, rtol=1e-14)


def test_embedding_of_nothing():
    _, pullback = nl.Embedding(6, 3).vjp(np.zeros((0, 4), int))
    assert not pullback(np.zeros((0, 4, 3))).weights[0].any()


MERGES = [nl.Add, nl.Average, nl.Multiply]


@pytest.mark.parametrize("kind", MERGES)
@pytest.mark.parametrize("shapes", [[(3, 4, 2)] * 3, [(3, 4, 2), (3, 1, 2), (3, 2)], [(3, 1), (3, 4, 2)], [(3, 2)]])
def test_merge(kind, shapes, rng):
    check(kind(**F64), rng, [sample(rng, *shape) for shape in shapes])


def test_product_with_zeros(rng):
    arrays = [sample(rng, 3, 4) for _ in range(3)]
    arrays[1][0, 0] = arrays[2][0, 0] = arrays[1][1, 2] = 0.0
    check(nl.Multiply(**F64), rng, arrays)


@pytest.mark.parametrize("masked", [(True, True), (True, False)])
def test_masked_product(masked, rng):
    x = [sample(rng, 3, 4, 2), sample(rng, 3, 4, 2)]
    mask = [rng.random((3, 4)) < 0.5 if m else None for m in masked]
    check(nl.Multiply(**F64), rng, x, mask=mask)


@pytest.mark.parametrize("axis", [1, -1])
def test_concatenate(axis, rng):
    shapes = [(3, 4, 2), (3, 1, 2), (3, 3, 2)] if axis == 1 else [(3, 4, 2), (3, 4, 5)]
    check(nl.Concatenate(axis=axis, **F64), rng, [sample(rng, *shape) for shape in shapes])


def test_operations(rng):
    """The array functions of Keras 3 graphs: those that move values move cotangents back, the others have none."""
    x = nl.Input((4, 1), dtype="float64")
    y = operations.Squeeze(axis=2)(x)
    z = operations.ConcatenateArrays(axis=1)([y, y])
    model = nl.Model(x, operations.ExpandDims(axis=-1)(z))
    check(model, rng, sample(rng, 3, 4, 1))
    flags = nl.Model(x, operations.OnesLike()(x))
    _, pullback = flags.vjp(sample(rng, 3, 4, 1))
    assert not pullback(sample(rng, 3, 4, 1)).inputs.any()


def test_bits_of_dense_gradients_depend_neither_on_threads_nor_on_other_rows(rng):
    layer = nl.Dense(150, activation="tanh")
    x, g = sample(rng, 131, 257), sample(rng, 131, 150)
    found = []
    for threads in (1, 2):
        nl.set_threads(threads)
        found.append(layer.vjp(x)[1](g))
    nl.set_threads(None)
    for one, two in zip(*(map(list, ([f.inputs, *f.weights] for f in found))), strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(layer.vjp(x[5:8])[1](g[5:8]).inputs, found[0].inputs[5:8])


# What a pullback takes and returns


def test_cotangents_of_several_outputs(rng):
    layer = nl.LSTM(3, return_state=True, **F64)
    (y, h, c), pullback = layer.vjp(sample(rng, 2, 4, 5))
    g = random_like(rng, [y, h, c])
    whole = pullback(*g)
    np.testing.assert_array_equal(pullback(g).inputs, whole.inputs)  # as one list
    np.testing.assert_array_equal(pullback(g[0]).inputs, pullback(g[0], None, None).inputs)
    np.testing.assert_array_equal(pullback(None, g[1]).inputs, pullback(np.zeros_like(y), g[1], None).inputs)
    assert [array.shape for array in whole.initial_state] == [(2, 3), (2, 3)]
    assert whole.constants is None
    assert whole.weights.names == ("kernel", "recurrent_kernel", "bias")
    assert [array.shape for array in whole.weights] == [(5, 12), (3, 12), (12,)]


@pytest.mark.parametrize(
    ("cotangents", "message"),
    [
        ((1.0,), r"LSTM: cotangent\[0\] must have shape \(2, 3\), got \(\)"),
        ((None, None, np.zeros((3, 2))), r"cotangent\[2\] must have shape \(2, 3\), got \(3, 2\)"),
        ((None,) * 4, "the layer returned 3 values, got 4 cotangents"),
        (([None, None],), "cotangent must be a list of 3 like the output"),
    ],
)
def test_wrong_cotangents(cotangents, message, rng):
    _, pullback = nl.LSTM(3, return_state=True).vjp(sample(rng, 2, 4, 5))
    with pytest.raises(ValueError, match=message):
        pullback(*cotangents)


def test_wrong_cotangents_of_one_array(rng):
    _, pullback = nl.Dense(3).vjp(sample(rng, 2, 4))
    with pytest.raises(ValueError, match=r"Dense: cotangent must have shape \(2, 3\), got \(2, 4\)"):
        pullback(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="the layer returned one array, got 2 cotangents"):
        pullback(None, None)
    with pytest.raises(TypeError, match="cotangent must hold real numbers, got dtype complex128"):
        pullback(np.zeros((2, 3), complex))


def test_weights_by_name(rng):
    layer = nl.Bidirectional(nl.LSTM(2, name="memory"))
    _, pullback = layer.vjp(sample(rng, 2, 3, 4))
    weights = pullback(np.ones((2, 4))).weights
    assert weights["backward_memory/bias"] is weights[5]
    assert [name for name, _ in weights.items()] == list(weights.names)
    with pytest.raises(ValueError, match=r"unknown weight 'backward_memory/bia'.* Did you mean 'backward_memory/bias'"):
        weights["backward_memory/bia"]
    assert len(weights[1:3]) == 2


def test_integers_have_no_gradient(rng):
    layer = nl.Dense(3, **F64)
    x = rng.integers(0, 5, (2, 4))
    _, pullback = layer.vjp(x)
    g = sample(rng, 2, 3)
    found = pullback(g)
    assert found.inputs is None
    np.testing.assert_allclose(found.weights["kernel"], x.T @ g)


def test_half_precision_has_gradients_in_the_type_of_the_arithmetic(rng):
    layer = nl.Dense(3, dtype="mixed_float16")
    x = sample(rng, 2, 4)
    y, pullback = layer.vjp(x)
    found = pullback(np.ones((2, 3), "float16"))
    assert y.dtype == np.float16
    assert found.inputs.dtype == found.weights[0].dtype == np.float32
    np.testing.assert_array_equal(found.weights["kernel"], x.astype("f2").astype("f4").T @ np.ones((2, 3), "f4"))


def test_cotangents_of_other_types(rng):
    _, pullback = nl.Flatten().vjp(sample(rng, 2, 3, 4).astype("f4"))
    for dtype in ("float64", "int64", ">f4"):
        assert pullback(np.ones((2, 12), dtype)).inputs.dtype == np.dtype("float32")


def test_frozen_weights_have_none(rng):
    layer = nl.Dense(3, trainable=False)
    _, pullback = layer.vjp(sample(rng, 2, 4))
    found = pullback(np.ones((2, 3)))
    assert list(found.weights) == [None, None]
    assert found.inputs.any()


def test_pullbacks_do_not_meet(rng):
    layer = nl.Dense(3, activation="tanh", **F64)
    first, second = sample(rng, 2, 4), sample(rng, 5, 4)
    _, early = layer.vjp(first)
    expected = early(np.ones((2, 3)))
    layer.vjp(second)
    layer.set_weights([np.zeros((4, 3)), np.ones(3)])
    np.testing.assert_array_equal(early(np.ones((2, 3))).inputs, expected.inputs)


@pytest.mark.parametrize(
    "layer",
    [
        nl.Add(**F64),
        nl.Concatenate(**F64),
        nl.Multiply(**F64),
        nl.Flatten(**F64),
        nl.LayerNormalization(center=False, scale=False, **F64),
        nl.Dropout(0.5, **F64),
        nl.LSTM(3, return_sequences=True, **F64),
        nl.Bidirectional(nl.LSTM(3, return_sequences=True, **F64), merge_mode="mul"),
        nl.RNN([nl.LSTMCell(3, **F64), nl.LSTMCell(2, **F64)], return_sequences=True),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_outputs_and_gradients_may_be_changed(layer, rng):
    x = sample(rng, 2, 3, 4)
    x = [x, x + 1.0] if isinstance(layer, (nl.Add, nl.Concatenate, nl.Multiply)) else x
    y, pullback = layer.vjp(x)
    g = sample(rng, *y.shape)
    kept = g.copy()
    expected = [np.array(array) for array in arrays_of(pullback(g))]
    y[...] = 7.0
    for changed in arrays_of(pullback(g)):
        changed[...] = 3.0
    np.testing.assert_array_equal(g, kept)
    for found, array in zip(arrays_of(pullback(g)), expected, strict=True):
        np.testing.assert_array_equal(found, array)


class Scaled(Layer):
    """Somebody's own layer."""

    def call(self, inputs):
        return 3.0 * inputs


class Differentiated(Scaled):
    """The same with its derivative."""

    def call(self, inputs):
        return 3.0 * inputs

    def _vjp(self, inputs):
        return self.call(inputs), lambda cotangent, _: LayerGradients(3.0 * cotangent)


class Overridden(Differentiated):
    """Another call: the derivative that is inherited would be wrong."""

    def call(self, inputs):
        return 4.0 * inputs


@pytest.mark.parametrize("kind", [Scaled, Overridden])
def test_a_layer_without_a_derivative(kind, rng):
    with pytest.raises(NotImplementedError, match=f"{kind.__name__}: has no gradient: its class defines call"):
        kind().vjp(sample(rng, 2, 3))
    model = nl.Sequential([nl.Input((3,)), kind(name="own")])
    with pytest.raises(NotImplementedError, match=f"layer 1 'own' .{kind.__name__}.: has no gradient"):
        model.vjp(sample(rng, 2, 3))


def test_a_layer_of_ones_own(rng):
    check(Differentiated(**F64), rng, sample(rng, 2, 3))


def test_symbolic_tensors_have_no_values():
    with pytest.raises(TypeError, match="Dense: vjp needs arrays, got symbolic tensors"):
        nl.Dense(2).vjp(nl.Input((3,)))
