"""Losses: values and gradients of Keras, weights, masks, names, configs and messages."""

import doctest
import json
import pickle

import numpy as np
import pytest
from support.training_parts import ARRAYS, CASES, VARIANTS, data, ids

from numbalstm import losses

CLASSES = sorted(losses.CLASSES)


def example(name, rng, shape=(3, 5, 4)):
    """Targets and predictions that a loss of this class takes."""
    p = rng.uniform(0.05, 0.95, shape)
    if name == "SparseCategoricalCrossentropy":
        return rng.integers(0, shape[-1], shape[:-1]), p
    return rng.uniform(0.05, 0.95, shape), p


@pytest.mark.parametrize("index", range(len(CASES["losses"])), ids=ids("losses"))
def test_numbers_are_those_of_keras(index):
    case = CASES["losses"][index]
    t, p = data(case["kind"])
    t = ARRAYS.get(f"loss/{index}/t", t)
    loss = losses.get({"class_name": case["name"], "config": case["config"]})
    values, gradients = ARRAYS[f"loss/{index}/values"], ARRAYS[f"loss/{index}/gradients"]
    # Keras takes log 2 in float32.
    tolerance = 2e-8 if isinstance(loss, losses.LogCosh) else 1e-13 * max(np.abs(values).max(), 1.0)
    for variant, value, gradient in zip(VARIANTS, values, gradients, strict=True):
        found, found_gradient = loss.value_and_gradient(t, p, **variant)
        assert type(found) is float
        assert found == loss(t, p, **variant)
        assert found == pytest.approx(value, rel=0, abs=tolerance)
        np.testing.assert_allclose(found_gradient, gradient, rtol=0, atol=1e-13 * np.abs(gradient).max())


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
@pytest.mark.parametrize("name", CLASSES)
def test_gradient_is_the_slope(name, reduction, rng):
    loss = losses.CLASSES[name](reduction=reduction)
    t, p = example(name, rng)
    weight, mask = rng.uniform(0.5, 2.0, (3, 5)), rng.random((3, 5)) < 0.7
    direction = rng.normal(size=p.shape)
    step = 1e-6
    slope = (loss(t, p + step * direction, weight, mask) - loss(t, p - step * direction, weight, mask)) / (2 * step)
    gradient = loss.value_and_gradient(t, p, weight, mask)[1]
    assert (gradient * direction).sum() == pytest.approx(slope, rel=2e-7, abs=1e-9)


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_masked_does_not_matter(name, rng):
    loss = losses.CLASSES[name]()
    t, p = example(name, rng)
    mask = rng.random((3, 5)) < 0.6
    expected, gradient = loss.value_and_gradient(t, p, mask=mask)
    spoiled_p = np.where(mask[..., None], p, np.nan)
    spoiled_t = np.where(mask, t, -1) if t.ndim == 2 else np.where(mask[..., None], t, np.inf)
    if "Hinge" not in name:  # asks whether all labels are 0 or 1
        value, spoiled_gradient = loss.value_and_gradient(spoiled_t, spoiled_p, mask=mask)
        assert value == expected
        np.testing.assert_array_equal(spoiled_gradient, gradient)
    assert not gradient[~mask].any()
    assert loss(t, p, mask=mask) == pytest.approx(loss(t[mask], p[mask]), rel=1e-14)
    np.testing.assert_array_equal(loss.values(t, p, mask)[~mask], 0.0)
    assert loss(t, p, mask=np.zeros((3, 5))) == 0.0


@pytest.mark.parametrize("name", CLASSES)
def test_float32(name, rng):
    loss = losses.CLASSES[name]()
    t, p = example(name, rng)
    value, gradient = loss.value_and_gradient(t, p)
    for dtype, tolerance in ((np.float32, 1e-6), (np.float16, 3e-3)):
        narrow_value, narrow_gradient = loss.value_and_gradient(t, p.astype(dtype))
        assert narrow_gradient.dtype == np.float32
        assert narrow_value == pytest.approx(value, rel=tolerance)
        limit = 20 * tolerance * np.abs(gradient).max()
        np.testing.assert_allclose(narrow_gradient, gradient, rtol=0, atol=limit)


def test_weights_of_samples_count_for_all_steps(rng):
    t, p = rng.normal(size=(2, 3, 5, 2))
    weight = rng.uniform(size=3)
    loss = losses.MeanSquaredError()
    full = loss.value_and_gradient(t, p, np.repeat(weight[:, None], 5, axis=1))
    for given in (weight, weight[:, None], weight[:, None, None]):
        value, gradient = loss.value_and_gradient(t, p, given)
        assert value == full[0]
        np.testing.assert_array_equal(gradient, full[1])
    assert loss(t, p, weight, mask=np.array([1, 0, 1])) == loss(
        t, p, weight, mask=np.repeat([[1], [0], [1]], 5, axis=1)
    )
    mean = losses.MeanSquaredError(reduction="mean_with_sample_weight")
    assert mean(t, p, np.array([0.0, 2.0, 0.0])) == pytest.approx(loss(t[1:2], p[1:2]), rel=1e-14)


def test_axes_of_size_one_may_be_missing(rng):
    p = rng.uniform(0.1, 0.9, (4, 3, 1))
    t = rng.integers(0, 2, (4, 3))
    weight = rng.uniform(size=(4, 3))
    expected = losses.get("bce").value_and_gradient(t[..., None], p, weight)
    value, gradient = losses.get("bce").value_and_gradient(t, p, weight)
    assert value == expected[0]
    np.testing.assert_array_equal(gradient, expected[1])
    flat_value, flat = losses.get("bce").value_and_gradient(t[:, 0], p[:, 0, 0], weight[:, 0])
    assert flat.shape == (4,)
    assert flat_value == losses.get("bce")(t[:, :1], p[:, 0], weight[:, :1])
    sparse = losses.get("sparse_categorical_crossentropy")
    logits = rng.uniform(size=(4, 3, 5))
    assert sparse(t, logits) == sparse(t[..., None].astype(np.float32), logits)


def test_logits_overflow_nowhere():
    logits = np.array([[900.0, -900.0], [-900.0, 900.0], [0.0, 0.0]])
    right, wrong = np.array([0, 1, 0]), np.array([1, 0, 0])
    sparse = losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    assert sparse(right, logits) == pytest.approx(np.log(2.0), rel=1e-15)
    value, gradient = sparse.value_and_gradient(wrong, logits)
    assert value == pytest.approx(3600.0 + np.log(2.0), rel=1e-15)
    np.testing.assert_array_equal(gradient, [[1.0, -1.0], [-1.0, 1.0], [-0.5, 0.5]])
    binary = losses.BinaryCrossentropy(from_logits=True, reduction="sum")
    value, gradient = binary.value_and_gradient([[0.0], [1.0], [1.0]], [[900.0], [-900.0], [900.0]])
    assert value == 1800.0
    np.testing.assert_array_equal(gradient, [[1.0], [-1.0], [0.0]])


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
def test_probabilities_and_logits_agree(smoothing, rng):
    logits = rng.normal(size=(6, 5))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    t = np.eye(5)[rng.integers(0, 5, 6)]
    dense = losses.CategoricalCrossentropy(label_smoothing=smoothing)
    assert dense(t, p) == pytest.approx(losses.CategoricalCrossentropy(True, smoothing)(t, logits), rel=1e-13)
    sparse = losses.SparseCategoricalCrossentropy()
    assert sparse(t.argmax(axis=1), p) == pytest.approx(losses.CategoricalCrossentropy()(t, p), rel=1e-13)


def test_corners():
    hinge = losses.CategoricalHinge()
    value, gradient = hinge.value_and_gradient([[1.0, 0.0, 0.0]], [[0.25, 0.5, 0.5]])
    assert value == 1.25
    np.testing.assert_array_equal(gradient, [[-1.0, 0.5, 0.5]])  # equally large ones share
    value, gradient = losses.CosineSimilarity().value_and_gradient([[3.0, 4.0]], [[0.0, 0.0]])
    assert value == 0.0
    np.testing.assert_allclose(gradient, [[-6e6, -8e6]], rtol=1e-12)
    short = np.array([[3e-8, 4e-8]])
    value, gradient = losses.CosineSimilarity().value_and_gradient([[1.0, 0.0]], short)
    assert value == pytest.approx(-0.3, rel=1e-12)
    np.testing.assert_allclose(gradient, [[-1e7, 0.0]], rtol=1e-12, atol=1e-6)


def test_no_reduction(rng):
    t, p = rng.normal(size=(2, 3, 5, 2))
    weight, mask = rng.uniform(size=3), rng.random((3, 5)) < 0.5
    loss = losses.MeanAbsoluteError(reduction=None)
    np.testing.assert_allclose(
        loss(t, p, weight, mask), np.abs(t - p).mean(axis=-1) * weight[:, None] * mask, rtol=1e-14
    )
    with pytest.raises(ValueError, match="reduction=None gives no single number"):
        loss.value_and_gradient(t, p)


def test_inputs_are_only_read(rng):
    for name in CLASSES:
        t, p = example(name, rng)
        weight, mask = rng.uniform(size=(3, 5)), rng.random((3, 5)) < 0.5
        for array in (t, p, weight, mask):
            array.flags.writeable = False
        losses.CLASSES[name]().value_and_gradient(t, p, weight, mask)


@pytest.mark.parametrize("name", sorted({*losses.NAMED, *losses.CLASSES}))
def test_names(name):
    loss = losses.get(name)
    assert loss.name == (name if name in losses.NAMED else loss.default_name)
    again = losses.get(json.loads(json.dumps(losses.serialize(loss))))
    assert again == loss
    assert again.name == loss.name
    assert pickle.loads(pickle.dumps(loss)) == loss


def test_identifiers():
    loss = losses.Huber(0.5)
    assert losses.get(loss) is loss
    assert losses.get(losses.Huber) == losses.Huber(1.0)
    assert losses.mean_squared_error == losses.get("mean_squared_error")
    keras2 = {"class_name": "Huber", "config": {"reduction": "auto", "name": "huber_loss", "delta": 2.0, "fn": "huber"}}
    assert losses.get(keras2) == losses.Huber(2.0)
    function = {"module": "builtins", "class_name": "function", "config": "mse", "registered_name": "function"}
    assert losses.get(function).name == "mse"
    assert losses.get({"class_name": "Hinge", "config": {"reduction": "none"}}).reduction is None


def test_examples():
    found = doctest.testmod(losses)
    assert found.attempted
    assert not found.failed


def test_a_loss_of_ones_own(rng):
    class Quartic(losses.Loss):
        default_name = "quartic"

        def evaluate(self, y_true, y_pred):
            error = y_pred - y_true
            return (error**4).sum(axis=-1), 4.0 * error**3

    t, p = rng.normal(size=(2, 3, 2))
    value, gradient = losses.get(Quartic).value_and_gradient(t, p, [1.0, 0.0, 2.0])
    assert value == pytest.approx((((p - t) ** 4).sum(axis=1) * [1.0, 0.0, 2.0]).sum() / 3, rel=1e-14)
    np.testing.assert_allclose(gradient, 4.0 * (p - t) ** 3 * np.array([[1.0], [0.0], [2.0]]) / 3, rtol=1e-14)


TWO = np.zeros((3, 2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: losses.get("msa", "compile: loss"),
            ValueError,
            "compile: loss: unknown loss 'msa'. Did you mean 'mse'?",
        ),
        (lambda: losses.get(None), ValueError, "unknown loss None"),
        (lambda: losses.get(lambda t, p: 0.0), TypeError, "a callable has no gradient"),
        (lambda: losses.get({"class_name": "Dice", "config": {}}), ValueError, "unknown loss 'Dice'"),
        (lambda: losses.get({"class_name": "Hinge", "config": {"delta": 1}}), ValueError, "no setting 'delta'"),
        (lambda: losses.Hinge("average"), ValueError, "Hinge: reduction must be one of"),
        (lambda: losses.Huber(-1.0), ValueError, "Huber: delta must be at least 0, got -1"),
        (lambda: losses.BinaryCrossentropy(axis=1), ValueError, "axis must be one of -1, got 1"),
        (lambda: losses.BinaryCrossentropy(label_smoothing=2), ValueError, r"label_smoothing must be in \[0, 1\]"),
        (lambda: losses.get("mse")(np.zeros(3), TWO), ValueError, r"mse: y_true must have shape \(3, 2\), got \(3,\)"),
        (lambda: losses.get("mse")(TWO[:, :1], TWO), ValueError, r"must have shape \(3, 2\), got \(3, 1\)"),
        (lambda: losses.get("mse")(0.0, 0.0), ValueError, r"y_pred must have shape \(batch, ...\), got \(\)"),
        (lambda: losses.get("mse")([[1]], [[1]]), TypeError, "y_pred must have a float type, got int64"),
        (
            lambda: losses.get("mse")(TWO, TWO, np.ones(2)),
            ValueError,
            r"sample_weight must fit \(3,\), got shape \(2,\)",
        ),
        (
            lambda: losses.get("mse")(TWO, TWO, mask=np.ones((3, 2))),
            ValueError,
            r"mask must fit \(3,\), got shape \(3, 2\)",
        ),
        (lambda: losses.CategoricalCrossentropy()(TWO[:, :1], TWO[:, :1]), ValueError, "use binary_crossentropy"),
        (lambda: losses.SparseCategoricalCrossentropy()([0, 2, 1], TWO), ValueError, "one of 2 classes from 0, got 2"),
        (lambda: losses.SparseCategoricalCrossentropy()([0, -1, 1], TWO), ValueError, "from 0, got -1"),
        (lambda: losses.SparseCategoricalCrossentropy()([0.5, 0, 1], TWO), ValueError, "whole numbers of classes"),
    ],
)
def test_messages(call, error, message):
    with pytest.raises(error, match=message):
        call()
