"""The layer contract of Keras: names, weights, configs, and calls on arrays or on symbolic tensors."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from numbalstm import checks, dtypes, regularizers
from numbalstm.backends.arguments import as_array
from numbalstm.layers.gradients import Differentiable
from numbalstm.layers.registry import LAYERS, deserialize, register_layer, unique_name
from numbalstm.layers.specs import InputSpec, shape_hint
from numbalstm.layers.symbolic import Node, Shape, SymbolicTensor, is_shape, is_symbolic, plain_sizes
from numbalstm.layers.weights import WeightHolder

__all__ = [
    "GENERATIONS",
    "LAYERS",
    "InputSpec",
    "Layer",
    "Node",
    "SymbolicTensor",
    "deserialize",
    "register_layer",
    "unique_name",
]

GENERATIONS = ("keras3", "keras2", "v1")
"""Whose rules a layer or model may follow where those of the generations differ."""


def _once(build: Callable[..., None]) -> Callable[..., None]:
    """Make ``build`` run once and close with `_finish_build`, also when it calls ``super().build()``."""

    @functools.wraps(build)
    def build_once(self: "Layer", input_shape: Any = None) -> None:
        if self._building:
            build(self, input_shape)
        elif not self.built:
            self._building = True
            input_shape = plain_sizes(input_shape)
            try:
                build(self, input_shape)
            finally:
                self._building = False
            self.build_shape = input_shape
            self._finish_build()

    return build_once


class _LayerType(type):
    """Finishes a layer after its constructor: builds it when the constructor's arguments said the input shape."""

    @property
    def __signature__(cls) -> inspect.Signature:
        """The constructor's, for ``help`` and editors, which would else show that of `__call__` below."""
        signature = inspect.signature(cls.__init__)
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        layer = super().__call__(*args, **kwargs)
        if layer._input_shape_hint is not None:
            layer.build(layer._input_shape_hint)
        return layer


class Layer(WeightHolder, Differentiable, metaclass=_LayerType):
    """Base of all layers.

    Parameters
    ----------
    name : str, optional
        None: the class name in snake case, with a number from the second one on.
    trainable : bool, default True
        False lists all weights as non-trainable.
    dtype : str, numpy dtype or policy config, optional
        Dtype policy; None is float32.
    activity_regularizer : regularizer, optional
        Added to the loss in training, for what the layer returns.
    input_shape : sequence of int or None, optional
        Shape without the batch axis.  The layer is built at once.
    batch_input_shape : sequence of int or None, optional
        The same with the batch axis.
    batch_size : int, optional
        Batch axis for `input_shape`.
    weights : list of array, optional
        Values for `set_weights` right after the layer is built.

    Raises
    ------
    ValueError
        For an argument no layer has, naming it.

    Notes
    -----
    A subclass writes ``build(input_shape)`` (adds weights; called once), ``call(inputs, ...)``,
    ``compute_output_shape(input_shape)`` and ``get_config()``, and sets `supports_mask`.  ``call`` takes ``mask`` and
    ``training`` where the layer heeds them.  A layer that can train writes ``_vjp`` with the arguments of ``call`` too.
    """

    supports_mask: bool = False
    _takes_mask: ClassVar[bool]
    _takes_training: ClassVar[bool]
    generation: str = "keras3"
    is_operation: bool = False
    """Whether this is an array function of a Keras 3 graph rather than a layer."""
    harmless_config: ClassVar[dict[str, tuple]] = {
        "dynamic": (False,),
        "sparse": (False,),
        "ragged": (False,),
        "autocast": (True,),
        "quantization_config": (None,),
        "lora_rank": (None,),
        "lora_alpha": (None,),
    }
    """Config keys of the frameworks that mean nothing here, with the values for which that is so."""
    other_arguments: ClassVar[Iterable[str]] = ()
    """Names of constructor arguments that no signature shows."""

    def __init__(
        self,
        *,
        name: str | None = None,
        trainable: bool = True,
        dtype: Any = None,
        activity_regularizer: Any = None,
        input_shape: Sequence[int | None] | None = None,
        batch_input_shape: Sequence[int | None] | None = None,
        batch_size: int | None = None,
        weights: Sequence[Any] | None = None,
        **unknown: Any,
    ) -> None:
        where = type(self).__name__
        if unknown:
            raise checks.unknown(where, "argument", next(iter(unknown)), _argument_names(type(self)))
        if name is not None and not isinstance(name, str):
            raise TypeError(f"{where}: name must be a string, got {checks.describe(name)}.")
        self._named = name is not None
        self.name = unique_name(where) if name is None else name
        self.policy = dtypes.policy(dtype, f"{where}: dtype")
        self.activity_regularizer = regularizers.get(activity_regularizer, f"{where}: activity_regularizer")
        self.built = self._building = False
        self.build_shape: Any = None
        self.input_spec = InputSpec()
        self.nodes: list[Node] = []
        self.init_weights(trainable)
        self._initial_weights = weights
        self._input_shape_hint = shape_hint(where, input_shape, batch_input_shape, batch_size)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "build" in cls.__dict__:
            setattr(cls, "build", _once(cls.__dict__["build"]))  # noqa: B010 - a method is replaced on purpose
        parameters = inspect.signature(cls.call).parameters
        cls._takes_mask = "mask" in parameters
        cls._takes_training = "training" in parameters
        if "call" in cls.__dict__ and "_vjp" not in cls.__dict__:
            setattr(cls, "_vjp", Differentiable._vjp)  # noqa: B010 - an inherited derivative is that of another call

    @property
    def place(self) -> str:
        """What opens an error message: the class, and the name where one was given or the layer is part of a graph."""
        return super().place if self._named or self.nodes else type(self).__name__

    # Building and calling

    @_once
    def build(self, input_shape: Any) -> None:
        """Make the weights for inputs of this shape (batch axis included, None where free); does nothing again."""

    def call(self, inputs: Any) -> Any:
        """Compute the outputs from arrays; the layer is built."""
        raise NotImplementedError(f"{type(self).__name__} has no call().")

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Run the layer on arrays, or add it to a graph when the inputs are symbolic.

        Parameters
        ----------
        inputs : array, symbolic tensor, or a list of them
        *args, **kwargs
            As `call` of the layer takes them; ``training`` is accepted by every layer.
        """
        if kwargs and not self._takes_training:
            kwargs.pop("training", None)
        if type(inputs) is not np.ndarray or not self.built:
            if is_symbolic((inputs, args, kwargs)):
                return self._connect(inputs, args, kwargs)
            self.build(self.shapes_of(inputs))
        if self.activity_regularizer is None and not self.sublayers:
            return self.call(inputs, *args, **kwargs)
        self.clear_losses()
        return self.call_inside(inputs, *args, **kwargs)

    def call_inside(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Run the layer on arrays as a part of another one, whose losses collect over the whole call."""
        if not self._takes_training:
            kwargs.pop("training", None)
        if not self.built:
            self.build(self.shapes_of(inputs))
        outputs = self.call(inputs, *args, **kwargs)
        if self.activity_regularizer is not None:
            self.keep_losses(outputs)
        return outputs

    def _connect(self, inputs: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        try:
            inspect.signature(self.call).bind(inputs, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.place}: {error}.") from None
        shapes = self.shapes_of(inputs)
        self.build(shapes)
        if is_shape(shapes):
            self.check_shape(shapes)
        node = Node(self, (inputs, *args), kwargs)
        outputs = node.set_outputs(self.compute_output_shape(shapes), self.output_dtype(node.inputs))
        self.nodes.append(node)
        return outputs

    def call_with_mask(
        self, inputs: Any, mask: Any, /, *args: Any, gives_mask: bool = True, **kwargs: Any
    ) -> tuple[Any, Any]:
        """Run the layer inside a graph, where masks travel with the arrays.

        Parameters
        ----------
        inputs : array or nested arrays
        mask : None, or bool arrays and None nested as `inputs`
        gives_mask : bool, default True
            Whether `call` gets this mask; False serves `compute_mask` alone.
        *args, **kwargs
            As for `call`; a ``mask`` among them stands above `mask`.

        Returns
        -------
        outputs, masks
            `masks` is None or, flattened, pairs with the flattened outputs.
        """
        mask = self.handed_mask(mask, gives_mask, kwargs)
        outputs = self.call_inside(inputs, *args, **kwargs)
        return outputs, self.compute_mask(inputs, mask) if self.supports_mask else None

    def handed_mask(self, mask: Any, gives_mask: bool, kwargs: dict[str, Any]) -> Any:
        """Put the mask of a graph among the arguments of ``call`` if that takes it; returns the one that counts."""
        if kwargs.get("mask") is not None:
            return kwargs["mask"]
        if gives_mask and self._takes_mask and mask is not None:
            kwargs["mask"] = mask
        return mask

    def shapes_of(self, inputs: Any) -> Any:
        """Return the shape of an input, or the list (dict) of shapes of a list (dict) of inputs, as `build` gets it."""
        if isinstance(inputs, (list, tuple)) and any(hasattr(item, "shape") for item in inputs):
            return [tuple(np.shape(item) if not hasattr(item, "shape") else item.shape) for item in inputs]
        if isinstance(inputs, Mapping):
            return {key: tuple(item.shape) for key, item in inputs.items()}
        return tuple(inputs.shape) if hasattr(inputs, "shape") else as_array(self.place, "inputs", inputs).shape

    def array(self, inputs: Any, keep_integers: bool = False) -> np.ndarray:
        """Return one input as a checked array: in the type of the arithmetic, or integers as they are."""
        array = as_array(self.place, "the input", inputs)
        self.check_shape(array.shape)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{self.place}: the input must hold real numbers, got dtype {array.dtype}.")
        return array if keep_integers and array.dtype.kind != "f" else self.policy.to_compute(array)

    def result(self, array: np.ndarray) -> np.ndarray:
        """Return what `call` computed in the type of the layer's results; integers stay."""
        return self.policy.to_output(array) if array.dtype.kind == "f" else array

    def known_size(self, shape: Shape, axis: int) -> int:
        """Return one size of the input's shape; ValueError where it is not known."""
        size = shape[axis]
        if size is None:
            raise ValueError(f"{self.place}: axis {axis} of the input must have a known size, got shape {shape}.")
        return size

    def check_shape(self, shape: Shape) -> None:
        """Raise ValueError when one input's shape does not fit `input_spec`."""
        spec = self.input_spec
        if spec.rank is not None and len(shape) != spec.rank:
            raise ValueError(f"{self.place}: the input must have {spec.rank} axes, got shape {shape}.")
        if len(shape) < spec.min_rank:
            raise ValueError(f"{self.place}: the input must have at least {spec.min_rank} axes, got shape {shape}.")
        for axis, size in spec.axes.items():
            if shape[axis] is not None and shape[axis] != size:
                raise ValueError(f"{self.place}: axis {axis} of the input must have size {size}, got shape {shape}.")

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape, or the nested shapes, of what a call on inputs of this shape returns."""
        return tuple(input_shape)

    def output_shapes(self, *shapes: Any) -> Any:
        """Return `compute_output_shape` for the shapes of all positional arguments of a call."""
        return self.compute_output_shape(shapes[0])

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the mask of the outputs; passes the input's mask on unless a layer says otherwise."""
        return mask if self.supports_mask else None

    @property
    def input_dtype(self) -> str:
        """Name of the element type in which arrays should come."""
        return self.policy.output.name

    def output_dtype(self, inputs: Sequence[SymbolicTensor]) -> str:
        """Return the name of the outputs' element type for symbolic inputs."""
        return "bfloat16" if self.policy.half == "bfloat16" else self.policy.output.name

    # Config, graph, text

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values, in the form of the layer's generation of Keras."""
        dtype = dtypes.serialize(self.policy, self._config_form)
        config = {"name": self.name, "trainable": self.trainable, "dtype": dtype}
        if self.activity_regularizer is not None:
            config["activity_regularizer"] = regularizers.serialize(self.activity_regularizer)
        return config

    @property
    def _config_form(self) -> str:
        return "keras3" if self.generation == "keras3" else "keras2"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Layer":
        """Make a layer from a config of any generation.

        Raises
        ------
        ValueError
            For a key that the layer does not know.
        """
        return cls(**cls.clean_config(config))

    @classmethod
    def clean_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the config without the keys of `harmless_config` whose values mean nothing here."""
        harmless: dict[str, tuple] = {}
        for base in reversed(cls.__mro__):
            harmless.update(base.__dict__.get("harmless_config", {}))
        return {key: value for key, value in config.items() if value not in harmless.get(key, ())}

    @property
    def input(self) -> Any:
        """Symbolic input of the layer's only call in a graph."""
        return self._only_node().args[0]

    @property
    def output(self) -> Any:
        """Symbolic output of the layer's only call in a graph."""
        return self._only_node().structure

    def _only_node(self) -> Node:
        if len(self.nodes) != 1:
            raise ValueError(
                f"{self.place}: was called {len(self.nodes)} times in a graph; input/output need one call."
            )
        return self.nodes[0]

    def _finish_build(self) -> None:
        self.built = True
        if self._initial_weights is not None:
            weights, self._initial_weights = self._initial_weights, None
            self.set_weights(weights)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name!r}, built={self.built}>"


def _argument_names(cls: type) -> set[str]:
    """Return the names of all constructor arguments of a class and its bases."""
    parameters = [p for base in cls.__mro__ for p in inspect.signature(base.__init__).parameters.values()]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {parameter.name for parameter in parameters if parameter.kind in named} - {"self"} | {*cls.other_arguments}
