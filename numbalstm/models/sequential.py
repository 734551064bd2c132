"""Layers one after the other."""

from collections.abc import Mapping, Sequence
from typing import Any

from numbalstm import checks
from numbalstm.layers.base import Layer, register_layer
from numbalstm.layers.core import InputLayer
from numbalstm.layers.registry import deserialize
from numbalstm.layers.symbolic import SymbolicTensor, is_shape
from numbalstm.models.config_reader import MODEL_KEYS
from numbalstm.models.config_writer import of_generation, serialize
from numbalstm.models.model import BaseModel


@register_layer()
class Sequential(BaseModel):
    """A chain of layers.

    Parameters
    ----------
    layers : list of Layer, optional
        The first may be `Input` or an `InputLayer`; without one, or a first layer with an ``input_shape``, the model is
        built at the first call.
    name : str, optional
    trainable : bool, default True
    generation : {"keras3", "keras2", "v1"}, default "keras3"
        Whose rules masks and fixed `training` arguments follow inside the graph, see `numbalstm.models.graph.Graph`.

    Raises
    ------
    ValueError
        When two layers share a name, or a layer does not fit the one before it.
    TypeError
        When an item is no layer.

    Examples
    --------
    >>> import numbalstm as nl
    >>> model = nl.Sequential([nl.Input((None, 3)), nl.LSTM(4), nl.Dense(2, activation="softmax")])
    >>> model.count_params()
    138
    """

    def __init__(
        self,
        layers: Sequence[Any] | None = None,
        name: str | None = None,
        trainable: bool = True,
        generation: str = "keras3",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, trainable=trainable, generation=generation, **kwargs)
        self._input_layer: InputLayer | None = None
        self._chain: list[Layer] = []
        self._tensors: list[Any] = []
        if not isinstance(layers, (list, tuple, type(None))):
            raise TypeError(f"{self.place}: layers must be a list of layers, got {checks.describe(layers)}.")
        for layer in layers or ():
            self._append(layer)
        self._build_when_known()
        if not trainable:
            self.trainable = False

    @property
    def layers(self) -> list[Layer]:
        """The layers, without the input."""
        return list(self._chain)

    def add(self, layer: Any) -> None:
        """Put a layer at the end; an `Input` or `InputLayer` only as the first."""
        self._append(layer)
        if self._graph is None:
            self._build_when_known()
        else:
            self._extend(len(self._chain) - 1)

    def pop(self) -> Layer:
        """Remove the last layer and return it; IndexError when there is none."""
        if not self._chain:
            raise IndexError(f"{self.place}: has no layer to remove.")
        layer = self._chain.pop()
        if self._graph is not None:
            self._tensors.pop()
            self.built = bool(self._chain)
            self._graph = None
            if self._chain:
                self._set_graph(self._tensors[0], self._tensors[-1])
        return layer

    def _append(self, layer: Any) -> None:
        if isinstance(layer, SymbolicTensor) and isinstance(layer.node.layer, InputLayer):
            layer = layer.node.layer
        if not isinstance(layer, Layer):
            raise TypeError(f"{self.place}: layers must be layers or an Input, got {checks.describe(layer)}.")
        if isinstance(layer, InputLayer):
            if self._input_layer is not None or self._chain:
                raise ValueError(
                    f"{self.place}: an input can only be the first layer, got {layer.name!r} after others."
                )
            self._input_layer = layer
            return
        if any(layer.name == other.name for other in self._chain):
            raise ValueError(f"{self.place}: two layers have the name {layer.name!r}; every name must be unique.")
        if not self._chain and self._input_layer is None and layer._input_shape_hint is not None:
            self._input_layer = InputLayer(
                batch_shape=layer._input_shape_hint, dtype=layer.input_dtype, name=f"{layer.name}_input"
            )
        self._chain.append(layer)

    def _build_when_known(self) -> None:
        if self._chain and self._input_layer is not None:
            self.build(self._input_layer.batch_shape)

    def build(self, input_shape: Any) -> None:
        """Join the layers for inputs of this shape; ValueError when there are none or one does not fit."""
        if not self._chain:
            raise ValueError(f"{self.place}: has no layers. Add one first.")
        source = self._input_layer
        if source is None:
            if not is_shape(input_shape) or not input_shape:
                raise ValueError(f"{self.place}: takes one array, got inputs of shape {input_shape}.")
            batch = input_shape[0] if self.stateful else None
            source = InputLayer(batch_shape=(batch, *input_shape[1:]), dtype=self._chain[0].input_dtype)
        # The shape of a first call binds no later one, also when Keras 3 wrote it into a file, where nothing tells it
        # from one that was asked for; the layers check what they need.
        self._checks_sizes = self._input_layer is not None and self.generation != "keras3"
        self._tensors = [source.tensor]
        self._extend(0)

    def _extend(self, start: int) -> None:
        """Call the layers from `start` on, each on the output of the one before."""
        for number, layer in enumerate(self._chain[start:], start):
            try:
                self._tensors.append(layer(self._tensors[-1]))
            except (TypeError, ValueError) as error:
                message = str(error).removeprefix(f"{layer.place}: ").removeprefix(f"{type(layer).__name__}: ")
                place = f"{self.place}, layer {number} {layer.name!r} ({type(layer).__name__})"
                raise type(error)(f"{place}: {message}") from error
        self._set_graph(self._tensors[0], self._tensors[-1])

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the output's shape for inputs of this shape."""
        if self.built:
            return super().compute_output_shape(input_shape)
        for layer in self._chain:
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the layers' descriptions in the form of Keras 3."""
        first = [] if self._input_layer is None else [self._input_layer]
        config: dict[str, Any] = {"name": self.name, "trainable": self.trainable}
        config["layers"] = [serialize(layer) for layer in (*first, *self._chain)]
        if self.built:
            config["build_input_shape"] = self.inputs[0].shape
        return of_generation(config, self.generation)

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | list) -> "Sequential":
        """Make a model from a config of any generation; early Keras 2 gives the list of layers alone."""
        config = {"layers": config} if isinstance(config, list) else dict(config)
        descriptions, shape = config.pop("layers", None), config.pop("build_input_shape", None)
        where = f"Sequential {config.get('name')!r}"
        if not isinstance(descriptions, list):
            raise ValueError(f"{where}: its config has no list of 'layers'.")
        for key in config:
            if key not in MODEL_KEYS:
                raise checks.unknown(where, "config key", key, MODEL_KEYS | {"layers", "build_input_shape"})
        config["trainable"] = config.get("trainable") is not False
        layers = []
        for number, description in enumerate(descriptions):
            try:
                layers.append(deserialize(description))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{where}, layer {number}: {error}") from error
        model = cls(layers, **config)
        if shape is not None and not model.built and layers:
            model.build(tuple(shape))
        return model
