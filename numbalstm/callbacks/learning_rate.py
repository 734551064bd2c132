"""Callbacks that set the learning rate: by a plan, or when a number has stopped improving."""

import inspect
from collections.abc import Callable
from typing import Any

from numbalstm import checks
from numbalstm.callbacks.base import Callback
from numbalstm.callbacks.monitors import Monitor


class LearningRateScheduler(Callback):
    """Set the learning rate at the beginning of each epoch.

    Parameters
    ----------
    schedule : callable(epoch, learning_rate) or callable(epoch) -> float
    verbose : {0, 1}, default 0
        1 prints each rate.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        super().__init__()
        self.schedule = schedule
        self._takes_rate = _takes_two(schedule)
        self.verbose = verbose

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        arguments = (epoch, float(self.model.optimizer.learning_rate))
        found = self.schedule(*arguments[: 1 + self._takes_rate])
        rate = checks.number("LearningRateScheduler", "what schedule returns", found, minimum=0.0)
        self.model.optimizer.learning_rate = rate
        if self.verbose:
            print(f"Epoch {epoch + 1}: the learning rate is {rate:g}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)


def _takes_two(function: Callable[..., float]) -> bool:
    try:
        inspect.signature(function).bind(0, 0.0)
    except TypeError:
        return False
    except ValueError:  # a builtin that tells nothing
        pass
    return True


class ReduceLROnPlateau(Monitor):
    """Reduce the learning rate when a number has stopped improving.

    Parameters
    ----------
    monitor, mode
        As in `Monitor`.
    factor : float below 1, default 0.1
        What the rate is multiplied with.
    patience : int, default 10
        Epochs without improvement before.
    verbose : {0, 1}, default 0
        1 prints what it does.
    min_delta : float, default 1e-4
        A smaller improvement counts as none.
    cooldown : int, default 0
        Epochs after a reduction in which none are counted.
    min_lr : float, default 0
        The rate never gets smaller.

    Raises
    ------
    ValueError
        When `factor` is not between 0 and 1.
    """

    kept = ("best", "wait", "cooldown_counter")

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        if not 0.0 < factor < 1.0:
            raise ValueError(f"ReduceLROnPlateau: factor must be between 0 and 1, got {factor}.")
        self.factor = factor
        self.patience = checks.integer("ReduceLROnPlateau", "patience", patience, minimum=0)
        self.verbose = verbose
        self.cooldown = checks.integer("ReduceLROnPlateau", "cooldown", cooldown, minimum=0)
        self.min_lr = min_lr
        self.wait = self.cooldown_counter = 0

    def on_train_begin(self, logs: Any = None) -> None:
        self.best = None
        self.wait = self.cooldown_counter = 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        current = self.value(logs)
        if current is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self.improves(current, self.best):
            self.best, self.wait = current, 0
        elif self.cooldown_counter == 0:
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch)

    def _reduce(self, epoch: int) -> None:
        optimizer = self.model.optimizer
        old = float(optimizer.learning_rate)
        if old <= self.min_lr:
            return
        optimizer.learning_rate = max(old * self.factor, self.min_lr)
        self.wait, self.cooldown_counter = 0, self.cooldown
        if self.verbose:
            print(f"Epoch {epoch + 1}: the learning rate is reduced to {float(optimizer.learning_rate):g}")
