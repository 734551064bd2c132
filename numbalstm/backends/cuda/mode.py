"""How the GPU computes: the setting of this process."""

from numbalstm import checks
from numbalstm.parameters import LSTMParameters

MODES = ("fp32", "fp32-fast", "tf32", "bf16")
KERNELS = ("auto", "step", "grid", "tiles", "cluster")

_mode, _kernel = "fp32", "auto"


def set_gpu(mode: str = "fp32", kernel: str = "auto") -> None:
    """Set how later calls compute float32 on a GPU. float64 is always computed as such.

    Parameters
    ----------
    mode : {"fp32", "fp32-fast", "tf32", "bf16"}, default "fp32"
        ``"fp32"``: float32 throughout. ``"fp32-fast"``: sigmoid and tanh from the short instructions, 4e-7 absolute.
        ``"tf32"``, ``"bf16"``: tensor cores, whose factors are rounded to 10 or 7 bits after the point; sums, c and
        outputs stay float32.
    kernel : {"auto", "step", "grid", "tiles", "cluster"}, default "auto"
        The recurrence: the fastest kernel that serves a call; one launch a step; or the whole grid, tiles on it, or
        clusters of blocks, in one launch, with steps where that does not fit.

    Raises
    ------
    ValueError
        When a name is not one of these.
    """
    global _mode, _kernel
    _mode = checks.one_of("set_gpu", "mode", mode, MODES)
    _kernel = checks.one_of("set_gpu", "kernel", kernel, KERNELS)


def get_gpu() -> tuple[str, str]:
    """Return mode and kernel as `set_gpu` set them."""
    return _mode, _kernel


def mode_of(parameters: LSTMParameters) -> tuple[str, str]:
    """Return mode and kernel for a set of weights: those multiplied in bfloat16 have the mode "bf16"."""
    return ("bf16", _kernel) if parameters.compute_dtype == "bfloat16" else (_mode, _kernel)
