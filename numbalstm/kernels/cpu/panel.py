"""The register-blocked product that every kernel is made of.

Units are cut into tiles of `lanes` units. Packed weights are [tile][k][gate][lane], so one row of a tile is four
vectors, and a block of rows times a tile keeps all its sums in registers while k runs. Each sum runs over k in one
order, whatever the block: a row's bits do not depend on the rows beside it.
"""

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from numbalstm.kernels.memory import item_size, lane_count, load_vector, pointer, prefetch, store_vector
from numbalstm.kernels.simd import BYTES, FLOAT, I64, broadcast, emit_fma

UNROLL = 2  # products of k between two address updates, which compete with the multiply-adds for their pipes
DEPTH = 512  # k of a weight block: all the rows pass over it before the next one is read
LINE = 64  # bytes of a cache line


def _opaque(builder, address):
    """The same address, its origin hidden: LLVM would else derive each row's from the one before, in the inner loop."""
    kind = ir.IntType(8).as_pointer()
    name = "llvm.launder.invariant.group.p0"
    launder = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), name)
    return builder.ptrtoint(builder.call(launder, [builder.inttoptr(address, kind)]), I64)


def _emit_block(builder, tile, rows, tiles, a, lda, w, ldw, k, z, ldz, ldz_tile, ahead=None):
    """One loop over k with rows * tiles * 4 sums in registers; fetches a cache line a turn from `ahead` on."""
    v, item = tile.vector, BYTES[tile.dtype]
    size = v.lanes * item
    places = [(r, t, g) for r in range(rows) for t in range(tiles) for g in range(4)]

    def cell(r, t, g):
        offset = builder.add(builder.mul(ldz, I64(r)), builder.add(builder.mul(ldz_tile, I64(t)), I64(g * size)))
        return builder.add(z, offset)

    sums = {p: cgutils.alloca_once_value(builder, load_vector(builder, cell(*p), v)) for p in places}
    row_of = [_opaque(builder, builder.add(a, builder.mul(lda, I64(r)))) for r in range(rows)]
    tile_of = [builder.add(w, builder.mul(ldw, I64(t))) for t in range(tiles)]

    def advance(start):
        """Add the products of one k."""
        here, there = builder.mul(start, I64(item)), builder.mul(start, I64(4 * size))
        weights = {
            (t, g): load_vector(builder, builder.add(builder.add(tile_of[t], there), I64(g * size)), v)
            for t in range(tiles)
            for g in range(4)
        }
        if ahead is not None:
            prefetch(builder, builder.add(ahead, builder.mul(start, I64(LINE))))
        for r in range(rows):
            scalar = builder.load(pointer(builder, builder.add(row_of[r], here), FLOAT[tile.dtype]))
            spread = broadcast(builder, scalar, v)
            for t, g in weights:
                total = sums[r, t, g]
                builder.store(emit_fma(builder, spread, weights[t, g], builder.load(total), v), total)

    whole = builder.and_(k, I64(-UNROLL))
    with cgutils.for_range_slice(builder, I64(0), whole, I64(UNROLL), intp=I64) as (index, _):
        for step in range(UNROLL):
            advance(builder.add(index, I64(step)))
    with cgutils.for_range_slice(builder, whole, k, I64(1), intp=I64) as (index, _):
        advance(index)
    for p in places:
        store_vector(builder, builder.load(sums[p]), cell(*p), v)


@intrinsic
def block(typingctx, tile, rows, a, lda, w, k, z, ldz, ahead):
    """z[r] += a[r, :k] @ w for r < rows <= tile.rows; strides in bytes. Fetches k cache lines from `ahead` on."""

    def codegen(context, builder, sig, args):
        _, count, a, lda, w, k, z, ldz, ahead = args
        done = builder.append_basic_block("done")
        choice = builder.switch(count, done)
        for rows in range(1, tile.rows + 1):
            here = builder.append_basic_block(f"rows{rows}")
            choice.add_case(I64(rows), here)
            builder.position_at_end(here)
            _emit_block(builder, tile, rows, 1, a, lda, w, I64(0), k, z, ldz, I64(0), ahead)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(tile, *[types.intp] * 8), codegen


@intrinsic
def single_row(typingctx, tile, a, w, ldw, k, z, ldz_tile):
    """z[tile] += a[:k] @ w[tile] for one row and two tiles: eight sums, enough to hide the latency of the adder."""

    def codegen(context, builder, sig, args):
        _, a, w, ldw, k, z, ldz_tile = args
        _emit_block(builder, tile, 1, 2, a, I64(0), w, ldw, k, z, I64(0), ldz_tile)
        return context.get_dummy_value()

    return types.void(tile, *[types.intp] * 6), codegen


@intrinsic
def block_rows(typingctx, tile):
    """Rows of a full register block."""
    rows = tile.rows
    return types.intp(tile), lambda context, builder, sig, args: context.get_constant(types.intp, rows)


@njit(error_model="numpy")
def panel(tile, rows, a, lda, w, k, z, ldz):
    """z[r] += a[r, :k] @ w for any number of rows, in blocks of nearly equal height."""
    row_bytes = 4 * lane_count(tile) * item_size(tile)
    depth = k if rows <= block_rows(tile) else DEPTH
    for start in range(0, k, depth):
        length = min(depth, k - start)
        weights = w + start * row_bytes
        left, r = rows, 0
        blocks = (rows + block_rows(tile) - 1) // block_rows(tile)
        for part in range(blocks):
            height = (left + blocks - part - 1) // (blocks - part)
            # each of the first blocks fetches its part of the weights that come next
            ahead = weights + (length + min(part, 3) * depth // 4) * row_bytes
            block(tile, height, a + r * lda + start * item_size(tile), lda, weights, length, z + r * ldz, ldz, ahead)
            left -= height
            r += height
