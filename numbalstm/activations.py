"""Activations by name, as callables with a derivative.

``numbalstm.activations.tanh`` and every other name of `get` is an `Activation` too.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from numbalstm import checks, objects
from numbalstm.kernels.families import FAMILIES
from numbalstm.kernels.formulas import FORMULAS
from numbalstm.parametric import DEFAULTS, EQUAL, FIXED

GENERATIONS = ("keras3", "keras2")


class Activation:
    """A function of arrays and its vector-Jacobian product.

    Attributes
    ----------
    name : str
        Name under which `get` finds it (a user's callable: its ``__name__``).
    code : int or None
        Code by which the compute kernels know it; None when they have no formula for it.
    function : callable
        The function itself, of a float array.

    Notes
    -----
    Made by `get`; the functions behind names keep the float type of their input.
    """

    __slots__ = ("_derivative", "_vjp", "code", "function", "name")

    def __init__(
        self,
        name: str,
        function: Callable,
        *,
        code: int | None = None,
        derivative: Callable | None = None,
        vjp: Callable | None = None,
    ) -> None:
        self.name = name
        self.function = function
        self.code = code
        self._derivative = derivative
        self._vjp = vjp

    def __call__(self, x: Any) -> Any:
        """Return f(x).

        Parameters
        ----------
        x : array_like of a real type, any shape
            float16 is computed in float32 and returned as float16; integers and booleans are taken as float32.

        Returns
        -------
        numpy.ndarray or NumPy scalar
            Of the shape and float type of `x`.  What a user's callable returns is passed on as it is.

        Raises
        ------
        TypeError
            When `x` is complex or no number.
        """
        x, dtype = _float_array(f"activation {self.name}", "x", x)
        with np.errstate(all="ignore"):
            y = self.function(x)
        return y if self.is_custom else y.astype(dtype, copy=False)

    def vjp(self, x: Any, g: Any) -> Any:
        """Return the gradient with respect to `x` for the cotangent `g` of f(x).

        Parameters
        ----------
        x, g : array_like of real types, of one shape

        Returns
        -------
        numpy.ndarray or NumPy scalar
            Of the shape and float type of `x`.

        Raises
        ------
        TypeError
            When the activation is a callable without a ``vjp`` method.
        ValueError
            When the shapes differ.
        """
        self.check_differentiable()
        where = f"activation {self.name}"
        x, dtype = _float_array(where, "x", x)
        g, _ = _float_array(where, "g", g)
        checks.shape(where, "g", g, x.shape)
        with np.errstate(all="ignore"):
            if self._derivative is not None:
                return (g * self._derivative(x)).astype(dtype, copy=False)
            result = np.asarray(self._vjp(x, g))
        checks.shape(where, "the result of vjp", result, x.shape)
        return result.astype(dtype, copy=False)

    def check_differentiable(self) -> None:
        """Raise TypeError when `vjp` cannot serve: for a callable without a ``vjp`` method."""
        if self._derivative is None and self._vjp is None:
            raise TypeError(
                f"activation {self.name}: no derivative is known. "
                "Give the callable a method vjp(x, g) that returns the gradient for x."
            )

    @property
    def kernel_form(self) -> tuple[int | None, float, float]:
        """The code, and the alpha and beta that go with it: 0 where the formula has none."""
        return self.code, 0.0, 0.0

    @property
    def is_custom(self) -> bool:
        """Whether it is a callable of the user's."""
        return NAMED.get(self.name) != self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Activation) and (self.name, self.function) == (other.name, other.function)

    def __hash__(self) -> int:
        return hash((self.name, self.function))

    def __repr__(self) -> str:
        return f"<activation {self.name}>"


class Parametric(Activation):
    """An activation with numbers of its own; made by `onnx`.

    Attributes
    ----------
    alpha : float
    beta : float or None
        None where the function has no such number.
    """

    __slots__ = ("alpha", "beta")

    def __init__(self, name: str, alpha: float, beta: float | None) -> None:
        code, *functions = FAMILIES[name]
        function, derivative = (partial(one, alpha=alpha, beta=beta) for one in functions)
        super().__init__(name, function, code=code, derivative=derivative)
        self.alpha, self.beta = alpha, beta

    @property
    def kernel_form(self) -> tuple[int | None, float, float]:
        """The code, alpha and beta; 0 for a beta that the formula does not have."""
        return self.code, self.alpha, 0.0 if self.beta is None else self.beta

    @property
    def is_custom(self) -> bool:
        """Whether it is a callable of the user's: no."""
        return False

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Parametric):
            return False
        return (self.name, self.alpha, self.beta) == (other.name, other.alpha, other.beta)

    def __hash__(self) -> int:
        return hash((self.name, self.alpha, self.beta))

    def __repr__(self) -> str:
        beta = "" if self.beta is None else f", beta={self.beta:g}"
        return f"<activation {self.name}, alpha={self.alpha:g}{beta}>"


# ---- over the last axis -----------------------------------------------------------------------------------------


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True, initial=-np.inf))
    return e / e.sum(axis=-1, keepdims=True)


def _softmax_vjp(x: np.ndarray, g: np.ndarray) -> np.ndarray:
    y = _softmax(x)
    return y * (g - (g * y).sum(axis=-1, keepdims=True))


def _log_softmax(x: np.ndarray) -> np.ndarray:
    shifted = x - x.max(axis=-1, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _log_softmax_vjp(x: np.ndarray, g: np.ndarray) -> np.ndarray:
    return g - _softmax(x) * g.sum(axis=-1, keepdims=True)


def _sparsemax(x: np.ndarray) -> np.ndarray:
    """Project onto the simplex (Martins and Astudillo 2016, algorithm 1); Keras 3.15's own version does not."""
    if x.shape[-1] == 0:
        return x
    x = x - x.max(axis=-1, keepdims=True)
    descending = -np.sort(-x, axis=-1)
    total = descending.cumsum(axis=-1)
    rank = np.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    # The condition holds for a leading run; it holds nowhere only with NaN, which must come out as NaN.
    count = np.maximum((1.0 + rank * descending > total).sum(axis=-1, keepdims=True), 1)
    threshold = (np.take_along_axis(total, count - 1, axis=-1) - 1.0) / count.astype(x.dtype)
    return np.maximum(x - threshold, 0.0)


def _sparsemax_vjp(x: np.ndarray, g: np.ndarray) -> np.ndarray:
    y = _sparsemax(x)
    support = np.where(np.isnan(y), y, y > 0.0).astype(x.dtype)
    return support * (g - (support * g).sum(axis=-1, keepdims=True) / support.sum(axis=-1, keepdims=True))


# ---- names ------------------------------------------------------------------------------------------------------

NAMED = {
    **{name: Activation(name, f.forward, code=f.code, derivative=f.derivative) for name, f in FORMULAS.items()},
    "softmax": Activation("softmax", _softmax, vjp=_softmax_vjp),
    "log_softmax": Activation("log_softmax", _log_softmax, vjp=_log_softmax_vjp),
    "sparsemax": Activation("sparsemax", _sparsemax, vjp=_sparsemax_vjp),
}

KERAS3_NAMES = {
    **{name: name for name in NAMED},
    "swish": "silu",
    "hard_swish": "hard_silu",
    "hard_sigmoid_keras3": "hard_sigmoid",
}

KERAS2_NAMES = {
    **{
        name: name
        for name in (
            "linear tanh sigmoid relu relu6 leaky_relu elu selu exponential softplus softsign silu gelu mish softmax "
            "log_softmax hard_sigmoid_keras2"
        ).split()
    },
    "swish": "silu",
    "hard_sigmoid": "hard_sigmoid_keras2",
    "hard_sigmoid_keras3": "hard_sigmoid",
}

_WRITTEN_IN_KERAS2 = {"silu": "swish", "hard_sigmoid_keras2": "hard_sigmoid", "hard_sigmoid": "hard_sigmoid_keras3"}

_REFUSED = {
    "glu": "it halves the width of its input, so it fits neither a gate nor a layer's output",
    "threshold": "it needs arguments that a name cannot carry; pass a callable instead",
}


def get(identifier: Any, generation: str = "keras3", where: str = "activation") -> Activation:
    """Return the activation that `identifier` stands for.

    Parameters
    ----------
    identifier : str, callable, Activation, dict or None
        A name, case-sensitive; a callable of one array; the dict of a function in a Keras 2 or Keras 3 config.  None is
        linear.
    generation : {"keras3", "keras2"}
        Whose names count.  ``"hard_sigmoid"`` is clip(x/6 + 1/2, 0, 1) in Keras 3 and clip(0.2x + 0.5, 0, 1) in
        Keras 2; ``"hard_sigmoid_keras3"`` and ``"hard_sigmoid_keras2"`` are the same ones everywhere.
    where : str
        Opens the messages, for example ``"LSTM: activation"``.

    Raises
    ------
    ValueError
        When the name is unknown, or names a function that cannot serve (glu, threshold).

    Examples
    --------
    >>> float(get("relu")(-1.5)), float(get("hard_sigmoid", "keras2")(1.0))
    (0.0, 0.7)
    """
    names = KERAS2_NAMES if checks.one_of(where, "generation", generation, GENERATIONS) == "keras2" else KERAS3_NAMES
    if identifier is None:
        return NAMED["linear"]
    if isinstance(identifier, Activation):
        return identifier
    if isinstance(identifier, Mapping):
        if identifier.get("class_name") == ONNX_CLASS:
            return objects.build(where, onnx, identifier.get("config"))
        identifier = _function_name(where, identifier)
    elif callable(identifier):
        name = getattr(identifier, "__name__", type(identifier).__name__)
        return Activation(name, identifier, vjp=getattr(identifier, "vjp", None))
    if isinstance(identifier, str) and identifier in _REFUSED:
        raise ValueError(f"{where}: {identifier!r} cannot be used: {_REFUSED[identifier]}.")
    if not isinstance(identifier, str) or identifier not in names:
        raise checks.unknown(where, "activation", identifier, names)
    return NAMED[names[identifier]]


ONNX_CLASS = "OnnxActivation"
"""Class name in the config of an activation from `onnx`; no framework has it."""


def onnx(name: str, alpha: float | None = None, beta: float | None = None) -> Activation:
    """Return a function of the ONNX operator LSTM.

    Parameters
    ----------
    name : str
        Relu, Sigmoid, Softplus, Softsign, Tanh; or, with numbers: Affine alpha x + beta; Elu x (x >= 0), else
        alpha (e^x - 1); HardSigmoid clip(alpha x + beta, 0, 1); LeakyRelu x (x >= 0), else alpha x; ScaledTanh
        alpha tanh(beta x); ThresholdedRelu x (x >= alpha), else 0.
    alpha, beta : float, optional
        None is the function's default: Elu 1, HardSigmoid 0.2 and 0.5, LeakyRelu 0.01, ThresholdedRelu 1.

    Raises
    ------
    ValueError
        When the name is unknown, a number is missing, or one is given that the function does not have.

    Examples
    --------
    >>> float(onnx("ScaledTanh", 2.0, 0.5)(0.0)), onnx("HardSigmoid").name
    (0.0, 'hard_sigmoid_keras2')
    """
    where = f"activations.onnx({name!r})"
    if name not in FIXED and name not in DEFAULTS:
        raise checks.unknown("activations.onnx", "activation", name, (*FIXED, *DEFAULTS))
    defaults = () if name in FIXED else DEFAULTS[name]
    numbers: list[float | None] = [None, None]
    for index, (label, given) in enumerate((("alpha", alpha), ("beta", beta))):
        if index >= len(defaults):
            if given is not None:
                raise ValueError(f"{where}: has no {label}, got {checks.describe(given)}.")
        elif given is None and defaults[index] is None:
            raise ValueError(f"{where}: needs {label}; it has no default.")
        else:
            numbers[index] = defaults[index] if given is None else checks.number(where, label, given)
    same = FIXED.get(name) or EQUAL.get((name, *numbers))
    return Parametric(name, *numbers) if same is None else NAMED[same]


def serialize(activation: Activation | None, generation: str = "keras3") -> Any:
    """Return what a layer config of `generation` holds for an activation: its name.

    A user's callable has no name that could be loaded again and is returned itself; None stays None.
    """
    if activation is None:
        return None
    if isinstance(activation, Parametric):
        config = {"name": activation.name, "alpha": activation.alpha, "beta": activation.beta}
        return {"class_name": ONNX_CLASS, "config": config}
    if activation.is_custom:
        return activation.function
    return _WRITTEN_IN_KERAS2.get(activation.name, activation.name) if generation == "keras2" else activation.name


def _function_name(where: str, identifier: Mapping) -> Any:
    """Return the name in a serialized function; the class name of anything else, which is then refused by name."""
    kind, config = objects.class_and_config(where, "activation", identifier)
    return config if kind == "function" else kind


def _float_array(where: str, name: str, x: Any) -> tuple[np.ndarray, np.dtype]:
    """Return an array in a type to compute in, and the type of the result."""
    x = np.asarray(x)
    if x.dtype.kind in "biu":
        x = x.astype(np.float32)
    if x.dtype.kind != "f":
        raise TypeError(f"{where}: {name} must be real numbers, got dtype {x.dtype}.")
    dtype = x.dtype.newbyteorder("=")
    return x.astype(np.float32 if dtype == np.float16 else dtype, copy=False), dtype


def __getattr__(name: str) -> Activation:
    if name in KERAS3_NAMES:
        return NAMED[KERAS3_NAMES[name]]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *KERAS3_NAMES})
