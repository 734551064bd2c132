"""What a job of a layer-normalised LSTM has to know beside what every job does."""

import numpy as np

from numbalstm.kernels.memory import record_at

FIELDS = (
    "kernel_gamma recurrent_gamma constant "  # (tiles, 4, lanes); constant: both beta and the bias
    "cell_gamma cell_beta "  # (tiles * lanes)
    "h_sums "  # as z of the job, which holds the products of x: those of h
    "x_scales h_scales "  # of each row of z and of h_sums: what its deviations are multiplied with
    "scratch "  # TOGETHER rows: see scratch_row
    "dz_h dz_sums "  # as dz of the backward job, which holds the adjoints of x K: those of h R and of their total
    "d_cell "  # (rows of the chunk, 2, tiles * lanes): the adjoints of LN(c), and the same times the normalised c
    "gamma_gradients cell_gradients"  # (tiles, 2, 4, lanes): of x and of h; (2, tiles * lanes): of beta and of gamma
).split()
TOGETHER = 4  # rows that are worked on in turns: the statistics of one do not wait for those of another
KEPT = 6  # vectors of statistics that a row of scratch has
NUMBERS = "columns units epsilon".split()  # how many a row has of sums and of states
NORM = np.dtype([(name, np.int64) for name in FIELDS] + [(name, np.float64) for name in NUMBERS])
norm_at = record_at(NORM)
