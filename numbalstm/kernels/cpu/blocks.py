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


def _gate_block(which):
    """As `panel.block` for one gate of 1, 2 or 4 tiles; `which` of `emit_block`'s operands comes with its strides."""

    @intrinsic
    def blocks(typingctx, tile, rows, tiles, a, lda, a_step, w, k, z, ldz, z_tile, other, other_row, other_tile, ahead):
        def codegen(context, builder, sig, args):
            _, rows, tiles, a, lda, a_step, w, k, z, ldz, z_tile, *other, ahead = args
            size, nothing = product_of(tile).size, I64(0)
            steps = a_step, I64(4 * size)
            more = {which: other, "vectors": 1, "steps": steps, "ahead": ahead}

            def case(height, width):
                return lambda: emit_block(
                    builder, tile, height, width, a, lda, w, I64(size), k, z, ldz, z_tile, nothing, nothing, **more
                )

            cases = {
                8 * width + height: case(height, width) for width in (1, 2, 4) for height in range(1, tile.rows + 1)
            }
            _switch(builder, builder.add(builder.mul(tiles, I64(8)), rows), cases)
            return context.get_dummy_value()

        return types.void(tile, *[types.intp] * 14), codegen

    return blocks


def _of_tiles(block):
    """A function of any 1 to 4 tiles from one of 1, 2 or 4."""

    @linked
    def blocks(tile, rows, tiles, a, lda, a_step, w, k, z, ldz, z_tile, other, other_row, other_tile, ahead):
        done = 0
        while done < tiles:  # three are a pair and one
            count = tiles if tiles != 3 else 2 - done // 2
            at, sums, there = (
                w + done * lane_count(tile) * item_size(tile),
                z + done * z_tile,
                other + done * other_tile,
            )
            block(tile, rows, count, a, lda, a_step, at, k, sums, ldz, z_tile, there, other_row, other_tile, ahead)
            done += count

    return blocks


# z[r, n] = start[r, n] + a[r, :k] @ w[n], or z[r, n] += factors[r, n] * (a[r, :k] @ w[n]), for one gate of 1 to 4 tiles
# and r < rows <= tile.rows; w holds [k][4], a_step is from one k of a to the next. Fetches k lines from `ahead` on.
gate_block, _factor_block = _of_tiles(_gate_block("start")), _of_tiles(_gate_block("factors"))


@linked
def gate_panel(tile, rows, tiles, a, lda, w, k, z, ldz, z_tile, start, start_row, start_tile, ahead):
    """`gate_block` for any number of rows, whose k are neighbours; fetches from as many rows behind `ahead`."""
    item = item_size(tile)
    left, r = rows, 0
    blocks = (rows + block_rows(tile) - 1) // block_rows(tile)
    for part in range(blocks):
        height = (left + blocks - part - 1) // (blocks - part)
        here, sums, begin, fetch = a + r * lda, z + r * ldz, start + r * start_row, ahead + (r + height) * ldz
        gate_block(tile, height, tiles, here, lda, item, w, k, sums, ldz, z_tile, begin, start_row, start_tile, fetch)
        left -= height
        r += height


@linked
def factor_panel(tile, rows, tiles, a, lda, w, k, z, ldz, factors, factor_row):
    """z[r, n] += factors[r, n] * (a[r, :k] @ w[n]) for one gate of 1 to 4 tiles side by side, and any rows."""
    item, width = item_size(tile), lane_count(tile) * item_size(tile)
    for r in range(0, rows, block_rows(tile)):
        height, here, sums, there = min(block_rows(tile), rows - r), a + r * lda, z + r * ldz, factors + r * factor_row
        _factor_block(tile, height, tiles, here, lda, item, w, k, sums, ldz, width, there, factor_row, width, w)


@intrinsic
def outer_block(typingctx, tile, a, w, k, z):
    """z[r] += sum over k of a[k, r] * w[k] for the rows of a block; a holds [k][row]."""

    def codegen(context, builder, sig, args):
        _, a, w, k, z = args
        product = product_of(tile)
        steps = I64(product.item * tile.rows), I64(4 * product.size)
        nothing = I64(0)
        emit_block(
            builder,
            tile,
            tile.rows,
            1,
            a,
            I64(product.item),
            w,
            nothing,
            k,
            z,
            steps[1],
            nothing,
            nothing,
            nothing,
            steps=steps,
        )
        return context.get_dummy_value()

    return types.void(tile, *[types.intp] * 4), codegen


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
