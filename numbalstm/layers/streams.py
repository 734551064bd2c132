"""Which layers can run step by step, and why the others cannot."""

from collections.abc import Sequence
from typing import Any

from numbalstm.layers.base import Layer
from numbalstm.layers.bidirectional import Bidirectional
from numbalstm.layers.cell import LSTMCell, StackedRNNCells
from numbalstm.layers.core import Activation, Dense, Masking
from numbalstm.layers.dropout import Dropout, SpatialDropout1D
from numbalstm.layers.embedding import Embedding
from numbalstm.layers.lstm import LSTM
from numbalstm.layers.normalization import BatchNormalization, LayerNormalization
from numbalstm.layers.pooling import GlobalAveragePooling1D, GlobalMaxPooling1D
from numbalstm.layers.reshaping import Flatten, RepeatVector, Reshape
from numbalstm.layers.rnn import RNN
from numbalstm.layers.sequence import SequenceLayer
from numbalstm.layers.stacked import StackedLSTM
from numbalstm.layers.symbolic import is_symbolic
from numbalstm.layers.time_distributed import TimeDistributed
from numbalstm.streaming.stages import Recurrent, RowWise, Source

EACH_STEP = (Dense, Activation, Dropout, SpatialDropout1D, TimeDistributed)
"""Layers that treat each step by itself, whatever their options."""

REASONS = {
    Bidirectional: "reads the sequence from its end too",
    GlobalAveragePooling1D: "needs all steps at once",
    GlobalMaxPooling1D: "needs all steps at once",
    Flatten: "joins the steps, of which a stream has no last one",
    Reshape: "may move values from step to step",
    RepeatVector: "makes a sequence of each step",
}


class _Chain:
    """The parts of layers that follow each other, collected one by one."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.parts: list[Recurrent | RowWise] = []
        self.over_time = True

    def refuse(self, layer: Layer, reason: str) -> None:
        """Raise ValueError for a layer."""
        named = "" if layer.place == self.place else f" {layer.place}"
        raise ValueError(f"{self.place}: cannot run step by step:{named} {reason}.")

    def add(self, layer: Layer, rank: int) -> None:
        """Take one more layer, whose input has `rank` axes."""
        if isinstance(layer, SequenceLayer):
            self._add_recurrent(layer)
        elif isinstance(layer, StackedLSTM):
            for inner in layer.layers:
                self.add(inner, rank)
        elif not self.over_time and type(layer) in (*REASONS, *EACH_STEP, LayerNormalization, BatchNormalization):
            if isinstance(layer, (RepeatVector, TimeDistributed)):
                self.refuse(layer, "makes a sequence of what an LSTM without return_sequences returns")
            self._add_row_wise(layer)
        elif isinstance(layer, (Embedding, Masking)) and self.over_time:
            self._add_masking(layer)
        else:
            reason = self._obstacle(layer, rank)
            if reason is not None:
                self.refuse(layer, reason)
            self._add_row_wise(layer)

    def _add_recurrent(self, layer: Any) -> None:
        if not self.over_time:
            self.refuse(layer, "needs a sequence, but the LSTM before it has return_sequences=False")
        if layer.go_backwards:
            self.refuse(layer, "has go_backwards=True, so it starts with the last step")
        if type(layer).call not in (LSTM.call, RNN.call):
            self.refuse(layer, "has a call() of its own")
        parts = _cells(self, layer) if isinstance(layer, RNN) else [_recurrent(layer, layer, True, True)]
        if any(part.source.learn_initial_state for part in parts):
            self.refuse(layer, "has learn_initial_state=True, and a stream starts from zeros")
        self.parts += parts
        self.over_time = layer.return_sequences

    def _add_masking(self, layer: Layer) -> None:
        makes_mask = layer.supports_mask
        if makes_mask and any(isinstance(part, Recurrent) for part in self.parts):
            self.refuse(layer, "masks what a recurrent layer returns")
        self.parts.append(RowWise(layer, True, makes_mask))

    def _add_row_wise(self, layer: Layer) -> None:
        if isinstance(layer, Dropout) and self._passes_unchanged(layer):
            return
        self.parts.append(RowWise(layer, self.over_time, dense=type(layer) is Dense))

    def _passes_unchanged(self, layer: Dropout) -> bool:
        """Whether a dropout layer, which does nothing in inference, does not even round."""
        before = self.parts[-1] if self.parts else None
        return isinstance(before, Recurrent) and before.plain and layer.policy.name == before.source.policy.name

    def _obstacle(self, layer: Layer, rank: int) -> str | None:
        """Why a layer over time cannot run step by step, or None."""
        if type(layer) in EACH_STEP:
            if not isinstance(layer, TimeDistributed):
                return None
            inner = layer.layer
            if type(inner) in (*EACH_STEP, Flatten, Reshape, LayerNormalization, BatchNormalization):
                return None
            return f"holds a {type(inner).__name__}, which is not known to treat each step by itself"
        if type(layer) is LayerNormalization:
            return None if 0 not in layer._axes and 1 not in layer._axes else "normalises over the steps"
        if type(layer) is BatchNormalization:
            return None if layer.axis % rank > 1 else "has other weights for each step"
        return REASONS.get(type(layer), f"is a {type(layer).__name__}, which is not known to treat each step by itself")


def source_of_layer(layer: Any) -> Source:
    """Return what a stream of one recurrent layer needs."""
    if not layer.built:
        raise ValueError(f"{layer.place}: is not built yet. Call it on arrays, or build(input_shape), before stream().")
    chain = _Chain(layer.place)
    chain.add(layer, 3)
    first = chain.parts[0]
    return Source(layer.place, (first.source.parameters.features,), layer.policy.compute.name, chain.parts)


def source_of_graph(place: str, graph: Any) -> Source:
    """Return what a stream of a model needs; the graph must be a chain of layers."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ValueError(
            f"{place}: cannot run step by step: it has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs, "
            "not one of each."
        )
    tensor = graph.inputs[0]
    if len(tensor.shape) < 2 or None in tensor.shape[2:]:
        raise ValueError(
            f"{place}: cannot run step by step: its input must be (batch, time, ...) with known sizes behind the time, "
            f"got {tensor.shape}."
        )
    chain = _Chain(place)
    _follow(chain, graph)
    if not any(isinstance(part, Recurrent) for part in chain.parts):
        raise ValueError(f"{place}: cannot run step by step: it has no recurrent layer.")
    return Source(place, tuple(tensor.shape[2:]), tensor.dtype, chain.parts)


def _follow(chain: _Chain, graph: Any) -> None:
    """Add the layers of a graph, of which each must read the first output of the one before it and nothing else."""
    latest = graph.inputs[0]
    for node in graph.nodes:
        if latest in node.outputs:
            continue
        layer = node.layer
        if len(node.inputs) != 1 or node.inputs[0] is not latest or node.args[0] is not latest:
            chain.refuse(layer, "does not read the output of the layer before it alone")
        given = [value for value in (*node.args[1:], *node.kwargs.values()) if value is not None and value is not False]
        if given or is_symbolic(node.kwargs):
            chain.refuse(layer, "is called with more than its input")
        inner = getattr(layer, "graph", None)
        if inner is None:
            chain.add(layer, len(latest.shape))
        elif len(inner.inputs) != 1 or len(inner.outputs) != 1:
            chain.refuse(layer, "is a model of several inputs or outputs")
        else:
            _follow(chain, inner)
        latest = node.outputs[0]
    if graph.outputs[0] is not latest:
        chain.refuse(latest.node.layer, "is not the output")


def _cells(chain: _Chain, layer: RNN) -> list[Recurrent]:
    cells: Sequence[Any] = layer.cell.cells if type(layer.cell) is StackedRNNCells else [layer.cell]
    for cell in cells:
        if not isinstance(cell, LSTMCell) or type(cell).call is not LSTMCell.call:
            chain.refuse(layer, f"has a {type(cell).__name__}; only LSTMCell can run step by step")
    last = len(cells) - 1
    return [_recurrent(layer, cell, number == 0, number == last) for number, cell in enumerate(cells)]


def _recurrent(layer: Any, source: Any, first: bool, last: bool) -> Recurrent:
    """Return the part of one LSTM; the layer around it rounds what enters the first and leaves the last."""
    before = (layer.policy, source.policy) if first and source is not layer else (source.policy,)
    return Recurrent(source, before, layer.policy if last else None)
