"""Weight records: the arrays of one LSTM, and the variables of a layer."""

import copy
from typing import Any, NamedTuple

import numpy as np

from numbalstm import checks
from numbalstm.dtypes import round_bfloat16
from numbalstm.kernels.cpu.packing import column_scales, to_int8, worth_narrowing

GATES = ("i", "f", "g", "o")
"""Gate order of every weight's last axis (Keras writes the candidate g as c); gate k owns columns k*U to (k+1)*U."""

PEEPHOLE_GATES = ("i", "f", "o")
"""Row order of `peephole_kernel`."""


WEIGHT_NAMES = ("kernel", "recurrent_kernel", "bias", "peephole_kernel", "projection_kernel")
"""The arrays of an LSTM in the order of a layer's weights; those of layer normalisation follow."""


WEIGHTS_DTYPES = (None, "bfloat16", "int8")


COMPUTE_DTYPES = (None, "bfloat16")


def check_narrow(where: str, weights_dtype: Any, compute_dtype: Any) -> tuple[str | None, str | None]:
    """Return how to store and how to multiply weights; ValueError for what does not exist or go together."""
    checks.one_of(where, "weights_dtype", weights_dtype, WEIGHTS_DTYPES)
    checks.one_of(where, "compute_dtype", compute_dtype, COMPUTE_DTYPES)
    if compute_dtype is not None and weights_dtype == "int8":
        raise ValueError(
            f'{where}: compute_dtype={compute_dtype!r} does not go with weights_dtype="int8"; leave one out.'
        )
    return weights_dtype, compute_dtype


class Norm(NamedTuple):
    """Weights of layer normalisation: z = LN(x K) + LN(h R) + b and h = o phi(LN(c)) (Ba, Kiros and Hinton 2016).

    Each LN normalises its whole width, that is all four gates of a product together, then scales and shifts it:
    ``gamma * (a - mean(a)) / sqrt(var(a) + epsilon) + beta``.  The state c itself is kept as it is.

    Attributes
    ----------
    kernel_gamma, kernel_beta, recurrent_gamma, recurrent_beta : arrays (4 * units,)
    cell_gamma, cell_beta : arrays (units,)
    epsilon : float, default 1e-5
    """

    kernel_gamma: np.ndarray
    kernel_beta: np.ndarray
    recurrent_gamma: np.ndarray
    recurrent_beta: np.ndarray
    cell_gamma: np.ndarray
    cell_beta: np.ndarray
    epsilon: float = 1e-5


NORM_ARRAYS = Norm._fields[:-1]


class LSTMParameters:
    """The weights of one LSTM, checked and frozen.

    Parameters
    ----------
    kernel : float32 or float64 array, (features, 4 * units)
        Input weights.
    recurrent_kernel : array, (units, 4 * units), or (projection, 4 * units) with a `projection_kernel`
        Recurrent weights.
    bias : array, (4 * units,), optional
        None: no bias.
    peephole_kernel : array, (3, units), optional
        Rows i, f, o.  None: no peepholes.
    projection_kernel : array, (units, projection), optional
        None: the output is not projected.
    norm : Norm, optional
        None: no layer normalisation.
    weights_dtype : {"bfloat16", "int8"}, optional
        How the kernels store float32 `kernel` and `recurrent_kernel`, which are rounded to it here: to bfloat16 values,
        or to 255 levels a column, a `kernel` of up to 16 KB excepted.  None: as they are.
    compute_dtype : {"bfloat16"}, optional
        Multiply bfloat16 weights by x and h rounded to bfloat16, summed in float32, where the processor has units for
        that (AMX, AVX-512 BF16); elsewhere the weights alone are rounded.  None: multiply in the weights' dtype.

    Attributes
    ----------
    units, features : int
    output_size : int
        Width of h: `units`, or the projection's width.
    dtype : numpy.dtype
    packed : dict
        Empty at first; a backend keeps its own forms of the weights here, under its own key.
    common : dict
        The same for forms that the recurrent kernel has no part in: `with_recurrent_kernel` hands them on.

    Raises
    ------
    ValueError
        When a shape does not fit the others.
    TypeError
        When an array is neither float32 nor float64, or the arrays differ in type.

    Notes
    -----
    The arrays are contiguous, in native byte order and read-only; one that is so already and owns its memory is shared,
    every other is copied.  A record never changes: make a new one when values do.
    """

    __slots__ = (
        "bias",
        "common",
        "compute_dtype",
        "dtype",
        "features",
        "kernel",
        "norm",
        "output_size",
        "packed",
        "peephole_kernel",
        "projection_kernel",
        "recurrent_kernel",
        "units",
        "weights_dtype",
    )

    def __init__(
        self,
        kernel: Any,
        recurrent_kernel: Any,
        bias: Any = None,
        *,
        peephole_kernel: Any = None,
        projection_kernel: Any = None,
        norm: Norm | None = None,
        weights_dtype: str | None = None,
        compute_dtype: str | None = None,
    ) -> None:
        self.weights_dtype, self.compute_dtype = check_narrow("LSTMParameters", weights_dtype, compute_dtype)
        self.kernel = _frozen("kernel", kernel)
        if self.weights_dtype != "int8" or worth_narrowing(self.kernel):
            self.kernel = self._stored(self.kernel)
        checks.shape("LSTMParameters", "kernel", self.kernel, ("features", "4 * units"))
        self.features, width = self.kernel.shape
        if width == 0 or width % len(GATES):
            raise ValueError(
                f"LSTMParameters: kernel must have shape (features, 4 * units), got {self.kernel.shape}: "
                f"{width} columns are no positive multiple of 4."
            )
        units = self.units = width // len(GATES)
        self.dtype = self.kernel.dtype
        self.projection_kernel = self._optional("projection_kernel", projection_kernel, (units, "projection"))
        self.output_size = units if self.projection_kernel is None else self.projection_kernel.shape[1]
        recurrent_kernel = self._checked("recurrent_kernel", recurrent_kernel, (self.output_size, width))
        self.recurrent_kernel = self._stored(recurrent_kernel)
        self.bias = self._optional("bias", bias, (width,))
        self.peephole_kernel = self._optional("peephole_kernel", peephole_kernel, (len(PEEPHOLE_GATES), units))
        self.norm = None if norm is None else self._checked_norm(norm)
        self.packed: dict = {}
        self.common: dict = {}

    def with_recurrent_kernel(self, matrix: np.ndarray) -> "LSTMParameters":
        """Return a record that differs in the recurrent kernel alone, of the same shape and dtype."""
        other = copy.copy(self)
        other.recurrent_kernel = self._stored(self._checked("recurrent_kernel", matrix, self.recurrent_kernel.shape))
        other.common = self.common
        return other

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that are there, by name; those of `norm` last."""
        named = {name: getattr(self, name) for name in WEIGHT_NAMES}
        if self.norm is not None:
            named |= {name: getattr(self.norm, name) for name in NORM_ARRAYS}
        return {name: array for name, array in named.items() if array is not None}

    def _checked_norm(self, norm: Norm) -> Norm:
        epsilon = checks.number("LSTMParameters", "norm.epsilon", norm.epsilon, minimum=0.0)
        shapes = {name: (self.units if name.startswith("cell") else len(GATES) * self.units,) for name in NORM_ARRAYS}
        arrays = [self._checked(f"norm.{name}", getattr(norm, name), shape) for name, shape in shapes.items()]
        return Norm(*arrays, epsilon)

    def _optional(self, name: str, array: Any, expected: tuple) -> np.ndarray | None:
        return None if array is None else self._checked(name, array, expected)

    def _checked(self, name: str, array: Any, expected: tuple) -> np.ndarray:
        array = _frozen(name, array)
        checks.shape("LSTMParameters", name, array, expected)
        if array.dtype != self.dtype:
            raise TypeError(f"LSTMParameters: {name} must have the kernel's dtype {self.dtype}, got {array.dtype}.")
        return array

    def _stored(self, matrix: np.ndarray) -> np.ndarray:
        """Return the values that `weights_dtype` can hold."""
        narrow = self.weights_dtype or self.compute_dtype
        if narrow is None or matrix.ndim != 2:
            return matrix
        if matrix.dtype != np.float32:
            name = "weights_dtype" if self.weights_dtype else "compute_dtype"
            raise ValueError(f"LSTMParameters: {name}={narrow!r} needs float32 weights, got {matrix.dtype}.")
        if narrow == "bfloat16":
            return _frozen("", round_bfloat16(matrix))
        scales = column_scales(matrix)
        return _frozen("", to_int8(matrix, scales) * scales)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what backends made of the weights: it holds addresses in this object's and process's memory."""
        return {name: getattr(self, name) for name in self.__slots__} | {"packed": {}, "common": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        for array in self.arrays.values():
            array.flags.writeable = False

    def __repr__(self) -> str:
        names = [name for name in (*WEIGHT_NAMES[2:], "norm") if getattr(self, name) is not None]
        extras = "".join(f", {name}" for name in names)
        return f"LSTMParameters(features={self.features}, units={self.units}, dtype={self.dtype}{extras})"


class Weight:
    """A layer's variable: a value that may be replaced, and what training needs to know about it.

    Parameters
    ----------
    name : str
        Last part of the variable's path, for example ``"kernel"``.
    value : numpy.ndarray
        Current value, in the policy's variable type.
    trainable : bool, default True
    regularizer : callable, optional
        ``regularizer(value)`` is the loss it adds.
    constraint : callable, optional
        ``constraint(value)`` is the value kept after an update.
    """

    __slots__ = ("constraint", "name", "regularizer", "trainable", "value")

    def __init__(
        self, name: str, value: np.ndarray, trainable: bool = True, regularizer: Any = None, constraint: Any = None
    ) -> None:
        self.name = name
        self.value = value
        self.trainable = trainable
        self.regularizer = regularizer
        self.constraint = constraint

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""
        return self.value.shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the value."""
        return self.value.dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the value, so that a weight may stand in expressions: ``x @ layer.kernel``."""
        return np.array(self.value, dtype, copy=copy)

    def __repr__(self) -> str:
        fixed = "" if self.trainable else ", trainable=False"
        return f"Weight({self.name!r}, shape={self.shape}, dtype={self.dtype}{fixed})"


def _frozen(name: str, array: Any) -> np.ndarray:
    """Return `array` contiguous, native, read-only and owned by nobody who could write to it."""
    array = np.asarray(array)
    if array.dtype.newbyteorder("=") not in (np.float32, np.float64):
        raise TypeError(
            f"LSTMParameters: {name} must be float32 or float64, got {array.dtype}. Convert it with astype first."
        )
    flags = array.flags
    if array.dtype.isnative and flags.c_contiguous and flags.owndata and not flags.writeable:
        return array
    array = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    array.flags.writeable = False
    return array
