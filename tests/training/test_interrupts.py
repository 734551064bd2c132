"""Ctrl-C ends the training where everything is whole; a second one ends it at once."""

import os
import signal
import threading

import numpy as np
import pytest

import numbalstm as nl
from numbalstm.callbacks import LambdaCallback

OPTIONS = {"epochs": 5, "batch_size": 5, "verbose": 0, "shuffle": False}


@pytest.fixture
def model():
    model = nl.Sequential([nl.Input((None, 3)), nl.LSTM(3), nl.Dense(1)])
    model.compile("sgd", "mse")
    return model


@pytest.fixture
def data(rng):
    return rng.normal(size=(20, 4, 3)), rng.normal(size=20)


def press(times=1):
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)


def at(epoch_wanted, batch_wanted, action, when="on_train_batch_begin"):
    """Return a callback that acts before one batch of one epoch."""
    now = [0]
    hooks = {
        "on_epoch_begin": lambda epoch, logs: now.__setitem__(0, epoch),
        when: lambda batch, logs: action() if (now[0], batch) == (epoch_wanted, batch_wanted) else None,
    }
    return LambdaCallback(**hooks)


def test_the_batch_is_finished_and_the_weights_are_kept(model, data, capsys):
    start, ended = model.get_weights(), []
    ending = LambdaCallback(on_train_end=lambda logs: ended.append(logs))
    history = model.fit(*data, **OPTIONS, callbacks=[at(2, 1, press), ending])
    assert history.interrupted
    assert history.epoch == [0, 1]
    assert model.optimizer.iterations == 2 * 4 + 2
    assert len(ended) == 1
    assert "Ctrl-C ended the training in epoch 3 after batch 2; the weights are kept" in capsys.readouterr().err
    kept = model.get_weights()
    model.set_weights(start)
    model.compile("sgd", "mse")
    model.fit(*data, **OPTIONS | {"epochs": 2})
    for rows in (slice(0, 5), slice(5, 10)):
        model.train_on_batch(data[0][rows], data[1][rows])
    assert all(map(np.array_equal, kept, model.get_weights()))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_in_a_validation(model, data):
    history = model.fit(*data, **OPTIONS, validation_data=data, callbacks=at(1, 2, press, "on_test_batch_begin"))
    assert history.interrupted
    assert history.epoch == [0]
    assert model.optimizer.iterations == 8


def test_the_second_one_interrupts_at_once(model, data):
    with pytest.raises(KeyboardInterrupt):
        model.fit(*data, **OPTIONS, callbacks=at(0, 1, lambda: press(2)))
    assert model.optimizer.iterations == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_somebody_else_is_left_alone(model, data):
    seen = []
    previous = signal.signal(signal.SIGINT, lambda *_: seen.append(1))
    try:
        assert not model.fit(*data, **OPTIONS, callbacks=at(0, 1, press)).interrupted
    finally:
        signal.signal(signal.SIGINT, previous)
    assert seen == [1]


def test_other_threads_train_without_it(model, data):
    done = []
    thread = threading.Thread(target=lambda: done.append(model.fit(*data, **OPTIONS)))
    thread.start()
    thread.join()
    assert done[0].epoch == list(range(5))


def test_the_next_fit_is_a_fresh_one(model, data):
    assert model.fit(*data, **OPTIONS, callbacks=at(0, 0, press)).interrupted
    assert not model.fit(*data, **OPTIONS).interrupted
