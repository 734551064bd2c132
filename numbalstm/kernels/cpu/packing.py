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
