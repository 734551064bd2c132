"""y = x K + b on the register-blocked product: a row's bits do not depend on the rows beside it, as they do in BLAS."""

import numpy as np

from numbalstm.kernels.compilation import entry_point
from numbalstm.kernels.cpu.panel import panel, start_sums
from numbalstm.kernels.cpu.subnormals import flush_subnormals, restore_mode
from numbalstm.kernels.linked import linked
from numbalstm.kernels.memory import item_size, lane_count, load, record_at, store_first

BLOCK = 48  # rows whose sums stay in the first-level cache
# rows first <= r < last; addresses of the packed weights, the bias and sums z (BLOCK, 4 * lanes)
DENSE = np.dtype([(name, np.int64) for name in "first last features columns kernel bias z".split()])
DENSE_BYTES = DENSE.itemsize
_job_at = record_at(DENSE)


@linked
def _finish(tile, z, y, y_row, rows, columns):
    """The first `columns` of each row of z to y."""
    width = lane_count(tile) * item_size(tile)
    for r in range(rows):
        for vector in range(4):
            left = columns - vector * lane_count(tile)
            if left > 0:
                store_first(tile, y + r * y_row + vector * width, load(tile, z + (4 * r + vector) * width), left)


@linked
def _rows(tile, job, x, y):
    mode = flush_subnormals()
    item = item_size(tile)
    span = 4 * lane_count(tile)
    x_row, y_row = job.features * item, job.columns * item
    for start in range(job.first, job.last, BLOCK):
        rows = min(BLOCK, job.last - start)
        for column in range(0, job.columns, span):
            start_sums(tile, job.bias + column * item, job.z, rows)
            weights = job.kernel + column * x_row
            panel(tile, rows, x + start * x_row, x_row, weights, job.features, job.z, span * item, 0, 0)
            _finish(tile, job.z, y + start * y_row + column * item, y_row, rows, job.columns - column)
    restore_mode(mode)


@entry_point()
def dense_jobs(tile, jobs, x, y, first, last):
    """Jobs in turn, x (rows, features) and y (rows, columns): see `kernels.launch`."""
    for number in range(first, last):
        _rows(tile, _job_at(jobs + number * DENSE_BYTES), x, y)
