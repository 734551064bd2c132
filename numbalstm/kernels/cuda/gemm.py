"""Tuned matrix products: C[m, n] = sum_k A[m, k] B[n, k] (+ bias[n]), float32 in and out.

A block of 256 threads makes 128 x 128 of C from pieces 32 deep, fetched by asynchronous copies while the piece before
is multiplied. Modes: "fp32", 8 x 8 sums a thread; "tf32" and "bf16", tensor cores with float32 sums, a warp 64 x 32.
Either operand may be contiguous along k, or along its own axis: the forward pass needs the one, gradients the other.
Long k are cut into pieces whose parts `numbalstm.kernels.cuda.moves.make_column_sums` adds in their order.
"""

from functools import cache
from typing import Any

from numba import cuda, float32, uint32

from numbalstm.kernels.cuda import ptx as P
from numbalstm.kernels.cuda.kernel import Kernel, device

TILE, DEPTH, THREADS = 128, 32, 256
MODES = ("fp32", "tf32", "bf16")
K_PITCH = DEPTH + 4  # words of a row of k: 16-byte aligned, and 8 rows x 4 k fall on 32 different banks
OWN_PITCH = TILE + 8  # words of a column of the operand's own axis: the same


class Side:
    """How one operand lies in shared memory, and the device function that fetches a piece of it.

    Parameters
    ----------
    k_fast : bool
        Contiguous along k.
    wide : bool
        Rows begin on 16 bytes, and the contiguous extent is a multiple of 4.
    """

    def __init__(self, k_fast: bool, wide: bool) -> None:
        self.k_fast = k_fast
        self.row_step, self.k_step = (K_PITCH, 1) if k_fast else (1, OWN_PITCH)
        self.words = TILE * K_PITCH if k_fast else DEPTH * OWN_PITCH
        self.fetch = make_fetch(k_fast, wide)


def make_fetch(k_fast: bool, wide: bool) -> Any:
    """Return the device function that starts the copies of rows row0 to row0 + 128 and k0 to k0 + 32; 0 outside."""
    group = 4 if wide else 1
    fast = (DEPTH if k_fast else TILE) // group
    row_step, k_step = (K_PITCH, 1) if k_fast else (1, OWN_PITCH)
    count, size = TILE * DEPTH // group // THREADS, 4 * group
    copy = P.cp_async16 if wide else P.cp_async4

    @device
    def fetch(shared, at, source, pitch, row0, rows, k0, depth, tid):
        for i in range(count):
            e = tid + THREADS * i
            along, across = e % fast * group, e // fast
            row = across if k_fast else along
            k = along if k_fast else across
            inside = row0 + row < rows and k0 + k < depth
            place = (row0 + row) * pitch + k0 + k if k_fast else (k0 + k) * pitch + row0 + row
            target = P.shared_address(shared, at + row * row_step + k * k_step)
            copy(target, P.address(source, place if inside else 0), uint32(size if inside else 0))

    return fetch


@cache
def make_gemm(mode: str, a_k_fast: bool, a_wide: bool, b_k_fast: bool, b_wide: bool) -> Kernel:
    """Return a product kernel of one mode and layout.

    Arguments: A and the distance of its rows (k-contiguous: of m; else of k), B likewise, bias, C, M, N, K, how much of
    k a block takes, whether there is a bias. C is (pieces, M, N): blocks go over pieces, tiles of m, tiles of n.
    """
    a_side, b_side = Side(a_k_fast, a_wide), Side(b_k_fast, b_wide)
    a_words, b_words = a_side.words, b_side.words
    fetch_a, fetch_b = a_side.fetch, b_side.fetch
    tensor = mode != "fp32"
    multiply = make_tensor_tile(mode, a_side, b_side) if tensor else make_plain_tile(a_side, b_side)
    b_start = 2 * a_words
    a_row = make_row(tensor, a_k_fast, True)
    b_row = make_row(tensor, b_k_fast, False)

    def gemm(a, a_pitch, b, b_pitch, bias, c, m, n, k, piece, with_bias):
        shared = cuda.shared.array(0, float32, alignment=16)
        acc = cuda.local.array(64, float32)
        tid = cuda.threadIdx.x
        tiles_m = (m + TILE - 1) // TILE
        tiles_n = (n + TILE - 1) // TILE
        part = cuda.blockIdx.x // tiles_n // tiles_m
        m0 = cuda.blockIdx.x // tiles_n % tiles_m * TILE
        n0 = cuda.blockIdx.x % tiles_n * TILE
        first = part * piece
        last = min(k, first + piece)
        for i in range(64):
            acc[i] = float32(0.0)
        fetch_a(shared, 0, a, a_pitch, m0, m, first, last, tid)
        fetch_b(shared, b_start, b, b_pitch, n0, n, first, last, tid)
        P.cp_async_commit()
        odd = 0
        for k0 in range(first, last, DEPTH):
            P.cp_async_wait0()
            cuda.syncthreads()
            if k0 + DEPTH < last:
                other = 1 - odd
                fetch_a(shared, other * a_words, a, a_pitch, m0, m, k0 + DEPTH, last, tid)
                fetch_b(shared, b_start + other * b_words, b, b_pitch, n0, n, k0 + DEPTH, last, tid)
                P.cp_async_commit()
            multiply(shared, odd * a_words, b_start + odd * b_words, acc, tid)
            odd = 1 - odd
        for i in range(64):
            row, column = m0 + a_row(i, tid), n0 + b_row(i, tid)
            if row < m and column < n:
                value = acc[i]
                if with_bias:
                    value += bias[column]
                c[(part * m + row) * n + column] = value

    constants = ("float32", mode, a_k_fast, a_wide, b_k_fast, b_wide)
    return Kernel("gemm", constants, gemm, "RlRlRRlllli", THREADS, 8 * (a_words + b_words))


def make_row(tensor: bool, k_fast: bool, left: bool) -> Any:
    """Return the device function that tells the row of A (`left`), or of B, that a thread's sum i belongs to."""
    if tensor and left:
        return device(lambda i, tid: (tid >> 5 & 1) * 64 + (i >> 4) * 16 + ((tid & 31) >> 2) + 8 * (i >> 1 & 1))
    if tensor:
        return device(lambda i, tid: (tid >> 6) * 32 + (i >> 2 & 3) * 8 + 2 * (tid & 3) + (i & 1))
    if left and k_fast:
        return device(lambda i, tid: (tid >> 4) + 16 * (i >> 3))
    if left:
        return device(lambda i, tid: 4 * (tid >> 4) + 64 * (i >> 5) + (i >> 3 & 3))
    if k_fast:
        return device(lambda i, tid: (tid & 15) + 16 * (i & 7))
    return device(lambda i, tid: 4 * (tid & 15) + 64 * (i >> 2 & 1) + (i & 3))


def make_plain_tile(a_side: Side, b_side: Side) -> Any:
    """Return the device function that adds one piece's products to 8 x 8 sums of each thread."""
    load_a, load_b = make_quad(a_side.k_fast), make_quad(b_side.k_fast)
    a_step, b_step = 4 * a_side.k_step, 4 * b_side.k_step

    @device
    def add_quad(shared, a_at, b_at, a_thread, b_thread, acc):
        a = cuda.local.array(32, float32)
        b = cuda.local.array(32, float32)
        load_a(shared, a_at, a_thread, a)
        load_b(shared, b_at, b_thread, b)
        for i in range(8):
            for j in range(8):
                for q in range(4):
                    acc[i * 8 + j] += a[i * 4 + q] * b[j * 4 + q]

    @device
    def multiply(shared, a_at, b_at, acc, tid):
        for q in range(DEPTH // 4):
            add_quad(shared, a_at + q * a_step, b_at + q * b_step, tid >> 4, tid & 15, acc)

    return multiply


def make_quad(k_fast: bool) -> Any:
    """Return the device function that loads a thread's 8 rows, 4 k of each, as (row, k)."""

    @device
    def along_k(shared, at, thread, values):
        for i in range(8):
            v = P.lds_v4(P.shared_address(shared, at + (thread + 16 * i) * K_PITCH))
            for q in range(4):
                values[i * 4 + q] = v[q]

    @device
    def along_rows(shared, at, thread, values):
        for q in range(4):
            for half in range(2):
                v = P.lds_v4(P.shared_address(shared, at + q * OWN_PITCH + 4 * thread + 64 * half))
                for e in range(4):
                    values[(half * 4 + e) * 4 + q] = v[e]

    return along_k if k_fast else along_rows


def make_tensor_tile(mode: str, a_side: Side, b_side: Side) -> Any:
    """Return the device function that adds one piece's products to a warp's 4 x 4 fragments."""
    bf16 = mode == "bf16"
    deep = 16 if bf16 else 8  # k of one instruction
    pair = 2 if bf16 else 1  # k in one register
    mma = P.mma_bf16 if bf16 else P.mma_tf32
    a_row, a_k, b_row, b_k = a_side.row_step, a_side.k_step, b_side.row_step, b_side.k_step
    half_a, half_b = deep // 2 * a_k, deep // 2 * b_k

    @device
    def word(shared, at, k_step):
        if bf16:
            return P.cvt_bf16x2(shared[at + k_step], shared[at])
        return P.cvt_tf32(shared[at])

    @device
    def add_fragments(shared, a_at, b_at, acc):
        w = cuda.local.array(8, uint32)
        for n in range(4):
            w[2 * n] = word(shared, b_at + n * 8 * b_row, b_k)
            w[2 * n + 1] = word(shared, b_at + n * 8 * b_row + half_b, b_k)
        for m in range(4):
            upper, lower = a_at + m * 16 * a_row, a_at + (m * 16 + 8) * a_row
            a0, a1 = word(shared, upper, a_k), word(shared, lower, a_k)
            a2, a3 = word(shared, upper + half_a, a_k), word(shared, lower + half_a, a_k)
            for n in range(4):
                i = (m * 4 + n) * 4
                d = mma(a0, a1, a2, a3, w[2 * n], w[2 * n + 1], acc[i], acc[i + 1], acc[i + 2], acc[i + 3])
                for r in range(4):
                    acc[i + r] = d[r]

    @device
    def multiply(shared, a_at, b_at, acc, tid):
        lane, warp = tid & 31, tid >> 5
        a = a_at + ((warp & 1) * 64 + (lane >> 2)) * a_row + (lane & 3) * pair * a_k
        b = b_at + ((warp >> 1) * 32 + (lane >> 2)) * b_row + (lane & 3) * pair * b_k
        for s in range(DEPTH // deep):
            add_fragments(shared, a + s * deep * a_k, b + s * deep * b_k, acc)

    return multiply
