"""LSTM cells over time on the sequence kernels, cell by cell, and the way back."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from numbalstm.functional import lstm_backward
from numbalstm.layers.gradients import LayerGradients, added_weights, filled
from numbalstm.layers.steps import Back
from numbalstm.layers.symbolic import map_leaves


def run_layers(
    layer: Any,
    cells: Sequence[Any],
    x: Any,
    mask: Any,
    training: Any,
    states: Any,
    factors: Sequence[Any],
    record: bool,
) -> tuple[Any, list[Any], Back]:
    """Run each LSTM cell of an RNN over the whole time, on the outputs of the one before.

    A masked step freezes all cells, so what a lower cell puts out there is never read.

    Parameters
    ----------
    layer : RNN
    cells : list of LSTMCell
    x : array (B, T, F) or list of arrays (T_i, F)
    mask : bool array (B, T) or None
    training : bool or None
    states : list, for each cell [h, c] or None
    factors : list, for each cell the dropout factors or None
    record : bool
        Whether the way back is needed.

    Returns
    -------
    outputs, states, back
        The states as a list with [h, c] for each cell, in `back` too.
    """
    passes = []
    for index, (cell, state) in enumerate(zip(cells, states, strict=True)):
        first, last = index == 0, index == len(cells) - 1
        weight_factors = cell.draw_weight_factors() if training else None
        result = cell.run_sequence(
            map_leaves(cell.policy.to_compute, x) if isinstance(x, list) else cell.policy.to_compute(x),
            training=training,
            weight_factors=weight_factors,
            initial_state=None if state is None else [cell.policy.to_compute(part) for part in state],
            mask=mask,
            return_sequences=layer.return_sequences or not last,
            go_backwards=layer.go_backwards and first,
            zero_output_for_mask=layer.zero_output_for_mask,
            dropout_masks=factors[index],
            tape=record,
            device=layer.device,
            where=layer.place,
        )
        if first and layer.go_backwards and mask is not None:
            mask = mask[:, ::-1]  # from here on the sequences come in processing order
        x = result.outputs
        passes.append((cell, result, state is None, weight_factors))

    def back(d_outputs: Any, d_states: list[Any], _: bool) -> LayerGradients:
        starts, weights = [], {}
        for (cell, result, learned, weight_factors), (d_h, d_c) in reversed(list(zip(passes, d_states, strict=True))):
            d_outputs = _typed(cell, d_outputs, result.outputs)
            found = lstm_backward(d_outputs, result.tape, d_h=d_h, d_c=d_c, where=layer.place)
            d_outputs = found.x
            starts.append([found.h, found.c])
            weights = added_weights(weights, cell.weight_gradients(found, weight_factors, learned))
        return LayerGradients(d_outputs, starts[::-1], weights=weights)

    return x, [[result.h, result.c] for _, result, *_ in passes], back


def _typed(cell: Any, cotangent: Any, outputs: Any) -> Any:
    """Return the outputs' cotangent in the type of the cell's arithmetic; sequences of a list that have none get 0."""
    if isinstance(cotangent, list):
        return [np.asarray(sequence, cell.policy.compute) for sequence in filled(cotangent, outputs)]
    return None if cotangent is None else np.asarray(cotangent, cell.policy.compute)
