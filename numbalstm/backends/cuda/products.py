"""Matrix products and the moves around them, as launches."""

from typing import Any

from numbalstm.backends.cuda import choice
from numbalstm.backends.cuda.problem import Problem
from numbalstm.kernels.cuda.dot import make_product
from numbalstm.kernels.cuda.gemm import DEPTH, MODES, TILE, make_gemm
from numbalstm.kernels.cuda.moves import make_column_sums, make_gather, make_scatter

PIECES = 64  # of the rows of a column sum: fixed, so that results do not depend on the device


def blocks(count: int, threads: int) -> int:
    """Return how many blocks hold `count` threads."""
    return -(-count // threads)


def product(
    device: Any, element: str, a: tuple, b: tuple, c: tuple, sizes: tuple, bias: Any = None, add: bool = False,
    mode: str = "plain", like: tuple | None = None,
) -> None:  # fmt: skip
    """Compute C[m, n] = sum_k A[m, k] B[n, k] (+ bias[n]) (+ C): each operand a pointer and its two strides.

    `a` has the strides of m and k, `b` of n and k, `c` of m and n; `sizes` is (M, N, K). The tuned kernel of a mode of
    `gemm.MODES` serves large products of contiguous operands, a plain one all others. A product that is a part of
    another, of the sizes `like`, is computed as that one is.
    """
    m, n, _ = sizes
    contiguous = 1 in a[1:] and 1 in b[1:] and c[1:] == (n, 1) and not add
    if mode in MODES and contiguous and choice.tuned(*(like or sizes)):
        _tuned(device, mode, a, b, c[0], sizes, bias, like or sizes)
        return
    kernel = make_product(element, device.tile)
    count = blocks(m, device.tile.rows) * blocks(n, device.tile.columns)
    device.launch(kernel, count, *a, *b, c[0] if bias is None else bias, *c, *sizes, bias is not None, add)


def _tuned(device: Any, mode: str, a: tuple, b: tuple, c: Any, sizes: tuple, bias: Any, like: tuple) -> None:
    m, n, k = sizes
    sides, pitches = [], []
    for (_, own, along), extent in zip((a, b), (m, n), strict=True):
        k_fast = along == 1
        pitch = own if k_fast else along
        sides += [k_fast, pitch % 4 == 0 and (k if k_fast else extent) % 4 == 0]
        pitches.append(pitch)
    kernel = make_gemm(mode, *sides)
    parts = choice.pieces(*like) if bias is None else 1
    piece = blocks(blocks(k, parts), DEPTH) * DEPTH
    parts = blocks(k, piece)
    workspace = None if parts == 1 else device.empty((parts, m * n), "float32")
    where = c if workspace is None else workspace.at()
    count = parts * blocks(m, TILE) * blocks(n, TILE)
    operands = (a[0], pitches[0], b[0], pitches[1])
    device.launch(kernel, count, *operands, where if bias is None else bias, where, m, n, k, piece, bias is not None)
    if workspace is not None:
        sums = make_column_sums("float32", 0, device.threads)
        device.launch(sums, blocks(m * n, sums.threads), where, where, c, parts, m * n, parts)


def gather(device: Any, element: str, source: tuple, target: Any, shape: tuple, factors: Any, mask: Any) -> None:
    """Copy (pointer, strides of b, t, f) to a contiguous (T, B, F) of the given shape."""
    kernel = make_gather(element, mask is not None, factors is not None, device.threads)
    steps, batch, features = shape
    count = blocks(steps * batch * features, kernel.threads)
    device.launch(kernel, count, *source, target, *shape, _or(factors, target), _or(mask, device.nothing))


def scatter(device: Any, element: str, source: Any, target: tuple, shape: tuple, factors: Any, add: bool) -> None:
    """Copy, or add, a contiguous (T, B, F) of the given shape to (pointer, strides of b, t, f)."""
    kernel = make_scatter(element, factors is not None, add, device.threads)
    steps, batch, features = shape
    count = blocks(steps * batch * features, kernel.threads)
    device.launch(kernel, count, source, *target, *shape, _or(factors, source))


def copy(device: Any, element: str, source: Any, target: Any, count: int) -> None:
    """Copy values that lie one behind the other."""
    gather(device, element, (source, 0, 0, 1), target, (1, 1, count), None, None)


def column_sums(
    device: Any, element: str, a: Any, rows: int, columns: int, weights: Any = None, group: int = 4
) -> Any:  # fmt: skip
    """Return the sums over the rows of a, each value times that of `weights` (rows, columns / group), as (columns,)."""
    piece = blocks(rows, PIECES)
    pieces = blocks(rows, piece)
    parts, sums = device.empty((pieces, columns), element), device.empty((columns,), element)
    kernel = make_column_sums(element, 0 if weights is None else group, device.threads)
    across = blocks(columns, kernel.threads)
    device.launch(kernel, across * pieces, a, _or(weights, a), parts.at(), rows, columns, piece)
    plain = make_column_sums(element, 0, device.threads)
    device.launch(plain, across, parts.at(), parts.at(), sums.at(), pieces, columns, pieces)
    return sums


def _or(pointer: Any, other: Any) -> Any:
    return other if pointer is None else pointer


def strides_in_order(problem: Problem, strides: tuple[int, int, int]) -> tuple[int, tuple[int, int, int]]:
    """Return where step 0 of the processing order begins, and the strides of b, t, f from there."""
    s_b, s_t, s_f = strides
    return ((problem.steps - 1) * s_t, (s_b, -s_t, s_f)) if problem.reverse else (0, (s_b, s_t, s_f))
