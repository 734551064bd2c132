"""The recurrence in clusters on tensor cores: 8 rows a cluster, h rounded to bfloat16 or tf32 where it is multiplied.

A warp owns 4 units and all of their recurrent weights, as fragments in registers; rows of a fragment are gate * 4 +
unit, so one exchange between the halves of a warp gives each lane all four gates of one (unit, row). h goes straight
into the shared memory of every block of the cluster by stores that count their bytes at the receiver's barrier: no
launch, no other cluster, and no L2 round trip stands between two steps. Sums and c are float32.
"""

from typing import Any

import numpy as np
from numba import cuda, float32, int32, uint32, uint64

from numbalstm.kernels.cuda import activations
from numbalstm.kernels.cuda import ptx as P
from numbalstm.kernels.cuda.kernel import Kernel, device
from numbalstm.kernels.cuda.options import CLUSTER_ROWS as ROWS
from numbalstm.kernels.cuda.options import Options
from numbalstm.kernels.cuda.step import make_clip, make_finish

ALL = 0xFFFFFFFF


def make_chain(function: Any, start: int, stop: int) -> Any:
    """Return the device function that calls another for every fourth number from start to stop.

    Functions within functions, with the number as a constant: what no compiler has to unroll stays in registers.
    """
    if start == stop:
        return device(lambda w, source, at, acc: None)
    rest = make_chain(function, start + 4, stop)

    @device
    def link(w, source, at, acc):
        function(w, source, at, acc, start)
        rest(w, source, at, acc)

    return link


def make_cluster(options: Options, size: int, mode: str, warps: int) -> Kernel:
    """Return the forward kernel of `size` units, one of `options.CLUSTER_SIZES`, for "bf16" or "tf32".

    The cluster has size / (4 * warps) blocks. Arguments: xw (T, B, U, 4), replaced by the gates' sums when these are
    recorded; the weights as `fragments` packs them; h and c before; h and c after, each step's when recorded; y, its
    strides of rows and steps, first step written; mask (T, B), first counted step of each row, number of the first
    step; B, U, T.
    """
    bf16 = mode == "bf16"
    k_steps = size // 16 if bf16 else size // 8
    words = size // 2 if bf16 else size  # of a row of h
    pitch = words + 4  # the 8 x 4 words of a fragment lie on 32 different banks
    buffer, weights, expected = ROWS * pitch, 4 * k_steps, ROWS * words * 4
    both, threads, blocks, block_units = 2 * buffer, 32 * warps, size // (4 * warps), 4 * warps
    annotate, mma = P.cluster_of(blocks), P.mma_bf16 if bf16 else P.mma_tf32
    act_i, act_f, act_g, act_o, act_c = (activations.value(name, "float32") for name in options.activations)
    clip_gate, clip_cell = make_clip("float32", options.gate_clip), make_clip("float32", options.cell_clip)
    finish = make_finish(options)
    masked, record, peephole, coupled = options.masked, options.record, options.peephole, options.coupled

    @device
    def load_four(w, packed, at, acc, s0):
        for i in range(4):
            v = P.ld_nc_v4u(P.address(packed, at + (s0 + i) * 128))
            s = 4 * (s0 + i)
            w[s], w[s + 1], w[s + 2], w[s + 3] = v[0], v[1], v[2], v[3]

    @device
    def add_four(w, shared, at, acc, s0):
        """Add four k-steps, each to sums of its own: latency, not rate, bounds a warp here."""
        for i in range(4):
            s, a = s0 + i, 4 * i
            d = mma(
                w[4 * s], w[4 * s + 1], w[4 * s + 2], w[4 * s + 3], shared[at + s * 8], shared[at + s * 8 + 4],
                acc[a], acc[a + 1], acc[a + 2], acc[a + 3],
            )  # fmt: skip
            acc[a], acc[a + 1], acc[a + 2], acc[a + 3] = d[0], d[1], d[2], d[3]

    load_all, add_all = make_chain(load_four, 0, k_steps), make_chain(add_four, 0, k_steps)

    @device
    def word_of(h_in, row, k, batch, units):
        """Return the k-th word of a row of the first h."""
        if bf16:
            low = h_in[row * units + 2 * k] if row < batch and 2 * k < units else float32(0.0)
            high = h_in[row * units + 2 * k + 1] if row < batch and 2 * k + 1 < units else float32(0.0)
            return P.cvt_bf16x2(high, low)
        return P.cvt_tf32(h_in[row * units + k] if row < batch and k < units else float32(0.0))

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
        xw, packed, h_in, c_in, h_out, c_out, y, y_row, y_step, y_first, mask, first, start, peepholes, batch, units,
        steps,
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
        row = tile * ROWS + column
        live = row < batch and unit < units
        at = row * units + unit
        c = c_in[at] if live else float32(0.0)
        h = h_in[at] if live else float32(0.0)
        p_i = peepholes[unit] if peephole and live else float32(0.0)
        p_f = peepholes[units + unit] if peephole and live else float32(0.0)
        p_o = peepholes[2 * units + unit] if peephole and live else float32(0.0)
        for i in range(tid, ROWS * words, threads):
            shared[i // words * pitch + i % words] = word_of(h_in, tile * ROWS + i // words, i % words, batch, units)
        if tid == 0:
            P.mbar_init(P.shared_address(bars, 0), uint32(1))
            P.mbar_init(P.shared_address(bars, 1), uint32(1))
        P.cluster_arrive()
        P.cluster_wait()
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
            if peephole:
                z_i += p_i * c
                z_f += p_f * c
            i_gate = act_i(clip_gate(z_i))
            f_gate = float32(1.0) - i_gate if coupled else act_f(clip_gate(z_f))
            new_c = clip_cell(f_gate * c + i_gate * act_g(clip_gate(z_g)))
            if peephole:
                z_o += p_o * new_c
            seen = masked and live and start + t > first[row]
            h, out = finish(act_o(clip_gate(z_o)) * act_c(new_c), h, keep, seen, float32(0.0))
            c = new_c if keep else c
            if not live:
                h = float32(0.0)  # what others multiply with zeros must be finite
            if more:
                send(shared, bars, h, then + column * pitch, unit, slot, gr)
            if live:
                if record:
                    P.st_v4(P.address(xw, place), z_i, z_f, z_g, z_o)
                    h_out[t * batch * units + at] = h
                    c_out[t * batch * units + at] = c
                if t >= y_first:
                    y[row * y_row + t * y_step + unit] = out
            if more:
                while P.mbar_try_wait(P.shared_address(bars, slot), uint32((t >> 1) & 1)) == uint32(0):
                    pass
        if live and not record:
            h_out[at] = h
            c_out[at] = c
        P.cluster_arrive()  # no block may leave while others store into it
        P.cluster_wait()

    constants = (*options, size, mode, warps)
    return Kernel("cluster", constants, cluster, "RURRRRRlliBIiRiii", threads, cluster=blocks)


def fragments(weights: np.ndarray, mode: str) -> np.ndarray:
    """Return (U, 4, U) float32 weights as uint32 (U / 4, k-steps, 32 lanes, 4): in the order of the loads.

    Rows of a fragment are gate * 4 + unit; values are rounded as the conversions of the device round.
    """
    units = weights.shape[0]
    rows = weights.reshape(units // 4, 4, 4, units).transpose(0, 2, 1, 3).reshape(units // 4, 16, units)
    bits = np.ascontiguousarray(rows, np.float32).view(np.uint32).astype(np.uint64)
    lane = np.arange(32)
    g, q = lane >> 2, lane & 3
    if mode == "bf16":
        half = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint32)
        k = 16 * np.arange(units // 16)[:, None] + 2 * q

        def word(row, offset):
            return half[:, row, k + offset] | (half[:, row, k + offset + 1] << 16)

        parts = [word(g, 0), word(g + 8, 0), word(g, 8), word(g + 8, 8)]
    else:
        rounded = ((bits + 0x1000) & 0xFFFFE000).astype(np.uint32)
        k = 8 * np.arange(units // 8)[:, None] + q
        parts = [rounded[:, g + 8 * (i & 1), k + 4 * (i >> 1)] for i in range(4)]
    return np.ascontiguousarray(np.stack(parts, axis=-1))
