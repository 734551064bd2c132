"""The recurrence in clusters on tensor cores: 8 rows a cluster, h rounded to bfloat16 or tf32 where it is multiplied.

A warp owns 4 units and all of their recurrent weights, as fragments in registers; rows of a fragment are gate * 4 +
unit, so one exchange between the halves of a warp gives each lane all four gates of one (unit, row). h goes straight
into the shared memory of every block of the cluster by stores that count their bytes at the receiver's barrier: no
launch, no other cluster, and no L2 round trip stands between two steps. Sums and c are float32.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda, float32, int32, uint32, uint64

from numbalstm.kernels.cuda import ptx as P
from numbalstm.kernels.cuda.cell import make_cell
from numbalstm.kernels.cuda.kernel import Kernel, device, make_chain
from numbalstm.kernels.cuda.options import WARPS, ClusterShape, Options
from numbalstm.kernels.cuda.rounding import to_bf16, to_tf32
from numbalstm.kernels.cuda.step import make_finish

ALL = 0xFFFFFFFF
FEW_POLLS, POLLS = 1 << 10, 1 << 22  # each may last; then the bytes are given up: a lost store must not hang the GPU


@device
def start_cluster(bars, tid):
    """Make both barriers ready and wait until those of every block of the cluster are, and its shared memory is."""
    if tid == 0:
        P.mbar_init(P.shared_address(bars, 0), uint32(1))
        P.mbar_init(P.shared_address(bars, 1), uint32(1))
    P.cluster_arrive()
    P.cluster_wait()


@device
def await_bytes(bars, slot, parity, trouble):
    """Wait until all bytes that a barrier expects have arrived."""
    polls = 0
    while P.mbar_try_wait(P.shared_address(bars, slot), parity) == uint32(0):
        polls += 1
        if polls > FEW_POLLS and (polls > POLLS or trouble[0] != 0):
            trouble[0] = 1  # after the first wait in vain others end soon
            break


def fragment_words(count: int, mode: str) -> int:
    """Return the 32-bit words of so many rounded values."""
    return count // 2 if mode == "bf16" else count


def make_fragment_steps(mode: str, pitch: int = 8) -> tuple[Any, Any]:
    """Return device functions for four steps along k: load their weights, and add their products.

    A lane reads two words of a step, half a `pitch` apart. Each of the four steps has sums of its own: latency, not
    rate, bounds a warp here.
    """
    mma = P.mma_bf16 if mode == "bf16" else P.mma_tf32

    @device
    def load_four(w, packed, at, acc, s0):
        for i in range(4):
            v = P.ld_nc_v4u(P.address(packed, at + (s0 + i) * 128))
            s = 4 * (s0 + i)
            w[s], w[s + 1], w[s + 2], w[s + 3] = v[0], v[1], v[2], v[3]

    @device
    def add_four(w, source, at, acc, s0):
        for i in range(4):
            s, a = s0 + i, 4 * i
            d = mma(
                w[4 * s], w[4 * s + 1], w[4 * s + 2], w[4 * s + 3], source[at + s * pitch],
                source[at + s * pitch + pitch // 2], acc[a], acc[a + 1], acc[a + 2], acc[a + 3],
            )  # fmt: skip
            acc[a], acc[a + 1], acc[a + 2], acc[a + 3] = d[0], d[1], d[2], d[3]

    return load_four, add_four


@cache
def make_cluster(options: Options, shape: ClusterShape, mode: str) -> Kernel:
    """Return the forward kernel in clusters of a shape of 8 rows, for "bf16" or "tf32".

    Arguments: xw (T, B, U, 4), replaced by the gates' sums when these are recorded; the weights as `forward_fragments`
    packs them; h and c before; h and c after, each step's when recorded; y, its strides of rows and steps, first step
    written; mask (T, B), first counted step of each row, number of the first step; peepholes; factors of h (B, U);
    zoneout factors of c and their stride of steps, and of h; trouble; B, U, T.
    """
    size, rows, blocks, block_units = shape
    bf16, words = mode == "bf16", fragment_words(size, mode)  # of a row of h
    k_steps, pitch = words // 8, words + 4  # the 8 x 4 words of a fragment lie on 32 different banks
    buffer, weights, expected, threads = rows * pitch, 4 * k_steps, rows * words * 4, 32 * WARPS
    both, annotate = 2 * buffer, P.cluster_of(blocks)
    cell, finish = make_cell(options, False), make_finish(options)
    masked, record, peephole = options.masked, options.record, options.peephole
    factored, zoneout_c, zoneout_h = options.factors > 0, *options.zoneout
    load_all, add_all = (make_chain(four, 0, k_steps, 4) for four in make_fragment_steps(mode))

    @device
    def first_h(h_in, factors, row, k, batch, units):
        at = row * units + k
        h = h_in[at] if row < batch and k < units else float32(0.0)
        return h * factors[at] if factored and row < batch and k < units else h

    @device
    def first_word(h_in, factors, row, k, batch, units):
        """Return the k-th word of a row of the first h."""
        if bf16:
            high = first_h(h_in, factors, row, 2 * k + 1, batch, units)
            return P.cvt_bf16x2(high, first_h(h_in, factors, row, 2 * k, batch, units))
        return P.cvt_tf32(first_h(h_in, factors, row, k, batch, units))

    @device
    def send(shared, bars, h, place, unit, slot, gr):
        """Store h, rounded, in the shared memory of every block."""
        if bf16:
            other = cuda.shfl_xor_sync(ALL, h, 4)
            if (gr & 1) == 0:
                word = P.cvt_bf16x2(other, h)
                target = P.shared_address(shared, place + (unit >> 1))
                for r in range(blocks):
                    P.st_async(P.mapa(target, uint32(r)), word, P.mapa(P.shared_address(bars, slot), uint32(r)))
        else:
            word = P.cvt_tf32(h)
            target = P.shared_address(shared, place + unit)
            for r in range(blocks):
                P.st_async(P.mapa(target, uint32(r)), word, P.mapa(P.shared_address(bars, slot), uint32(r)))

    def cluster(
        xw, packed, h_in, c_in, h_out, c_out, y, y_row, y_step, y_first, mask, first, start, peepholes, factors,
        zone_c, zone_c_step, zone_h, zone_h_step, trouble, batch, units, steps,
    ):  # fmt: skip
        annotate()
        shared = cuda.shared.array(both, uint32)
        bars = cuda.shared.array(2, uint64)
        w = cuda.local.array(weights, uint32)
        acc = cuda.local.array(16, float32)
        tid = cuda.threadIdx.x
        lane = tid & 31
        q, gr = lane & 3, lane >> 2
        tile = cuda.blockIdx.x // blocks
        unit0 = int32(P.cluster_rank()) * block_units + (tid >> 5) * 4
        load_all(w, packed, (unit0 >> 2) * k_steps * 128 + lane * 4, acc)
        # this lane's unit and row: lanes 0 to 15 take the even columns of a fragment, 16 to 31 the odd ones
        unit = unit0 + (gr & 3)
        column = 2 * q + (lane >> 4)
        row = tile * rows + column
        live = row < batch and unit < units
        at = row * units + unit
        c = c_in[at] if live else float32(0.0)
        h = h_in[at] if live else float32(0.0)
        p_i = peepholes[unit] if peephole and live else float32(0.0)
        p_f = peepholes[units + unit] if peephole and live else float32(0.0)
        p_o = peepholes[2 * units + unit] if peephole and live else float32(0.0)
        factor = factors[at] if factored and live else float32(1.0)
        for i in range(tid, rows * words, threads):
            word = first_word(h_in, factors, tile * rows + i // words, i % words, batch, units)
            shared[i // words * pitch + i % words] = word
        start_cluster(bars, tid)
        for t in range(steps):
            now = (t & 1) * buffer
            then = buffer - now
            slot = 1 - (t & 1)
            more = t + 1 < steps
            if tid == 0 and more:
                P.mbar_expect(P.shared_address(bars, slot), uint32(expected))
            place = ((t * batch + row) * units + unit) * 4
            z_i = z_f = z_g = z_o = float32(0.0)
            if live:
                x = P.ld_v4(P.address(xw, place))
                z_i, z_f, z_g, z_o = x[0], x[1], x[2], x[3]
            keep = not masked or (live and mask[t * batch + row] != 0)
            z_c = zone_c[t * zone_c_step + at] if zoneout_c and live else float32(0.0)
            z_h = zone_h[t * zone_h_step + at] if zoneout_h and live else float32(0.0)
            for i in range(16):
                acc[i] = float32(0.0)
            add_all(w, shared, now + gr * pitch + q, acc)
            d0 = (acc[0] + acc[4]) + (acc[8] + acc[12])
            d1 = (acc[1] + acc[5]) + (acc[9] + acc[13])
            d2 = (acc[2] + acc[6]) + (acc[10] + acc[14])
            d3 = (acc[3] + acc[7]) + (acc[11] + acc[15])
            # lanes below 16 hold the rows of gates i and g, the others those of f and o, for columns 2q and 2q + 1
            low = lane < 16
            r0 = cuda.shfl_xor_sync(ALL, d1 if low else d0, 16)
            r1 = cuda.shfl_xor_sync(ALL, d3 if low else d2, 16)
            z_i += d0 if low else r0
            z_g += d2 if low else r1
            z_f += r0 if low else d1
            z_o += r1 if low else d3
            z_i, z_f, z_o, new_h, new_c = cell(z_i, z_f, z_g, z_o, c, p_i, p_f, p_o)
            seen = masked and live and start + t > first[row]
            h, out = finish(new_h, h, keep, seen, z_h)
            if zoneout_c:
                new_c = z_c * c + (float32(1.0) - z_c) * new_c
            c = new_c if keep else c
            if not live:
                h = float32(0.0)  # what others multiply with zeros must be finite
            if more:
                send(shared, bars, h * factor, then + column * pitch, unit, slot, gr)
            if live:
                if record:
                    P.st_v4(P.address(xw, place), z_i, z_f, z_g, z_o)
                    h_out[t * batch * units + at] = h
                    c_out[t * batch * units + at] = c
                if t >= y_first:
                    y[row * y_row + t * y_step + unit] = out
            if more:
                await_bytes(bars, slot, uint32((t >> 1) & 1), trouble)
        if live and not record:
            h_out[at] = h
            c_out[at] = c
        P.cluster_arrive()  # no block may leave while others store into it
        P.cluster_wait()

    constants, arguments = (*options, *shape, mode), "RURRRRRlliBIiRRRiRiIiii"
    return Kernel("cluster", constants, cluster, arguments, threads, cluster=blocks)


def fragments(tiles: np.ndarray, mode: str) -> np.ndarray:
    """Return float32 (tiles, 16, K) as uint32 (tiles, k-steps, 32 lanes, 4): in the order of the loads.

    Values are rounded as the conversions of the device round.
    """
    lane, count = np.arange(32), tiles.shape[2]
    g, q = lane >> 2, lane & 3
    if mode == "bf16":
        half = to_bf16(tiles)
        k = 16 * np.arange(count // 16)[:, None] + 2 * q

        def word(row, offset):
            return half[:, row, k + offset] | (half[:, row, k + offset + 1] << 16)

        parts = [word(g, 0), word(g + 8, 0), word(g, 8), word(g + 8, 8)]
    else:
        rounded = to_tf32(tiles)
        k = 8 * np.arange(count // 8)[:, None] + q
        parts = [rounded[:, g + 8 * (i & 1), k + 4 * (i >> 1)] for i in range(4)]
    return np.ascontiguousarray(np.stack(parts, axis=-1))


def forward_fragments(weights: np.ndarray, mode: str) -> np.ndarray:
    """Return (U, 4, U) weights in fragments of four units, whose rows are gate * 4 + unit."""
    units = weights.shape[0]
    return fragments(weights.reshape(units // 4, 4, 4, units).swapaxes(1, 2).reshape(-1, 16, units), mode)


def backward_fragments(weights: np.ndarray, mode: str) -> np.ndarray:
    """Return (U, 4, U) weights in fragments of 16 source units, along all gates unit * 4 + gate."""
    units = weights.shape[0]
    return fragments(weights.reshape(4 * units, units).T.reshape(-1, 16, 4 * units), mode)
