"""Which kernels serve a problem: a pure function of sizes, options, mode and device."""

from functools import lru_cache
from typing import NamedTuple

from numbalstm.backends.cuda.problem import Problem
from numbalstm.backends.cuda.tile_sizes import tiles
from numbalstm.kernels.cuda.options import CLUSTER_SIZES, ROWS, WARPS, ClusterShape, Options

LARGEST = 1024  # units
FORWARD_STEP = 128  # what the forward kernel's sizes are multiples of
CLUSTER_WORDS = 4096  # of h in a float32 cluster's shared memory, twice: with all the rest below 48 KB


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
        Kernels of the recurrence: "step", "grid", "tiles" or "cluster".
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


@lru_cache(maxsize=1024)
def choose(options: Options, batch: int, units: int, mode: str, kernel: str, limits: Limits) -> Choice:
    """Return what serves a problem.

    Parameters
    ----------
    options : Options
    batch, units : int
    mode : {"fp32", "fp32-fast", "tf32", "bf16"}
        For float32; float64 is always computed as such.
    kernel : {"auto", "step", "grid", "tiles", "cluster"}
        "auto": the fastest that fits. Another falls back to "step" where it does not fit.
    limits : Limits
    """
    if options.element == "float64":
        return Choice("fp64", "step", "step", "fp64", "float64 has the step kernels only")
    product = "fp32" if mode == "fp32-fast" else mode
    no_grid = not_on_grid(options, batch, units, limits)
    if options.by_rows or options.fresh:
        reason = "layer normalisation and activations of whole rows have the step kernels only"
        if not options.by_rows:
            reason = "gradients of peepholes beside a zoneout of the cell state have the step kernels only"
        return Choice(mode, "step", "step", product, reason)
    if kernel == "step":
        return Choice(mode, "step", "step", product, "asked for")
    no_tiles = not_on_tiles(options, batch, units, mode, limits)
    if kernel in ("auto", "cluster"):
        no_cluster = not_in_clusters(options, units, mode, limits)
        if no_cluster is None:
            shape = cluster_shape(batch, units, mode, limits, options.factors)
            reason = f"{shape.blocks} blocks a cluster hold the recurrent weights, for {shape.rows} rows"
            return Choice(mode, "cluster", "cluster", product, reason)
        if kernel == "cluster":
            return Choice(mode, "step", "step", product, no_cluster)
    if kernel != "tiles" and no_grid is None:
        blocks = blocks_for(units, WARPS)
        return Choice(mode, "grid", "grid", product, f"{blocks} blocks hold the recurrent weights in registers")
    if kernel != "grid" and no_tiles is None:
        found = tiles(batch, units, mode, limits.multiprocessors, limits.shared_bytes)
        return Choice(mode, "tiles", "tiles", product, str(found))
    return Choice(mode, "step", "step", product, str(no_grid if kernel == "grid" else no_tiles))


def cluster_size(units: int, mode: str) -> int:
    """Return the size of the cluster kernels for so many units; 0 where there is none."""
    return next((size for size in CLUSTER_SIZES[mode] if size >= units), 0)


@lru_cache(maxsize=1024)
def cluster_shape(batch: int, units: int, mode: str, limits: Limits, factors: int = 0) -> ClusterShape:
    """Return the clusters for a problem that `not_in_clusters` has no objection to.

    On tensor cores a cluster has 8 rows: what an instruction takes. In float32 it has as few as leave no
    multiprocessor to two clusters, at most 8 and what shared memory holds (h once for each set of dropout factors), and
    as many blocks as the units need, in a power of two.
    """
    size = cluster_size(units, mode)
    if mode in ("tf32", "bf16"):
        return ClusterShape(size, ROWS[-1], size // (4 * WARPS), 4 * WARPS)
    block_units = size // 8
    blocks = next(count for count in (2, 4, 8) if count * block_units >= units)
    fitting = limits.multiprocessors // blocks
    possible = [rows for rows in ROWS if rows * max(1, factors) * size <= CLUSTER_WORDS]
    rows = next((rows for rows in possible if -(-batch // rows) <= fitting), possible[-1])
    return ClusterShape(size, rows, blocks, block_units)


def not_in_clusters(options: Options, units: int, mode: str, limits: Limits) -> str | None:
    """Why the cluster kernel does not serve a problem, or None."""
    size, major = cluster_size(units, mode), limits.capability[0]
    if not size:
        return f"{units} units are more than the {CLUSTER_SIZES[mode][-1]} of the cluster kernel in {mode}"
    if major < 9:
        return "clusters need compute capability 9.0"
    blocks = cluster_shape(1, units, mode, limits).blocks
    if blocks > limits.multiprocessors or (blocks > 8 and major > 10):
        return f"the GPU has no clusters of {blocks} blocks"
    if options.projection:
        return "the cluster kernel has no projection"
    if options.factors > 1 and mode in ("tf32", "bf16"):
        return f"in {mode} the cluster kernel has no dropout of the recurrent state that differs between the gates"
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


def not_on_tiles(options: Options, batch: int, units: int, mode: str, limits: Limits) -> str | None:
    """Why the tile kernels do not serve a problem, or None."""
    if options.projection:
        return "the tile kernels have no projection"
    if options.factors > 1:
        return "the tile kernels have no dropout of the recurrent state with factors of its own for each gate"
    sizes = (batch, units, mode, limits.multiprocessors, limits.shared_bytes)
    if tiles(*sizes) is None or tiles(*sizes, backward=True) is None:
        return f"no tiles of {units} units fit on {limits.multiprocessors} multiprocessors at once"
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
