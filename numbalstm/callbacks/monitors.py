"""Callbacks that watch one number of the logs: early stopping and checkpoints."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.callbacks.base import Callback

_UP = ("acc", "auc", "precision", "recall", "f1", "f_beta", "r2", "iou", "similarity", "true_")
_DOWN = ("loss", "error", "mse", "mae", "mape", "msle", "rmse", "huber", "crossentropy", "logcosh", "poisson", "false_")


class Monitor(Callback):
    """Base of callbacks that compare one number of the logs with its best value so far.

    Parameters
    ----------
    monitor : str, default "val_loss"
        Name in the logs.
    mode : {"auto", "min", "max"}, default "auto"
        Which values are better; "auto" knows it for losses and the metrics of this package by their name.
    min_delta : float, default 0
        A smaller improvement counts as none.
    best : float, optional
        What must be improved on at first; None: anything is an improvement.

    Raises
    ------
    ValueError
        When `mode` is unknown, or "auto" cannot tell.
    """

    kept: tuple[str, ...] = ()
    """Names of the attributes that a checkpoint holds."""

    def __init__(
        self, monitor: str = "val_loss", mode: str = "auto", min_delta: float = 0.0, best: float | None = None
    ) -> None:
        super().__init__()
        where = type(self).__name__
        self.monitor = monitor
        self.mode = checks.one_of(where, "mode", mode, ("auto", "min", "max"))
        self.min_delta = abs(checks.number(where, "min_delta", min_delta))
        self.best = best
        self.maximize = self.mode == "max" or (self.mode == "auto" and _grows(where, monitor))

    def value(self, logs: Mapping[str, float] | None) -> float | None:
        """Return the monitored value; None, with a warning, when the logs have none."""
        found = (logs or {}).get(self.monitor)
        if found is None:
            known = ", ".join(logs or {})
            warnings.warn(
                f"{type(self).__name__}: the logs have no {self.monitor!r}, only {known}.", UserWarning, stacklevel=3
            )
        return found

    def improves(self, value: float, reference: float | None) -> bool:
        """Return whether a value is better than another by more than `min_delta`."""
        if reference is None:
            return True
        return value - self.min_delta > reference if self.maximize else value + self.min_delta < reference

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.kept}

    def load_state(self, state: Mapping[str, Any]) -> None:
        for name in self.kept:
            setattr(self, name, state[name])


def _grows(where: str, monitor: str) -> bool:
    name = monitor.lower()
    if any(part in name for part in _DOWN):
        return False
    if any(part in name for part in _UP):
        return True
    raise ValueError(f'{where}: cannot tell whether {monitor!r} should grow or shrink; give mode="max" or mode="min".')


class EarlyStopping(Monitor):
    """Stop when a number has stopped improving.

    Parameters
    ----------
    monitor, mode, min_delta
        As in `Monitor`.
    patience : int, default 0
        Epochs without improvement after which training stops.
    verbose : {0, 1}, default 0
        1 prints what it does.
    baseline : float, optional
        Epochs that do not improve on it count as without improvement.
    restore_best_weights : bool, default False
        Set the weights of the best epoch at the end, also when training was not stopped.
    start_from_epoch : int, default 0
        Earlier epochs are not looked at.
    """

    kept = ("best", "wait", "stopped_epoch", "best_epoch", "best_weights")

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience = checks.integer("EarlyStopping", "patience", patience, minimum=0)
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._start()

    def _start(self) -> None:
        self.best: float | None = None
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best_weights: list[np.ndarray] | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self._start()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        current = self.value(logs)
        if current is None or epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self.best_weights, self.best_epoch = self.model.get_weights(), epoch
        self.wait += 1
        if self.improves(current, self.best):
            self.best, self.best_epoch = current, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self.improves(current, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        if self.verbose and self.stopped_epoch:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            if self.verbose:
                print(f"The weights are those of epoch {self.best_epoch + 1}, the best")
            self.model.set_weights(self.best_weights)


class ModelCheckpoint(Monitor):
    """Save the training at the end of epochs, or every so many batches.

    Parameters
    ----------
    filepath : str or path
        May hold fields for `epoch` (from 1), `batch` and names of the logs: ``"run-{epoch:02d}-{val_loss:.2f}.ckpt"``.
    monitor, mode
        As in `Monitor`; used with `save_best_only`.
    verbose : {0, 1}, default 0
        1 prints each saving.
    save_best_only : bool, default False
        Save only what improves on everything before.
    save_weights_only : bool, default False
        The file holds the weights alone: `Model.load_weights` reads it, no run can be resumed from it.
    save_freq : "epoch" or int, default "epoch"
        A number saves after as many batches, also across epochs.
    initial_value_threshold : float, optional
        What the first saved value must improve on, with `save_best_only`.

    Raises
    ------
    ValueError
        When `save_freq` is neither, or `filepath` ends as a file of Keras.

    Notes
    -----
    The file is a checkpoint (see `Model.save_checkpoint`): ``fit(resume=filepath)`` goes on from it, to the bit.  It
    runs after all other callbacks, so that what it saves is complete.
    """

    kept = ("best", "epoch", "batches")

    def __init__(
        self,
        filepath: Any,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode if save_best_only else "min", best=initial_value_threshold)
        self.filepath = str(filepath)
        if self.filepath.endswith((".keras", ".h5")):
            raise ValueError(
                f"ModelCheckpoint: writes checkpoints, which are no files of Keras: give filepath another ending than "
                f"that of {self.filepath!r}, for example .ckpt."
            )
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        if save_freq != "epoch":
            if isinstance(save_freq, str):
                raise ValueError(f'ModelCheckpoint: save_freq must be "epoch" or a number, got {save_freq!r}.')
            save_freq = checks.positive_integer("ModelCheckpoint", "save_freq", save_freq)
        self.save_freq = save_freq
        self.epoch = self.batches = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.save_freq == "epoch":
            return
        self.batches += 1
        if self.batches >= self.save_freq:
            self.batches = 0
            self._save(logs or {}, batch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.save_freq == "epoch":
            self._save(logs or {})

    def _save(self, logs: Mapping[str, float], batch: int | None = None) -> None:
        if self.save_best_only:
            current = self.value(logs)
            if current is not None and not self.improves(current, self.best):
                return
            self.best = current if current is not None else self.best
        fields = {"epoch": self.epoch + 1, **logs} | ({} if batch is None else {"batch": batch + 1})
        try:
            path = Path(self.filepath.format(**fields))
        except KeyError as error:
            raise checks.unknown("ModelCheckpoint", "field in filepath", error.args[0], fields) from None
        except (IndexError, ValueError) as error:
            raise ValueError(f"ModelCheckpoint: filepath {self.filepath!r} cannot be filled in: {error}.") from None
        self.model.save_checkpoint(path, weights_only=self.save_weights_only)
        if self.verbose:
            print(f"Epoch {self.epoch + 1}: saved {path}")
