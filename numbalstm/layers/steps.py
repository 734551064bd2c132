"""Any cell over time, one step after the other, and the way back through the steps."""

from collections.abc import Callable
from typing import Any

import numpy as np

from numbalstm.layers.cells import initial_state, initial_state_gradients, run_cell, vjp_cell
from numbalstm.layers.gradients import LayerGradients, added, added_weights, filled
from numbalstm.layers.symbolic import map_leaves

Back = Callable[[Any, list[Any], bool], LayerGradients]
"""From the cotangents of outputs and final states, None for zeros, and `regularize`, to gradients."""


def run_steps(
    layer: Any, x: Any, mask: Any, training: Any, states: Any, constants: Any, record: bool
) -> tuple[Any, list[Any], Back]:
    """Run the cell of an RNN over time.

    Parameters
    ----------
    layer : RNN
    x : array (B, T, ...) or list of arrays (T_i, ...)
    mask : bool array (B, T) or None
    training : bool or None
    states : nested arrays, or None for those the cell starts from
    constants : list of array or None
    record : bool
        Whether the way back is needed.

    Returns
    -------
    outputs, states, back
    """
    start = initial_state(layer.cell, len(x), layer.policy.compute) if states is None else states
    start = map_leaves(layer.policy.to_compute, start)
    if isinstance(x, list):
        outputs, finals, back = _run_ragged(layer, x, training, start, constants, record)
    else:
        passed = _Pass(layer, x, mask, record)
        outputs, finals = passed.run(start, training, constants)
        back = passed.back

    def back_to_start(d_outputs: Any, d_states: list[Any], regularize: bool) -> LayerGradients:
        found = back(d_outputs, d_states, regularize)
        learned = initial_state_gradients(layer.cell, found.initial_state)
        return found._replace(weights=added_weights(found.weights, learned))

    return outputs, finals, back if states is not None else back_to_start


class _Pass:
    """One run over an array of sequences."""

    def __init__(self, layer: Any, x: np.ndarray, mask: np.ndarray | None, record: bool) -> None:
        self.layer, self.x, self.mask = layer, x, mask
        self.run_cell = vjp_cell if record else run_cell
        self.pulls: list[Any] = []

    def _times(self) -> range:
        times = range(self.x.shape[1])
        return times[::-1] if self.layer.go_backwards else times

    def run(self, states: list[Any], training: Any, constants: Any) -> tuple[np.ndarray, list[Any]]:
        """Return the outputs and the final states."""
        layer, x, mask = self.layer, self.x, self.mask
        latest = np.zeros((len(x), layer.output_size), layer.policy.compute)
        outputs = []
        for t in self._times():
            keep = None if mask is None else mask[:, t]
            # What lies under the mask may be NaN or infinite.
            x_t = x[:, t] if keep is None else _select(keep, x[:, t], 0)
            output, new_states, *pull = self.run_cell(layer.cell, x_t, states, training, constants)
            self.pulls += pull
            if keep is None:
                latest, states = output, new_states
            else:
                latest = _select(keep, output, 0 if layer.zero_output_for_mask else latest)
                states = _select_states(keep, new_states, states)
            outputs.append(latest)
        if not layer.return_sequences:
            return latest, states
        return np.stack(outputs, axis=1) if outputs else latest[:, None][:, :0], states

    def back(self, d_outputs: Any, d_states: list[Any], regularize: bool) -> LayerGradients:
        """Take cotangents back through the steps."""
        layer, x, mask = self.layer, self.x, self.mask
        sequences, found = layer.return_sequences, LayerGradients(np.zeros(x.shape, layer.policy.compute))
        d_latest = None if sequences else d_outputs
        for index, t in reversed(list(enumerate(self._times()))):
            if sequences and d_outputs is not None:
                d_latest = added(d_latest, d_outputs[:, index])
            keep = None if mask is None else mask[:, t]
            d_output, d_latest = _parted(keep, d_latest)
            d_latest = None if layer.zero_output_for_mask else d_latest
            d_new, d_states = _parted(keep, d_states)
            gradients = self.pulls[index](d_output, d_new, regularize)
            if gradients.inputs is not None:
                found.inputs[:, t] = gradients.inputs
            if gradients.initial_state is not None:
                d_states = added(d_states, gradients.initial_state)
            found = found._replace(
                constants=added(found.constants, gradients.constants),
                weights=added_weights(found.weights, gradients.weights),
            )
        return found._replace(initial_state=filled(d_states, layer.zero_gradients(len(x))))


def _run_ragged(
    layer: Any, x: list[np.ndarray], training: Any, states: Any, constants: Any, record: bool
) -> tuple[Any, list[Any], Back]:
    """Run each sequence of a list by itself."""
    if constants is not None:
        raise ValueError(f"{layer.place}: constants are for one array of sequences, not for a list.")
    passes = [_Pass(layer, sequence[None], None, record) for sequence in x]
    outputs = [np.zeros((0, layer.output_size), layer.policy.compute)]
    finals = [map_leaves(lambda state: state[:0], states)]
    for row, passed in enumerate(passes):
        output, final = passed.run(_row(states, row), training, None)
        outputs.append(output[0] if layer.return_sequences else output)
        finals.append(final)

    def back(d_outputs: Any, d_states: list[Any], regularize: bool) -> LayerGradients:
        found = [
            passed.back(_row(d_outputs, row, layer.return_sequences), _row(d_states, row), regularize)
            for row, passed in enumerate(passes)
        ]
        starts = [layer.zero_gradients(0), *(gradients.initial_state for gradients in found)]
        weights = added_weights(*(gradients.weights for gradients in found))
        return LayerGradients([gradients.inputs[0] for gradients in found], _concatenate(starts), None, weights)

    return outputs[1:] if layer.return_sequences else np.concatenate(outputs), _concatenate(finals), back


def _row(structure: Any, row: int, listed: bool = False) -> Any:
    """Return one row of nested arrays as a batch of one; of a list of sequences when `listed`.  None stays None."""
    if listed:
        structure = structure if structure is None else structure[row]
        return None if structure is None else structure[None]
    return map_leaves(lambda leaf: None if leaf is None else leaf[row : row + 1], structure)


def _select(keep: np.ndarray, new: Any, old: Any) -> np.ndarray:
    """Return the rows of `new` where `keep` says so, else those of `old`."""
    new = np.asarray(new)
    return np.where(keep.reshape(-1, *[1] * (new.ndim - 1)), new, old).astype(new.dtype, copy=False)


def _select_states(keep: np.ndarray, new: Any, old: Any) -> list[Any]:
    if isinstance(new, (list, tuple)):
        return [_select_states(keep, *pair) for pair in zip(new, old, strict=True)]
    return _select(keep, new, old)


def _parted(keep: np.ndarray | None, cotangent: Any) -> tuple[Any, Any]:
    """Return what of a cotangent belongs to the rows that the mask keeps, and what to the others; None is zero."""
    if isinstance(cotangent, (list, tuple)):
        pairs = [_parted(keep, item) for item in cotangent]
        return [kept for kept, _ in pairs], [rest for _, rest in pairs]
    if keep is None or cotangent is None:
        return cotangent, None
    return _select(keep, cotangent, 0), _select(~keep, cotangent, 0)


def _concatenate(parts: list[Any]) -> Any:
    """Return equally nested arrays joined along the batch."""
    if isinstance(parts[0], (list, tuple)):
        return [_concatenate(list(inner)) for inner in zip(*parts, strict=True)]
    return np.concatenate(parts)
