"""A fresh process to its first result: compiling everything, and with the compiled code on disk.

Measured from the import of numbalstm on; the interpreter itself starts before.
"""

import subprocess
import sys
import tempfile

import numpy as np

from . import expected

FIRST_CALL = """
import numpy as np
import numbalstm as nl
weights = [np.full(shape, 0.1, np.float32) for shape in ((64, 512), (128, 512), (512,))]
layer = nl.LSTM(128, return_sequences=True, input_shape=(None, 64), weights=weights)
y = layer(np.full((8, 100, 64), 0.01, np.float32))
assert y.shape == (8, 100, 128) and abs(y[7, 9, 127] - {wanted}) < 1e-5
"""


def first_call():
    """Return code that makes a layer, calls it and compares one output with what plain NumPy gives here."""
    weights = [np.full(shape, 0.1) for shape in ((64, 512), (128, 512), (512,))]
    return FIRST_CALL.format(wanted=expected(np.full((1, 10, 64), 0.01), weights)[0, 9, 127])


def keeping_code_in(folder):
    """Return code that makes Numba keep compiled code in a folder, to be put before the first import."""
    return f"import os\nos.environ['NUMBA_CACHE_DIR'] = {folder!r}\n"


class Cold:
    """Nothing is compiled yet: what the first call ever costs."""

    number = repeat = rounds = 1
    warmup_time = 0
    timeout = 300

    def setup(self):
        self.folder = tempfile.TemporaryDirectory()

    def teardown(self):
        self.folder.cleanup()

    def timeraw_first_result(self):
        return keeping_code_in(self.folder.name) + first_call()


class Warm:
    """An earlier process has left the compiled code on disk."""

    timeout = 300

    def setup(self):
        self.folder = tempfile.TemporaryDirectory()
        self.code = keeping_code_in(self.folder.name) + first_call()
        subprocess.run([sys.executable, "-c", self.code], check=True)

    def teardown(self):
        self.folder.cleanup()

    def timeraw_first_result(self):
        return self.code
