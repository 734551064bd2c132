"""Gradients of layers: what a pullback returns, and how a layer comes to one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from numbalstm import checks
from numbalstm.backends.arguments import as_array
from numbalstm.backends.cuda.arrays import DeviceArray, on_gpu, view
from numbalstm.layers.symbolic import is_symbolic, leaves, map_leaves
from numbalstm.parameters import Weight

Pull = Callable[[Any, bool], "LayerGradients"]
"""From cotangents nested as the outputs, and whether activity regularizers count, to gradients."""


class LayerGradients(NamedTuple):
    """What a pullback returns.

    Attributes
    ----------
    inputs : array or nested arrays
        Nested as the inputs of the call; None for what is not differentiable, such as integers.
    initial_state : nested arrays or None
        Nested as the layer's states, also when the call gave none; None for layers without states.
    constants : list of array or None
        For the `constants` of an RNN.
    weights : WeightGradients
        An array for each trainable weight and None for the others, in the order of ``get_weights()``.

    Notes
    -----
    Between layers `weights` is a dict by `Weight`, and a missing entry, or None elsewhere, is zero.
    """

    inputs: Any
    initial_state: Any = None
    constants: Any = None
    weights: Any = MappingProxyType({})


class WeightGradients(Sequence):
    """Gradients of weights: a sequence in the order of ``get_weights()`` that can be indexed by name too.

    Parameters
    ----------
    names : sequence of str
        The weight's own name; for a layer inside, with the layer's name before it: ``"lstm/kernel"``.
    arrays : sequence of array or None

    Examples
    --------
    >>> import numpy as np
    >>> gradients = WeightGradients(["kernel", "bias"], [np.ones((2, 3)), None])
    >>> gradients["kernel"].shape, gradients[1]
    ((2, 3), None)
    """

    __slots__ = ("_arrays", "names")

    def __init__(self, names: Sequence[str], arrays: Sequence[np.ndarray | None]) -> None:
        self.names = tuple(names)
        self._arrays = list(arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __getitem__(self, key: Any) -> Any:
        """Return one gradient by position or name, or a list for a slice; ValueError when no weight has the name."""
        if not isinstance(key, str):
            return self._arrays[key]
        count = self.names.count(key)
        if count == 0:
            raise checks.unknown("gradients.weights", "weight", key, self.names)
        if count > 1:
            raise ValueError(f"gradients.weights: {count} weights are called {key!r}; take them by position.")
        return self._arrays[self.names.index(key)]

    def items(self) -> Iterator[tuple[str, np.ndarray | None]]:
        """Yield name and gradient of each weight."""
        return zip(self.names, self._arrays, strict=True)

    def __repr__(self) -> str:
        shown = (f"{name}: {None if array is None else array.shape}" for name, array in self.items())
        return f"WeightGradients({', '.join(shown)})"


class Differentiable:
    """The part of a layer that makes pullbacks."""

    def vjp(self, inputs: Any, *args: Any, **kwargs: Any) -> tuple[Any, Callable[..., LayerGradients]]:
        """Run the layer and return, beside the outputs, the function that takes their cotangents back.

        Parameters
        ----------
        inputs, *args, **kwargs
            As for a call.

        Returns
        -------
        outputs
            As a call returns them.  Stored states, moving averages and random numbers go on as in a call.
        pullback : callable
            ``pullback(*cotangents, regularize=False)`` returns `LayerGradients`.  It takes one cotangent for each
            returned array or group of arrays, in order and nested as these, or all of them as one list or dict; None
            and those left out are zero.  It may be called many times.  With ``regularize=True`` the gradients of
            activity regularizers are added.

        Raises
        ------
        NotImplementedError
            When the layer, or one inside, defines ``call`` without a derivative.
        ValueError
            When an argument, or later a cotangent, does not fit.

        Notes
        -----
        Nothing is kept in the layer: pullbacks of several calls, and of several threads, do not meet.  Outputs and
        gradients are the caller's to change, what went in is not.  Gradients are in the type of the arithmetic: float32
        for 16-bit policies, whose roundings count as identities.
        """
        if is_symbolic((inputs, args, kwargs)):
            raise TypeError(f"{self.place}: vjp needs arrays, got symbolic tensors.")
        self.clear_losses()
        outputs, pull = self.vjp_inside(inputs, *args, **kwargs)

        def pullback(*cotangents: Any, regularize: bool = False) -> LayerGradients:
            given = aligned(self.place, outputs, cotangents)
            found = pull(given, regularize)
            weights = WeightGradients(self.weight_paths(), self._weight_arrays(found.weights))
            dx, *others = _independent([_completed(found.inputs, inputs), *found[1:3]], given)
            return LayerGradients(dx, *others, weights)

        return outputs, pullback

    def _weight_arrays(self, found: Mapping[Weight, np.ndarray]) -> list[np.ndarray | None]:
        """Return a gradient for each trainable weight, zeros where none came, and None for the others."""
        trainable = {id(weight) for weight in self.trainable_weights}
        compute = {id(weight): layer.policy.compute for layer, weight in self.owned_weights()}

        def gradient(weight: Weight) -> np.ndarray | None:
            if id(weight) not in trainable:
                return None
            return found[weight] if weight in found else np.zeros(weight.shape, compute[id(weight)])

        return [gradient(weight) for weight in self.weights]

    def vjp_with_mask(
        self, inputs: Any, mask: Any, /, *args: Any, gives_mask: bool = True, **kwargs: Any
    ) -> tuple[Any, Any, Pull]:
        """Run the layer inside a graph; returns what `call_with_mask` does, and the pull."""
        mask = self.handed_mask(mask, gives_mask, kwargs)
        outputs, pull = self.vjp_inside(inputs, *args, **kwargs)
        return outputs, self.compute_mask(inputs, mask) if self.supports_mask else None, pull

    def vjp_inside(self, inputs: Any, *args: Any, **kwargs: Any) -> tuple[Any, Pull]:
        """Run the layer as a part of another one; returns outputs and the pull."""
        outputs, pull = self.unpenalized_vjp(inputs, *args, **kwargs)
        if self.activity_regularizer is None:
            return outputs, pull
        self.keep_losses(outputs)
        kept = map_leaves(np.array, outputs)

        def penalized_pull(cotangents: Any, regularize: bool) -> LayerGradients:
            return pull(self._add_penalties(kept, cotangents) if regularize else cotangents, regularize)

        return outputs, penalized_pull

    def unpenalized_vjp(self, inputs: Any, *args: Any, **kwargs: Any) -> tuple[Any, Pull]:
        """Run the layer; its own activity regularizer does not count, those of layers inside do."""
        if not self._takes_training:
            kwargs.pop("training", None)
        if not self.built:
            self.build(self.shapes_of(inputs))
        outputs, pull = self._vjp(inputs, *args, **kwargs)
        shape = np.shape(next(leaves(outputs), None))

        def checked_pull(cotangents: Any, regularize: bool) -> LayerGradients:
            cotangents = map_leaves(self._cotangent, cotangents)
            if all(leaf is None for leaf in leaves(cotangents)):
                if not (regularize and self.sublayers):
                    return LayerGradients(None)
                cotangents = _with_first(cotangents, np.zeros(shape, self.policy.compute))
            return pull(cotangents, regularize)

        return outputs, checked_pull

    def _vjp(self, inputs: Any, *args: Any, **kwargs: Any) -> tuple[Any, Pull]:
        """Run the layer, with the arguments of ``call``, and return the outputs and the pull.

        ``pull(cotangents, regularize)`` returns `LayerGradients` with the weights' gradients in a dict by `Weight`.
        The cotangents are nested as the outputs, in the type of the arithmetic; where there are several outputs, some
        are None.  A layer with layers inside hands `regularize` on to their pulls.
        """
        raise NotImplementedError(f"{self.place}: has no gradient: its class defines call() without _vjp().")

    def _cotangent(self, cotangent: Any) -> np.ndarray | None:
        there = cotangent is None or isinstance(cotangent, DeviceArray)
        return cotangent if there else np.asarray(cotangent, self.policy.compute)

    def _add_penalties(self, outputs: Any, cotangents: Any) -> Any:
        """Return the cotangents with the activity regularizer's gradients, nested as they are."""
        regularizer = self.activity_regularizer
        if not hasattr(regularizer, "gradient"):
            raise TypeError(
                f"{self.place}: the activity regularizer {regularizer!r} has no gradient(y) method, so it cannot train."
            )
        given = leaves(cotangents)

        def added(output: np.ndarray) -> np.ndarray:
            penalty = self._cotangent(regularizer.gradient(self._cotangent(output))) / max(len(output), 1)
            cotangent = next(given)
            return penalty if cotangent is None else cotangent + penalty

        return map_leaves(added, outputs)


def aligned(place: str, outputs: Any, cotangents: tuple) -> Any:
    """Return the cotangents that a caller gave nested as the outputs, checked; None leaves stay, but not all of them.

    Raises
    ------
    ValueError
        When there are too many, or a shape differs.
    """
    nested = isinstance(outputs, (list, tuple, Mapping))
    if nested and not _is_whole(outputs, cotangents):
        cotangents = _padded(place, outputs, cotangents)
    elif len(cotangents) > 1:
        raise ValueError(f"{place}: the layer returned one array, got {len(cotangents)} cotangents.")
    else:
        cotangents = cotangents[0] if cotangents else None
    result = _paired(place, "cotangent", outputs, cotangents)
    first = next(leaves(outputs), None)
    if first is not None and all(leaf is None for leaf in leaves(result)):
        return _with_first(result, np.zeros(np.shape(first)))
    return result


def _is_whole(outputs: Any, cotangents: tuple) -> bool:
    """Return whether one structure was given for all outputs."""
    if len(cotangents) != 1 or not isinstance(cotangents[0], (list, tuple, Mapping)):
        return False
    return isinstance(outputs, Mapping) or not isinstance(next(iter(outputs), None), (list, tuple, Mapping))


def _padded(place: str, outputs: Any, cotangents: tuple) -> Any:
    if len(cotangents) > len(outputs):
        raise ValueError(f"{place}: the layer returned {len(outputs)} values, got {len(cotangents)} cotangents.")
    padded = [*cotangents, *[None] * (len(outputs) - len(cotangents))]
    return dict(zip(outputs, padded, strict=True)) if isinstance(outputs, Mapping) else padded


def _paired(place: str, name: str, output: Any, cotangent: Any) -> Any:
    """Return one cotangent nested as its output, its shapes checked."""
    if isinstance(output, Mapping):
        given = {} if cotangent is None else cotangent
        if not isinstance(given, Mapping):
            raise ValueError(f"{place}: {name} must be a dict like the output, got {checks.describe(cotangent)}.")
        for key in given:
            if key not in output:
                raise checks.unknown(place, "output", key, output)
        return {key: _paired(place, f"{name}[{key!r}]", item, given.get(key)) for key, item in output.items()}
    if isinstance(output, (list, tuple)):
        given = [None] * len(output) if cotangent is None else cotangent
        if not isinstance(given, (list, tuple)) or len(given) != len(output):
            raise ValueError(
                f"{place}: {name} must be a list of {len(output)} like the output, got {checks.describe(cotangent)}."
            )
        pairs = enumerate(zip(output, given, strict=True))
        return [_paired(place, f"{name}[{number}]", *pair) for number, pair in pairs]
    if cotangent is None:
        return None
    array = view(place, name, cotangent, None) if on_gpu(cotangent) else np.asarray(cotangent)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{place}: {name} must hold real numbers, got dtype {array.dtype}.")
    checks.shape(place, name, array, np.shape(output))
    return array


def _with_first(structure: Any, value: Any) -> Any:
    """Return a structure with its first leaf replaced."""
    replaced = iter([value])
    return map_leaves(lambda leaf: next(replaced, leaf), structure)


def _completed(gradient: Any, inputs: Any) -> Any:
    """Return the inputs' gradient nested as the inputs: None for integers, zeros for floats that got none."""
    if isinstance(inputs, Mapping):
        return {name: _completed(gradient and gradient[name], item) for name, item in inputs.items()}
    if isinstance(gradient, list) or (isinstance(inputs, (list, tuple)) and any(hasattr(a, "shape") for a in inputs)):
        given = [None] * len(inputs) if gradient is None else gradient
        return [_completed(*pair) for pair in zip(given, inputs, strict=True)]
    if gradient is not None and on_gpu(inputs):
        return gradient
    array = as_array("the gradient", "an input without one", inputs)
    if array.dtype.kind != "f":
        return None
    return np.zeros(array.shape, np.result_type(array, np.float32)) if gradient is None else gradient


def _independent(gradients: Any, cotangents: Any) -> Any:
    """Return gradients of which none shares memory with another or with a cotangent, so that each may be changed."""
    taken = [leaf for leaf in leaves(cotangents) if isinstance(leaf, np.ndarray)]

    def own(gradient: np.ndarray | None) -> np.ndarray | None:
        if gradient is None or isinstance(gradient, DeviceArray):
            return gradient  # arrays that a GPU made are new ones
        if any(np.may_share_memory(gradient, other) for other in taken):
            gradient = gradient.copy()
        taken.append(gradient)
        return gradient

    return map_leaves(own, gradients)


def filled(gradients: Any, like: Any) -> Any:
    """Return nested gradients with zeros in the place of None, shaped as the arrays in `like`."""
    if isinstance(like, (list, tuple)):
        return [
            filled(*pair) for pair in zip([None] * len(like) if gradients is None else gradients, like, strict=True)
        ]
    return np.zeros(np.shape(like), np.asarray(like).dtype) if gradients is None else gradients


def added(first: Any, second: Any) -> Any:
    """Return the sum of two equally nested gradients, in which None is zero."""
    if first is None or second is None:
        return second if first is None else first
    if isinstance(first, Mapping):
        return {key: added(first[key], second[key]) for key in first}
    if isinstance(first, (list, tuple)):
        return [added(*pair) for pair in zip(first, second, strict=True)]
    return first + second


def added_weights(*parts: Mapping[Weight, np.ndarray]) -> dict[Weight, np.ndarray]:
    """Return the sum of several layers' weight gradients."""
    total: dict[Weight, np.ndarray] = {}
    for part in parts:
        for weight, gradient in part.items():
            total[weight] = added(total.get(weight), gradient)
    return total
