"""Callbacks do what those of Keras do, at the moments when those do it."""

import numpy as np
import pytest

import numbalstm as nl
from numbalstm import callbacks
from numbalstm.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    History,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
)
from numbalstm.callbacks.base import HOOKS


class Dummy:
    """A model as far as callbacks know it."""

    def __init__(self, rate=1.0):
        self.optimizer = nl.optimizers.SGD(rate)
        self.stop_training = False
        self.weights = 0

    def get_weights(self):
        return self.weights

    def set_weights(self, weights):
        self.weights = weights


def run(callback, values, monitor="val_loss", model=None):
    """Go through epochs with these values; return the model and how many epochs ran."""
    model = model or Dummy()
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, value in enumerate(values):
        model.weights = epoch
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, {monitor: value})
        if model.stop_training:
            break
    callback.on_train_end()
    return model, epoch + 1


def test_hooks_come_in_order(make, data):
    calls = []
    record = lambda name: lambda *args: calls.append((name, *args[:-1]))  # noqa: E731
    make().fit(
        *data, batch_size=25, epochs=2, verbose=0, validation_data=data, validation_batch_size=45, validation_freq=2,
        callbacks=LambdaCallback(**{name: record(name) for name in HOOKS}),
    )  # fmt: skip
    batches = [
        ("on_train_batch_begin", 0),
        ("on_train_batch_end", 0),
        ("on_train_batch_begin", 1),
        ("on_train_batch_end", 1),
    ]
    test = [("on_test_begin",), ("on_test_batch_begin", 0), ("on_test_batch_end", 0), ("on_test_end",)]
    assert calls == [
        ("on_train_begin",),
        *(("on_epoch_begin", 0), *batches, ("on_epoch_end", 0)),
        *(("on_epoch_begin", 1), *batches, *test, ("on_epoch_end", 1)),
        ("on_train_end",),
    ]


def test_logs_are_means_over_the_epoch_so_far(make, data):
    seen = []
    model = make(optimizer=nl.optimizers.SGD(0.0), dropout=0.0)
    record = LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(logs["loss"]))
    history = model.fit(*data, batch_size=30, verbose=0, shuffle=False, callbacks=record)
    losses = [model.test_on_batch(data[0][rows], data[1][rows])[0] for rows in (slice(0, 30), slice(30, 45))]
    np.testing.assert_allclose(seen, [losses[0], (30 * losses[0] + 15 * losses[1]) / 45], rtol=1e-6)
    assert history.history["loss"] == [seen[-1]]


def test_stop_training_ends_after_the_batch(make, data):
    model = make()
    stop = LambdaCallback(on_train_batch_end=lambda batch, logs: setattr(model, "stop_training", batch == 1))
    history = model.fit(*data, batch_size=8, epochs=9, verbose=0, callbacks=stop)
    assert model.optimizer.iterations == 2
    assert history.epoch == [0]


def test_a_history_of_the_caller_is_used(make, data):
    history = History()
    assert make().fit(*data, epochs=2, verbose=0, callbacks=[history]) is history
    assert history.params["epochs"] == 2
    assert repr(history).startswith("History(2 epochs, loss: ")


@pytest.mark.parametrize(
    ("options", "values", "ran", "weights"),
    [
        ({}, [3, 2, 2, 1], 3, 2),
        ({"patience": 2}, [3, 2, 2, 2, 1], 4, 3),
        ({"patience": 2, "restore_best_weights": True}, [3, 2, 2.5, 2, 1], 4, 1),
        ({"patience": 9, "restore_best_weights": True}, [3, 1, 2], 3, 1),
        ({"patience": 1, "min_delta": 0.5}, [3, 2.6, 2.4], 2, 1),
        ({"mode": "max"}, [3, 4, 4], 3, 2),
        ({"monitor": "val_accuracy"}, [0.3, 0.4, 0.4], 3, 2),
        ({"patience": 1, "baseline": 1.0}, [3, 2, 1.5], 3, 2),
        ({"patience": 2, "baseline": 1.0, "restore_best_weights": True}, [3, 2, 2.5, 9], 3, 1),
        ({"start_from_epoch": 2}, [1, 2, 3, 4], 4, 3),
        ({"patience": 0}, [1, 1, 1], 2, 1),
    ],
)
def test_early_stopping(options, values, ran, weights):
    model, count = run(EarlyStopping(**options), values, options.get("monitor", "val_loss"))
    assert (count, model.weights) == (ran, weights)


def test_early_stopping_starts_anew_with_each_fit():
    callback = EarlyStopping()
    assert run(callback, [1, 2])[1] == 2
    assert run(callback, [5, 4, 3, 3])[1] == 4


@pytest.mark.parametrize(
    ("options", "values", "rates"),
    [
        ({"patience": 1, "factor": 0.5}, [3, 3, 3], [1.0, 0.5, 0.25]),
        ({"patience": 2, "factor": 0.5}, [3, 3, 3, 3], [1.0, 1.0, 0.5, 0.5]),
        ({"patience": 1, "factor": 0.5, "cooldown": 1}, [3, 3, 3, 3], [1.0, 0.5, 0.25, 0.125]),
        ({"patience": 1, "factor": 0.5, "cooldown": 2}, [3, 3, 3, 3, 3], [1.0, 0.5, 0.5, 0.25, 0.25]),
        ({"patience": 1, "factor": 0.1, "min_lr": 0.05}, [3, 3, 3, 3], [1.0, 0.1, 0.05, 0.05]),
        ({"patience": 1, "min_delta": 0.5}, [3, 2.6, 2.0], [1.0, 0.1, 0.1]),
    ],
)
def test_reduce_on_plateau(options, values, rates):
    model, seen = Dummy(), []
    callback = ReduceLROnPlateau(**options)
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, value in enumerate(values):
        logs = {"val_loss": value}
        callback.on_epoch_end(epoch, logs)
        seen.append(model.optimizer.learning_rate)
    np.testing.assert_allclose(seen, rates)
    assert logs["learning_rate"] == pytest.approx(seen[-2])


def test_learning_rate_scheduler(make, data):
    model = make(optimizer=nl.optimizers.SGD(0.5))
    scheduler = LearningRateScheduler(lambda epoch, rate: rate / (epoch + 1), verbose=0)
    history = model.fit(*data, epochs=3, verbose=0, callbacks=scheduler).history
    np.testing.assert_allclose(history["learning_rate"], [0.5, 0.25, 0.25 / 3])
    by_epoch = LearningRateScheduler(lambda epoch: 1 / (epoch + 1))
    history = model.fit(*data, epochs=3, verbose=0, callbacks=by_epoch).history
    np.testing.assert_allclose(history["learning_rate"], [1, 1 / 2, 1 / 3])
    with pytest.raises(TypeError, match="what schedule returns must be a number"):
        model.fit(*data, verbose=0, callbacks=LearningRateScheduler(lambda epoch, rate: "0.1"))


def test_csv(make, data, tmp_path):
    path = tmp_path / "log.csv"
    history = make().fit(
        *data, epochs=3, verbose=0, validation_split=0.1, validation_freq=2, callbacks=CSVLogger(path, ";")
    )
    header, *lines = [line.split(";") for line in path.read_text().splitlines()]
    assert header == ["epoch", "accuracy", "loss", "val_accuracy", "val_loss"]
    assert [line[0] for line in lines] == ["0", "1", "2"]
    assert [float(line[2]) for line in lines] == history.history["loss"]
    assert [line[4] for line in lines] == ["NA", str(history.history["val_loss"][0]), "NA"]
    make().fit(*data, epochs=1, verbose=0, callbacks=CSVLogger(path, ";", append=True))
    assert len(path.read_text().splitlines()) == 5
    make().fit(*data, epochs=1, verbose=0, callbacks=CSVLogger(path))
    assert len(path.read_text().splitlines()) == 2


def test_checkpoints_of_epochs_and_batches(make, data, tmp_path):
    saver = ModelCheckpoint(tmp_path / "new" / "{epoch:02d}-{loss:.1f}.ckpt")
    history = make().fit(*data, epochs=2, verbose=0, callbacks=saver).history
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == [f"{epoch:02d}-{loss:.1f}.ckpt" for epoch, loss in enumerate(history["loss"], 1)]
    saver = ModelCheckpoint(tmp_path / "b" / "{epoch}-{batch}.ckpt", save_freq=4)
    make().fit(*data, batch_size=8, epochs=2, verbose=0, callbacks=saver)
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["1-4.ckpt", "2-2.ckpt", "2-6.ckpt"]
    with pytest.raises(ValueError, match="unknown field in filepath 'val_los'"):
        make().fit(*data, verbose=0, callbacks=ModelCheckpoint(tmp_path / "{val_los}"))
    with pytest.raises(ValueError, match=r"ModelCheckpoint: filepath '.*\{\}' cannot be filled in"):
        make().fit(*data, verbose=0, callbacks=ModelCheckpoint(tmp_path / "{}"))


@pytest.mark.parametrize(
    ("options", "values", "saved"),
    [
        ({}, [3, 2, 2.5, 1], [0, 1, 3]),
        ({"initial_value_threshold": 2.2}, [3, 2, 2.5, 1], [1, 3]),
        ({"mode": "max"}, [3, 2, 4], [0, 2]),
        ({"save_best_only": False}, [3, 4, 5], [0, 1, 2]),
    ],
)
def test_best_only(options, values, saved):
    model, seen = Dummy(), []
    model.save_checkpoint = lambda path, weights_only: seen.append(int(path.name) - 1)
    run(ModelCheckpoint("{epoch}", **{"save_best_only": True} | options), values, model=model)
    assert seen == saved


def test_callbacks_see_what_is_missing():
    for callback in (EarlyStopping(), ReduceLROnPlateau()):
        with pytest.warns(UserWarning, match="the logs have no 'val_loss', only loss"):
            run(callback, [1], monitor="loss")


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (
            lambda: EarlyStopping("happiness"),
            "cannot tell whether 'happiness' should grow or shrink; give mode=\"max\"",
        ),
        (lambda: EarlyStopping(mode="least"), "mode must be one of 'auto', 'min', 'max', got 'least'"),
        (lambda: EarlyStopping(patience=-1), "patience must be at least 0"),
        (lambda: ReduceLROnPlateau(factor=1.5), "factor must be between 0 and 1"),
        (lambda: ModelCheckpoint("a.keras"), "no files of Keras: give filepath another ending than that of 'a.keras'"),
        (lambda: ModelCheckpoint("a", save_freq="batch"), 'save_freq must be "epoch" or a number'),
        (lambda: ModelCheckpoint("a", save_freq=0), "save_freq must be at least 1"),
        (lambda: LambdaCallback(on_epoch_ends=print), "unknown hook 'on_epoch_ends'. Did you mean 'on_epoch_end'"),
    ],
)
def test_mistakes(make_it, message):
    with pytest.raises(ValueError, match=message):
        make_it()


def test_what_is_no_callback(make, data):
    with pytest.raises(TypeError, match="callbacks must be callbacks, got 'best'"):
        make().fit(*data, verbose=0, callbacks=["best"])


def test_messages(capsys):
    run(EarlyStopping(verbose=1, restore_best_weights=True), [1, 2])
    run(ReduceLROnPlateau(verbose=1, patience=1), [1, 1])
    run(LearningRateScheduler(lambda epoch, rate: 0.25, verbose=1), [1])
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 2: early stopping",
        "The weights are those of epoch 1, the best",
        "Epoch 2: the learning rate is reduced to 0.1",
        "Epoch 1: the learning rate is 0.25",
    ]


def test_all_names_are_documented():
    assert all(issubclass(getattr(callbacks, name), (Callback, callbacks.CallbackList)) for name in callbacks.__all__)
    assert all((getattr(callbacks, name).__doc__ or "").strip() for name in callbacks.__all__)
