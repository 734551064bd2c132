"""y = x K + b on the register-blocked product: a row's bits do not depend on the rows beside it, as they do in BLAS."""

from numba import njit, prange

from numbalstm.kernels.compilation import entry_point
from numbalstm.kernels.cpu.panel import panel, start_sums
from numbalstm.kernels.cpu.subnormals import flush_subnormals, restore_mode
from numbalstm.kernels.memory import item_size, lane_count, load, store_first

BLOCK = 48  # rows whose sums stay in the first-level cache


@njit(error_model="numpy")
def _finish(tile, z, y, y_row, rows, columns):
    """The first `columns` of each row of z to y."""
    width = lane_count(tile) * item_size(tile)
    for r in range(rows):
        for vector in range(4):
            left = columns - vector * lane_count(tile)
            if left > 0:
                store_first(tile, y + r * y_row + vector * width, load(tile, z + (4 * r + vector) * width), left)


@njit(error_model="numpy")
def _rows(tile, x, kernel, bias, y, z, first, last, features, columns):
    mode = flush_subnormals()
    item = item_size(tile)
    span = 4 * lane_count(tile)
    for start in range(first, last, BLOCK):
        rows = min(BLOCK, last - start)
        for column in range(0, columns, span):
            weights = kernel + column * features * item
            start_sums(tile, bias + column * item, z, rows)
            at = x + start * features * item
            panel(tile, rows, at, features * item, weights, features, z, span * item, 0, 0)
            target = y + (start * columns + column) * item
            _finish(tile, z, target, columns * item, rows, columns - column)
    restore_mode(mode)


@entry_point(parallel=True)
def dense_parallel(tile, x, kernel, bias, y, z, rows, features, columns, workers):
    """Byte addresses x (rows, features), y (rows, columns), packed weights, z (workers, BLOCK, 4 * lanes)."""
    scratch = BLOCK * 4 * lane_count(tile) * item_size(tile)
    for w in prange(workers):
        first, last = rows * w // workers, rows * (w + 1) // workers
        _rows(tile, x, kernel, bias, y, z + w * scratch, first, last, features, columns)


@entry_point()
def dense_serial(tile, x, kernel, bias, y, z, rows, features, columns):
    """As `dense_parallel`, on the calling thread."""
    _rows(tile, x, kernel, bias, y, z, 0, rows, features, columns)
