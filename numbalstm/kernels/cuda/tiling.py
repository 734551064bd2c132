"""How a block of the tile kernels is laid out: sizes only, and the order of its weights in memory.

A block owns a tile of sums, some rows of the batch times some columns: forward the four gates of some units, summed
over the source units; backward the cotangents of some units, summed over the gates of all units. What is summed over
is cut into pieces of `Tiling.depth` words, and the block's warps share out the tile and, where there are more of them
than parts of it, each piece. A word holds a float32 or tf32 value, or two in bfloat16.
"""

from typing import NamedTuple

import numpy as np

from numbalstm.kernels.cuda.rounding import to_bf16, to_tf32

WARPS, LANES = 8, 32
THREADS = WARPS * LANES
WARP_SUMS = 1024  # of a warp at most: 32 a thread
STAGES = 4  # pieces on their way or in use
PAD = 4  # words between rows in shared memory: 8 rows x 16 bytes fall on 32 different banks
COUNTER = 32  # words from one counter to the next: a cache line each

FORWARD = ((16, 64), (16, 128), (32, 32), (32, 64), (32, 128), (64, 32), (64, 64), (64, 128))
"""Rows and columns of the forward tiles; four columns are a unit."""

BACKWARD = ((16, 16), (16, 32), (32, 8), (32, 16), (32, 32), (64, 8), (64, 16), (64, 32))
"""Rows and columns of the backward tiles; a column is a unit."""

FORWARD_STATE, BACKWARD_STATE = 6, 10
"""Words that a unit of a row keeps in shared memory beside its sums."""


class Tiling(NamedTuple):
    """Layout of a block.

    Attributes
    ----------
    rows, columns : int
        Of its sums.
    gates : int
        Columns of a unit: 4 forward, 1 backward.
    pieces : int
        How many pieces of the weights stay in shared memory from the first step to the last; 0: none, they come from
        the L2 cache in each step.
    """

    rows: int
    columns: int
    gates: int
    pieces: int = 0

    @property
    def units(self) -> int:
        """Units of a block."""
        return self.columns // self.gates

    @property
    def cells(self) -> int:
        """Units of rows that a thread takes through the cell."""
        return self.rows * self.units // THREADS

    @property
    def warp_rows(self) -> int:
        """Rows of a warp's sums."""
        return min(self.rows, 32)

    @property
    def warp_columns(self) -> int:
        """Columns of a warp's sums."""
        return min(self.columns, WARP_SUMS // self.warp_rows)

    @property
    def slices(self) -> int:
        """Warps that share the same sums, each with words of its own of every piece."""
        return WARPS // (self.rows // self.warp_rows * (self.columns // self.warp_columns))

    @property
    def depth(self) -> int:
        """Words of a row of a piece."""
        return max(32, 16 * self.slices)

    @property
    def pitch(self) -> int:
        """Words from row to row of a piece in shared memory."""
        return self.depth + PAD

    @property
    def left_words(self) -> int:
        """Words of a piece of h or dz in shared memory."""
        return self.rows * self.pitch

    @property
    def right_words(self) -> int:
        """Words of a piece of the weights."""
        return self.columns * self.pitch

    @property
    def stage_words(self) -> int:
        """Words of a stage: what has to come in each step."""
        return self.left_words + (0 if self.pieces else self.right_words)

    @property
    def sum_pitch(self) -> int:
        """Words from row to row of the sums in shared memory."""
        return self.columns + 8

    @property
    def staging(self) -> int:
        """Where the stages, and after them the sums of all slices, begin in shared memory."""
        return self.pieces * self.right_words

    @property
    def state(self) -> int:
        """Where the states of the units begin in shared memory."""
        return self.staging + max(STAGES * self.stage_words, self.slices * self.rows * self.sum_pitch)

    @property
    def shared(self) -> int:
        """Bytes of shared memory."""
        state = FORWARD_STATE if self.gates > 1 else BACKWARD_STATE
        return 4 * (self.state + state * self.cells * THREADS)

    def words(self, units: int, mode: str) -> int:
        """Return the words of a row of h, or of dz, that so many units write."""
        count = -(-units // self.units) * self.units * (4 // self.gates)
        return count // 2 if mode == "bf16" else count

    def count(self, units: int, mode: str) -> int:
        """Return the pieces of so many units."""
        return -(-self.words(units, mode) // self.depth)


def rounded(values: np.ndarray, mode: str) -> np.ndarray:
    """Return float32 values (n, k) as the words that a mode multiplies, (n, k or k / 2), rounded as the device does."""
    if mode == "tf32":
        return to_tf32(values)
    if mode == "bf16":
        half = to_bf16(values)
        return half[:, ::2] | half[:, 1::2] << np.uint32(16)
    return np.ascontiguousarray(values, np.float32).view(np.uint32)


def packed(matrix: np.ndarray, tiling: Tiling, units: int, mode: str) -> np.ndarray:
    """Return a (columns, k) matrix as uint32 (tiles, pieces, columns of a tile, pitch), zeros beyond its ends."""
    rows, k = matrix.shape
    depth, pieces = tiling.depth, tiling.count(units, mode)
    tiles = -(-rows // tiling.columns)
    whole = np.zeros((tiles * tiling.columns, pieces * depth * (2 if mode == "bf16" else 1)), np.float32)
    whole[:rows, :k] = matrix
    words = rounded(whole, mode).reshape(tiles, tiling.columns, pieces, depth).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(np.pad(words, ((0, 0), (0, 0), (0, 0), (0, PAD))))
