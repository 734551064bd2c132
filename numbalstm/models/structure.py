"""What a model knows of its graph: layers, inputs, outputs, and their names and shapes."""

from collections.abc import Mapping, Sequence
from typing import Any

from numbalstm import checks
from numbalstm.layers.base import GENERATIONS, Layer
from numbalstm.layers.symbolic import SymbolicTensor, leaves, map_leaves
from numbalstm.models.graph import Graph


class GraphLayer(Layer):
    """A layer that is a graph of layers.

    Parameters
    ----------
    name : str, optional
    trainable : bool, default True
    generation : {"keras3", "keras2", "v1"}, default "keras3"
        Whose rules masks and fixed `training` arguments follow inside the graph, see `numbalstm.models.graph.Graph`.
    **kwargs
        As for `Layer`.
    """

    supports_mask = True

    def __init__(
        self, name: str | None = None, trainable: bool = True, generation: str = "keras3", **kwargs: Any
    ) -> None:
        super().__init__(name=name, trainable=trainable, **kwargs)
        self.generation = checks.one_of(type(self).__name__, "generation", generation, GENERATIONS)
        self._graph: Graph | None = None
        self._input_structure: Any = None
        self._output_structure: Any = None
        self._checks_sizes = True

    def _set_graph(self, inputs: Any, outputs: Any) -> None:
        """Take the graph between two structures of symbolic tensors."""
        flat_inputs, flat_outputs = list(leaves(inputs)), list(leaves(outputs))
        for role, tensors in (("inputs", flat_inputs), ("outputs", flat_outputs)):
            if not tensors:
                raise ValueError(f"{self.place}: {role} must not be empty.")
            for tensor in tensors:
                if not isinstance(tensor, SymbolicTensor):
                    raise TypeError(f"{self.place}: {role} must be symbolic tensors, got {checks.describe(tensor)}.")
        if len({id(tensor) for tensor in flat_inputs}) != len(flat_inputs):
            raise ValueError(f"{self.place}: an input is given twice.")
        self._graph = Graph(self.place, flat_inputs, flat_outputs, self.generation)
        self._input_structure, self._output_structure = inputs, outputs
        self._input_names, self._output_names = _names(flat_inputs, inputs), _names(flat_outputs, outputs)

    @property
    def graph(self) -> Graph:
        """The graph; ValueError when the model is not built yet."""
        if self._graph is None:
            raise ValueError(f"{self.place}: is not built yet. Call it on arrays, or build(input_shape), first.")
        return self._graph

    # What is inside

    @property
    def layers(self) -> list[Layer]:
        """The layers, array functions left out."""
        return [layer for layer in self.graph.layers if not layer.is_operation]

    @property
    def sublayers(self) -> Sequence[Layer]:
        """The layers, for their weights."""
        return self.layers

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """Return one layer.

        Parameters
        ----------
        name : str, optional
        index : int, optional
            Position in `layers`.  One of the two must be given.

        Raises
        ------
        ValueError
            When there is no such layer; the message lists the names.
        """
        if (name is None) == (index is None):
            raise ValueError(f"{self.place}: get_layer needs either a name or an index.")
        if index is not None:
            if not -len(self.layers) <= index < len(self.layers):
                raise ValueError(f"{self.place}: has {len(self.layers)} layers, so none at index {index}.")
            return self.layers[index]
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise checks.unknown(self.place, "layer", name, [layer.name for layer in self.layers])

    @property
    def inputs(self) -> list[SymbolicTensor]:
        """The symbolic inputs."""
        return self.graph.inputs

    @property
    def outputs(self) -> list[SymbolicTensor]:
        """The symbolic outputs."""
        return self.graph.outputs

    @property
    def input(self) -> Any:
        """The symbolic inputs as the model was made with them: one, a list or a dict."""
        return _single(self.graph and self._input_structure)

    @property
    def output(self) -> Any:
        """The symbolic outputs as the model was made with them: one, a list or a dict."""
        return _single(self.graph and self._output_structure)

    @property
    def input_shape(self) -> Any:
        """Shape of the input, or shapes nested as `input`."""
        return map_leaves(lambda tensor: tensor.shape, self.input)

    @property
    def output_shape(self) -> Any:
        """Shape of the output, or shapes nested as `output`."""
        return map_leaves(lambda tensor: tensor.shape, self.output)

    @property
    def input_names(self) -> list[str]:
        """A name for each input: its key when the inputs are a dict, else its layer's name."""
        return list(self._input_names if self.graph else ())

    @property
    def output_names(self) -> list[str]:
        """A name for each output: its key, or its layer's name; ``name:1``, ... for a layer's further outputs."""
        return list(self._output_names if self.graph else ())

    def _nested(self, flat: Sequence[Any]) -> Any:
        """Return one value for each output, nested as the outputs are."""
        values = iter(flat)
        return _single(map_leaves(lambda _: next(values), self._output_structure))


def _single(structure: Any) -> Any:
    """Return the item of a list of one, as Keras does."""
    return structure[0] if isinstance(structure, (list, tuple)) and len(structure) == 1 else structure


def _names(tensors: Sequence[SymbolicTensor], structure: Any) -> list[str]:
    if isinstance(structure, Mapping) and len(structure) == len(tensors):
        return list(structure)
    seen: set[str] = set()
    names = []
    for tensor in tensors:
        name = tensor.name if tensor.name not in seen else f"{tensor.name}:{tensor.index}"
        seen.add(name)
        names.append(name)
    return names
