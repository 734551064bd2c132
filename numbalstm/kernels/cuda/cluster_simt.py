"""The recurrence in clusters, float32 throughout: for up to 256 units and any batch, a few rows a cluster.

The warps of a cluster hold the recurrent weights in registers, laid out as those of `numbalstm.kernels.cuda.grid`; a
warp owns 2 or 4 units. h travels as in `numbalstm.kernels.cuda.cluster`: no block waits for another cluster, so any
number of clusters may wait for their turn. A warp that has the sums of a step needs no barrier of its block: nobody
writes where it reads before it has sent its own h.
"""

from functools import cache

from numba import cuda, float32, int32, uint32, uint64

from numbalstm.kernels.cuda import ptx as P
from numbalstm.kernels.cuda.cluster import await_bytes, start_cluster
from numbalstm.kernels.cuda.grid import make_dots, make_lane_cell, make_reduction
from numbalstm.kernels.cuda.kernel import Kernel
from numbalstm.kernels.cuda.options import WARPS, ClusterShape, Options
from numbalstm.kernels.cuda.step import make_finish


@cache
def make_cluster_simt(options: Options, shape: ClusterShape, fast: bool = False) -> Kernel:
    """Return the forward kernel in clusters of a shape of 128 or 256 units and 1, 2, 4 or 8 rows.

    Arguments: xw (T, B, U, 4), replaced
    by the gates' sums when these are recorded; ut (size, 4, size), zeros beyond U; h and c before; h and c after, each
    step's when recorded; y, its strides of rows and steps, first step written; mask (T, B), first counted step of each
    row, number of the first step; peepholes; factors of h (B, U) or (4, B, U); zoneout factors of c and their stride of
    steps, and of h; trouble; B, U, T.
    """
    size, rows, blocks, block_units = shape
    pieces, own, threads = size // 128, block_units // WARPS, 32 * WARPS
    row_sums = 4 * own
    together = min(rows, 32 // row_sums)  # rows that a warp computes at once: it has 32 sums at most
    passes, sums = rows // together, row_sums * together
    sets = max(1, options.factors)  # of h: one for all gates, or one for each
    spread, share = 32 // sums, 128 // sums // sets  # lanes that end with the same sum, and with the same h to send
    weights, buffer = row_sums * pieces * 4, rows * sets * size
    both, kept_words, sends = 2 * buffer, 2 * passes * threads, -(-blocks // share)
    expected = rows * sets * blocks * block_units * 4
    annotate, dots, reduced = P.cluster_of(blocks), make_dots(size, together, row_sums, sets), make_reduction(sums, 16)
    cell, finish = make_lane_cell(options, fast, spread), make_finish(options)
    masked, record, peephole, factored = options.masked, options.record, options.peephole, options.factors > 0
    zoneout_c, zoneout_h = options.zoneout

    def cluster_simt(
        xw, ut, h_in, c_in, h_out, c_out, y, y_row, y_step, y_first, mask, first, start, peepholes, factors,
        zone_c, zone_c_step, zone_h, zone_h_step, trouble, batch, units, steps,
    ):  # fmt: skip
        annotate()
        shared = cuda.shared.array(both, float32, alignment=16)
        kept = cuda.shared.array(kept_words, float32)  # c and h of a lane's unit and rows: no other thread looks
        bars = cuda.shared.array(2, uint64)
        w = cuda.local.array(weights, float32)
        acc = cuda.local.array(sums, float32)
        tid = cuda.threadIdx.x
        lane = tid & 31
        unit0 = int32(P.cluster_rank()) * block_units + (tid >> 5) * own
        row0 = cuda.blockIdx.x // blocks * rows
        for a in range(row_sums):
            for j in range(pieces):
                v = P.ld_v4(P.address(ut, (unit0 * 4 + a) * size + j * 128 + lane * 4))
                for q in range(4):
                    w[(a * pieces + j) * 4 + q] = v[q]
        mine = lane // spread
        gate = mine & 3
        unit = unit0 + ((mine >> 2) & (own - 1))
        inner = mine // row_sums  # the row among those of a pass
        lead = lane - gate * spread  # the lane of gate i with this lane's unit and row
        own_set = gate if sets > 1 else 0  # of h, which this lane sends
        p_gate = p_o = float32(0.0)
        if peephole and unit < units:
            p_gate = peepholes[gate * units + unit] if gate < 2 else float32(0.0)
            p_o = peepholes[2 * units + unit]
        for p in range(passes):
            row = row0 + p * together + inner
            live = row < batch and unit < units
            kept[p * threads + tid] = c_in[row * units + unit] if live else float32(0.0)
            kept[(passes + p) * threads + tid] = h_in[row * units + unit] if live else float32(0.0)
        for i in range(tid, buffer, threads):
            row, k = row0 + i // (sets * size), i % size
            h = float32(0.0)
            if row < batch and k < units:
                h = h_in[row * units + k]
                if factored:
                    h *= factors[(i // size % sets * batch + row) * units + k]
            shared[i] = h
            shared[buffer + i] = float32(0.0)
        start_cluster(bars, tid)
        for t in range(steps):
            now = (t & 1) * buffer
            then = buffer - now
            slot = 1 - (t & 1)
            more = t + 1 < steps
            if tid == 0 and more:
                P.mbar_expect(P.shared_address(bars, slot), uint32(expected))
            for p in range(passes):
                row = row0 + p * together + inner
                live = row < batch and unit < units
                at = row * units + unit
                x = xw[(t * batch * units + at) * 4 + gate] if live else float32(0.0)
                keep = not masked or (live and mask[t * batch + row] != 0)
                seen = masked and live and start + t > first[row]
                factor = factors[own_set * batch * units + at] if factored and live else float32(1.0)
                z_c = zone_c[t * zone_c_step + at] if zoneout_c and live else float32(0.0)
                z_h = zone_h[t * zone_h_step + at] if zoneout_h and live else float32(0.0)
                c = kept[p * threads + tid]
                for a in range(sums):
                    acc[a] = float32(0.0)
                dots(w, shared, now + p * together * sets * size + lane * 4, acc)
                z, new_c, new_h = cell(reduced(acc, lane) + x, gate, lead, c, p_gate, p_o)
                h, out = finish(new_h, kept[(passes + p) * threads + tid], keep, seen, z_h)
                if zoneout_c:
                    new_c = z_c * c + (float32(1.0) - z_c) * new_c
                c = new_c if keep else c
                if not live:
                    h = float32(0.0)  # what others multiply with zeros must be finite
                if more:  # the lanes that have this h share out the blocks that get it
                    place = ((p * together + inner) * sets + own_set) * size + unit
                    target = P.shared_address(shared, then + place)
                    for n in range(sends):
                        block = (lane & (share - 1)) + n * share
                        if block < blocks:
                            bar = P.mapa(P.shared_address(bars, slot), uint32(block))
                            P.st_async(P.mapa(target, uint32(block)), P.float_bits(h * factor), bar)
                kept[p * threads + tid] = c
                kept[(passes + p) * threads + tid] = h
                if live and lane % spread == 0:
                    if record:
                        xw[(t * batch * units + at) * 4 + gate] = z
                    if gate == 0 and t >= y_first:
                        y[row * y_row + t * y_step + unit] = out
                    if gate == 1 and (record or not more):
                        h_out[(t * batch * units if record else 0) + at] = h
                    if gate == 2 and (record or not more):
                        c_out[(t * batch * units if record else 0) + at] = c
            if more:
                await_bytes(bars, slot, uint32((t >> 1) & 1), trouble)
        P.cluster_arrive()  # no block may leave while others store into it
        P.cluster_wait()

    constants, arguments = (*options, *shape, fast), "RRRRRRRlliBIiRRRiRiIiii"
    return Kernel("cluster_simt", constants, cluster_simt, arguments, threads, cluster=blocks)
