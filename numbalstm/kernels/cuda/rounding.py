"""float32 values as the words that tensor cores multiply, rounded as the conversions of the device round."""

import numpy as np


def _bits(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32).view(np.uint32)


def to_tf32(values: np.ndarray) -> np.ndarray:
    """Return the words of values with 10 bits after the point; halves go away from zero."""
    return (_bits(values) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)


def to_bf16(values: np.ndarray) -> np.ndarray:
    """Return values with 7 bits after the point in the lower half of words; halves go to the even one."""
    bits = _bits(values)
    return (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
