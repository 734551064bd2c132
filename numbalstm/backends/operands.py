"""What products with narrow weights need: the weights in the order of their units, and buffers for x and h."""

from typing import Any

import numpy as np

from numbalstm.kernels.cpu.amx import ROWS, configuration
from numbalstm.kernels.cpu.narrow import LINE
from numbalstm.kernels.cpu.packing import address, aligned, deepen, pack, pack_bfloat16, pack_by_gate, pack_int8
from numbalstm.kernels.cpu.product import PRODUCTS
from numbalstm.kernels.simd import Tile


def packed_matrix(matrix: np.ndarray, tile: Tile) -> tuple[np.ndarray, np.ndarray | None]:
    """A weight matrix as the tile's products read it, and its columns where they have scales."""
    product = PRODUCTS[tile.weights]
    if tile.dropout:
        return pack_by_gate(matrix, tile.lanes), None
    if tile.weights == "native":
        return pack(matrix, tile.lanes), None
    if product.scaled:
        return pack_int8(matrix, tile.lanes, product.depth, product.whole)
    return deepen(pack_bfloat16(matrix, tile.lanes), product.depth, product.whole), None


def weight_fields(tile: Tile, packed: Any, rows: int, chunk: int, keep: list) -> dict[str, int]:
    """The fields of a job that say where the weights are, and the buffers for x and h in fewer bits.

    `packed` is a `numbalstm.backends.plan.Packed`; what has to live as long as the job is appended to `keep`.
    """
    keep.append(packed)
    values = {name: address(getattr(packed, name)) for name in ("kernel", "recurrent_kernel", "bias")}
    for name in ("kernel_columns", "recurrent_columns"):
        columns = getattr(packed, name)
        values[name] = 0 if columns is None else address(columns)
    return values | _left_operands(tile, packed.features, packed.outputs, rows, chunk, keep)


def _left_operands(tile: Tile, features: int, outputs: int, rows: int, chunk: int, keep: list) -> dict[str, int]:
    product = PRODUCTS[tile.weights]
    if product.depth == 1:
        return {}
    size = 4 // product.depth
    values = {}
    for name, count, width in (
        ("x_high", chunk * rows, features),
        ("x_low", chunk * rows, features),
        ("h_narrow", rows, outputs),
    ):
        # AMX blocks read up to 15 rows behind the last one
        octets = aligned((count + ROWS - 1, -(-size * width // LINE) * LINE), np.uint8)
        scales = aligned((count,), np.float32)
        keep.extend((octets, scales))
        values[name] = address(octets)
        values[{"h_narrow": "h_scales"}.get(name, f"{name}_scales")] = address(scales)
    if product.few is not None:
        keep.append(configuration())
        values["registers"] = address(keep[-1])
    return values
