"""Compile ahead: run a small layer down every path of inference, so that later processes only load."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from numbalstm import checks

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


def warmup(dtypes: str | Iterable[str] = ("float32",), *, progress: Callable[[Step], object] | None = None) -> Warmup:
    """Compile the kernels of inference ahead and keep them on disk, or load them when they are there.

    Covers LSTM layers with the default activations, streams, and dense layers, on one thread and, where this process
    may use several, on several: threads run the same code, so they add little. Other activations and weight types are
    compiled at their first use.

    Parameters
    ----------
    dtypes : str or iterable of str, default ("float32",)
        ``"float32"``, ``"float64"``.
    progress : callable, optional
        Called with each `Step` when it is done, for example ``print``.

    Returns
    -------
    Warmup
        ``print`` shows it as a table.

    Raises
    ------
    ValueError
        When a dtype has another name.

    Notes
    -----
    What is compiled suits this processor, this version of numbalstm, of Python and of Numba; another combination
    compiles its own.
    """
    names = [dtypes] if isinstance(dtypes, str) else list(dtypes)
    for name in names:
        checks.one_of("warmup", "dtypes", name, DTYPES)
    start = time.perf_counter()
    steps = []
    for dtype in dict.fromkeys(names):
        for name, call in _paths(np.dtype(dtype)):
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
    from numbalstm.kernels import compilation

    compiled, loaded = compilation.counts()
    start = time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    now_compiled, now_loaded = compilation.counts()
    action = "compiled" if now_compiled > compiled else "loaded" if now_loaded > loaded else "ready"
    return Step(name, action, seconds)
