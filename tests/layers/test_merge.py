"""Merging, normalisation and pooling against formulas written here, and the masks of merged arrays."""

import math

import numpy as np
import pytest

import numbalstm as nl


def sample(rng, *shape, dtype="float64"):
    return rng.standard_normal(shape).astype(dtype)


# Merging


@pytest.mark.parametrize(
    ("layer", "join"),
    [(nl.Add(), lambda a, b: a + b), (nl.Multiply(), lambda a, b: a * b), (nl.Average(), lambda a, b: (a + b) / 2)],
)
def test_merging_broadcasts_and_aligns_axes(rng, layer, join):
    x, y = sample(rng, 4, 5, 3, dtype="float32"), sample(rng, 4, 3, dtype="float32")
    merged = layer([x, y])
    for b, t, f in np.ndindex(4, 5, 3):
        assert abs(merged[b, t, f] - join(x[b, t, f], y[b, f])) < 1e-6
    assert layer([x[:, :1], x]).shape == (4, 5, 3)
    assert merged.dtype == np.float32


@pytest.mark.parametrize("layer", [nl.Add(name="m"), nl.Concatenate(name="m")])
def test_merging_refuses(layer):
    with pytest.raises(ValueError, match=r"'m': the inputs .*got shapes \(2, 3\), \(2, 4\)|no common axis"):
        (layer if isinstance(layer, nl.Add) else nl.Concatenate(axis=0, name="m"))([np.ones((2, 3)), np.ones((2, 4))])
    with pytest.raises(ValueError, match="must be called on a list of arrays"):
        layer(np.ones((2, 3)))
    with pytest.raises(ValueError, match="'m': the inputs must"):
        layer([np.ones((2, 3)), np.ones((3, 3))])


def test_integers_stay_integers_and_mix_with_floats():
    ones = np.ones((2, 3), np.int32)
    assert nl.Add()([ones, ones]).dtype == np.int32
    assert nl.Concatenate()([ones, ones.astype("float64")]).dtype == np.float32
    assert nl.Average()([ones, 2 * ones]).tolist() == [[1.5] * 3] * 2


M, N = np.array([[True, False, True]]), np.array([[False, False, True]])


@pytest.mark.parametrize(
    ("layer", "masks", "expected"),
    [
        (nl.Add(), [M, N], [[1, 0, 1]]),
        (nl.Add(), [M, None], None),
        (nl.Add(), None, None),
        (nl.Add(generation="keras2"), [M, N], [[0, 0, 1]]),
        (nl.Add(generation="keras2"), [M, None], [[1, 0, 1]]),
        (nl.Concatenate(), [M, N], [[1, 0, 1]]),
        (nl.Concatenate(), [N, None], [[1, 1, 1]]),
        (nl.Concatenate(), [None, None], None),
        (nl.Concatenate(generation="keras2"), [M, N], [[0, 0, 1]]),
        (nl.Concatenate(generation="keras2"), [M, None], [[1, 0, 1]]),
        (nl.Concatenate(axis=1), [M, N], [[1, 0, 1, 0, 0, 1]]),
        (nl.Concatenate(axis=1), [None, N], [[1, 1, 1, 0, 0, 1]]),
    ],
)
def test_masks_of_merged_arrays(layer, masks, expected):
    x = np.ones((1, 3, 2), np.float32)
    found = layer.compute_mask([x, x], masks)
    assert found is None if expected is None else np.array_equal(found, expected)


@pytest.mark.parametrize(("layer", "expected"), [(nl.Add(), [[1, 1, 1]]), (nl.Add(generation="keras2"), [[1, 0, 1]])])
def test_masks_of_arrays_that_broadcast(layer, expected):
    x, y = np.ones((1, 3, 2), np.float32), np.ones((1, 1, 2), np.float32)
    np.testing.assert_array_equal(layer.compute_mask([x, y], [M, np.array([[True]])]), expected)


def test_multiply_counts_masked_elements_as_one():
    x, y = np.full((1, 3, 2), 5, np.float32), np.full((1, 3, 2), 7, np.float32)
    assert nl.Multiply()([x, y], mask=[M, N])[0, :, 0].tolist() == [5, 0, 35]
    assert nl.Multiply()([x, y], mask=[M, None])[0, :, 0].tolist() == [35, 7, 35]
    assert nl.Multiply(generation="keras2")([x, y], mask=[M, N])[0, :, 0].tolist() == [35, 35, 35]
    assert nl.Multiply()([x, y[:, :1]], mask=[M, N[:, :1]])[0, :, 0].tolist() == [5, 0, 5]
    with pytest.raises(ValueError, match="one mask or None for each of 2 inputs"):
        nl.Multiply()([x, y], mask=[M])


# Normalization, pooling


def test_layer_normalization_by_hand(rng):
    layer = nl.LayerNormalization(axis=(1, 2), epsilon=0.25, dtype="float64")
    x = sample(rng, 2, 3, 4)
    layer.build(x.shape)
    gamma, beta = sample(rng, 3, 4), sample(rng, 3, 4)
    layer.set_weights([gamma, beta])
    y = layer(x)
    for b in range(2):
        mean = math.fsum(x[b].ravel()) / 12
        variance = math.fsum((value - mean) ** 2 for value in x[b].ravel()) / 12
        expected = (x[b] - mean) / math.sqrt(variance + 0.25) * gamma + beta
        np.testing.assert_allclose(y[b], expected, rtol=1e-13, atol=1e-13)


def test_batch_normalization_by_hand(rng):
    layer = nl.BatchNormalization(axis=1, epsilon=0.25, dtype="float64")
    x = sample(rng, 2, 3, 4)
    layer.build(x.shape)
    assert [weight.name for weight in layer.non_trainable_weights] == ["moving_mean", "moving_variance"]
    values = [sample(rng, 3), sample(rng, 3), sample(rng, 3), np.abs(sample(rng, 3))]
    layer.set_weights(values)
    y = layer(x)
    for b, f, t in np.ndindex(2, 3, 4):
        gamma, beta, mean, variance = (value[f] for value in values)
        assert abs(y[b, f, t] - ((x[b, f, t] - mean) / math.sqrt(variance + 0.25) * gamma + beta)) < 1e-13
    layer.trainable = False
    np.testing.assert_array_equal(layer(x, training=True), y)


def test_batch_normalization_in_training_by_hand(rng):
    layer = nl.BatchNormalization(axis=1, epsilon=0.25, momentum=0.75, dtype="float64")
    x = sample(rng, 2, 3, 4)
    layer.build(x.shape)
    values = [sample(rng, 3), sample(rng, 3), sample(rng, 3), np.abs(sample(rng, 3))]
    layer.set_weights(values)
    y = layer(x, training=True)
    for f in range(3):
        mean = math.fsum(x[:, f].ravel()) / 8
        variance = math.fsum((value - mean) ** 2 for value in x[:, f].ravel()) / 8
        expected = (x[:, f] - mean) / math.sqrt(variance + 0.25) * values[0][f] + values[1][f]
        np.testing.assert_allclose(y[:, f], expected, rtol=1e-13, atol=1e-13)
        assert abs(layer.moving_mean.value[f] - (0.75 * values[2][f] + 0.25 * mean)) < 1e-15
        assert abs(layer.moving_variance.value[f] - (0.75 * values[3][f] + 0.25 * variance)) < 1e-15


def test_an_empty_batch_leaves_the_collected_statistics():
    layer = nl.BatchNormalization()
    assert layer(np.zeros((0, 3)), training=True).shape == (0, 3)
    np.testing.assert_array_equal(layer.get_weights()[2:], [np.zeros(3), np.ones(3)])


def test_batch_normalization_refuses_a_mask_of_another_shape(rng):
    with pytest.raises(ValueError, match=r"mask must have shape \(2, 4\), got \(2, 3\)"):
        nl.BatchNormalization()(sample(rng, 2, 4, 3), training=True, mask=np.ones((2, 3), bool))


@pytest.mark.parametrize("layer", [nl.LayerNormalization(axis=3), nl.BatchNormalization(axis=-4)])
def test_normalization_axis_out_of_bounds(layer):
    with pytest.raises(ValueError, match="is out of bounds for inputs of shape"):
        layer(np.ones((2, 3, 4)))


def test_average_pooling_leaves_masked_steps_out(rng):
    x = sample(rng, 2, 4, 3, dtype="float32")
    mask = np.array([[True, False, True, False], [False] * 4])
    y = nl.GlobalAveragePooling1D()(x, mask=mask)
    np.testing.assert_allclose(y[0], (x[0, 0] + x[0, 2]) / 2, rtol=1e-6)
    assert np.isnan(y[1]).all()
    first = nl.GlobalAveragePooling1D("channels_first", keepdims=True)(x.swapaxes(1, 2), mask=mask)
    np.testing.assert_allclose(first[0, :, 0], y[0], rtol=1e-6)
    with pytest.raises(ValueError, match=r"mask must have shape \(2, 4\), got \(2, 3\)"):
        nl.GlobalAveragePooling1D()(x, mask=mask[:, :3])


def test_pooling_of_no_steps():
    x = np.zeros((2, 0, 3), np.float32)
    assert np.isneginf(nl.GlobalMaxPooling1D()(x)).all()
    assert np.isnan(nl.GlobalAveragePooling1D()(x)).all()


def test_max_pooling(rng):
    x = sample(rng, 2, 4, 3, dtype="float32") - 10
    np.testing.assert_array_equal(nl.GlobalMaxPooling1D()(x)[1], [max(x[1, t, f] for t in range(4)) for f in range(3)])
