"""Which tiles serve a problem: a pure function of sizes, mode and what the GPU has."""

from typing import NamedTuple

from numbalstm.kernels.cuda.tiling import BACKWARD, FORWARD, Tiling

UNITS = 128  # what the room for weights in shared memory is rounded up to: few kernels serve all sizes

# what the choice weighs, per multiprocessor and cycle; estimates, not measured
RATES = {"fp32": 128, "fp32-fast": 128, "tf32": 512, "bf16": 1024}  # multiplications
BYTES = 20  # from the L2 cache
BETWEEN = 2000  # cycles from one step's products to the next


class Tiles(NamedTuple):
    """The tiles of a problem.

    Attributes
    ----------
    tiling : Tiling
    rows : int
        Of one launch: more do not fit on the GPU at once.
    """

    tiling: Tiling
    rows: int

    def __str__(self) -> str:
        where = "in shared memory" if self.tiling.pieces else "in the L2 cache"
        return f"blocks of {self.tiling.rows} rows x {self.tiling.units} units, recurrent weights {where}"


def tiles(
    batch: int, units: int, mode: str, multiprocessors: int, shared_bytes: int, backward: bool = False
) -> Tiles | None:
    """Return the tiles that take the fewest cycles by estimate; None where no block fits, or not all at once."""
    shapes, gates = (BACKWARD, 1) if backward else (FORWARD, 4)
    found = []
    for rows, columns in shapes:
        streamed = Tiling(rows, columns, gates)
        resident = streamed._replace(pieces=streamed.count(-(-units // UNITS) * UNITS, mode))
        at_once = multiprocessors // -(-units // streamed.units)  # tiles of rows
        tiling = resident if resident.shared <= shared_bytes else streamed
        if at_once and tiling.shared <= shared_bytes:
            launches = -(-batch // (rows * at_once))
            found.append((launches * _cycles(tiling, units, mode), Tiles(tiling, rows * at_once)))
    return min(found, key=lambda entry: entry[0], default=(0, None))[1]


def _cycles(tiling: Tiling, units: int, mode: str) -> float:
    """Return the estimated cycles of a step of one block."""
    words = tiling.words(units, mode)
    depth = words * (2 if mode == "bf16" else 1)
    fetched = 4 * words * (tiling.rows + (0 if tiling.pieces else tiling.columns))
    return tiling.rows * tiling.columns * depth / RATES[mode] + fetched / BYTES + BETWEEN
