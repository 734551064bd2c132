"""The loop of `fit` and of `evaluate`: epochs, batches, validation, callbacks, and where a run is."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from numbalstm import checks
from numbalstm.callbacks import CallbackList
from numbalstm.models import steps
from numbalstm.models.batches import Feed
from numbalstm.models.checkpoints import CheckpointError, understood
from numbalstm.models.interrupts import Interrupts


class Fit:
    """One run of `fit`.

    Parameters
    ----------
    model : BaseModel
        Built and compiled.
    feed : Feed
    callbacks : CallbackList
        Among them the model's `history`, which is returned.
    epochs, initial_epoch : int
    validation : Feed, optional
    validates : callable(epoch) -> bool
        Whether an epoch is followed by a validation.
    tbptt : int, optional
        Length of windows along time.
    """

    def __init__(
        self,
        model: Any,
        feed: Feed,
        callbacks: CallbackList,
        epochs: int,
        initial_epoch: int,
        validation: Feed | None,
        validates: Callable[[int], bool],
        tbptt: int | None,
    ) -> None:
        self.model, self.feed, self.callbacks, self.epochs = model, feed, callbacks, epochs
        self.validation, self.validates, self.tbptt = validation, validates, tbptt
        self.epoch, self.batch = initial_epoch, 0  # the next ones
        self._interrupts = Interrupts()

    def run(self, resumed: Mapping[str, Any] | None) -> Any:
        """Train and return the history; `resumed` is what `state` gave of the run to go on with."""
        model, history = self.model, self.model.history
        model.stop_training = False
        self.callbacks.on_train_begin()
        if resumed is not None:
            with understood("the run in the checkpoint"):
                self._load_state(resumed)
        logs = None
        with self._interrupts:
            while self.epoch < self.epochs and not model.stop_training:
                ended = self._run_epoch()
                if ended is None:
                    history.interrupted = True
                    break
                logs = ended
        self.callbacks.on_train_end(logs)
        if history.interrupted:
            at = f"epoch {self.epoch + 1} after batch {self.batch}" if self.batch else f"epoch {self.epoch + 1}"
            print(f"fit: Ctrl-C ended the training in {at}; the weights are kept.", file=sys.stderr)
        return history

    def _run_epoch(self) -> dict[str, float] | None:
        """Run what is left of an epoch and return its logs; None when it was interrupted."""
        objective = self.model.objective
        if self.batch == 0:
            objective.reset()
            self.callbacks.on_epoch_begin(self.epoch)
        for batch in self.feed.epoch(self.batch):
            self.callbacks.on_train_batch_begin(self.batch)
            self._step(batch)
            self.batch += 1
            self.callbacks.on_train_batch_end(self.batch - 1, objective.logs())
            if self._interrupts.pending:
                return None
            if self.model.stop_training:
                break
        logs = objective.logs()
        if self.validation is not None and self.validates(self.epoch):
            found = evaluate(self.model, self.validation, self.callbacks, self._interrupts)
            if self._interrupts.pending:
                return None
            logs |= {f"val_{name}": value for name, value in found.items()}
        self.epoch, self.batch = self.epoch + 1, 0
        self.callbacks.on_epoch_end(self.epoch - 1, logs)
        if self._interrupts.pending and self.epoch < self.epochs:
            return None
        return logs

    def _step(self, batch: Any) -> None:
        model = self.model
        if self.tbptt is None:
            steps.train(model, batch, self.epoch, self.batch)
            return
        model.reset_states()
        for window in steps.windows(model, batch, self.tbptt):
            steps.train(model, window, self.epoch, self.batch)

    def state(self) -> dict[str, Any]:
        """Return where the run is, for a checkpoint."""
        states = [(type(callback).__name__, callback.state()) for callback in self.callbacks.callbacks]
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "stop": self.model.stop_training,
            "feed": self.feed.state(),
            "validation": None if self.validation is None else self.validation.state(),
            "objective": self.model.objective.state() if self.batch else None,
            "callbacks": [{"class": name, "state": state} for name, state in states if state],
        }

    def _load_state(self, state: Mapping[str, Any]) -> None:
        place = self.model.place
        self.epoch, self.batch = (checks.integer(place, name, state[name], minimum=0) for name in ("epoch", "batch"))
        self.model.stop_training = checks.one_of(place, "stop", state["stop"], (False, True))
        self.feed.load_state(state["feed"])
        if self.validation is not None and state["validation"] is not None:
            self.validation.load_state(state["validation"])
        if state["objective"] is not None:
            self.model.objective.load_state(state["objective"])
        left = list(self.callbacks.callbacks)
        for saved in state["callbacks"]:
            fitting = next((callback for callback in left if type(callback).__name__ == saved["class"]), None)
            if fitting is None:
                raise CheckpointError(
                    f"{place}: the run in the checkpoint had a callback {saved['class']}; give it again."
                )
            fitting.load_state(saved["state"])
            left.remove(fitting)


def evaluate(model: Any, feed: Feed, callbacks: CallbackList, interrupts: Interrupts) -> dict[str, float]:
    """Return losses and metrics over an epoch of a feed, each time the same one if the feed can start again."""
    objective = model.objective
    feed.restart()
    callbacks.on_test_begin()
    objective.reset()
    for number, batch in enumerate(feed.epoch()):
        callbacks.on_test_batch_begin(number)
        steps.test(model, batch)
        callbacks.on_test_batch_end(number, objective.logs())
        if interrupts.pending:
            break
    logs = objective.logs()
    callbacks.on_test_end(logs)
    return logs
