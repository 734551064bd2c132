"""What one worker of a backward pass has to do with a chunk of timesteps, and what follows from its tables."""

import numpy as np

from numbalstm.kernels.cpu.job import CELL
from numbalstm.kernels.cpu.panel import block_rows
from numbalstm.kernels.linked import linked
from numbalstm.kernels.memory import item_size, load_integer, record_at

FIELDS = (
    "features units outputs tiles "
    "norm "  # 0, or address of a record of kernels.cpu.norm_job
    "worker first_row rows "  # of the batch in the order of the tape, how many of this worker
    "first_tile last_tile "  # whose weight gradients this worker adds up
    "first_step last_step all_rows "  # the chunk, and how many rows of all workers it has
    "offsets all_offsets "  # int64 tables: rows of this worker, and of all, before each timestep of the tape
    "x_rows x_step times "  # the inputs, features side by side: addresses of the rows, and the steps of each
    "z z_tile h c "  # the tape: see kernels.cpu.job
    "has_dy dy_rows dy_step "  # the outputs' adjoints, if any
    "dx_rows dx_step "  # the inputs' adjoints
    "dz "  # (rows of the chunk, 4, tiles * lanes)
    "dh dc sums "  # (rows, dh_row bytes), (rows, tiles * lanes), scratch
    "h_row state_row dh_row "  # bytes of rows
    "targets owners "  # int64 tables, a row of the chunk each: address of its dx, and whose row it is
    "left left_block "  # blocks, so many bytes each, of (rows of the chunk, block rows) of x, then of h'; or 4 of these
    "panel "  # (rows of the chunk, 4, lanes)
    "gradient bias_gradient "  # (tiles, blocks * block rows, 4, lanes), and the same of one row
    "kernel_t recurrent_t "  # packed: see backends.tape
    "x_factors h_factors "  # as in kernels.cpu.job
    "dp peephole_gradient "  # (rows of the chunk, 3, tiles * lanes), and what it adds up to
    "dm dm_row dr projection_t "  # with a projection: (rows, dm_row bytes), (rows of the chunk, h_row bytes), packed
    "left_m projection_gradient"  # (blocks, rows of the chunk, block rows) of m, and (groups, rows of blocks, 4, lanes)
).split()
BACKWARD_JOB = np.dtype([(name, np.int64) for name in FIELDS] + CELL)
JOB_BYTES = BACKWARD_JOB.itemsize
job_at = record_at(BACKWARD_JOB)


@linked
def place_of(job, step):
    """Row of the chunk's dz at which a timestep begins: the last one comes first."""
    return load_integer(job.offsets + 8 * job.last_step) - load_integer(job.offsets + 8 * (step + 1))


@linked
def place_of_all(job, step):
    """As `place_of`, among the rows of all workers; this worker's come `first_row` rows later."""
    return load_integer(job.all_offsets + 8 * job.last_step) - load_integer(job.all_offsets + 8 * (step + 1))


@linked
def active_rows(job, step):
    """How many of this worker's rows have a timestep."""
    return load_integer(job.offsets + 8 * (step + 1)) - load_integer(job.offsets + 8 * step)


@linked
def taped(job, step):
    """Row of the taped gates at which a timestep begins."""
    return load_integer(job.offsets + 8 * step)


@linked
def states_before(job, step):
    """Row of the taped states at which those before a timestep begin: first come the initial ones of all rows."""
    return 0 if step == 0 else job.rows + taped(job, step - 1)


@linked
def blocks_of(tile, columns):
    """Blocks of B5 that hold so many columns of x or h'."""
    return (columns + block_rows(tile) - 1) // block_rows(tile)


@linked
def m_block(tile, job):
    """Bytes of a block of the left operand m."""
    return (job.all_rows | 1) * block_rows(tile) * item_size(tile)
