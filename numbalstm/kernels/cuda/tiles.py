"""What the persistent tile kernels share: a step's product, and the barrier between steps.

All blocks are on the GPU together; each owns a tile of sums (`numbalstm.kernels.cuda.tiling`). Between two steps the
blocks of the same rows hand each other h, or dz, through a double buffer in the L2 cache: each stores its own, adds to
a counter, and goes on when all have. Two buffers are enough: a block stores into the one that others read a step ago
only behind a barrier that every block reaches when it has read it. Rows never wait for other rows.

In the product each thread adds up a part of the sums from pieces that asynchronous copies bring while the pieces before
are multiplied; the warps' parts meet in shared memory, so that a thread finds all gates of its units side by side.
"""

from typing import Any

from numba import cuda, float32, uint32

from numbalstm.kernels.cuda import ptx as P
from numbalstm.kernels.cuda.kernel import device
from numbalstm.kernels.cuda.tiling import COUNTER, LANES, STAGES, THREADS, Tiling


@device
def arrive(counters, tile, tid):
    """Tell the blocks of the same rows that everything this one has stored can be read."""
    cuda.syncthreads()
    if tid == 0:
        P.add_release(P.address(counters, tile * COUNTER), uint32(1))


@device
def await_all(counters, tile, target, patience, trouble, tid):
    """Wait until the counter has reached its target, for so many polls; return how many the next barrier may take.

    A block that is lost must not hang the GPU: after one wait in vain the trouble is noted, and none waits any more.
    """
    if tid == 0:
        left = patience
        while left > 0 and P.ld_acquire(P.address(counters, tile * COUNTER)) < target:
            left -= 1
        if left == 0:
            patience = 0
            trouble[0] = 1
    cuda.syncthreads()
    return patience


def make_word(mode: str) -> Any:
    """Return the device function that makes a word of a value: "bf16" has two in a word, and no such function."""
    return P.cvt_tf32 if mode == "tf32" else P.float_bits


def make_fetch(tiling: Tiling) -> Any:
    """Return the device function that starts the copies of a piece: of h or dz, and of weights that do not stay."""
    depth, pitch, rows = tiling.depth, tiling.pitch, tiling.rows
    left_words, right_words = tiling.left_words, tiling.right_words
    quads, streamed = depth // 4, tiling.pieces == 0
    count = rows * quads // THREADS

    @device
    def fetch(words, at, exchange, source, width, packed, weights, piece, tid):
        for i in range(count):
            e = tid + THREADS * i
            row, k = e // quads, piece * depth + e % quads * 4
            inside = k < width
            target = P.shared_address(words, at + row * pitch + e % quads * 4)
            place = source + row * width + k if inside else source
            P.cp_async16(target, P.address(exchange, place), uint32(16 if inside else 0))
        if streamed:
            copy_words(words, at + left_words, packed, weights + piece * right_words, right_words, tid)

    return fetch


@device
def copy_words(words, at, source, start, count, tid):
    """Start the copies of so many words, a multiple of 4."""
    for i in range(4 * tid, count, 4 * THREADS):
        P.cp_async16(P.shared_address(words, at + i), P.address(source, start + i), uint32(16))


def make_product(tiling: Tiling, mode: str) -> Any:
    """Return the device function that leaves a block's sums of one step in shared memory.

    They are parts: (slices, rows, `sum_pitch`) from `tiling.staging` on. `floats` and `words` are the shared memory,
    `source` is where the block's rows begin in the exchange, `weights` where its tile does in the packed weights.
    """
    multiply, store, fetch = make_multiply(tiling, mode), make_store(tiling, mode), make_fetch(tiling)
    depth, staging, stage_words, left_words = tiling.depth, tiling.staging, tiling.stage_words, tiling.left_words
    right_words, stay, sums, ahead = tiling.right_words, tiling.pieces > 0, thread_sums(tiling), STAGES - 1

    @device
    def product(floats, words, exchange, source, width, packed, weights, acc, tid):
        pieces = (width + depth - 1) // depth
        for i in range(sums):
            acc[i] = float32(0.0)
        for p in range(ahead):
            if p < pieces:
                fetch(words, staging + p * stage_words, exchange, source, width, packed, weights, p, tid)
            P.cp_async_commit()
        for p in range(pieces):
            P.cp_async_wait2()
            cuda.syncthreads()
            more = p + ahead
            if more < pieces:
                at = staging + (more & ahead) * stage_words
                fetch(words, at, exchange, source, width, packed, weights, more, tid)
            P.cp_async_commit()
            left = staging + (p & ahead) * stage_words
            multiply(floats, words, left, p * right_words if stay else left + left_words, acc, tid)
        cuda.syncthreads()
        store(floats, acc, tid)
        cuda.syncthreads()

    return product


def thread_sums(tiling: Tiling) -> int:
    """Return how many sums a thread has."""
    return tiling.warp_rows * tiling.warp_columns // LANES


def make_multiply(tiling: Tiling, mode: str) -> Any:
    """Return the device function that adds the products of one piece to a thread's sums."""
    return make_tensor_multiply(tiling, mode) if mode in ("tf32", "bf16") else make_plain_multiply(tiling)


def make_store(tiling: Tiling, mode: str) -> Any:
    """Return the device function that puts a thread's sums where its block looks for them."""
    place = make_place(tiling, mode)
    sums, pitch, rows, staging = thread_sums(tiling), tiling.sum_pitch, tiling.rows, tiling.staging
    down, warp_rows, warp_columns = tiling.rows // tiling.warp_rows, tiling.warp_rows, tiling.warp_columns
    parts = down * (tiling.columns // tiling.warp_columns)

    @device
    def store(floats, acc, tid):
        warp = tid >> 5
        part = warp % parts
        row0 = warp // parts * rows + part % down * warp_rows
        at = staging + row0 * pitch + part // down * warp_columns
        for i in range(sums):
            row, column = place(i, tid & 31)
            floats[at + row * pitch + column] = acc[i]

    return store


def plain_lanes(tiling: Tiling) -> tuple[int, int]:
    """Return over how many rows and columns the lanes of a warp lie when no tensor core multiplies."""
    across = 8 if tiling.warp_columns >= 64 else 4
    return LANES // across, across


def make_place(tiling: Tiling, mode: str) -> Any:
    """Return the device function that tells row and column, in its warp's tile, of a lane's sum i."""
    if mode in ("tf32", "bf16"):
        across = tiling.warp_columns // 8

        @device
        def of_fragment(i, lane):
            row = (i >> 2) // across * 16 + (lane >> 2) + 8 * (i >> 1 & 1)
            return row, (i >> 2) % across * 8 + 2 * (lane & 3) + (i & 1)

        return of_fragment
    lane_rows, lane_columns = plain_lanes(tiling)
    columns = tiling.warp_columns // lane_columns

    @device
    def of_lane(i, lane):
        return lane // lane_columns + i // columns * lane_rows, lane % lane_columns + i % columns * lane_columns

    return of_lane


def make_plain_multiply(tiling: Tiling) -> Any:
    """Return `make_multiply` in float32: four words of each of a thread's rows and columns at a time."""
    lane_rows, lane_columns = plain_lanes(tiling)
    rows, columns = tiling.warp_rows // lane_rows, tiling.warp_columns // lane_columns
    left_words, pitch, quads = 4 * rows, tiling.pitch, tiling.depth // tiling.slices // 4
    down, warp_rows, warp_columns = tiling.rows // tiling.warp_rows, tiling.warp_rows, tiling.warp_columns
    parts = down * (tiling.columns // tiling.warp_columns)

    @device
    def add_quad(floats, left, right, acc):
        a = cuda.local.array(left_words, float32)
        for i in range(rows):
            v = P.lds_v4(P.shared_address(floats, left + i * lane_rows * pitch))
            for q in range(4):
                a[4 * i + q] = v[q]
        for j in range(columns):
            v = P.lds_v4(P.shared_address(floats, right + j * lane_columns * pitch))
            for i in range(rows):
                for q in range(4):
                    acc[i * columns + j] += a[4 * i + q] * v[q]

    @device
    def multiply(floats, words, left, right, acc, tid):
        warp, lane = tid >> 5, tid & 31
        part, first = warp % parts, warp // parts * quads * 4
        a = left + (part % down * warp_rows + lane // lane_columns) * pitch + first
        b = right + (part // down * warp_columns + lane % lane_columns) * pitch + first
        for q in range(quads):
            add_quad(floats, a + 4 * q, b + 4 * q, acc)

    return multiply


def make_tensor_multiply(tiling: Tiling, mode: str) -> Any:
    """Return `make_multiply` on tensor cores: 16 words of k at a time, two instructions deep.

    Which words of k an instruction multiplies does not matter as long as both operands agree, so a lane takes four
    neighbouring ones in one load: the eight lanes of a load then fall on 32 different banks.
    """
    mma = P.mma_bf16 if mode == "bf16" else P.mma_tf32
    rows, columns = tiling.warp_rows // 16, tiling.warp_columns // 8
    left_words, pitch, halves = 8 * rows, tiling.pitch, tiling.depth // tiling.slices // 16
    down, warp_rows, warp_columns = tiling.rows // tiling.warp_rows, tiling.warp_rows, tiling.warp_columns
    parts = down * (tiling.columns // tiling.warp_columns)

    @device
    def add_half(words, left, right, acc):
        a = cuda.local.array(left_words, uint32)
        for i in range(2 * rows):
            v = P.lds_v4u(P.shared_address(words, left + 8 * i * pitch))
            for q in range(4):
                a[4 * i + q] = v[q]
        for n in range(columns):
            v = P.lds_v4u(P.shared_address(words, right + 8 * n * pitch))
            for m in range(rows):
                s, i = 8 * m, 4 * (m * columns + n)
                d = mma(a[s], a[s + 4], a[s + 1], a[s + 5], v[0], v[1], acc[i], acc[i + 1], acc[i + 2], acc[i + 3])
                d = mma(a[s + 2], a[s + 6], a[s + 3], a[s + 7], v[2], v[3], d[0], d[1], d[2], d[3])
                for r in range(4):
                    acc[i + r] = d[r]

    @device
    def multiply(floats, words, left, right, acc, tid):
        warp, lane = tid >> 5, tid & 31
        part = warp % parts
        a = left + (part % down * warp_rows + (lane >> 2)) * pitch + (lane & 3) * 8
        b = right + (part // down * warp_columns + (lane >> 2)) * pitch + (lane & 3) * 8
        for i in range(halves):
            half = warp // parts * halves + i
            offset = (half >> 1) * 32 + (half & 1) * 4
            add_half(words, a + offset, b + offset, acc)

    return multiply
