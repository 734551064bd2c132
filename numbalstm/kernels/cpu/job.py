"""What one worker of a forward pass has to do: a record of sizes, strides and addresses, all int64.

Addresses of tables and buffers are absolute; the row tables hold byte offsets from the x and y that a kernel is called
with, so a job can be kept and run again on other arrays of the same layout.
"""

import numpy as np

FIELDS = (
    "features units outputs tiles rows "  # outputs: units, or the width of the projection
    "steps padded_steps chunk "  # the real ones of the longest row, those of the arrays, those projected at once
    "first_tile last_tile "  # tiles first_tile <= n < last_tile
    "lengths x_rows y_rows "  # int64 tables, one entry a row, longest row first
    "x_step x_item y_step "  # byte strides
    "mask mask_rows mask_step "  # mask: 0 or an address
    "cursors times "  # (rows,) and (chunk * rows,) int64; times are given with a tape
    "h h_other c c_other h_row state_row "  # states before and after step 0, and the bytes of their rows
    "kernel recurrent_kernel bias kernel_columns recurrent_columns "  # packed; columns: see kernels.cpu.product
    "packed_x z "  # (chunk * rows, features) and (tiles, chunk * rows, 4 * lanes)
    "z_tile keeps "  # bytes from one tile's sums to the next one's, 0: the same place; 1 with a tape, else 0
    "x_factors h_factors x_gates h_gates "  # with dropout: (rows, 4, .), and x and h times these, gate by gate
    "x_high x_low x_high_scales x_low_scales h_narrow h_scales "  # left operands of eight or sixteen bits
    "registers "  # address of kernels.cpu.amx.configuration
    "repeat_last "  # masked steps repeat the last output instead of giving zeros
    "barrier worker workers "  # shared flags (kernels.cpu.barrier), this worker's number, how many share the rows
    "norm"  # 0, or address of a record of kernels.cpu.norm_job
).split()
CODES = (
    "i_activation f_activation g_activation o_activation h_activation "  # as in kernels.formulas and kernels.families
    "coupled peephole "  # whether f = 1 - i; address of (3, tiles * lanes) for i, f and o, or 0
    "c_zones c_zone_step h_zones h_zone_step "  # zoneout: 0, or tables of row addresses, and bytes of a timestep
    "projection m r r_row"  # 0, or packed columns; outputs before and after it, (rows, state_row) and (rows, r_row)
).split()
NUMBERS = (
    "i_alpha i_beta f_alpha f_beta g_alpha g_beta o_alpha o_beta h_alpha h_beta "  # of activations that have such
    "gate_clip cell_clip projection_clip"
).split()
CELL = [(name, np.int64) for name in CODES] + [(name, np.float64) for name in NUMBERS]
"""What a cell that is chosen at run time has to know: see `kernels.cpu.gates`."""

JOB = np.dtype([(name, np.int64) for name in FIELDS] + CELL)
