"""Which kernels a GPU would take, told without one."""

from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.backends.cuda import choice
from numbalstm.backends.cuda.mode import KERNELS, MODES


def explain_gpu(
    parameters: Any, batch: int, *, masked: bool = False, mode: str = "fp32", kernel: str = "auto", limits: Any = None
) -> choice.Choice:
    """Return which CUDA kernels serve a call of given sizes, and why. Needs no GPU.

    Parameters
    ----------
    parameters : LSTMParameters
        The weights: their sizes, type and variants are looked at, not their values.
    batch : int
        Rows of a call; its number of steps does not matter.
    masked : bool, default False
        Whether there is a mask.
    mode, kernel : str
        As in `numbalstm.set_gpu`.
    limits : numbalstm.backends.cuda.choice.Limits, optional
        Of the GPU. None: an H100.

    Returns
    -------
    Choice
        ``mode``, ``forward``, ``backward``, ``product`` and ``reason``; ``print`` shows it as a line.

    Raises
    ------
    TypeError, ValueError
        When a size or a name is not allowed.
    """
    from numbalstm.kernels.cuda.options import Options

    batch = checks.positive_integer("explain_gpu", "batch", batch)
    mode = checks.one_of("explain_gpu", "mode", mode, MODES)
    kernel = checks.one_of("explain_gpu", "kernel", kernel, KERNELS)
    options = Options(
        np.dtype(parameters.dtype).name,
        peephole=parameters.peephole_kernel is not None,
        projection=parameters.projection_kernel is not None,
        masked=masked,
        epsilon=None if parameters.norm is None else parameters.norm.epsilon,
    )
    return choice.choose(options, batch, parameters.units, mode, kernel, limits or choice.H100)
