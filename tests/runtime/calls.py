"""What the scripts of these tests compute: LSTM calls of every kind, and a digest of their bits."""

import hashlib

import numpy as np

from numbalstm.functional import lstm_forward
from numbalstm.parameters import LSTMParameters

# one row and many units (threads share the units), many rows (threads share the rows), and too little to share
CASES = {"units": (1, 30, 24, 400), "rows": (48, 12, 24, 100), "small": (2, 3, 5, 7)}


def problem(case, seed=0):
    """Inputs and parameters of a case."""
    batch, steps, features, units = CASES[case]
    rng = np.random.default_rng([seed, batch])
    shapes = ((features, 4 * units), (units, 4 * units), (4 * units,))
    parameters = LSTMParameters(*(rng.uniform(-0.1, 0.1, shape).astype(np.float32) for shape in shapes))
    return rng.standard_normal((batch, steps, features), np.float32), parameters


def digest(threads, cases=tuple(CASES), seed=0):
    """Digest of the outputs and states of the cases."""
    found = hashlib.sha256()
    for case in cases:
        x, parameters = problem(case, seed)
        for array in lstm_forward(x, parameters, threads=threads):
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
