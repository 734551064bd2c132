"""Kernels that only move and add: the input into time-major order and back, and sums of columns."""

from functools import cache

from numba import cuda

from numbalstm.kernels.cuda.kernel import ELEMENTS, Kernel

THREADS = 256


@cache
def make_gather(element: str, masked: bool, factors: bool, threads: int = THREADS) -> Kernel:
    """Return the kernel that copies a sequence batch of any strides to a contiguous (T, B, F), in processing order.

    Arguments: source and its strides of b, t, f; target; T, B, F; factors (B, F); mask (T, B) in processing order,
    where it is 0 the target is 0 whatever the source holds. A negative stride of t, from the last step, reverses.
    """
    real = ELEMENTS[element]

    def gather(source, s_b, s_t, s_f, target, steps, batch, features, factor, mask):
        i = cuda.blockIdx.x * threads + cuda.threadIdx.x
        if i < steps * batch * features:
            f = i % features
            row = i // features
            b = row % batch
            value = real(0.0)
            if not masked or mask[row] != 0:
                value = source[b * s_b + row // batch * s_t + f * s_f]
                if factors:
                    value *= factor[b * features + f]
            target[i] = value

    return Kernel("gather", (element, masked, factors, threads), gather, "RlllRlllRB", threads)


@cache
def make_scatter(element: str, factors: bool, add: bool, threads: int = THREADS) -> Kernel:
    """Return the kernel that copies, or adds, a contiguous (T, B, F) to an array of any strides.

    Arguments: source; target and its strides of b, t, f; T, B, F; factors (B, F).
    """

    def scatter(source, target, s_b, s_t, s_f, steps, batch, features, factor):
        i = cuda.blockIdx.x * threads + cuda.threadIdx.x
        if i < steps * batch * features:
            f = i % features
            b = i // features % batch
            value = source[i]
            if factors:
                value *= factor[b * features + f]
            at = b * s_b + i // (features * batch) * s_t + f * s_f
            if add:
                value += target[at]
            target[at] = value

    return Kernel("scatter", (element, factors, add, threads), scatter, "RRllllllR", threads)


@cache
def make_column_sums(element: str, group: int, threads: int = THREADS) -> Kernel:
    """Return the kernel of sums of columns in pieces: out[piece, n] = sum of a[m, n] w[m, n / group] over its rows m.

    Arguments: a (M, N), weights (M, N / group), not looked at with `group` 0, out (pieces, N), M, N, rows of a piece. A
    block for `threads` columns of one piece; a second launch over the result, unweighted and with one piece, makes the
    sums: always the same order.
    """
    real = ELEMENTS[element]

    def column_sums(a, weights, out, m, n, piece_rows):
        across = (n + threads - 1) // threads
        piece = cuda.blockIdx.x // across
        column = cuda.blockIdx.x % across * threads + cuda.threadIdx.x
        if column < n:
            total = real(0.0)
            for row in range(piece * piece_rows, min(m, (piece + 1) * piece_rows)):
                value = a[row * n + column]
                if group:
                    value *= weights[row * (n // group) + column // group]
                total += value
            out[piece * n + column] = total

    return Kernel("column_sums", (element, group, threads), column_sums, "RRRlll", threads)
