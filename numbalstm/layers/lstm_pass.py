"""One call of an LSTM layer: its arguments settled, the pass forward, and the way back of the cotangents."""

from typing import Any

import numpy as np

from numbalstm.backends import arguments
from numbalstm.backends.cuda import arrays as gpu_arrays
from numbalstm.backends.cuda import presence
from numbalstm.backends.cuda.arrays import ARRAYS, DeviceArray, on_host
from numbalstm.backends.interface import Tape
from numbalstm.functional import lstm_backward
from numbalstm.layers.gradients import LayerGradients
from numbalstm.layers.symbolic import map_leaves


class LSTMPass:
    """A call of an LSTM layer.

    Parameters
    ----------
    layer : LSTM
    inputs, mask, training, initial_state, dropout_masks
        As for a call of the layer.
    """

    def __init__(
        self, layer: Any, inputs: Any, mask: Any, training: Any, initial_state: Any, dropout_masks: Any
    ) -> None:
        self._layer, self._inputs = layer, inputs
        sequences, initial_state = layer.split_inputs(inputs, initial_state)
        x = layer._batch_major(sequences)
        self._mask = layer._batch_major_mask(mask, x)
        self._device = _fused(layer) if layer.use_cudnn is True else layer.device
        self._x = x
        self._in_vain = initial_state is not None and not layer._heeds(initial_state)
        self._states = self._starting_states(initial_state, len(x))
        self._each_step, self._factors = layer.sequence_factors(x, training, dropout_masks, layer.time_major)
        if self._each_step is not None:
            self._x = _times(x, self._each_step)
        self._training = bool(training)
        self._weight_factors = layer.draw_weight_factors() if training else None
        self._tape: Tape | None = None

    def _starting_states(self, given: Any, batch: int) -> Any:
        layer = self._layer
        states = layer._starting_states(given, batch)
        if states is layer._states and states is not None and not isinstance(self._x, DeviceArray):
            states = [on_host(state) for state in states]
        if states is None or not layer.policy.half:
            return states
        states = arguments.states(layer.place, states, layer.parameters, batch)
        return [layer.policy.to_compute(state) for state in states]

    def run(self, out: np.ndarray | None = None, tape: bool = False) -> Any:
        """Run the layer and return what its call returns; with a tape, `pull` works afterwards."""
        layer = self._layer
        result = layer.run_sequence(
            self._x,
            training=self._training,
            initial_state=self._states,
            weight_factors=self._weight_factors,
            mask=self._mask,
            return_sequences=layer.return_sequences,
            go_backwards=layer.go_backwards,
            zero_output_for_mask=layer.zero_output_for_mask,
            dropout_masks=self._factors,
            out=self._output(out),
            device=self._device,
            tape=tape,
            checkpoint_every=layer.checkpoint_every if tape else None,
            where=layer.place,
        )
        self._tape = result.tape
        layer._store([result.h, result.c])
        outputs, *states = map_leaves(layer.policy.to_output, list(result)) if layer.policy.half else result
        return layer._returned(layer._layout(outputs) if isinstance(outputs, ARRAYS) else outputs, states)

    def _output(self, out: Any) -> Any:
        """Return the batch-major array to write into; None leaves it to the backend."""
        layer = self._layer
        if out is not None:
            if layer.policy.half:
                raise ValueError(f"{layer.place}: out is not for a layer with the dtype policy {layer.policy.name!r}.")
            if isinstance(self._x, DeviceArray) and gpu_arrays.on_gpu(out):
                out = gpu_arrays.view(layer.place, "out", out, layer.parameters.dtype)
            return layer._layout(out) if isinstance(out, ARRAYS) else out
        if not (layer.time_major and layer.return_sequences and isinstance(self._x, np.ndarray)):
            return None
        batch, time, _ = self._x.shape
        return layer._layout(np.empty((time, batch, layer.output_size), layer.parameters.dtype))

    def pull(self, cotangents: Any, regularize: bool) -> LayerGradients:
        """Return the layer's gradients for the cotangents of what `run` returned."""
        layer = self._layer
        d_outputs, (d_h, d_c) = layer.split_cotangents(cotangents)
        if isinstance(d_outputs, list):
            shapes = ((len(sequence), layer.output_size) for sequence in self._x)
            d_outputs = [np.zeros(shape) if d is None else d for shape, d in zip(shapes, d_outputs, strict=True)]
        found = lstm_backward(d_outputs, self._tape, d_h=d_h, d_c=d_c, where=layer.place)
        dx = found.x if self._each_step is None else _times(found.x, self._each_step)
        weights = layer.weight_gradients(found, self._weight_factors, learned=self._states is None)
        starts = layer.zero_gradients(len(self._x)) if self._in_vain else [found.h, found.c]
        return layer.joined_gradients(self._inputs, LayerGradients(dx, starts, weights=weights))


def _fused(layer: Any) -> str:
    """Return the device of ``use_cudnn=True``; ValueError where there is none."""
    problem = 'the layer has device="cpu"; leave that out.' if layer.device == "cpu" else presence.problem()
    if problem is not None:
        raise ValueError(f'{layer.place}: use_cudnn=True cannot be served: {problem} Or use use_cudnn="auto".')
    return "cuda"


def _times(x: Any, factors: Any) -> Any:
    return x * factors if isinstance(x, ARRAYS) else [a * b for a, b in zip(x, factors, strict=True)]
