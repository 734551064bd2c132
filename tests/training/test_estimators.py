"""The estimators of scikit-learn: its own checks, forms of X, pipelines and searches."""

import doctest
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import numbalstm as nl
from numbalstm.estimators import LSTMClassifier, LSTMRegressor, classifier, regressor

ROOT = Path(__file__).parents[2]
QUICK = {"units": 8, "epochs": 30, "learning_rate": 0.02, "random_state": 0}
TINY = {"units": 3, "epochs": 2, "random_state": 0}


def checks_of_scikit_learn():
    for estimator in (LSTMRegressor(**QUICK), LSTMClassifier(**QUICK)):
        for number, (made, check) in enumerate(estimator_checks_generator(estimator, mark="skip")):
            yield pytest.param(made, check, id=f"{type(estimator).__name__}-{number}-{check.func.__name__}")


@pytest.mark.parametrize(("estimator", "check"), list(checks_of_scikit_learn()))
def test_scikit_learn_is_content(estimator, check):
    check(estimator)


def sums(rng, count=90, steps=6, features=2):
    """Sequences, the sum over all of the first feature, and its sign."""
    X = rng.normal(size=(count, steps, features))
    y = X[:, :, 0].sum(axis=1) / np.sqrt(steps)
    return X, y, np.where(y > 0, "up", "down")


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"units": (6, 5)}, {"dtype": "float64"}])
def test_learns(options, rng):
    X, y, classes = sums(rng)
    settings = {**QUICK, "epochs": 40, **options}
    regressor = LSTMRegressor(**settings).fit(X, y)
    assert regressor.score(X, y) > 0.8
    assert regressor.predict(X).shape == y.shape
    classifier = LSTMClassifier(**settings).fit(X, classes)
    assert classifier.score(X, classes) > 0.85
    probabilities = classifier.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-14)
    np.testing.assert_array_equal(classifier.classes_[probabilities.argmax(axis=1)], classifier.predict(X))
    assert classifier.classes_.tolist() == ["down", "up"]
    assert len(classifier.history_["loss"]) == 40


def test_settings_are_the_same_for_both():
    regressor, classifier = LSTMRegressor().get_params(), LSTMClassifier().get_params()
    assert regressor.pop("loss") == "mse"
    assert classifier.pop("class_weight") is None
    assert regressor == classifier
    assert {name for name, value in regressor.items() if not value} == {
        "bidirectional", "dropout", "learning_rate", "patience", "random_state", "recurrent_dropout",
        "validation_fraction", "verbose",
    }  # fmt: skip


def test_forms_of_x_agree(rng):
    X, y, _ = sums(rng, features=1)
    table = LSTMRegressor(**TINY).fit(X[:, :, 0], y)
    array = LSTMRegressor(**TINY).fit(X, y)
    listed = LSTMRegressor(**TINY).fit(list(X), y)
    held = np.empty(len(X), dtype=object)
    held[:] = list(X)
    objects = LSTMRegressor(**TINY).fit(held, y)
    expected = table.predict(X[:, :, 0])
    for model in (array, listed, objects):
        for form in (X, list(X), tuple(X), held, X.tolist()):
            np.testing.assert_array_equal(model.predict(form), expected)
    assert (table.n_features_in_, array.n_features_in_, listed.n_features_in_) == (6, 1, 1)


def test_sequences_of_other_lengths(rng):
    lengths = rng.integers(1, 9, size=80)
    X = [rng.normal(size=(length, 2)) for length in lengths]
    y = np.array([item[-1, 0] for item in X])
    model = LSTMRegressor(**{**QUICK, "epochs": 60}).fit(X, y)
    assert model.score(X, y) > 0.8
    together = model.predict(X)
    for index in (0, 17, 53):
        np.testing.assert_allclose(model.predict(X[index][None]), together[index : index + 1], rtol=1e-6)
        np.testing.assert_allclose(model.predict([X[index], np.ones((20, 2))])[0], together[index], rtol=1e-6)
    scores = cross_val_score(LSTMRegressor(**TINY), X, y, cv=3)
    assert np.isfinite(scores).all()


def test_several_targets(rng):
    X, y, _ = sums(rng)
    both = np.stack([y, -y], axis=1)
    model = LSTMRegressor(**QUICK).fit(X, both)
    assert model.predict(X).shape == both.shape
    assert model.score(X, both) > 0.7
    column = LSTMRegressor(**TINY).fit(X, y[:, None])
    assert column.predict(X).shape == (len(X), 1)


def test_pipeline_and_search(rng):
    X, y, classes = sums(rng, features=1)
    pipeline = make_pipeline(StandardScaler(), LSTMClassifier(**TINY))
    search = GridSearchCV(pipeline, {"lstmclassifier__units": [2, 3], "lstmclassifier__dropout": [0.0, 0.2]}, cv=2)
    search.fit(X[:, :, 0], classes)
    assert set(search.best_params_) == {"lstmclassifier__units", "lstmclassifier__dropout"}
    assert search.predict_proba(X[:, :, 0]).shape == (len(X), 2)
    assert cross_val_score(LSTMClassifier(**TINY), X, classes, cv=3).shape == (3,)
    doubled = make_pipeline(FunctionTransformer(lambda a: 2.0 * a), LSTMRegressor(**TINY)).fit(X, y)
    np.testing.assert_array_equal(doubled.predict(X), LSTMRegressor(**TINY).fit(2.0 * X, y).predict(2.0 * X))
    scaled = TransformedTargetRegressor(LSTMRegressor(**QUICK), transformer=StandardScaler())
    assert scaled.fit(X[:, :, 0], 1e4 + 1e3 * y).score(X[:, :, 0], 1e4 + 1e3 * y) > 0.7


def test_random_state(rng):
    X, y, _ = sums(rng)
    settings = {**TINY, "dropout": 0.3, "recurrent_dropout": 0.2}
    first = LSTMRegressor(**settings).fit(X, y).predict(X)
    np.testing.assert_array_equal(LSTMRegressor(**settings).fit(X, y).predict(X), first)
    for other in (1, None, np.random.RandomState(3)):
        assert not np.array_equal(LSTMRegressor(**{**settings, "random_state": other}).fit(X, y).predict(X), first)


def test_clone_and_pickle(rng):
    X, y, _ = sums(rng)
    model = LSTMRegressor(**TINY, optimizer=nl.optimizers.SGD(0.25, momentum=0.5)).fit(X, y)
    expected = model.predict(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), expected)
    again = clone(model)
    assert not hasattr(again, "model_")
    np.testing.assert_array_equal(again.fit(X, y).predict(X), expected)
    np.testing.assert_array_equal(model.fit(X, y).predict(X), expected)


def test_learning_rate(rng):
    X, y, _ = sums(rng)

    def rate(**options):
        return LSTMRegressor(**TINY, **options).fit(X, y).model_.optimizer.learning_rate

    assert rate() == 0.01
    assert rate(learning_rate=0.5) == 0.5
    assert rate(optimizer=nl.optimizers.SGD(0.25)) == 0.25
    assert rate(optimizer=nl.optimizers.SGD(0.25), learning_rate=0.5) == 0.5


def test_stops_early_with_the_best_weights(rng):
    X, y, _ = sums(rng)
    noise = rng.permutation(y)
    model = LSTMRegressor(**{**QUICK, "epochs": 200}, validation_fraction=0.3, patience=3).fit(X, noise)
    held = model.history_["val_loss"]
    assert len(held) < 200
    assert np.argmin(held) == len(held) - 4
    rare = np.array(["rare"] * 9 + ["usual"] * 81)
    assert LSTMClassifier(**TINY, validation_fraction=0.12, patience=1).fit(X, rare).history_["val_loss"]


def test_class_weight(rng):
    X = rng.normal(size=(100, 4, 1))
    y = np.array([0] * 90 + [1] * 10)
    plain = LSTMClassifier(**QUICK).fit(X, y).predict_proba(X)[:, 1].mean()
    balanced = LSTMClassifier(**QUICK, class_weight="balanced").fit(X, y).predict_proba(X)[:, 1].mean()
    assert plain < 0.2 < balanced
    given = LSTMClassifier(**QUICK, class_weight={0: 100 / 180, 1: 5.0}).fit(X, y).predict_proba(X)[:, 1].mean()
    assert given == pytest.approx(balanced, rel=1e-6)


def test_quiet(rng, capfd):
    X, y, _ = sums(rng)
    LSTMRegressor(**TINY).fit(X, y).predict(X)
    assert capfd.readouterr() == ("", "")


X3 = np.zeros((6, 4, 2))
Y = np.arange(6.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LSTMRegressor(dtype="float16").fit(X3, Y), "LSTMRegressor: dtype must be one of 'float32', 'float64'"),
        (
            lambda: LSTMRegressor().fit([np.ones((3, 2)), np.ones((3, 1))], [0.0, 1.0]),
            "one number of features, got 1 and 2",
        ),
        (lambda: LSTMRegressor().fit([np.ones((3, 2)), np.ones((0, 2))], [0.0, 1.0]), r"0 sample\(s\)"),
        (lambda: LSTMRegressor().fit([[[1.0, np.nan]], [[1.0, 2.0]]], [0.0, 1.0]), r"X\[0\] contains NaN"),
        (lambda: LSTMRegressor().fit(X3, Y[:5]), "inconsistent numbers of samples"),
        (lambda: LSTMRegressor(units=0).fit(X3, Y), "units must be at least 1, got 0"),
        (lambda: LSTMClassifier().fit(X3, np.ones(6)), "two classes or more, got one class"),
        (lambda: LSTMClassifier().fit(X3, Y + 0.5), "Unknown label type"),
        (
            lambda: LSTMRegressor(**TINY).fit(X3, Y).predict(X3[:, :, 0]),
            r"X must be \(samples, time, features\) or a list",
        ),
        (
            lambda: LSTMRegressor(**TINY).fit(X3[..., 0], Y).predict(X3),
            r"X must be \(samples, time\), as it was in fit",
        ),
        (
            lambda: LSTMRegressor(**TINY).fit(X3, Y).predict(X3[:, :, :1]),
            r"X must have shape \(samples, time, 2\), got \(6, 4, 1\)",
        ),
    ],
)
def test_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_without_scikit_learn():
    code = """
import sys
sys.modules["sklearn"] = None
from numbalstm import *
import numbalstm
try:
    numbalstm.LSTMRegressor
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == 'sklearn is needed for this but is not installed: pip install "numbalstm[sklearn]".\n'


@pytest.mark.parametrize("module", [classifier, regressor])
def test_examples(module):
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


def test_names_of_the_package():
    assert nl.LSTMRegressor is LSTMRegressor
    assert nl.LSTMClassifier is LSTMClassifier
    assert {"LSTMRegressor", "LSTMClassifier"} <= set(dir(nl))
