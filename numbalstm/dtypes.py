"""Dtype policies by name: which types the weights, the arithmetic and the results have."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from numbalstm import checks


@dataclass(frozen=True)
class Policy:
    """The float types of one layer.

    Attributes
    ----------
    name : str
        Keras name of the policy.
    variable, compute, output : numpy.dtype
        Types of the weights, of the arithmetic and of what a call returns.  The arithmetic is float32 or float64.
    half : {"float16", "bfloat16"} or None
        The 16-bit type whose values inputs, weights, states and results take; None for full precision.

    Notes
    -----
    NumPy has no bfloat16: such arrays are float32 arrays that hold bfloat16 values.
    """

    name: str
    variable: np.dtype
    compute: np.dtype
    output: np.dtype
    half: str | None = None

    def to_variable(self, array: Any) -> np.ndarray:
        """Return `array` in the type of the weights; its values become 16-bit ones unless the policy is a mixed one."""
        return _cast(array, self.variable, None if self.name.startswith("mixed_") else self.half)

    def to_compute(self, array: Any) -> np.ndarray:
        """Return `array` in the type of the arithmetic, its values rounded to `half` first where there is one."""
        return _cast(array, self.compute, self.half)

    def to_output(self, array: Any) -> np.ndarray:
        """Return `array` in the type of the results."""
        return _cast(array, self.output, self.half)


def round_bfloat16(array: Any) -> np.ndarray:
    """Round to the nearest bfloat16 value (ties to even).

    Parameters
    ----------
    array : array_like of a real type, any shape
        Converted to float32 first.

    Returns
    -------
    numpy.ndarray of float32
        A new array of the same shape; infinities and NaN stay.
    """
    values = np.array(array, dtype=np.float32, order="C")
    bits = values.view(np.uint32)
    # Adding just under half of the dropped 16 bits, plus the kept last bit, makes the carry round half to even.
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(values), rounded.view(np.float32), values)


def policy(dtype: Any = None, where: str = "dtype") -> Policy:
    """Return the dtype policy that `dtype` names.

    Parameters
    ----------
    dtype : str, numpy dtype or scalar type, dict, Policy or None
        A name ("float32", "float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16"), a NumPy type of one of
        the first three, the policy dict of a Keras 2 or Keras 3 layer config, or a Policy.  None is "float32".
    where : str
        Opens the error message, for example ``"LSTM: dtype"``.

    Raises
    ------
    ValueError
        When it is none of these; the message lists the names.
    """
    if dtype is None:
        return POLICIES["float32"]
    if isinstance(dtype, Policy):
        return dtype
    name = _name(dtype)
    if name not in POLICIES:
        shown = dtype if isinstance(dtype, str) or name is None else name
        raise checks.unknown(where, "dtype policy", shown, POLICIES)
    return POLICIES[name]


def serialize(value: Policy, generation: str = "keras3") -> dict | str:
    """Return a policy as a layer config holds it: a dict in Keras 3, the name or (mixed policies) a dict in Keras 2."""
    if generation == "keras3":
        return {
            "module": "keras",
            "class_name": "DTypePolicy",
            "config": {"name": value.name},
            "registered_name": None,
        }
    if value.name.startswith("mixed_"):
        return {"class_name": "Policy", "config": {"name": value.name}}
    return value.name


def _name(dtype: Any) -> str | None:
    """Return the name in a dtype specification; None where it has none."""
    if isinstance(dtype, str):
        return dtype
    if isinstance(dtype, Mapping):
        config = dtype.get("config")
        known_class = dtype.get("class_name") in ("DTypePolicy", "FloatDTypePolicy", "Policy", "PolicyV1")
        name = config.get("name") if known_class and isinstance(config, Mapping) else None
        return name if isinstance(name, str) else None
    if isinstance(dtype, (np.dtype, type)):
        try:
            return np.dtype(dtype).name
        except TypeError:
            return None
    return None


def _cast(array: Any, dtype: np.dtype, half: str | None) -> np.ndarray:
    """Return `array` as `dtype`, rounded to the values of `half`; not copied when nothing changes."""
    array = np.asarray(array)
    # Values beyond the narrower type's range become infinite, as in the frameworks; that is no reason to warn.
    with np.errstate(over="ignore"):
        if half == "bfloat16":
            array = round_bfloat16(array)
        elif half == "float16":
            array = array.astype(np.float16, copy=False)
        return array.astype(dtype, copy=False)


def _policy(name: str, variable: Any, compute: Any, output: Any, half: str | None = None) -> Policy:
    return Policy(name, np.dtype(variable), np.dtype(compute), np.dtype(output), half)


POLICIES = {
    entry.name: entry
    for entry in (
        _policy("float64", np.float64, np.float64, np.float64),
        _policy("float32", np.float32, np.float32, np.float32),
        _policy("float16", np.float16, np.float32, np.float16, "float16"),
        _policy("bfloat16", np.float32, np.float32, np.float32, "bfloat16"),
        _policy("mixed_float16", np.float32, np.float32, np.float16, "float16"),
        _policy("mixed_bfloat16", np.float32, np.float32, np.float32, "bfloat16"),
    )
}
