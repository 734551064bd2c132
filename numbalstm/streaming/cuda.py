"""LSTM layers of a stream on a GPU."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from numbalstm.backends.cuda import dispatch
from numbalstm.backends.cuda.arrays import DeviceArray
from numbalstm.backends.interface import Request
from numbalstm.streaming.stages import Recurrent, Source


class CudaStage:
    """LSTM layers that feed each other, with states and weights on the GPU."""

    def __init__(self, place: str, parts: Sequence[Recurrent], rows: int) -> None:
        self._parts, self._rows, last = parts, rows, parts[-1].source
        self.shape, self.dtype = (last.output_size,), last.parameters.dtype
        self.widths = [width for part in parts for width in part.source.state_size]
        self._steps = dispatch.steps(place, self._requests())
        self._host = np.empty((rows, *self.shape), self.dtype)
        self._watch()

    def _requests(self) -> list[Request]:
        found = []
        for part in self._parts:
            parameters = part.source.parameters
            x = np.zeros((self._rows, 2, parameters.features), parameters.dtype)  # settles sizes, no more
            found.append(part.request(x))
        return found

    def _watch(self) -> None:
        self.watched = [(part.source, part.source.parameters) for part in self._parts]

    def renew(self) -> None:
        """Use the weights as they are now."""
        self._steps.use(self._requests())
        self._watch()

    def states(self) -> list[DeviceArray]:
        """Return h and c of each layer in turn, (rows, width); views."""
        return self._steps.states()

    def step(self, x: Any) -> Any:
        """Advance all rows by a step; the outputs lie where the inputs do."""
        y = self._steps.step(x)
        if isinstance(x, DeviceArray):
            return y
        self._host[...] = y.copy_to_host()
        return self._host

    def run(self, x: Any) -> Any:
        """Advance all rows by a block of steps (batch, time, features)."""
        outputs = [self.step(x[:, t]).copy() for t in range(x.shape[1])]
        if isinstance(x, DeviceArray):
            return dispatch.joined("stack", outputs).swapaxes(0, 1)
        return np.stack(outputs, axis=1)


def make(source: Source, rows: int) -> list[CudaStage]:
    """Return the one stage of a source on the GPU; ValueError where it has more than LSTM layers."""
    for part in source.parts:
        if not isinstance(part, Recurrent):
            raise ValueError(
                f'{source.place}: a stream with device="cuda" takes LSTM layers alone, and {part.layer.place} is none. '
                "Leave device out, or stream the LSTM layers by themselves."
            )
        if not part.plain:
            raise ValueError(f'{source.place}: a stream with device="cuda" takes float32 or float64, no 16-bit policy.')
    return [CudaStage(source.place, source.parts, rows)]
