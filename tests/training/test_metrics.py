"""Metrics: results of Keras, streaming, weights, masks, names and messages."""

import doctest

import numpy as np
import pytest
from support.training_parts import ARRAYS, CASES, VARIANTS, data, ids

from numbalstm import losses, metrics

PARTS = (slice(0, 2), slice(2, 3))


def made(case):
    if case["name"] in metrics.CLASSES:
        return metrics.get({"class_name": case["name"], "config": case["config"]})
    return metrics.get(losses.CLASSES[case["name"]](**case["config"]))


def stream(metric, t, p, weight, mask, parts=PARTS):
    for part in parts:
        metric.update(t[part], p[part], None if weight is None else weight[part], None if mask is None else mask[part])
    return metric.result()


@pytest.mark.parametrize("index", range(len(CASES["metrics"])), ids=ids("metrics"))
def test_numbers_are_those_of_keras(index):
    case = CASES["metrics"][index]
    t, p = data(case["kind"])
    if "TopK" in case["name"]:
        p = p.astype(np.float32)  # as recorded
    expected = ARRAYS[f"metric/{index}"]
    for variant, number in zip(VARIANTS, expected, strict=False):
        metric = made(case)
        found = stream(metric, t, p, variant["sample_weight"], variant["mask"])
        assert type(found) is float
        assert found == pytest.approx(number, rel=1e-14)


@pytest.mark.parametrize("name", sorted({*metrics.NAMED, "mse", "sparse_categorical_crossentropy", "hinge"}))
def test_streaming_equals_one_shot(name, rng):
    metric = metrics.get(name)
    assert metric.name == name
    assert metric.result() == 0.0
    p = rng.random((7, 5, 6))
    t = rng.integers(0, 6, (7, 5)) if "sparse" in name else rng.integers(0, 2, (7, 5, 6))
    weight, mask = rng.uniform(size=7), rng.random((7, 5)) < 0.7
    whole = stream(metric, t, p, weight, mask, [slice(None)])
    metric.reset()
    cut = [slice(0, 3), slice(3, 4), slice(4, 7)]
    assert stream(metric, t, p, weight, mask, cut) == pytest.approx(whole, rel=1e-13)
    assert whole not in (0.0, 1.0)
    again = metrics.get(name)
    stream(again, t, p, weight, mask, cut[:2])
    resumed = metrics.get(name)
    resumed.load_state(again.state())
    assert stream(resumed, t, p, weight, mask, cut[2:]) == metric.result()
    stream(again, t, p, weight, mask, cut[2:])
    assert again.result() == metric.result()


@pytest.mark.parametrize("name", ["accuracy", "mse", "rmse", "auc", "precision", "recall", "cosine_similarity"])
def test_what_is_masked_does_not_matter(name, rng):
    p, mask = rng.random((4, 5, 3)), rng.random((4, 5)) < 0.6
    mask[:, 0] = True
    t = rng.integers(0, 2, p.shape)
    expected = stream(metrics.get(name), t, p, None, mask, [slice(None)])
    spoiled = np.where(mask[..., None], p, np.nan)
    assert stream(metrics.get(name), t, spoiled, None, mask, [slice(None)]) == expected
    flat = metrics.get(name)
    flat.update(t[mask], p[mask])
    assert flat.result() == pytest.approx(expected, rel=1e-13)


def test_accuracy_chooses_by_shape(rng):
    p = rng.random((6, 4, 3))
    classes = rng.integers(0, 3, (6, 4))
    right = (p.argmax(axis=-1) == classes).mean()
    for t in (classes, classes[..., None], np.eye(3)[classes]):
        for name in ("accuracy", "acc", "Accuracy"):
            metric = metrics.get(name)
            metric.update(t, p)
            assert metric.result() == pytest.approx(right, rel=1e-15)
    binary = rng.integers(0, 2, (6, 4))
    for t in (binary, binary[..., None]):
        metric = metrics.get("accuracy")
        metric.update(t, p[..., :1])
        assert metric.result() == pytest.approx(((p[..., 0] > 0.5) == binary).mean(), rel=1e-15)
    metric = metrics.get("accuracy")
    metric.update(binary[:, 0], p[:, 0, 0])
    assert metric.result() == pytest.approx(((p[:, 0, 0] > 0.5) == binary[:, 0]).mean(), rel=1e-15)


def test_a_prediction_at_the_threshold_is_negative():
    for name in ("binary_accuracy", "precision", "recall"):
        metric = metrics.get(name)
        metric.update([1, 1, 0, 1], [0.5, 0.75, 0.5, 0.625])
        assert metric.result() == {"binary_accuracy": 0.75, "precision": 1.0, "recall": 2 / 3}[name]


def test_top_k_by_hand():
    p = np.array([[0.1, 0.5, 0.4], [0.3, 0.3, 0.3], [0.2, np.nan, 0.9]])
    expected = {1: [0, 1, 1], 2: [1, 1, 1], 3: [1, 1, 1]}
    for k, right in expected.items():
        np.testing.assert_array_equal(metrics.SparseTopKCategoricalAccuracy(k).values([2, 0, 2], p, None), right)
        np.testing.assert_array_equal(metrics.TopKCategoricalAccuracy(k).values(np.eye(3)[[2, 0, 2]], p, None), right)
    np.testing.assert_array_equal(metrics.SparseTopKCategoricalAccuracy(3).values([-1, 3, 1], p, None), [0, 0, 0])


def test_auc_of_a_ranking(rng):
    t = rng.integers(0, 2, 40)
    p = (np.arange(40) + 0.5) / 40
    pairs = [(a > b) for a in p[t == 1] for b in p[t == 0]]
    metric = metrics.AUC(41)
    metric.update(t, p)
    assert metric.result() == pytest.approx(np.mean(pairs), rel=1e-12)


def test_examples():
    found = doctest.testmod(metrics)
    assert found.attempted
    assert not found.failed


def test_callables_and_objects(rng):
    def largest_error(y_true, y_pred):
        return np.abs(y_true - y_pred).max(axis=-1)

    t, p = rng.normal(size=(2, 5, 3))
    metric = metrics.get(largest_error)
    metric.update(t, p, [1.0, 0.0, 2.0, 1.0, 0.5])
    expected = np.average(np.abs(t - p).max(axis=1), weights=[1.0, 0.0, 2.0, 1.0, 0.5])
    assert metric.result() == pytest.approx(expected, rel=1e-14)
    assert metric.name == "largest_error"
    assert metrics.get(metric) is metric
    assert metrics.get(metrics.AUC).name == "auc"
    assert [metrics.get(name).name for name in ("AUC", "MeanSquaredError")] == ["AUC", "MeanSquaredError"]
    assert metrics.get(losses.Huber(2.0)).name == "huber_loss"
    assert metrics.get({"class_name": "Precision", "config": {"name": "p", "dtype": "float32"}}).name == "p"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: metrics.get("acuracy", "compile: metrics"),
            "compile: metrics: unknown metric 'acuracy'. Did you mean 'acc",
        ),
        (lambda: metrics.get({"class_name": "MeanIoU", "config": {}}), "unknown metric 'MeanIoU'"),
        (lambda: metrics.AUC(1), "AUC: num_thresholds must be at least 2, got 1"),
        (
            lambda: metrics.AUC().update([1, 0], [0.5, 1.5]),
            r"auc: y_pred must be within \[0, 1\], got values from 0.5 to",
        ),
        (
            lambda: metrics.Recall().update([1, 0, 1], [0.5, 1.5]),
            r"recall: y_true must have shape \(2, 1\), got \(3, 1\)",
        ),
        (
            lambda: metrics.get("mae").update([1.0], [2.0], [1.0, 2.0]),
            r"sample_weight must fit \(1,\), got shape \(2,\)",
        ),
        (lambda: metrics.get("mae").load_state({"sum": 1.0}), "mae: the state must hold total, count, got sum"),
        (lambda: metrics.AUC(5).load_state(metrics.AUC(4).state()), r"positives must have shape \(5,\), got \(4,\)"),
        (lambda: metrics.get(lambda t, p: 0.0).update([1.0], [2.0]), "one value for each of 1 samples"),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call()
