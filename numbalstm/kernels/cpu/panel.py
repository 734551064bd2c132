"""The register-blocked product that every kernel is made of.

Units are cut into tiles of `lanes` units. Packed weights are [tile][k][gate][lane], so one row of a tile is four
vectors, and a block of rows times a tile keeps all its sums in registers while k runs. Each sum runs over k in one
order, whatever the block: a row's bits do not depend on the rows beside it.
"""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numbalstm.kernels.cpu.product import product_of
from numbalstm.kernels.linked import linked, overload
from numbalstm.kernels.memory import item_size, lane_count, load, prefetch, store
from numbalstm.kernels.simd import I64

UNROLL = 2  # steps of k between two address updates, which compete with the multiply-adds for their pipes
DEPTH = 512  # steps of k in a block of weights: all the rows pass over it before the next one is read
LINE = 64  # bytes of a cache line


def emit_block(
    builder,
    tile,
    rows,
    tiles,
    a,
    lda,
    w,
    ldw,
    k,
    z,
    ldz,
    ldz_tile,
    columns,
    scales,
    ahead=None,
    vectors=4,
    steps=None,
    start=None,
    factors=None,
):
    """One loop over k with rows * tiles * vectors sums in registers; fetches a cache line a turn from `ahead` on.

    `steps`: bytes from one k to the next of the left operand and of the weights; None: they are neighbours.
    `start`: where the sums begin from, and the bytes from one row and one tile of that to the next; None: from z.
    `factors`: address and strides alike of what the products are multiplied by before they are added to z, or None.
    """
    product = product_of(tile)
    left_step, weight_step = steps or (I64(product.left_item), I64(vectors * product.weight_size))
    places = [(r, t, g) for r in range(rows) for t in range(tiles) for g in range(vectors)]

    def cell(r, t, g, base=z, row=ldz, column=ldz_tile):
        offset = builder.add(builder.mul(row, I64(r)), builder.mul(column, I64(t)))
        return builder.add(base, builder.add(offset, I64(g * product.size)))

    def columns_of(t):
        return builder.add(columns, I64(t * 8 * product.size))

    def first(r, t, g):
        if factors is not None:
            return product.nothing()
        return product.start(builder, cell(r, t, g, *(start or ())), columns_of(t), g)

    sums = {place: cgutils.alloca_once_value(builder, first(*place)) for place in places}
    row_of = [builder.add(a, builder.mul(lda, I64(r))) for r in range(rows)]
    tile_of = [builder.add(w, builder.mul(ldw, I64(t))) for t in range(tiles)]

    def advance(start):
        """Add the products of one step of k."""
        here = builder.mul(start, left_step)
        there = builder.mul(start, weight_step)
        weights = {
            (t, g): product.weight(builder, builder.add(tile_of[t], builder.add(there, I64(g * product.weight_size))))
            for t in range(tiles)
            for g in range(vectors)
        }
        if ahead is not None:
            prefetch(builder, builder.add(ahead, builder.mul(start, I64(LINE))))
        for r in range(rows):
            left = product.left(builder, builder.add(row_of[r], here))
            for t, g in weights:
                total = sums[r, t, g]
                builder.store(product.add(builder, left, weights[t, g], builder.load(total)), total)

    whole = builder.and_(k, I64(-UNROLL))
    with cgutils.for_range_slice(builder, I64(0), whole, I64(UNROLL), intp=I64) as (index, _):
        for step in range(UNROLL):
            advance(builder.add(index, I64(step)))
    with cgutils.for_range_slice(builder, whole, k, I64(1), intp=I64) as (index, _):
        advance(index)
    for r, t, g in places:
        row_scale = builder.add(scales, I64(r * 4))
        total = builder.load(sums[r, t, g])
        if factors is not None:
            factor = product.total(builder, cell(r, t, g, *factors))
            total = product.add(builder, total, factor, product.total(builder, cell(r, t, g)))
        product.finish(builder, total, cell(r, t, g), columns_of(t), g, row_scale)


@intrinsic
def block(typingctx, tile, rows, a, lda, w, k, z, ldz, columns, scales, ahead, start, start_row):
    """z[r] = start[r] + a[r, :k] @ w for r < rows <= tile.rows; strides in bytes. Fetches k lines from `ahead` on."""

    def codegen(context, builder, sig, args):
        _, count, a, lda, w, k, z, ldz, columns, scales, ahead, *start = args
        nothing = I64(0)
        start.append(nothing)
        done = builder.append_basic_block("done")
        choice = builder.switch(count, done)
        for rows in range(1, tile.rows + 1):
            here = builder.append_basic_block(f"rows{rows}")
            choice.add_case(I64(rows), here)
            builder.position_at_end(here)
            emit_block(
                builder, tile, rows, 1, a, lda, w, nothing, k, z, ldz, nothing, columns, scales, ahead, start=start
            )
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(tile, *[types.intp] * 12), codegen


@intrinsic
def single_row(typingctx, tile, a, w, ldw, k, z, ldz_tile, columns, scales):
    """z[tile] += a[:k] @ w[tile] for one row and two tiles: eight sums, enough to hide the latency of the adder."""

    def codegen(context, builder, sig, args):
        _, a, w, ldw, k, z, ldz_tile, columns, scales = args
        emit_block(builder, tile, 1, 2, a, I64(0), w, ldw, k, z, I64(0), ldz_tile, columns, scales)
        return context.get_dummy_value()

    return types.void(tile, *[types.intp] * 8), codegen


def _constant(value_of):
    """A function of a tile that is known when a kernel is compiled."""

    @intrinsic
    def constant(typingctx, tile):
        value = value_of(tile)
        return types.intp(tile), lambda context, builder, sig, args: context.get_constant(types.intp, value)

    return constant


block_rows = _constant(lambda tile: tile.rows)  # rows of a full register block
step_depth = _constant(lambda tile: product_of(tile).depth)  # k of one step of the inner loop
left_size = _constant(lambda tile: product_of(tile).left_item)  # bytes of the left operand of one step
weight_row_size = _constant(lambda tile: 4 * product_of(tile).weight_size)  # bytes of the weights of one step
cuts = _constant(lambda tile: int(not product_of(tile).scaled))  # scaled sums are finished once, so k is not cut


@linked
def start_sums(tile, bias, z, rows):
    """z[r] = bias, the four vectors of a tile."""
    width = lane_count(tile) * item_size(tile)
    i, f = load(tile, bias), load(tile, bias + width)
    g, o = load(tile, bias + 2 * width), load(tile, bias + 3 * width)
    for r in range(rows):
        at = z + r * 4 * width
        store(tile, at, i)
        store(tile, at + width, f)
        store(tile, at + 2 * width, g)
        store(tile, at + 3 * width, o)


@linked
def steps_of(tile, k):
    """Steps of the inner loop for k products."""
    return (k + step_depth(tile) - 1) // step_depth(tile)


def next_sums(tile, address, begin_row):
    """The address that sums are written to next, where that is a tape, which no cache holds yet, else 0."""


@overload(next_sums)
def _next_sums(tile, address, begin_row):
    if tile.tape:
        return lambda tile, address, begin_row: address if begin_row == 0 else 0
    return lambda tile, address, begin_row: 0


@linked
def panel(tile, rows, a, lda, w, k, z, ldz, columns, scales):
    """z[r] += a[r, :k] @ w for any number of rows."""
    panel_from(tile, rows, a, lda, w, k, z, ldz, columns, scales, z, ldz)


@linked
def panel_from(tile, rows, a, lda, w, k, z, ldz, columns, scales, begin, begin_row):
    """z[r] = begin[r] + a[r, :k] @ w for any number of rows, in blocks of nearly equal height."""
    row_bytes = weight_row_size(tile)
    steps = steps_of(tile, k)
    depth = DEPTH if rows > block_rows(tile) and cuts(tile) else max(steps, 1)
    for start in range(0, max(steps, 1), depth):
        length = min(depth, steps - start)
        weights = w + start * row_bytes
        left, r = rows, 0
        blocks = (rows + block_rows(tile) - 1) // block_rows(tile)
        for part in range(blocks):
            height = (left + blocks - part - 1) // (blocks - part)
            ahead = next_sums(tile, z + (r + height) * ldz, begin_row)
            if ahead == 0:  # each of the first blocks fetches its part of the weights that come next
                ahead = weights + (length + min(part, 3) * depth // 4) * row_bytes
            here = a + r * lda + start * left_size(tile)
            sums, from_r = z + r * ldz, begin + r * begin_row
            block(
                tile, height, here, lda, weights, length, sums, ldz, columns, scales + 4 * r, ahead, from_r, begin_row
            )
            left -= height
            r += height
        begin, begin_row = z, ldz
