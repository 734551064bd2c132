"""An interrupted run that is resumed ends as the run that was not, to the bit."""

import functools
import operator
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import numbalstm as nl
from numbalstm.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
)
from numbalstm.models import checkpoints
from numbalstm.models.checkpoints import CheckpointError
from numbalstm.models.snapshot import passing_state

RUN = Path(__file__).with_name("killed_run.py")


class Stop(Exception):
    """Stands for whatever ends a process."""


def stop_after(updates):
    """Return a callback that ends the run after some updates, all epochs counted."""
    left = [updates]

    def count(batch, logs):
        left[0] -= 1
        if left[0] == 0:
            raise Stop

    return LambdaCallback(on_train_batch_end=count)


def interrupted(model, path, updates, *data, callbacks=list, save_freq=1, **options):
    with pytest.raises(Stop):
        # What stops the run comes before the saving of that batch: the file is that of the batch before.
        model.fit(
            *data, callbacks=[*callbacks(), stop_after(updates), ModelCheckpoint(path, save_freq=save_freq)], **options
        )


OPTIONS = {"epochs": 4, "batch_size": 8, "verbose": 0, "validation_split": 0.2, "seed": 3}  # 5 batches an epoch
OPTIMIZERS = [
    nl.optimizers.SGD(0.1, momentum=0.9),
    nl.optimizers.Nadam(0.01, clipnorm=0.5),
    nl.optimizers.Adam(nl.optimizers.CosineDecay(0.05, 15), amsgrad=True),
    nl.optimizers.RMSprop(0.01, centered=True, momentum=0.5),
]


@pytest.mark.parametrize("updates", [2, 5, 6, 11, 15])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o.name)
def test_a_resumed_run_is_the_uninterrupted_one(make, data, same_training, tmp_path, optimizer, updates):
    fresh = lambda: type(optimizer).from_config(optimizer.get_config())  # noqa: E731
    path = tmp_path / "run.ckpt"
    whole, broken, resumed = make(fresh()), make(fresh()), make(fresh())
    whole.fit(*data, callbacks=[ModelCheckpoint(tmp_path / "whole.ckpt", save_freq=1)], **OPTIONS)
    interrupted(broken, path, updates, *data, **OPTIONS)
    resumed.set_weights([np.zeros(w.shape) for w in resumed.weights])
    resumed.fit(*data, callbacks=[ModelCheckpoint(path, save_freq=1)], resume=path, **OPTIONS)
    same_training(whole, resumed)
    run = checkpoints.read(path)["run"]
    assert (run["epoch"], run["batch"]) == (3, 5)


def several():
    return [
        EarlyStopping("val_loss", patience=4, min_delta=9.0, restore_best_weights=True, start_from_epoch=1),
        ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=0.01),
        LearningRateScheduler(lambda epoch, rate: rate * 0.9),
    ]


@pytest.mark.parametrize("updates", [4, 11, 16, 28])
def test_callbacks_go_on(make, data, same_training, tmp_path, updates):
    options = OPTIONS | {"epochs": 9}
    path = tmp_path / "run.ckpt"
    whole, broken, resumed = (make(nl.optimizers.Adam(0.3)) for _ in range(3))
    whole.fit(*data, callbacks=[*several(), ModelCheckpoint(tmp_path / "other.ckpt", save_freq=2)], **options)
    assert len(whole.history.epoch) == 6  # it was stopped, and the weights of the second epoch came back
    interrupted(broken, path, updates, *data, callbacks=several, save_freq=2, **options)
    resumed.fit(*data, callbacks=[*several(), ModelCheckpoint(path, save_freq=2)], resume=path, **options)
    same_training(whole, resumed)


def test_at_the_end_of_epochs(make, data, same_training, tmp_path):
    path = tmp_path / "run-{epoch}.ckpt"
    whole, resumed = make(), make()
    whole.fit(*data, callbacks=[ModelCheckpoint(path)], **OPTIONS)
    for epoch in (1, 3, 4):
        resumed.fit(*data, callbacks=[ModelCheckpoint(path)], resume=tmp_path / f"run-{epoch}.ckpt", **OPTIONS)
        same_training(whole, resumed)


def test_a_run_that_was_stopped_stays_so(make, data, same_training, tmp_path):
    callbacks = lambda: [EarlyStopping("loss", patience=0, min_delta=9.0), ModelCheckpoint(tmp_path / "a")]  # noqa: E731
    whole, resumed = make(), make()
    whole.fit(*data, callbacks=callbacks(), **OPTIONS)
    assert whole.history.epoch == [0, 1]
    resumed.fit(*data, callbacks=callbacks(), resume=tmp_path / "a", **OPTIONS)
    same_training(whole, resumed)


def test_more_epochs_than_planned(make, data, same_training, tmp_path):
    whole, resumed = make(), make()
    whole.fit(*data, **OPTIONS)
    resumed.fit(*data, callbacks=[ModelCheckpoint(tmp_path / "a")], **OPTIONS | {"epochs": 2})
    resumed.fit(*data, callbacks=[ModelCheckpoint(tmp_path / "a")], resume=tmp_path / "a", **OPTIONS)
    same_training(whole, resumed)


def test_generators_go_on(make, data, same_training, tmp_path):
    def batches(endless=True):
        random = np.random.default_rng(9)
        while True:
            rows = random.integers(0, len(data[0]), 6)
            yield data[0][rows], data[1][rows]

    options = {"epochs": 3, "steps_per_epoch": 4, "verbose": 0, "validation_data": data}
    whole, broken, resumed = make(), make(), make()
    whole.fit(batches(), **options)
    interrupted(broken, tmp_path / "a", 7, batches(), **options)
    resumed.fit(batches(), callbacks=[ModelCheckpoint(tmp_path / "a", save_freq=1)], resume=tmp_path / "a", **options)
    same_training(whole, resumed)


@pytest.mark.parametrize("tbptt", [None, 3])
def test_stateful_models_go_on(rng, same_training, tmp_path, tbptt):
    x, y = rng.normal(size=(24, 7, 2)), rng.normal(size=(24, 7, 1))
    first = nl.Sequential(
        [nl.LSTM(3, stateful=True, seed=1, return_sequences=True, batch_input_shape=(6, None, 2)), nl.Dense(1)]
    )
    models = [nl.Sequential.from_config(first.get_config()) for _ in range(3)]
    for model in models:
        model.set_weights(first.get_weights())
        model.compile("adam", "mse")
    options = {"epochs": 3, "verbose": 0, "tbptt": tbptt}
    models[0].fit(x, y, **options)
    interrupted(models[1], tmp_path / "a", 6, x, y, **options)
    models[2].fit(x, y, callbacks=[ModelCheckpoint(tmp_path / "a", save_freq=1)], resume=tmp_path / "a", **options)
    same_training(models[0], models[2])


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize(
    "updates", [13, 11]
)  # saved in the third epoch, and in the second, whose line is written again
def test_csv_is_that_of_the_uninterrupted_run(make, data, tmp_path, append, updates):
    def logger(name):
        return [CSVLogger(tmp_path / name, append=append)]

    make().fit(*data, callbacks=logger("whole.csv"), **OPTIONS)
    interrupted(make(), tmp_path / "a", updates, *data, callbacks=lambda: logger("b.csv"), save_freq=4, **OPTIONS)
    assert len((tmp_path / "b.csv").read_text().splitlines()) == 3
    callbacks = [*logger("b.csv"), ModelCheckpoint(tmp_path / "a", save_freq=4)]
    make().fit(*data, callbacks=callbacks, resume=tmp_path / "a", **OPTIONS)
    assert (tmp_path / "b.csv").read_text() == (tmp_path / "whole.csv").read_text()


def test_two_savers_go_on(make, data, tmp_path):
    """The one counts on to its third batch, whichever batch the other one has saved."""

    def savers(folder):
        return [
            ModelCheckpoint(tmp_path / folder / "{epoch}-{batch}", save_freq=3),
            ModelCheckpoint(tmp_path / "b", save_freq=1),
        ]

    make().fit(*data, callbacks=savers("whole"), **OPTIONS)
    with pytest.raises(Stop):
        make().fit(*data, callbacks=[stop_after(6), *savers("broken")], **OPTIONS)
    make().fit(*data, callbacks=savers("broken"), resume=tmp_path / "b", **OPTIONS)
    assert sorted(os.listdir(tmp_path / "broken")) == sorted(os.listdir(tmp_path / "whole"))


def test_an_own_callback_goes_on(make, data, tmp_path):
    class Seen(Callback):
        def __init__(self):
            super().__init__()
            self.losses, self.begun = [], []

        def on_epoch_begin(self, epoch, logs=None):
            self.begun.append(epoch)

        def on_train_batch_end(self, batch, logs=None):
            self.losses.append(logs["loss"])

        def state(self):
            return {"losses": self.losses}

        def load_state(self, state):
            self.losses = state["losses"]

    whole, resumed = Seen(), Seen()
    make().fit(*data, callbacks=whole, **OPTIONS)
    interrupted(make(), tmp_path / "a", 8, *data, callbacks=lambda: [Seen()], **OPTIONS)
    make().fit(
        *data, callbacks=[resumed, ModelCheckpoint(tmp_path / "a", save_freq=1)], resume=tmp_path / "a", **OPTIONS
    )
    assert resumed.losses == whole.losses
    assert resumed.begun == [2, 3]  # not again in the middle of epoch 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "sgd"}, "optimizer Adam, the model has SGD"),
        (
            {"units": 5},
            r"weight 'lstm\w*/kernel' has shape \(3, 20\), and 'lstm\w*/kernel' in the checkpoint has \(3, 16\)",
        ),
        ({"extra": True}, "has 3 random generators, and the checkpoint has 2"),
        ({"watched": False}, "had a callback EarlyStopping; give it again"),
        ({"batch_size": 6}, "an epoch had 5 batches, and has 6 now"),
        ({"shuffle": False}, "shuffle must be what it was"),
    ],
)
def test_what_does_not_fit(data, tmp_path, change, message):
    def prepared(optimizer="adam", units=4, extra=False, watched=True):
        layers = [nl.Input((None, 3)), nl.LSTM(units, dropout=0.1), nl.Dropout(0.1), nl.Dense(3)]
        model = nl.Sequential(layers + [nl.Dropout(0.1)] * extra)
        model.compile(optimizer, nl.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model, [ModelCheckpoint(tmp_path / "a")] + [EarlyStopping("loss")] * watched

    model, callbacks = prepared()
    model.fit(*data, callbacks=callbacks, **OPTIONS)
    options = {name: value for name, value in change.items() if name in ("batch_size", "shuffle")}
    model, callbacks = prepared(**{name: value for name, value in change.items() if name not in options})
    before = model.get_weights()
    with pytest.raises(CheckpointError, match=message):
        model.fit(*data, callbacks=callbacks, resume=tmp_path / "a", **OPTIONS | options)
    if not options and "watched" not in change:
        assert all(map(np.array_equal, before, model.get_weights()))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model/random/0/uinteger", 10**30),
        ("model/random/1", 3),
        ("optimizer/state/iterations", -1),
        ("optimizer/state/learning_rate", "x"),
        ("optimizer/state/1|velocity", np.ones((2, 2))),
        ("run", []),
        ("run/epoch", None),
    ],
)
def test_a_forged_description_changes_nothing(make, data, tmp_path, path, value):
    make().fit(*data, callbacks=[ModelCheckpoint(tmp_path / "a")], **OPTIONS)
    content = checkpoints.read(tmp_path / "a")
    *keys, last = (int(key) if key.isdecimal() else key.replace("|", "/") for key in path.split("/"))
    functools.reduce(operator.getitem, keys, content)[last] = value
    checkpoints.write(tmp_path / "a", content)
    model = make()
    before, state = model.get_weights(), passing_state(model)
    with pytest.raises(CheckpointError, match="does not fit"):
        model.fit(*data, callbacks=[ModelCheckpoint(tmp_path / "b")], resume=tmp_path / "a", **OPTIONS)
    assert all(map(np.array_equal, before, model.get_weights()))
    assert passing_state(model) == state
    assert model.optimizer.state().keys() == make().optimizer.state().keys()


def test_no_run_to_go_on_with(make, data, tmp_path):
    with pytest.raises(FileNotFoundError):
        make().fit(*data, resume=tmp_path / "b", **OPTIONS)
    make().save_checkpoint(tmp_path / "c")
    with pytest.raises(CheckpointError, match="no run to go on with"):
        make().fit(*data, resume=tmp_path / "c", **OPTIONS)


def test_weights_alone(make, data, tmp_path):
    model, other = make(), make()
    model.fit(*data, callbacks=[ModelCheckpoint(tmp_path / "a", save_weights_only=True)], **OPTIONS)
    other.load_weights(tmp_path / "a")
    assert all(map(np.array_equal, model.get_weights(), other.get_weights()))
    with pytest.raises(CheckpointError, match="only weights"):
        other.load_checkpoint(tmp_path / "a")


def test_steps_by_hand_go_on(make, data, tmp_path):
    model, other = make(), make()
    for _ in range(3):
        model.train_on_batch(*data)
    model.save_checkpoint(tmp_path / "a")
    other.load_checkpoint(tmp_path / "a")
    assert model.train_on_batch(*data) == other.train_on_batch(*data)
    assert all(map(np.array_equal, model.get_weights(), other.get_weights()))


def test_kill_leaves_a_whole_file_and_a_run_that_goes_on(tmp_path):
    """Kill the process at random moments until it is done; hundreds of times: python tests/training/killed_run.py."""
    killed, same = subprocess.run(
        [sys.executable, RUN, "--kills", "20", "--folder", tmp_path], capture_output=True, text=True, check=True
    ).stdout.split()[-2:]
    assert int(killed) >= 20
    assert same == "same"
