"""The tiled products inside the step kernels: plain CUDA, of any strides and any sizes, float32 or float64."""

from functools import cache
from typing import Any, NamedTuple

from numba import cuda

from numbalstm.kernels.cuda.kernel import ELEMENTS, Kernel, device


class Tile(NamedTuple):
    """Rows and columns of a block's outputs, one of each a thread, and how deep its products are cut."""

    rows: int = 16
    columns: int = 16
    depth: int = 16

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.rows * self.columns


def make_dot(element: str, tile: Tile, *, gates: int, left_gates: int, factors: bool, depth_first: bool) -> Any:
    """Return a device function that leaves, for each gate g, the sum over k of left[row, k, g] * right[column, k, g].

    Parameters
    ----------
    gates : int
        Sums of a thread.
    left_gates : int
        1: the gates share the left values.
    factors : bool
        Multiply left values by those of an array (left_gates, rows, depth).
    depth_first : bool
        Neighbouring threads fetch neighbouring k of the right operand, not neighbouring columns.
    """
    rows, columns, depth = tile
    threads, pitch, real = tile.threads, tile.depth + 1, ELEMENTS[element]
    left_count, right_count = left_gates * rows * depth, gates * columns * depth

    @device
    def dot(
        left, left_row, left_k, left_gate, factor, right, right_column, right_k, right_gate,
        row0, column0, all_rows, all_columns, all_depth, acc,
    ):  # fmt: skip
        a = cuda.shared.array((left_gates, rows, pitch), real)
        b = cuda.shared.array((gates, columns, pitch), real)
        tid = cuda.threadIdx.x
        mine, other = tid // columns, tid % columns
        for g in range(gates):
            acc[g] = real(0.0)
        for k0 in range(0, all_depth, depth):
            for i in range(tid, left_count, threads):
                k = i % depth
                row = i // depth % rows
                g = i // depth // rows
                inside = row0 + row < all_rows and k0 + k < all_depth
                value = real(0.0)
                if inside:
                    value = left[(row0 + row) * left_row + (k0 + k) * left_k + g * left_gate]
                    if factors:
                        value *= factor[(g * all_rows + row0 + row) * all_depth + k0 + k]
                a[g, row, k] = value
            for i in range(tid, right_count, threads):
                fast = i % (depth if depth_first else columns)
                slow = i // (depth if depth_first else columns) % (columns if depth_first else depth)
                k = fast if depth_first else slow
                column = slow if depth_first else fast
                g = i // depth // columns
                inside = column0 + column < all_columns and k0 + k < all_depth
                value = real(0.0)
                if inside:
                    value = right[(column0 + column) * right_column + (k0 + k) * right_k + g * right_gate]
                b[g, column, k] = value
            cuda.syncthreads()
            for k in range(depth):
                for g in range(gates):
                    acc[g] += a[g if left_gates > 1 else 0, mine, k] * b[g, other, k]
            cuda.syncthreads()

    return dot


@cache
def make_product(element: str, tile: Tile = Tile()) -> Kernel:  # noqa: B008 - a tuple
    """Return the kernel C[m, n] = sum_k A[m, k] B[n, k] (+ bias[n]) (+ C[m, n]), every operand with strides of its own.

    Arguments: A, its strides of m and k; B, its strides of n and k; bias; C, its strides of m and n; M, N, K; whether
    there is a bias; whether to add to C. One thread an output: for what no tuned kernel serves.
    """
    rows, columns, _ = tile
    real = ELEMENTS[element]
    dot = make_dot(element, tile, gates=1, left_gates=1, factors=False, depth_first=True)

    def product(a, a_m, a_k, b, b_n, b_k, bias, c, c_m, c_n, m, n, k, with_bias, add):
        acc = cuda.local.array(1, real)
        across = (n + columns - 1) // columns
        row0 = cuda.blockIdx.x // across * rows
        column0 = cuda.blockIdx.x % across * columns
        dot(a, a_m, a_k, 0, a, b, b_n, b_k, 0, row0, column0, m, n, k, acc)
        row = row0 + cuda.threadIdx.x // columns
        column = column0 + cuda.threadIdx.x % columns
        if row < m and column < n:
            value = acc[0]
            if with_bias:
                value += bias[column]
            at = row * c_m + column * c_n
            if add:
                value += c[at]
            c[at] = value

    return Kernel("product", (element, *tile), product, "RllRllRRlllllii", tile.threads)
