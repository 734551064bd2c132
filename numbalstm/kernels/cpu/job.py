"""What one worker of a forward pass has to do: a record of sizes, strides and addresses, all int64.

Addresses of tables and buffers are absolute; the row tables hold byte offsets from the x and y that a kernel is called
with, so a job can be kept and run again on other arrays of the same layout.
"""

import numpy as np

FIELDS = (
    "features units tiles rows "
    "steps padded_steps chunk "  # the real ones of the longest row, those of the arrays, those projected at once
    "first_tile last_tile "  # tiles first_tile <= n < last_tile
    "lengths x_rows y_rows "  # int64 tables, one entry a row, longest row first
    "x_step x_item y_step "  # byte strides
    "mask mask_rows mask_step cursors times "  # mask: 0 or an address; cursors (rows,) and times (chunk * rows,) int64
    "h h_other c "  # states (rows, tiles * lanes); h holds the state before step 0, then the two take turns
    "kernel recurrent_kernel bias kernel_columns recurrent_columns "  # packed; columns: see kernels.cpu.product
    "packed_x z "  # (chunk * rows, features) and (tiles, chunk * rows, 4 * lanes)
    "x_high x_low x_high_scales x_low_scales h_narrow h_scales "  # left operands of eight or sixteen bits
    "registers "  # address of kernels.cpu.amx.configuration
    "activation recurrent_activation "  # codes of kernels.formulas
    "repeat_last "  # masked steps repeat the last output instead of giving zeros
    "barrier worker workers"  # shared flags (kernels.cpu.barrier), this worker's number, how many share the rows
).split()
JOB = np.dtype([(name, np.int64) for name in FIELDS])
