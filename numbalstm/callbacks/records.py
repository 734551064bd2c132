"""Callbacks that keep the logs: in memory, in a file."""

import csv
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from numbalstm.callbacks.base import Callback


class History(Callback):
    """What every `fit` returns: the logs of its epochs.

    Attributes
    ----------
    epoch : list of int
        The epochs that ended.
    history : dict of list of float
        For each name in the logs its values, one for each epoch (validation: for each that was validated).
    interrupted : bool
        Whether Ctrl-C ended the training.
    """

    def __init__(self) -> None:
        super().__init__()
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}
        self.interrupted = False

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)

    def state(self) -> dict[str, Any]:
        return {"epoch": list(self.epoch), "history": {name: list(values) for name, values in self.history.items()}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.epoch = list(state["epoch"])
        self.history = {name: list(values) for name, values in state["history"].items()}

    def plot(self) -> Any:
        """Draw the losses and metrics over the epochs, see `numbalstm.plot.history`."""
        # By name: models are below figures in this package, and this method is only a convenience.
        return import_module("numbalstm.plot").history(self)

    def __repr__(self) -> str:
        last = ", ".join(f"{name}: {values[-1]:.4g}" for name, values in self.history.items() if values)
        return f"History({len(self.epoch)} epochs{', ' + last if last else ''})"


class CSVLogger(Callback):
    """Write the logs of each epoch as a line of a file.

    Parameters
    ----------
    filename : str or path
    separator : str, default ","
    append : bool, default False
        Go on at the end of an existing file.  A resumed run does so anyway, after the epochs that it does not repeat.
    """

    def __init__(self, filename: Any, separator: str = ",", append: bool = False) -> None:
        super().__init__()
        self.path = Path(filename)
        self.separator = separator
        self.append = append
        self._names: list[str] | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        resumed = self.params["resumed"]
        goes_on = (self.append or resumed) and self.path.exists()
        lines = self.path.read_text(encoding="utf-8").splitlines() if goes_on else []
        while resumed and lines and not self._is_kept(lines[-1]):
            lines.pop()
        self._names = lines[0].split(self.separator)[1:] if lines else None
        self.path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def _is_kept(self, line: str) -> bool:
        epoch = line.partition(self.separator)[0]
        return not epoch.isdecimal() or int(epoch) < self.params["initial_epoch"]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = logs or {}
        lines = []
        if self._names is None:
            self._names = sorted(logs)
            if not any(name.startswith("val_") for name in logs):
                self._names += [f"val_{name}" for name in self._names]  # for a validation in a later epoch
            lines.append(["epoch", *self._names])
        lines.append([epoch, *(logs.get(name, "NA") for name in self._names)])
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=self.separator, lineterminator="\n").writerows(lines)
