"""Weights in the order in which the kernels read them, and memory that starts on a cache line."""

from math import prod

import numpy as np

LINE = 64
EXACT_BYTES = 1 << 14


def aligned(shape, dtype):
    """An uninitialised array that starts on a cache line, so that no vector load crosses one."""
    memory = np.empty(prod(shape) * np.dtype(dtype).itemsize + LINE, np.uint8)
    return np.ndarray(shape, dtype, memory, -address(memory) % LINE)


def address(array):
    """First byte of an array."""
    if array.dtype.names:  # the interface of a record describes every field, which takes long
        return array.ctypes.data
    return array.__array_interface__["data"][0]


def worth_narrowing(kernel):
    """Whether an input kernel is large enough for int8 to be faster; a smaller one stays as it is, and exact."""
    return kernel.nbytes > EXACT_BYTES


def pack(matrix, lanes):
    """(k, 4 * units) with gates i f g o  ->  (tiles, k, 4, lanes); units that fill up the last tile are zero."""
    k, width = matrix.shape
    units = width // 4
    tiles = -(-units // lanes)
    packed = aligned((tiles, k, 4, lanes), matrix.dtype)
    packed[-1] = 0
    gates = matrix.reshape(k, 4, units)
    for tile in range(tiles):
        part = gates[:, :, tile * lanes : (tile + 1) * lanes]
        packed[tile, :, :, : part.shape[2]] = part
    return packed


def unpack(packed, units):
    """The matrix (k, 4 * units) that `pack` made (tiles, k, 4, lanes) of."""
    tiles, k, gates, lanes = packed.shape
    return packed.transpose(1, 2, 0, 3).reshape(k, gates, tiles * lanes)[:, :, :units].reshape(k, gates * units)


def pack_by_gate(matrix, lanes):
    """(k, 4 * units) with gates i f g o  ->  (4, groups, k, 4 * lanes): four tiles of one gate side by side."""
    k, width = matrix.shape
    units, group = width // 4, 4 * lanes
    packed = aligned((4, -(-units // group), k, group), matrix.dtype)
    packed[:, -1] = 0
    gates = matrix.reshape(k, 4, units)
    for number in range(packed.shape[1]):
        part = gates[:, :, number * group : (number + 1) * group]
        packed[:, number, :, : part.shape[2]] = part.transpose(1, 0, 2)
    return packed


def pack_columns(matrix, lanes):
    """(k, columns) -> tiles of 4 vectors of columns, [tile][k][4][lanes]; the last one holds 1, 2 or 4 vectors."""
    k, columns = matrix.shape
    vectors = -(-columns // lanes)
    packed = aligned((k * (vectors + 3) * lanes,), matrix.dtype)
    start = 0
    for first in range(0, vectors, 4):
        width = (4 if vectors - first >= 3 else vectors - first) * lanes
        tile = packed[start : start + k * width].reshape(k, width)
        part = matrix[:, first * lanes : first * lanes + width]
        tile[:, : part.shape[1]], tile[:, part.shape[1] :] = part, 0
        start += k * width
    return packed


def pack_bfloat16(matrix, lanes):
    """As `pack`, the upper halves of float32 values that are bfloat16 values."""
    packed = pack(matrix, lanes)
    halves = aligned(packed.shape, np.uint16)
    halves[...] = packed.view(np.uint32) >> 16
    return halves


def deepen(packed, depth, whole):
    """(tiles, k, 4, lanes) -> (tiles, steps, 4, lanes, depth): `depth` of k beside each other, zeros behind the last.

    Steps are filled up to a multiple of `whole`.
    """
    tiles, k, gates, lanes = packed.shape
    steps = -(-k // (depth * whole)) * whole
    deep = aligned((tiles, steps, gates, lanes, depth), packed.dtype)
    deep[:, k // depth :] = 0
    for place in range(depth):
        part = packed[:, place::depth]
        deep[:, : part.shape[1], :, :, place] = part
    return deep


def column_scales(matrix):
    """max|w| / 127 of each column."""
    return np.abs(matrix).max(axis=0, initial=0) / matrix.dtype.type(127)


def to_int8(matrix, scales):
    """Each column in units of its scale, rounded; a column of zeros stays."""
    return np.rint(matrix / np.where(scales == 0, 1, scales)).astype(np.int8)


def pack_int8(matrix, lanes, depth, whole=1):
    """`deepen`ed integers, and columns (tiles, 8, lanes).

    The columns hold 4 vectors of float32 scales, then 4 of int32: what 128 more in each left operand adds, negated.
    """
    scales = column_scales(matrix)
    integers = to_int8(matrix, scales)
    deep = deepen(pack(integers, lanes), depth, whole)
    columns = aligned((len(deep), 8, lanes), np.float32)
    columns[:, :4] = pack(scales[None], lanes)[:, 0]
    columns[:, 4:].view(np.int32)[...] = pack(-128 * integers.sum(axis=0, dtype=np.int32)[None], lanes)[:, 0]
    return deep, columns
