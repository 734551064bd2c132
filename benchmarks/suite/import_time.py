"""What importing costs in a fresh process. The first result: start.py."""


def timeraw_import():
    return """
    import sys
    import numbalstm
    assert "numba" not in sys.modules  # it waits for the first call
    """


class WithoutTheName:
    """What the first call needs besides: NumPy and Numba by themselves."""

    def timeraw_import_numpy(self):
        return "import numpy"

    def timeraw_import_numba(self):
        return "import numba"
