"""Make training_parts.npz: losses with gradients, metrics, optimizers and schedules of the real Keras in float64.

Run in an environment with TensorFlow and Keras 3:

    python tests/golden/make_training_parts.py

Made with Keras 3.15.1 on TensorFlow 2.21, CPU.  ``cases`` is a JSON dict of what was recorded, in the order of the
arrays: class names and configs that any version can rebuild.

Keras rounds settings such as beta_2 to float32 even when everything is float64, which changes weights by some 1e-6.
Optimizers are therefore recorded twice: as they are, and with exact settings.  Schedules: with exact settings.
"""

import contextlib
import json
import os
from pathlib import Path
from unittest import mock

os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import numpy as np
import tensorflow as tf
from keras.src.backend import set_keras_mask

keras.config.set_floatx("float64")
random = np.random.default_rng(20264)
arrays: dict[str, np.ndarray] = {}
cases: dict[str, list] = {"losses": [], "metrics": [], "optimizers": [], "schedules": []}
SHAPE = (3, 5, 4)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# ---- data: targets and predictions by kind --------------------------------------------------------------------------

logits = random.standard_normal(SHAPE) * 3.0
logits[0, 0] = [60.0, -800.0, 0.0, 59.0]
probabilities = softmax(random.standard_normal(SHAPE))
probabilities[0, 1] = [1.0, 0.0, 0.0, 0.0]
probabilities[2, 3] = [1e-9, 0.3, 0.7 - 1e-9, 0.0]
classes = random.integers(0, 4, SHAPE[:-1])
one_hot = np.eye(4)[classes]
binary = (random.random(SHAPE) > 0.5).astype(float)
DATA = {
    "numbers": (random.standard_normal(SHAPE), random.standard_normal(SHAPE) * 2.0),
    "positive": (random.random(SHAPE) * 3.0, random.random(SHAPE) * 3.0),
    "some_negative": (random.standard_normal(SHAPE) + 1.0, random.standard_normal(SHAPE) + 1.0),
    "binary": (binary, probabilities),
    "binary_logits": (binary, logits),
    "signs": (2.0 * binary - 1.0, random.standard_normal(SHAPE) * 2.0),
    "distributions": (softmax(random.standard_normal(SHAPE)), probabilities),
    "one_hot": (one_hot, probabilities),
    "one_hot_unscaled": (one_hot, random.random(SHAPE) + 0.1),
    "one_hot_logits": (one_hot, logits),
    "classes": (classes, probabilities),
    "classes_unscaled": (classes, random.random(SHAPE) * 0.8 + 0.1),
    "classes_logits": (classes, logits),
    "single": (random.standard_normal((3, 5, 1)), random.standard_normal((3, 5, 1))),
}
for kind, (t, p) in DATA.items():
    arrays[f"data/{kind}/t"], arrays[f"data/{kind}/p"] = t, p
weights = arrays["sample_weight"] = random.random(SHAPE[:-1]) * 2.0
mask = arrays["mask"] = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1], [1, 1, 0, 1, 1]], dtype=bool)
VARIANTS = [(None, None), (weights, None), (None, mask), (weights, mask)]


# ---- losses ---------------------------------------------------------------------------------------------------------


def loss_case(kind, name, config=None, changed_targets=None):
    """Record a loss with and without weights and mask: values (4,) and gradients (4, ...)."""
    config = config or {}
    t, p = DATA[kind]
    t = t if changed_targets is None else changed_targets
    values, gradients = [], []
    for sample_weight, step_mask in VARIANTS:
        variable = tf.Variable(p)
        with tf.GradientTape() as tape:
            predictions = tf.identity(variable)
            if step_mask is not None:
                set_keras_mask(predictions, tf.constant(step_mask))
            value = getattr(keras.losses, name)(**config)(t, predictions, sample_weight)
        values.append(float(value))
        gradients.append(tf.convert_to_tensor(tape.gradient(value, variable)).numpy())
    index = len(cases["losses"])
    cases["losses"].append({"kind": kind, "name": name, "config": config, "own_targets": changed_targets is not None})
    if changed_targets is not None:
        arrays[f"loss/{index}/t"] = t
    arrays[f"loss/{index}/values"], arrays[f"loss/{index}/gradients"] = np.array(values), np.array(gradients)


def record_losses():
    for name in ("MeanSquaredError", "MeanAbsoluteError", "MeanAbsolutePercentageError", "LogCosh", "CosineSimilarity"):
        loss_case("numbers", name)
    for reduction in ("sum", "mean", "mean_with_sample_weight"):
        loss_case("numbers", "MeanSquaredError", {"reduction": reduction})
    loss_case("single", "MeanSquaredError")
    loss_case("numbers", "Huber")
    loss_case("numbers", "Huber", {"delta": 0.75})
    loss_case("positive", "MeanSquaredLogarithmicError")
    loss_case("some_negative", "MeanSquaredLogarithmicError")
    loss_case("positive", "Poisson")
    for config in ({}, {"label_smoothing": 0.125}):
        loss_case("binary", "BinaryCrossentropy", config)
        loss_case("binary_logits", "BinaryCrossentropy", config | {"from_logits": True})
        loss_case("one_hot", "CategoricalCrossentropy", config)
        loss_case("one_hot_unscaled", "CategoricalCrossentropy", config)
        loss_case("one_hot_logits", "CategoricalCrossentropy", config | {"from_logits": True})
    loss_case("distributions", "CategoricalCrossentropy")
    loss_case("classes", "SparseCategoricalCrossentropy")
    loss_case("classes_unscaled", "SparseCategoricalCrossentropy")
    loss_case("classes_logits", "SparseCategoricalCrossentropy", {"from_logits": True})
    ignored = np.where(random.random(classes.shape) < 0.3, -1, classes)
    for logit in (False, True):
        config = {"from_logits": logit, "ignore_class": -1}
        loss_case("classes_logits" if logit else "classes", "SparseCategoricalCrossentropy", config, ignored)
    loss_case("distributions", "KLDivergence")
    for name in ("Hinge", "SquaredHinge"):
        loss_case("signs", name)
        loss_case("binary_logits", name)
    loss_case("one_hot", "CategoricalHinge")
    loss_case("one_hot_logits", "CategoricalHinge")


# ---- metrics --------------------------------------------------------------------------------------------------------


def metric_case(kind, name, config=None):
    """Record the result (4,) of a metric after two updates: samples 0 and 1, then sample 2."""
    config = config or {}
    t, p = DATA[kind]
    if "TopK" in name:  # TensorFlow has it for float32 only
        p = p.astype("float32")
    results = []
    for sample_weight, step_mask in VARIANTS:
        metric = getattr(keras.metrics, name)(**config)
        for part in (slice(0, 2), slice(2, 3)):
            predictions = tf.constant(p[part])
            if step_mask is not None:
                set_keras_mask(predictions, tf.constant(step_mask[part]))
            metric.update_state(t[part], predictions, None if sample_weight is None else sample_weight[part])
        results.append(float(metric.result()))
    arrays[f"metric/{len(cases['metrics'])}"] = np.array(results)
    cases["metrics"].append({"kind": kind, "name": name, "config": config})


def record_metrics():
    metric_case("binary", "BinaryAccuracy")
    metric_case("binary", "BinaryAccuracy", {"threshold": 0.25})
    metric_case("one_hot", "CategoricalAccuracy")
    metric_case("distributions", "CategoricalAccuracy")
    metric_case("classes", "SparseCategoricalAccuracy")
    for k in (1, 2, 5):
        metric_case("one_hot", "TopKCategoricalAccuracy", {"k": k})
        metric_case("classes", "SparseTopKCategoricalAccuracy", {"k": k})
    for name in ("MeanSquaredError", "MeanAbsoluteError", "CosineSimilarity", "MeanAbsolutePercentageError"):
        metric_case("numbers", name)
    metric_case("single", "MeanSquaredError")
    metric_case("one_hot", "CategoricalCrossentropy", {"label_smoothing": 0.125})


def record_metrics_without_masks():
    """Metrics that in Keras ignore masks or cannot have weights of steps: plain, and weighted by elements."""
    for kind, name, config in (
        ("numbers", "RootMeanSquaredError", {}),
        ("binary", "Precision", {}),
        ("binary", "Recall", {}),
        ("binary", "AUC", {}),
        ("binary", "AUC", {"num_thresholds": 7}),
    ):
        t, p = DATA[kind]
        results = []
        for sample_weight in (None, weights):
            metric = getattr(keras.metrics, name)(**config)
            for part in (slice(0, 2), slice(2, 3)):
                weight = None if sample_weight is None else np.repeat(sample_weight[part][..., None], 4, -1)
                metric.update_state(t[part], p[part], weight)
            results.append(float(metric.result()))
        arrays[f"metric/{len(cases['metrics'])}"] = np.array(results)
        cases["metrics"].append({"kind": kind, "name": name, "config": config})


# ---- optimizers and schedules ---------------------------------------------------------------------------------------

STEPS = 20
SHAPES = [(7, 3), (3,), (2, 3, 2)]
START = [random.standard_normal(shape) for shape in SHAPES]
# Sizes that differ, so that clipping acts at some steps and on some weights only.
GRADIENTS = [[random.standard_normal(shape) * 10.0 ** random.uniform(-2, 1) for shape in SHAPES] for _ in range(STEPS)]
SCHEDULES = [
    ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.5}),
    ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.5, "staircase": True}),
    ("InverseTimeDecay", {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5}),
    ("InverseTimeDecay", {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5, "staircase": True}),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 11, "end_learning_rate": 0.01, "power": 1.5}),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 6, "power": 2.0, "cycle": True}),
    ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 13, "alpha": 0.125}),
    (
        "CosineDecay",
        {"initial_learning_rate": 0.01, "decay_steps": 9, "alpha": 0.1, "warmup_target": 0.2, "warmup_steps": 5},
    ),
    ("PiecewiseConstantDecay", {"boundaries": [3, 8, 9], "values": [0.1, 0.05, 0.2, 0.01]}),
]


@contextlib.contextmanager
def exact_settings():
    """Let TensorFlow take Python's floats as the float64 numbers that they are."""

    def exact(function):
        return lambda x, *args, **kwargs: function(np.float64(x) if isinstance(x, float) else x, *args, **kwargs)

    with (
        mock.patch.object(tf, "cast", exact(tf.cast)),
        mock.patch.object(tf, "convert_to_tensor", exact(tf.convert_to_tensor)),
    ):
        yield


def trained(name, config, schedule, constrained):
    """Return all weights in one row after the first and after the last step."""
    settings = dict(config)
    if schedule is not None:
        kind, arguments = SCHEDULES[schedule]
        settings["learning_rate"] = getattr(keras.optimizers.schedules, kind)(**arguments)
    optimizer = getattr(keras.optimizers, name)(**settings)
    variables = [keras.Variable(value, dtype="float64") for value in START]
    if constrained:
        variables[0].constraint = keras.constraints.MaxNorm(1.5, axis=0)
    rows = []
    for gradients in GRADIENTS:
        optimizer.apply([tf.constant(gradient) for gradient in gradients], variables)
        rows.append(np.concatenate([variable.numpy().ravel() for variable in variables]))
    return np.array([rows[0], rows[-1]])


def optimizer_case(name, config, schedule=None, constrained=False):
    with exact_settings():
        exact.append(trained(name, config, schedule, constrained))
    as_it_is.append(trained(name, config, schedule, constrained))
    cases["optimizers"].append({"name": name, "config": config, "schedule": schedule, "constrained": constrained})


exact: list[np.ndarray] = []
as_it_is: list[np.ndarray] = []


def record_optimizers():
    for number, value in enumerate(START):
        arrays[f"start/{number}"] = value
        arrays[f"gradients/{number}"] = np.array([gradients[number] for gradients in GRADIENTS])
    for name, options in (
        ("SGD", [{"momentum": 0.9}, {"momentum": 0.75, "nesterov": True}]),
        ("RMSprop", [{"momentum": 0.5}, {"centered": True}, {"centered": True, "momentum": 0.9, "rho": 0.75}]),
        ("Adam", [{"amsgrad": True}, {"beta_1": 0.5, "beta_2": 0.75, "epsilon": 0.01}]),
        ("AdamW", [{"amsgrad": True}, {"weight_decay": 0.25}]),
        ("Adagrad", [{"initial_accumulator_value": 0.5, "epsilon": 0.01}]),
        ("Nadam", [{"beta_1": 0.5, "beta_2": 0.75, "epsilon": 0.01}]),
    ):
        optimizer_case(name, {})
        for config in [
            *options,
            {"clipnorm": 1.0, "learning_rate": 0.125},
            {"clipvalue": 0.5, "learning_rate": 0.125},
            {"global_clipnorm": 2.0, "learning_rate": 0.125},
            {"weight_decay": 0.0625, "learning_rate": 0.125},
            {"weight_decay": 0.0625, "learning_rate": 0.125, "global_clipnorm": 0.5},
        ]:
            optimizer_case(name, config)
        optimizer_case(name, {}, schedule=0)
        optimizer_case(name, {"weight_decay": 0.0625}, schedule=7)
        optimizer_case(name, {"learning_rate": 0.125}, constrained=True)
    arrays["optimizers"], arrays["optimizers_as_is"] = np.array(exact), np.array(as_it_is)


def record_schedules():
    rows = []
    for name, config in SCHEDULES:
        with exact_settings():
            schedule = getattr(keras.optimizers.schedules, name)(**config)
            rows.append([float(schedule(step)) for step in range(25)])
        cases["schedules"].append({"name": name, "config": config})
    arrays["schedules"] = np.array(rows)


if __name__ == "__main__":
    record_losses()
    record_metrics()
    record_metrics_without_masks()
    record_optimizers()
    record_schedules()
    arrays["cases"] = np.array(json.dumps(cases))
    path = Path(__file__).with_name("training_parts.npz")
    np.savez_compressed(path, **arrays)
    print({name: len(found) for name, found in cases.items()}, path.stat().st_size)
