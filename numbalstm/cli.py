"""The command `numbalstm`: demo, predict, info, warmup, doctor.

A user's mistake is one line on standard error and exit status 2; a traceback means a defect of numbalstm.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

import numbalstm
from numbalstm.extras import require

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

INTERRUPTED = 130  # as a shell reports a program that Ctrl-C stopped


class UserError(Exception):
    """Something the user can put right; its text is the message."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name.  None: those of the process.

    Returns
    -------
    int
        Exit status: 0, 1 when the reader of the output went away, 2 after a mistake of the user, 130 after Ctrl-C.
    """
    try:
        options = parser().parse_args(argv)
        options.command(options)
        sys.stdout.flush()
    except UserError as error:
        print(f"numbalstm: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("numbalstm: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # What Python flushes at its exit must go nowhere, or it complains about the pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    result = _Parser(prog="numbalstm", description="Run trained LSTM models on arrays.", allow_abbrev=False)
    result.add_argument("--version", action="version", version=f"numbalstm {numbalstm.__version__}")
    commands = result.add_subparsers(metavar="COMMAND", required=True)

    demo = commands.add_parser("demo", help="forecast CO2 with the bundled model and draw what happens inside")
    demo.add_argument(
        "--output", type=Path, default=Path("numbalstm-demo.png"), metavar="PNG", help="default: %(default)s"
    )
    demo.set_defaults(command=_demo)

    predict = commands.add_parser("predict", help="run a model on the arrays of a file")
    predict.add_argument("model", metavar="MODEL", type=Path, help="a .keras or .h5 file")
    predict.add_argument("input", metavar="INPUT", type=Path, help="a .npy, .npz or .csv file")
    predict.add_argument("-o", "--output", type=Path, required=True, help="a .npy, .npz or .csv file")
    predict.add_argument("--batch-size", type=_positive, metavar="N", help="sequences at once; 256")
    predict.add_argument("--timesteps", type=_positive, metavar="T", help="lines of a .csv that make one sequence; all")
    predict.add_argument("--threads", type=_positive, metavar="N", help="at most so many; all cores")
    predict.add_argument("--force", action="store_true", help="replace the output if it exists")
    predict.set_defaults(command=_predict)

    info = commands.add_parser("info", help="show the layers of a model file, and what is not supported")
    info.add_argument("model", metavar="MODEL", type=Path, help="a .keras or .h5 file")
    info.set_defaults(command=_info)

    warmup = commands.add_parser("warmup", help="compile ahead, so that later processes start quickly")
    warmup.add_argument("--dtype", nargs="+", default=["float32"], metavar="TYPE", help="float32, float64; float32")
    warmup.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    for name, size in (("batch", 1), ("steps", 100), ("features", 64), ("units", 128)):
        told = "of a layer on cuda; %(default)s"
        warmup.add_argument(f"--{name}", type=_positive, default=size, metavar="N", help=told)
    warmup.set_defaults(command=_warmup)

    doctor = commands.add_parser("doctor", help="show what numbalstm finds on this machine")
    doctor.set_defaults(command=_doctor)
    return result


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _console(stderr: bool = False) -> Console:
    try:
        return require("rich.console", "cli").Console(stderr=stderr, highlight=False)
    except ImportError as error:
        raise UserError(error) from error


def _table(*columns: str) -> Table:
    table = require("rich.table", "cli").Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left")
    return table


def _load(path: Path) -> Any:
    from numbalstm.io import ModelFileError, load_model

    try:
        return load_model(path)
    except (ModelFileError, OSError, ValueError, ImportError) as error:
        raise UserError(error) from error


def _check_vectors() -> None:
    """Meet a wrong NUMBALSTM_SIMD before the work does."""
    from numbalstm.backends import hardware

    try:
        hardware.vector_bytes()
    except ValueError as error:
        raise UserError(error) from error


def _demo(options: argparse.Namespace) -> None:
    console = _console()
    _check_vectors()
    from numbalstm import demo

    if options.output.suffix.lower() != ".png":
        raise UserError(f"--output must name a .png file, got {options.output}.")
    try:
        with console.status("forecasting (the first run on a machine compiles, for a minute at most)"):
            result = demo.run()
        with console.status("drawing"):
            demo.draw(result).savefig(options.output)
    except (ImportError, OSError) as error:
        raise UserError(error) from error
    first, last = result.dates[result.windows.start[0]], result.dates[-1]
    count = len(result.forecasts)
    console.print(f"Weekly CO2 at Mauna Loa, {first} to {last}: years that the model was not trained on.")
    console.print(f"{count} forecasts of {demo.HORIZON} weeks, each from the {demo.HISTORY} weeks before it.\n")
    table = _table("forecast", "error, ppm (rms)")
    for name, by_week in result.errors.items():
        table.add_row(name, f"{np.sqrt(np.mean(by_week**2)):.2f}")
    console.print(table)
    speed = result.speed
    console.print(f"\none sequence         {speed.microseconds_per_step:.2f} µs a timestep")
    console.print(f"all in one call      {speed.sequences_per_second:,.0f} sequences a second")
    console.print(f"figure               {options.output}", soft_wrap=True)


def _predict(options: argparse.Namespace) -> None:
    from numbalstm import prediction, set_threads

    _check_vectors()
    model = _load(options.model)
    set_threads(options.threads)
    try:
        with _Bar() as bar:
            shapes = prediction.predict_file(
                model,
                options.input,
                options.output,
                batch_size=options.batch_size,
                timesteps=options.timesteps,
                force=options.force,
                progress=bar.update,
            )
    except (OSError, TypeError, ValueError) as error:
        raise UserError(error) from error
    finally:
        set_threads(None)
    held = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    print(f"{options.output}: {held}")


class _Bar:
    """A progress bar on standard error, for people only, and only when the work takes longer than a second."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.bar: Progress | None = None

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def update(self, done: int, total: int) -> None:
        wanted = self.bar is None and sys.stderr.isatty() and time.monotonic() - self.start > 1.0
        if wanted and find_spec("rich"):
            self.bar = require("rich.progress", "cli").Progress(console=_console(stderr=True), transient=True)
            self.task = self.bar.add_task("sequences", total=total)
            self.bar.start()
        if self.bar is not None:
            self.bar.update(self.task, completed=done)


def _info(options: argparse.Namespace) -> None:
    console = _console()
    from numbalstm import inspection

    try:
        found = inspection.inspect(options.model)
    except (ValueError, OSError, ImportError) as error:
        raise UserError(error) from error
    console.print(found.title, markup=False)
    table = _table("layer", "type", "output", "parameters", "dtype")
    for layer in found.layers:
        count = "" if layer.parameters is None else f"{layer.parameters:,}"
        table.add_row(*map(_escaped, (layer.name, layer.type, layer.output, count, layer.dtype)))
    console.print(table)
    if found.unsupported:
        console.print(f"\nThis model cannot be loaded:\n{found.unsupported}", markup=False, soft_wrap=True)
    else:
        console.print(f"\n{sum(layer.parameters or 0 for layer in found.layers):,} parameters")


def _escaped(text: str) -> str:
    """Keep what a file says from being read as markup or as commands of the terminal."""
    return require("rich.markup", "cli").escape("".join(c if c.isprintable() else "?" for c in text))


def _warmup(options: argparse.Namespace) -> None:
    _check_vectors()
    from numbalstm.backends.interface import DeviceUnavailableError
    from numbalstm.startup import warmup

    sizes = {name: getattr(options, name) for name in ("device", "batch", "steps", "features", "units")}
    print("compiling what is not there yet (a minute at most)", file=sys.stderr)
    try:
        done = warmup(options.dtype, **sizes, progress=lambda step: print(step, flush=True))
    except (ValueError, DeviceUnavailableError) as error:
        raise UserError(error) from error
    print(f"{done.seconds:.2f} s, " + (f"not kept: {done.problem}" if done.problem else f"kept in {done.folder}"))


def _doctor(options: argparse.Namespace) -> None:
    console = _console()
    _check_vectors()
    from numbalstm import doctor

    for section, facts in doctor.examine().items():
        console.print(f"[bold]{section}[/bold]")
        for name, value in facts.items():
            console.print(f"  {name:<18}{value}", markup=False, soft_wrap=True)
