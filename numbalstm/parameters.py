"""Weight records: the arrays of one LSTM, and the variables of a layer."""

from typing import Any

import numpy as np

from numbalstm import checks

GATES = ("i", "f", "g", "o")
"""Gate order of every weight's last axis (Keras writes the candidate g as c); gate k owns columns k*U to (k+1)*U."""

PEEPHOLE_GATES = ("i", "f", "o")
"""Row order of `peephole_kernel`."""


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

    Attributes
    ----------
    units, features : int
    output_size : int
        Width of h: `units`, or the projection's width.
    dtype : numpy.dtype
    packed : dict
        Empty at first; a backend keeps its own forms of the weights here, under its own key.

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
        "dtype",
        "features",
        "kernel",
        "output_size",
        "packed",
        "peephole_kernel",
        "projection_kernel",
        "recurrent_kernel",
        "units",
    )

    def __init__(
        self,
        kernel: Any,
        recurrent_kernel: Any,
        bias: Any = None,
        *,
        peephole_kernel: Any = None,
        projection_kernel: Any = None,
    ) -> None:
        self.kernel = _frozen("kernel", kernel)
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
        self.recurrent_kernel = self._checked("recurrent_kernel", recurrent_kernel, (self.output_size, width))
        self.bias = self._optional("bias", bias, (width,))
        self.peephole_kernel = self._optional("peephole_kernel", peephole_kernel, (len(PEEPHOLE_GATES), units))
        self.packed: dict = {}

    def _optional(self, name: str, array: Any, expected: tuple) -> np.ndarray | None:
        return None if array is None else self._checked(name, array, expected)

    def _checked(self, name: str, array: Any, expected: tuple) -> np.ndarray:
        array = _frozen(name, array)
        checks.shape("LSTMParameters", name, array, expected)
        if array.dtype != self.dtype:
            raise TypeError(f"LSTMParameters: {name} must have the kernel's dtype {self.dtype}, got {array.dtype}.")
        return array

    def __repr__(self) -> str:
        names = [name for name in ("bias", "peephole_kernel", "projection_kernel") if getattr(self, name) is not None]
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
