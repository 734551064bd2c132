"""One stream: a model that runs step by step."""

from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.backends.cuda import dispatch as gpu
from numbalstm.backends.cuda.arrays import DeviceArray, on_host, view
from numbalstm.streaming.runner import Runner, Snapshot, checked


class Stream(Runner):
    """A layer or model that runs over sequences step by step, with its states kept in between.

    Parameters
    ----------
    source : layer or model
        An `LSTM`, an `RNN` of `LSTMCell`, or a chain of such and of layers that treat each step by itself; built.
    batch : int, default 1
        Sequences that advance side by side.
    threads : int, optional
        Most threads to use.  None: `numbalstm.set_threads`, as it is now.
    device : {"cpu", "cuda"}, default "cpu"
        "cuda" keeps weights and states on the GPU: for LSTM layers alone.  Inputs may lie on either side, and the
        outputs lie where they do; those of `run` have the bits of the steps.

    Raises
    ------
    DeviceUnavailableError
        When ``device="cuda"`` and there is no GPU.
    ValueError
        When the source is not built, or has a layer that needs more than the steps so far; the message names it.
    TypeError
        When the source is no layer over time and no model.

    Notes
    -----
    The output of a step has the bits of the last step that the model would return for the whole sequence so far, as in
    inference.  Weights that change (``set_weights``) act from the next step on.  Steps of LSTM layers and of `Dense`
    without activation allocate nothing; every other layer takes memory for the time of the step.

    A stream belongs to one thread at a time, several streams of one model may run in several threads.

    Examples
    --------
    >>> import numpy as np
    >>> import numbalstm as nl
    >>> stream = nl.LSTM(4, input_shape=(None, 3)).stream()
    >>> stream.step(np.zeros(3)).shape
    (1, 4)
    """

    def __init__(self, source: Any, batch: int = 1, *, threads: int | None = None, device: str = "cpu") -> None:
        self.batch = checks.positive_integer("Stream", "batch", batch)
        checks.one_of("Stream", "device", device, ("cpu", "cuda"))
        super().__init__(source, self.batch, threads, device)
        self._shape = (self.batch, *self.source.shape)
        self._advances = [stage.step for stage in self.stages]
        self._result_shape = (self.batch, *self.output_shape)

    def step(self, x_t: Any, out: np.ndarray | None = None) -> np.ndarray:
        """Advance by one step.

        Parameters
        ----------
        x_t : array_like (batch, features), or (features,) with a batch of 1
            Without the features where the first layer is an `Embedding`.  Real numbers of other types are converted.
        out : array (batch, units), optional
            Receives the output.

        Returns
        -------
        array (batch, units)
            `out`, or the stream's own buffer, **which the next step overwrites**: copy what you keep.

        Raises
        ------
        ValueError
            When a shape or `out` does not fit, or the step is padding to a layer that masks; no state has changed then.
        TypeError
            When the input holds no real numbers.
        """
        if type(x_t) is not np.ndarray or x_t.dtype is not self.dtype or x_t.shape != self._shape:
            x_t = self._step_input(x_t)
        if out is not None:
            out = view(self.place, "out", out, self.dtype) if isinstance(x_t, DeviceArray) else out
            self._check_out(out)
        for owner, known in self.watched:
            if owner.parameters is not known:
                self.refresh()
                break
        for advance in self._advances:
            x_t = advance(x_t)
        if out is None:
            return x_t
        return gpu.written(x_t, out)

    def run(self, x: Any) -> np.ndarray:
        """Advance by a block of steps, with the bits that the steps one by one would give.

        Parameters
        ----------
        x : array_like (batch, time, features), or (time, features) with a batch of 1

        Returns
        -------
        array (batch, time, units)
            A new array.

        Raises
        ------
        ValueError
            When the shape does not fit or there is no step.
        TypeError
            When the input holds no real numbers.
        """
        x = self.converted(x)
        if self.batch == 1 and x.ndim == len(self._shape):
            x = x[None]
        checks.shape(self.place, "the block", x, (self.batch, "time", *self._shape[1:]))
        if x.shape[1] == 0:
            raise ValueError(f"{self.place}: the block must have at least one step, got shape {x.shape}.")
        self.refresh()
        for stage in self.stages:
            x = stage.run(x)
        return x

    def reset(self) -> None:
        """Set all states to zero."""
        for state in self._states():
            state[...] = 0

    @property
    def states(self) -> list[list[np.ndarray]]:
        """Copies of the states [h, c] of each LSTM in turn, each (batch, units), in the type of its arithmetic."""
        found = [np.array(on_host(state)) for state in self._states()]
        return [found[first : first + 2] for first in range(0, len(found), 2)]

    def snapshot(self) -> Snapshot:
        """Return a copy of the states, for `restore`."""
        return Snapshot(self._states())

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from the states of a snapshot.

        Parameters
        ----------
        snapshot : Snapshot
            Of this stream, or of one of the same layers, types and batch size.

        Raises
        ------
        TypeError, ValueError
            When it is no snapshot, or does not fit.
        """
        checked(self.place, snapshot).write(self.place, self._states())

    def _states(self) -> list[np.ndarray]:
        return [state for stage in self.stages for state in stage.states()]

    def _step_input(self, x_t: Any) -> np.ndarray:
        """Return the input of a step as an array of the right type and shape."""
        x = self.converted(x_t)
        if self.batch == 1 and x.shape == self._shape[1:]:
            x = x[None]
        if x.shape != self._shape:
            checks.shape(self.place, "the step", x, self._shape)
        return x

    def _check_out(self, out: Any) -> None:
        dtype = self.stages[-1].dtype
        if isinstance(out, DeviceArray):
            checks.shape(self.place, "out", out, self._result_shape)
            return
        fits = type(out) is np.ndarray and out.shape == self._result_shape and out.dtype == dtype
        if not fits or not out.flags.writeable:
            raise ValueError(
                f"{self.place}: out must be a writeable array of shape {self._result_shape} and dtype {dtype}, "
                f"got {checks.describe(out)}."
            )

    def __repr__(self) -> str:
        return f"<{self.place}, batch={self.batch}>"
