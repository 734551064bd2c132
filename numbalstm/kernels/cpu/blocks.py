"""The register block in the shapes that gradients and dropout need.

Every sum runs over k in one order and goes on from what z holds, so cutting k, or rows, changes no bit.
"""

from numba import types
from numba.extending import intrinsic

from numbalstm.kernels.cpu.panel import I64, block_rows, emit_block, panel, single_row
from numbalstm.kernels.cpu.product import product_of
from numbalstm.kernels.linked import linked
from numbalstm.kernels.memory import item_size, lane_count


def _switch(builder, number, cases):
    """Emit each of the cases, a dict of functions by number, behind a branch on `number`."""
    done = builder.append_basic_block("done")
    choice = builder.switch(number, done)
    for value, emit in cases.items():
        here = builder.append_basic_block(f"case{value}")
        choice.add_case(I64(value), here)
        builder.position_at_end(here)
        emit()
        builder.branch(done)
    builder.position_at_end(done)


@intrinsic
def _narrow_block(typingctx, tile, rows, vectors, a, lda, w, k, z, ldz):
    """As `panel.block` for 1 or 2 vectors of columns."""

    def codegen(context, builder, sig, args):
        _, rows, vectors, a, lda, w, k, z, ldz = args

        def case(height, width):
            return lambda: emit_block(
                builder, tile, height, 1, a, lda, w, I64(0), k, z, ldz, I64(0), I64(0), I64(0), vectors=width
            )

        cases = {8 * width + height: case(height, width) for width in (1, 2) for height in range(1, tile.rows + 1)}
        _switch(builder, builder.add(builder.mul(vectors, I64(8)), rows), cases)
        return context.get_dummy_value()

    return types.void(tile, *[types.intp] * 8), codegen


@intrinsic
def _gate_block(typingctx, tile, rows, a, lda, w, k, z, ldz):
    """As `panel.block`, with a left operand for each gate, side by side."""

    def codegen(context, builder, sig, args):
        _, rows, a, lda, w, k, z, ldz = args
        item = product_of(tile).item
        left = (I64(4 * item), I64(item))

        def case(height):
            return lambda: emit_block(
                builder, tile, height, 1, a, lda, w, I64(0), k, z, ldz, I64(0), I64(0), I64(0), left=left
            )

        _switch(builder, rows, {height: case(height) for height in range(1, tile.rows + 1)})
        return context.get_dummy_value()

    return types.void(tile, *[types.intp] * 7), codegen


def _outer_block(by_gate):
    """z[r] += sum over k of a[k, r] * w[k] for the rows of a block; a holds [k][row], or [k][gate][row]."""

    @intrinsic
    def outer(typingctx, tile, a, w, k, z):
        def codegen(context, builder, sig, args):
            _, a, w, k, z = args
            product = product_of(tile)
            row, plane, ldz = product.item, product.item * tile.rows, I64(4 * product.size)
            left = (I64(4 * plane), I64(plane)) if by_gate(tile) else (I64(plane), None)
            nothing = I64(0)
            emit_block(
                builder, tile, tile.rows, 1, a, I64(row), w, nothing, k, z, ldz, nothing, nothing, nothing, left=left
            )
            return context.get_dummy_value()

        return types.void(tile, *[types.intp] * 4), codegen

    return outer


outer_block = _outer_block(lambda tile: tile.dropout)
outer_block_shared = _outer_block(lambda tile: False)


@linked
def gate_panel(tile, rows, a, lda, w, k, z, ldz):
    """z[r] += a[r, :k, gate] @ w by gate, for any number of rows."""
    left, r = rows, 0
    blocks = (rows + block_rows(tile) - 1) // block_rows(tile)
    for part in range(blocks):
        height = (left + blocks - part - 1) // (blocks - part)
        _gate_block(tile, height, a + r * lda, lda, w, k, z + r * ldz, ldz)
        left -= height
        r += height


@linked
def _narrow_panel(tile, rows, vectors, a, lda, w, k, z, ldz):
    for r in range(0, rows, block_rows(tile)):
        _narrow_block(tile, min(block_rows(tile), rows - r), vectors, a + r * lda, lda, w, k, z + r * ldz, ldz)


@linked
def wide_panel(tile, rows, a, lda, w, k, z, ldz, vectors):
    """z[r, :vectors * lanes] += a[r, :k] @ w, packed by `packing.pack_columns`; z has room for 3 vectors more."""
    width = lane_count(tile) * item_size(tile)
    span = k * 4 * width
    done = 0
    while done < vectors:
        left = vectors - done
        at, sums = w + done // 4 * span, z + done * width
        if left <= 2:
            _narrow_panel(tile, rows, left, a, lda, at, k, sums, ldz)
        elif rows == 1 and left >= 8:
            single_row(tile, a, at, span, k, sums, 4 * width, 0, 0)
            done += 4
        else:
            panel(tile, rows, a, lda, at, k, sums, ldz, 0, 0)
        done += 4
