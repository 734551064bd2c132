"""Which kernels serve a problem: a pure function of sizes, options, mode and device."""

from typing import NamedTuple

from numbalstm.backends.cuda.problem import Problem
from numbalstm.kernels.cuda.options import CLUSTER_SIZES, ROWS, WARPS, Options

LARGEST = 1024  # units
FORWARD_STEP = 128  # what the forward kernel's sizes are multiples of


def padded(units: int, multiple: int) -> int:
    """Return the size of a kernel for so many units."""
    return -(-units // multiple) * multiple


def blocks_for(units: int, warps: int) -> int:
    """Return the blocks of a kernel whose warps own a unit each; units come in pairs."""
    return -(-padded(units, 2) // warps)


def rows_for(batch: int) -> int:
    """Return the rows of the kernel for a batch of at most 8."""
    return next(rows for rows in ROWS if rows >= batch)


class Limits(NamedTuple):
    """What of a GPU the choice depends on.

    Attributes
    ----------
    capability : (int, int)
    multiprocessors : int
    shared_bytes : int
        Most shared memory of a block.
    """

    capability: tuple[int, int]
    multiprocessors: int
    shared_bytes: int


H100 = Limits((9, 0), 132, 232_448)


class Choice(NamedTuple):
    """What serves a problem.

    Attributes
    ----------
    mode : str
        "fp64", or one of "fp32", "fp32-fast", "tf32" and "bf16".
    forward, backward : str
        Kernels of the recurrence: "step", "grid" or "cluster" (forward only).
    product : str
        Mode of the input's product and of the gradients' products.
    reason : str
        Why not a faster recurrence, or what made this one fit.
    """

    mode: str
    forward: str
    backward: str
    product: str
    reason: str

    def __str__(self) -> str:
        return f"{self.mode}: forward {self.forward}, backward {self.backward}, products {self.product}; {self.reason}"


def choose(options: Options, batch: int, units: int, mode: str, kernel: str, limits: Limits) -> Choice:
    """Return what serves a problem.

    Parameters
    ----------
    options : Options
    batch, units : int
    mode : {"fp32", "fp32-fast", "tf32", "bf16"}
        For float32; float64 is always computed as such.
    kernel : {"auto", "step", "grid", "cluster"}
        "auto": the fastest that fits. Another falls back to "step" where it does not fit.
    limits : Limits
    """
    if options.element == "float64":
        return Choice("fp64", "step", "step", "fp64", "float64 has the step kernels only")
    product = "fp32" if mode == "fp32-fast" else mode
    no_grid = not_on_grid(options, batch, units, limits)
    if kernel == "step":
        return Choice(mode, "step", "step", product, "asked for")
    backward = "step" if no_grid else "grid"
    if kernel in ("auto", "cluster"):
        no_cluster = not_in_clusters(options, units, mode, limits)
        if no_cluster is None:
            blocks = cluster_size(units, mode) // 32
            return Choice(mode, "cluster", backward, product, f"{blocks} blocks a cluster hold the recurrent weights")
        if kernel == "cluster":
            return Choice(mode, "step", "step", product, no_cluster)
    if no_grid is not None:
        return Choice(mode, "step", "step", product, no_grid)
    blocks = blocks_for(units, WARPS)
    return Choice(mode, "grid", "grid", product, f"{blocks} blocks hold the recurrent weights in registers")


def cluster_size(units: int, mode: str) -> int:
    """Return the size of the cluster kernel for so many units; 0 where there is none."""
    return next((size for size in CLUSTER_SIZES.get(mode, ()) if size >= units), 0)


def not_in_clusters(options: Options, units: int, mode: str, limits: Limits) -> str | None:
    """Why the cluster kernel does not serve a problem, or None."""
    if mode not in CLUSTER_SIZES:
        return f"the cluster kernel computes in {' and '.join(CLUSTER_SIZES)}, not in {mode}"
    size, major = cluster_size(units, mode), limits.capability[0]
    if not size:
        return f"{units} units are more than the {CLUSTER_SIZES[mode][-1]} of the cluster kernel in {mode}"
    if major < 9:
        return "clusters need compute capability 9.0"
    if size // 32 > 8 and major > 10:
        return f"the GPU has no clusters of {size // 32} blocks"
    if options.projection or options.factors or any(options.zoneout):
        return "the cluster kernel has no projection, no dropout of the recurrent state and no zoneout"
    return None


def not_on_grid(options: Options, batch: int, units: int, limits: Limits) -> str | None:
    """Why the grid kernels do not serve a problem, or None."""
    if batch > ROWS[-1]:
        return f"a batch of {batch} is more than the {ROWS[-1]} rows of the grid kernel"
    if units > LARGEST:
        return f"{units} units are more than the {LARGEST} of the grid kernel"
    if options.projection:
        return "the grid kernel has no projection"
    if options.factors or any(options.zoneout):
        return "the grid kernel has no dropout of the recurrent state and no zoneout"
    blocks = blocks_for(units, WARPS)
    if blocks > limits.multiprocessors:
        return f"{blocks} blocks do not fit on {limits.multiprocessors} multiprocessors at once"
    rows = rows_for(batch)
    if 8 * rows * padded(units, FORWARD_STEP) > limits.shared_bytes:
        return "h does not fit into a block's shared memory"
    return None


def pieces(m: int, n: int, k: int) -> int:
    """Return into how many parts a tuned product cuts k: decided by the sizes alone, so that results repeat."""
    tiles = -(-m // 128) * -(-n // 128)
    return max(1, min(16, k // 1024, 256 // tiles))


def tuned(m: int, n: int, k: int) -> bool:
    """Whether a product is large enough for the tuned kernel's tiles of 128 x 128 x 32."""
    return m >= 64 and n >= 32 and k >= 16 and m * n * k >= 1 << 20


def explain(problem: Problem, mode: str, kernel: str, limits: Limits) -> Choice:
    """Return `choose` for a problem."""
    return choose(problem.options, problem.batch, problem.units, mode, kernel, limits)
