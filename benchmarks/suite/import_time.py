"""What a fresh process waits for; the compiled code comes from Numba's cache on disk."""


def timeraw_import():
    return "import numbalstm"


def timeraw_first_call():
    return """
    import numpy as np
    import numbalstm as nl
    y = nl.LSTM(32)(np.ones((4, 10, 8), np.float32))
    assert y.shape == (4, 32) and np.isfinite(y).all()
    """


class WithoutTheName:
    """The same without numbalstm: what NumPy and Numba cost by themselves."""

    def timeraw_import_numpy(self):
        return "import numpy"

    def timeraw_import_numba(self):
        return "import numba"
