"""Weights in the order in which the kernels read them, and memory that starts on a cache line."""

import numpy as np

LINE = 64


def aligned(shape, dtype):
    """An uninitialised array that starts on a cache line, so that no vector load crosses one."""
    count = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    memory = np.empty(count + LINE, np.uint8)
    start = -memory.__array_interface__["data"][0] % LINE
    return memory[start : start + count].view(dtype).reshape(shape)


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


def pack_bfloat16(matrix, lanes):
    """As `pack`, the upper halves of float32 values that are bfloat16 values."""
    packed = pack(matrix, lanes)
    halves = aligned(packed.shape, np.uint16)
    halves[...] = packed.view(np.uint32) >> 16
    return halves


def pack_pairs(matrix, lanes, step):
    """bfloat16 values as AMX multiplies them: (tiles, steps, 4, step / 2, lanes, 2), zeros behind the last k."""
    halves = pack_bfloat16(matrix, lanes)
    tiles, k = halves.shape[:2]
    packed = aligned((tiles, -(-k // step), 4, step // 2, lanes, 2), np.uint16)
    packed[:, -1:] = 0
    for row in range(k):
        packed[:, row // step, :, row % step // 2, :, row % 2] = halves[:, row]
    return packed


def column_scales(matrix):
    """max|w| / 127 of each column."""
    return np.abs(matrix).max(axis=0, initial=0) / matrix.dtype.type(127)


def to_int8(matrix, scales):
    """Each column in units of its scale, rounded; a column of zeros stays."""
    return np.rint(matrix / np.where(scales == 0, 1, scales)).astype(np.int8)


def pack_int8(matrix, lanes, depth):
    """(tiles, steps, 4, lanes, depth) integers, `depth` of k beside each other, and columns (tiles, 8, lanes).

    The columns hold 4 vectors of float32 scales, then 4 of int32: what 128 more in each left operand adds, negated.
    """
    k = len(matrix)
    scales = column_scales(matrix)
    integers = to_int8(matrix, scales)
    packed = pack(integers, lanes)
    tiles, steps = len(packed), -(-k // depth)
    deep = aligned((tiles, steps, 4, lanes, depth), np.int8)
    deep[:, -1:] = 0
    for place in range(depth):
        part = packed[:, place::depth]
        deep[:, : part.shape[1], :, :, place] = part
    columns = aligned((tiles, 8, lanes), np.float32)
    columns[:, :4] = pack(scales[None], lanes)[:, 0]
    columns[:, 4:].view(np.int32)[...] = pack(-128 * integers.sum(axis=0, dtype=np.int32)[None], lanes)[:, 0]
    return deep, columns
