"""What a person sees of a running `fit` or `evaluate`."""

import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from numbalstm import checks
from numbalstm.callbacks.base import Callback
from numbalstm.extras import require

VERBOSE = ("auto", 0, 1, 2, False, True)


class EpochLines(Callback):
    """Prints a line when an epoch or an evaluation ends."""

    def __init__(self) -> None:
        super().__init__()
        self._training = False
        self._start = time.monotonic()

    def on_train_begin(self, logs: Any = None) -> None:
        self._training = True

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = time.monotonic()

    def on_test_begin(self, logs: Any = None) -> None:
        if not self._training:
            self._start = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._print(self._line(f"Epoch {epoch + 1}/{self.params['epochs']}", logs))

    def on_test_end(self, logs: Any = None) -> None:
        if not self._training:
            self._print(self._line("Evaluation", logs))

    def close(self) -> None:
        """Leave the screen as it is."""

    def _line(self, title: str, logs: Mapping[str, float] | None) -> str:
        return " - ".join([title, f"{time.monotonic() - self._start:.1f} s", *_numbers(logs)])

    def _print(self, line: str) -> None:
        print(line, flush=True)


class ProgressBar(EpochLines):
    """Draws a bar for the running epoch on the error stream, and leaves its line there when the epoch ends."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: Any = None

    def _open(self, title: str) -> None:
        rich = require("rich.progress", "cli")
        console = require("rich.console", "cli").Console(stderr=True, highlight=False)
        columns = [
            rich.TextColumn("{task.description}"),
            rich.BarColumn(),
            rich.MofNCompleteColumn(),
            rich.TimeRemainingColumn(),
            rich.TextColumn("{task.fields[numbers]}"),
        ]
        self._bar = rich.Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task(title, total=self.params["steps"], numbers="")
        self._bar.start()

    def _advance(self, batch: int, logs: Mapping[str, float] | None) -> None:
        self._bar.update(self._task, completed=batch + 1, numbers=" - ".join(_numbers(logs)))

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self._bar is None:
            self._open("Epoch")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        super().on_epoch_begin(epoch)
        self._open(f"Epoch {epoch + 1}/{self.params['epochs']}")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._advance(batch, logs)

    def on_test_begin(self, logs: Any = None) -> None:
        super().on_test_begin()
        if not self._training:
            self._open("Evaluation")

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        if not self._training:
            self._advance(batch, logs)

    def on_train_end(self, logs: Any = None) -> None:
        self.close()

    def _print(self, line: str) -> None:
        self.close()
        print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the bar off the screen, also when an error ended the run."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def reporter(place: str, verbose: Any) -> EpochLines | None:
    """Return the callback for a value of `verbose`: a bar, a line for each epoch, or None for nothing.

    A bar is drawn on the error stream, and only on a terminal; "auto" takes lines there when rich is not installed.
    """
    verbose = checks.one_of(place, "verbose", verbose, VERBOSE)
    if verbose == "auto":
        verbose = 0 if not sys.stderr.isatty() else 1 if find_spec("rich") else 2
    if verbose == 2:
        return EpochLines()
    return ProgressBar() if verbose and sys.stderr.isatty() else None


def _numbers(logs: Mapping[str, float] | None) -> list[str]:
    return [f"{name}: {value:.4g}" for name, value in (logs or {}).items()]
