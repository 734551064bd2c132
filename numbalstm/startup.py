"""Compile ahead: run a small layer down every path of inference, so that later processes only load."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from numbalstm import checks
from numbalstm.backends.cuda import dispatch as gpu

DTYPES = ("float32", "float64")


class Step(NamedTuple):
    """One path that was warmed up.

    Attributes
    ----------
    name : str
    action : {"compiled", "loaded", "ready"}
        Compiled now, read from the disk, or in memory before.
    seconds : float
    """

    name: str
    action: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.name:<32}{self.action:<10}{self.seconds:6.2f} s"


class Warmup(NamedTuple):
    """What a warm-up did.

    Attributes
    ----------
    steps : list of Step
    seconds : float
        All together, imports included.
    folder : str
        Where later processes find the compiled code; empty when there is no place for it.
    problem : str or None
        Why they will not find it there.
    """

    steps: list[Step]
    seconds: float
    folder: str
    problem: str | None

    def __str__(self) -> str:
        kept = f"kept in {self.folder}" if self.problem is None else f"not kept: {self.problem}"
        return "\n".join([*map(str, self.steps), f"{self.seconds:.2f} s, {kept}"])


def warmup(
    dtypes: str | Iterable[str] = ("float32",),
    *,
    device: str = "cpu",
    batch: int = 1,
    steps: int = 100,
    features: int = 64,
    units: int = 128,
    limits: Any = None,
    progress: Callable[[Step], object] | None = None,
) -> Warmup:
    """Compile the kernels of inference ahead and keep them on disk, or load them when they are there.

    Covers LSTM layers with the default activations, streams, and dense layers, on one thread and, where this process
    may use several, on several: threads run the same code, so they add little. Other activations and weight types are
    compiled at their first use.

    Parameters
    ----------
    dtypes : str or iterable of str, default ("float32",)
        ``"float32"``, ``"float64"``.
    device : {"cpu", "cuda"}, default "cpu"
        "cuda": the kernels of a GPU for LSTM layers of the sizes below, with and without a mask, their gradients and
        their streams, in the mode of `numbalstm.set_gpu`.
    batch, steps, features, units : int
        With ``device="cuda"``: sizes of a call.
    limits : numbalstm.backends.cuda.choice.Limits, optional
        With ``device="cuda"``: of the GPU to compile for, which need not be here.  None: the one that is here.
    progress : callable, optional
        Called with each `Step` when it is done, for example ``print``.

    Returns
    -------
    Warmup
        ``print`` shows it as a table.

    Raises
    ------
    ValueError
        When a dtype or device has another name, or a size is below 1.
    DeviceUnavailableError
        When ``device="cuda"`` and there is no GPU, or no compiler for it.

    Notes
    -----
    What is compiled suits this processor, this version of numbalstm, of Python and of Numba; another combination
    compiles its own.
    """
    names = [dtypes] if isinstance(dtypes, str) else list(dtypes)
    for name in names:
        checks.one_of("warmup", "dtypes", name, DTYPES)
    checks.one_of("warmup", "device", device, ("cpu", "cuda"))
    sizes = {"batch": batch, "steps": steps, "features": features, "units": units}
    for name, size in sizes.items():
        checks.positive_integer("warmup", name, size)
    start = time.perf_counter()
    steps = []
    for dtype in dict.fromkeys(names):
        paths = _paths(np.dtype(dtype)) if device == "cpu" else gpu.warm(dtype, tuple(sizes.values()), limits)
        for name, call in paths:
            steps.append(_run(f"{dtype} {name}", call))
            if progress is not None:
                progress(steps[-1])
    from numbalstm.kernels import compilation

    folder = compilation.folder()
    problem = "there is no folder for this user" if folder is None else compilation.refusal(folder)
    return Warmup(steps, time.perf_counter() - start, str(folder or ""), problem)


def _paths(dtype: np.dtype) -> Iterator[tuple[str, Callable[[], object]]]:
    """Every path with work that is just large enough to take it."""
    from numbalstm.backends import parallel
    from numbalstm.backends.dense import DenseWeights, dense
    from numbalstm.functional import lstm_forward
    from numbalstm.layers import LSTM
    from numbalstm.parameters import LSTMParameters
    from numbalstm.streaming import Stream

    features, units = 64, 128
    parameters = LSTMParameters(
        np.zeros((features, 4 * units), dtype), np.zeros((units, 4 * units), dtype), np.zeros(4 * units, dtype)
    )
    layer = LSTM(units, dtype=dtype.name, input_shape=(None, features))
    weights = DenseWeights(np.zeros((features, units), dtype), None)
    yield "LSTM, one thread", lambda: lstm_forward(np.zeros((1, 2, features), dtype), parameters, threads=1)
    yield "stream, one thread", lambda: Stream(layer, threads=1).step(np.zeros((1, features), dtype))
    yield "dense, one thread", lambda: dense(np.zeros((2, features), dtype), weights, threads=1)
    if parallel.threads(None) > 1:
        yield "LSTM, several threads", lambda: lstm_forward(np.zeros((64, 16, features), dtype), parameters)


def _run(name: str, call: Callable[[], object]) -> Step:
    compiled, loaded = _counts()
    start = time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    now_compiled, now_loaded = _counts()
    action = "compiled" if now_compiled > compiled else "loaded" if now_loaded > loaded else "ready"
    return Step(name, action, seconds)


def _counts() -> tuple[int, int]:
    """How many pieces of machine code this process compiled, and how many it read, for all devices."""
    from numbalstm.kernels import compilation

    toolchain = sys.modules.get("numbalstm.backends.cuda.toolchain")  # not there: no kernel of a GPU was touched
    compiled, loaded = compilation.counts()
    more_compiled, more_loaded = (0, 0) if toolchain is None else toolchain.counts()
    return compiled + more_compiled, loaded + more_loaded
