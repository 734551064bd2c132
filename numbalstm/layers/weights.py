"""The weights of a layer and of the layers inside it."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from numbalstm import checks, constraints, dtypes, initializers, regularizers
from numbalstm.initializers.base import FromArray
from numbalstm.layers.symbolic import leaves
from numbalstm.parameters import Weight


class LayerWeight(Weight):
    """A weight with a known shape whose initializer runs at the first read.

    A model that is built and then given its trained weights never draws random ones, and takes no memory before.

    Parameters
    ----------
    name : str
    shape : sequence of int
    dtype : numpy.dtype
    initialize : callable
        Returns the first value, an array of that shape and type.
    trainable, regularizer, constraint
        As in `Weight`.
    """

    __slots__ = ("_array", "_dtype", "_initialize", "_shape")

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype,
        initialize: Callable[[], np.ndarray],
        trainable: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
    ) -> None:
        self._shape = tuple(shape)
        self._dtype = dtype
        self._initialize = initialize
        super().__init__(name, None, trainable, regularizer, constraint)

    @property
    def value(self) -> np.ndarray:
        """Current value; drawn from the initializer at the first read of a weight never set."""
        if self._array is None:
            self._array = self._initialize()
        return self._array

    @value.setter
    def value(self, array: np.ndarray | None) -> None:
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""
        return self._shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the value."""
        return self._dtype


class WeightHolder:
    """What layers and models do with their weights."""

    built: bool
    name: str
    policy: dtypes.Policy
    generation: str
    activity_regularizer: Callable[[Any], float] | None

    def init_weights(self, trainable: bool) -> None:
        """Start without weights; the constructor calls this."""
        self._trainable = bool(trainable)
        self._own_weights: list[Weight] = []
        self._activity_losses: list[float] = []

    def add_weight(
        self,
        name: str,
        shape: Sequence[int],
        initializer: Any = "glorot_uniform",
        regularizer: Any = None,
        constraint: Any = None,
        trainable: bool = True,
    ) -> Weight:
        """Add a variable of this shape.

        Parameters
        ----------
        name : str
        shape : sequence of int
        initializer : str, callable or array
            A callable of shape and dtype runs when the value is first read.
        regularizer, constraint : str or callable, optional
        trainable : bool, default True

        Returns
        -------
        Weight

        Raises
        ------
        ValueError
            For an unknown name, or when the initializer is an array of another shape.
        """
        shape, dtype = tuple(shape), self.policy.variable
        initializer = initializers.get(initializer, "glorot_uniform", f"{self.place}: the initializer of {name}")
        regularizer = regularizers.get(regularizer, f"{self.place}: the regularizer of {name}")
        constraint = constraints.get(constraint, f"{self.place}: the constraint of {name}")
        if isinstance(initializer, FromArray):
            checks.shape(self.place, f"the initial {name}", initializer.array, shape)
        initialize = partial(self._initial_value, name, initializer, shape, dtype)  # unlike a closure, can be pickled
        weight = LayerWeight(name, shape, dtype, initialize, trainable, regularizer, constraint)
        self._own_weights.append(weight)
        return weight

    def _initial_value(
        self, name: str, initializer: Callable[..., np.ndarray], shape: tuple[int, ...], dtype: np.dtype
    ) -> np.ndarray:
        value = self.policy.to_variable(initializer(shape, dtype))
        checks.shape(self.place, f"the initial {name}", value, shape)
        return value

    @property
    def sublayers(self) -> Sequence["WeightHolder"]:
        """The layers inside this one, in the order of their weights; a wrapper or a model overrides this."""
        return ()

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights; setting it sets the layers inside too."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for layer in self.sublayers:
            layer.trainable = value

    @property
    def supports_masking(self) -> bool:
        """The Keras name of `supports_mask`."""
        return self.supports_mask

    @property
    def place(self) -> str:
        """Class and name, which open the messages of errors."""
        return f"{type(self).__name__} {self.name!r}"

    def owned_weights(self) -> Iterator[tuple["WeightHolder", Weight]]:
        """Yield each weight with the layer it belongs to: the layer's own, then those of the layers inside."""
        for weight in self._own_weights:
            yield self, weight
        for layer in self.sublayers:
            yield from layer.owned_weights()

    def weight_paths(self) -> list[str]:
        """Return a name for each of `weights`; that of a layer inside has the layer's name before it."""
        paths: dict[int, str] = {}
        for path, weight in self._paths():
            paths.setdefault(id(weight), path)
        return list(paths.values())

    def _paths(self) -> Iterator[tuple[str, Weight]]:
        for weight in self._own_weights:
            yield weight.name, weight
        for layer in self.sublayers:
            yield from ((f"{layer.name}/{path}", weight) for path, weight in layer._paths())

    @property
    def weights(self) -> list[Weight]:
        """All variables: the layer's own, then those of the layers inside, each once."""
        return list({id(weight): weight for _, weight in self.owned_weights()}.values())

    @property
    def trainable_weights(self) -> list[Weight]:
        """The variables that training changes; none when the layer is not trainable."""
        if not self.trainable:
            return []
        found = {id(weight): weight for weight in self._own_weights if weight.trainable}
        for layer in self.sublayers:
            found.update((id(weight), weight) for weight in layer.trainable_weights)
        return list(found.values())

    @property
    def non_trainable_weights(self) -> list[Weight]:
        """The variables that training leaves alone."""
        trainable = {id(weight) for weight in self.trainable_weights}
        return [weight for weight in self.weights if id(weight) not in trainable]

    def get_weights(self) -> list[np.ndarray]:
        """Return copies of the weights' values, in the order of `weights`; [] before the layer is built."""
        return [np.array(weight.value) for weight in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Replace the values of all weights.

        Parameters
        ----------
        weights : list of array
            In the order of `get_weights`; copied, in the type of the weights.

        Raises
        ------
        ValueError
            When the count or a shape differs, or the layer is not built.
        """
        owners = {id(weight): (layer, weight) for layer, weight in self.owned_weights()}
        if not hasattr(weights, "__len__"):
            raise TypeError(f"{self.place}: weights must be a list of arrays, got {checks.describe(weights)}.")
        if len(weights) != len(owners):
            hint = "" if self.built else " The layer is not built yet: call it, or build(input_shape), first."
            raise ValueError(f"{self.place}: expected {len(owners)} weight arrays, got {len(weights)}.{hint}")
        values = []
        for (layer, weight), given in zip(owners.values(), weights, strict=True):
            array = np.array(given)
            checks.shape(self.place, f"weight {weight.name!r}", array, weight.shape)
            if array.dtype.kind not in "fiub":
                raise TypeError(
                    f"{self.place}: weight {weight.name!r} must hold real numbers, got dtype {array.dtype}."
                )
            values.append(layer.policy.to_variable(array))
        for (_, weight), value in zip(owners.values(), values, strict=True):
            weight.value = value
        self.weights_changed()

    def weights_changed(self) -> None:
        """Call `on_weights_changed` of this layer and of all layers inside."""
        self.on_weights_changed()
        for layer in self.sublayers:
            layer.weights_changed()

    def on_weights_changed(self) -> None:
        """Drop what the layer derived from its weights; called after they are replaced."""

    def apply_constraints(self) -> None:
        """Replace the value of each trainable weight that has a constraint by the constrained value."""
        trainable = {id(weight) for weight in self.trainable_weights}
        for layer, weight in self.owned_weights():
            if weight.constraint is not None and id(weight) in trainable:
                weight.value = layer.policy.to_variable(weight.constraint(weight.value))
        self.weights_changed()

    # Losses

    @property
    def losses(self) -> list[float]:
        """Penalties of regularizers: on what the latest call returned, then on the weights as they are now.

        An activity regularizer counts once for each returned array, divided by the array's first size.  Weights that
        are not trainable do not count; in generations "keras2" and "v1" they do.
        """
        trainable = {id(weight) for weight in self.trainable_weights}
        owners = {id(weight): (layer, weight) for layer, weight in self.owned_weights()}
        return self._collected_losses() + [
            float(weight.regularizer(weight.value))
            for layer, weight in owners.values()
            if weight.regularizer is not None and (id(weight) in trainable or layer.generation != "keras3")
        ]

    def _collected_losses(self) -> list[float]:
        layers = list({id(layer): layer for layer in self.sublayers}.values())
        return self._activity_losses + [loss for layer in layers for loss in layer._collected_losses()]

    def clear_losses(self) -> None:
        """Forget the penalties of the latest call, of this layer and of all layers inside."""
        self._activity_losses = []
        for layer in self.sublayers:
            layer.clear_losses()

    def keep_losses(self, outputs: Any) -> None:
        """Add the activity regularizer's penalty of each returned array to those of the present call."""
        penalty = self.activity_regularizer
        self._activity_losses += [float(penalty(output)) / max(len(output), 1) for output in leaves(outputs)]

    def count_params(self) -> int:
        """Return the number of weight elements; ValueError before the layer is built."""
        if not self.built:
            raise ValueError(
                f"{self.place}: is not built yet, so its weights cannot be counted. Build or call it first."
            )
        return sum(int(np.prod(weight.shape, dtype=np.int64)) for weight in self.weights)
