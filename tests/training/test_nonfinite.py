"""A loss that is not finite stops the training, says where, and leaves the weights before it."""

import numpy as np
import pytest

import numbalstm as nl
from numbalstm import NonFiniteError
from numbalstm.callbacks import LambdaCallback
from numbalstm.models.snapshot import passing_state

SMALL = {"epochs": 3, "batch_size": 5, "verbose": 0, "shuffle": False}


def chain(*layers, loss="mse", optimizer="sgd"):
    model = nl.Sequential([nl.Input((None, 3)), *layers])
    model.compile(optimizer, loss)
    return model


@pytest.fixture
def x(rng):
    return rng.normal(size=(20, 6, 3)).astype("float32")


def test_it_names_epoch_batch_step_and_layer_and_keeps_the_weights(x):
    model = chain(nl.LSTM(4, name="memory", dropout=0.3), nl.BatchNormalization(), nl.Dense(1, name="out"))
    x[13, 2, 1] = np.nan
    kept = []

    def keep(batch, logs):
        kept.append((model.get_weights(), model.optimizer.state(), passing_state(model)))

    with pytest.raises(NonFiniteError) as caught:
        model.fit(x, x[:, 0, 0], **SMALL, callbacks=LambdaCallback(on_train_batch_begin=keep))
    error = caught.value
    assert (error.epoch, error.batch, error.step, error.layer) == (0, 2, 2, "memory")
    assert "the loss is nan in epoch 1, batch 3 (step 3): the first layer with a value that is not finite is " in str(
        error
    )
    assert "'memory' (LSTM) (the input 'input_layer" in str(error)
    assert str(error).endswith("The weights are those before this step.")
    weights, state, passing = kept[-1]
    assert all(map(np.array_equal, weights, model.get_weights()))
    assert all(np.array_equal(state[name], value) for name, value in model.optimizer.state().items())
    assert passing == passing_state(model)


def test_a_weight_that_is_not_finite_is_named(x):
    model = chain(nl.Dense(3, name="first"), nl.LSTM(2), nl.Dense(1, name="last"))
    weights = model.get_weights()
    weights[-1][0] = np.nan
    model.set_weights(weights)
    with pytest.raises(NonFiniteError, match=r"is 'last' \(Dense\) \(its weight 'bias' is not finite\)"):
        model.train_on_batch(x, x[:, 0, 0])


def test_a_layer_inside_a_model_inside_a_model(x):
    bad = nl.Dense(2, name="culprit", kernel_initializer=lambda shape, dtype: np.full(shape, np.inf, dtype))
    inner = nl.Sequential([nl.Input((None, 3)), nl.Dense(3), bad, nl.LSTM(2)], name="inner")
    with pytest.raises(NonFiniteError) as caught:
        chain(nl.Dense(3), inner, nl.Dense(1)).train_on_batch(x, x[:, 0, 0])
    assert caught.value.layer == "culprit"


def test_targets_are_named_when_no_layer_is_to_blame(x):
    y = np.where(np.arange(20) == 7, np.nan, 1.0)
    with pytest.raises(NonFiniteError, match=r"layers are finite, but y for 'dense.*' is not") as caught:
        chain(nl.LSTM(2), nl.Dense(1)).train_on_batch(x, y)
    assert caught.value.layer is None
    assert caught.value.epoch is None


def test_an_infinite_input_that_only_saturates_gates_is_named(x):
    x[13, 2, 1] = np.inf
    with pytest.raises(
        NonFiniteError, match=r"gradient of 'lstm\w*/kernel' is not .* but the input 'input_layer\w*' is not"
    ):
        chain(nl.LSTM(4), nl.Dense(1)).train_on_batch(x, x[:, 0, 0])


def test_numbers_under_a_mask_are_not_to_blame(x):
    model = chain(nl.Masking(mask_value=9.0), nl.LSTM(4, return_sequences=True), nl.Dense(1, name="last"))
    x[:, 4:] = 9.0
    weights = model.get_weights()
    weights[-1][0] = np.inf
    model.set_weights(weights)
    with pytest.raises(NonFiniteError, match="'last'"):
        model.train_on_batch(x, x[..., :1])


def test_an_infinite_gradient_stops_too(x):
    """The square root's slope at 0 is infinite, where the value is not."""

    class Root(nl.losses.Loss):
        def evaluate(self, y_true, y_pred):
            value = np.sqrt(np.abs(y_pred))
            return value.mean(axis=-1), 0.5 / value / y_pred.shape[-1]

    model = chain(nl.LSTM(2), nl.Dense(1, kernel_initializer="zeros", name="flat"), loss=Root())
    before = model.get_weights()
    with pytest.raises(NonFiniteError, match=r"the gradient of '\w+/kernel' is not finite \(the loss is 0\)"):
        model.train_on_batch(x, x[:, 0, 0])
    assert all(map(np.array_equal, before, model.get_weights()))


def test_training_that_explodes(x):
    model = chain(nl.Dense(4), nl.Dense(1), optimizer=nl.optimizers.SGD(1e9))
    with pytest.raises(NonFiniteError):
        model.fit(x, x[..., :1], **SMALL | {"epochs": 30})
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_a_retry_with_a_smaller_rate_goes_on(x):
    model = chain(nl.LSTM(3, dropout=0.2, seed=1), nl.Dense(1))
    bad = x.copy()
    bad[0, 0, 0] = np.nan
    other = chain(nl.LSTM(3, dropout=0.2, seed=1), nl.Dense(1))
    other.set_weights(model.get_weights())
    with pytest.raises(NonFiniteError):
        model.train_on_batch(bad, x[:, 0, 0])
    assert model.train_on_batch(x, x[:, 0, 0]) == other.train_on_batch(x, x[:, 0, 0])
