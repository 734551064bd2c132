"""The backward recurrence in clusters: float32 throughout, or on tensor cores with rounded weights and dz.

Reduce and scatter, as in `numbalstm.kernels.cuda.grid_backward`: a block turns the dz of its own units into parts of dh
for all units and stores each part straight into the shared memory of the block that owns the unit, where every source
has a slot of its own. The stores count their bytes at the owner's barrier; the owner adds the slots in their order.
Two buffers are enough for slots and for dz: who stores into a buffer again has parts of the step between from every
block, and a block sends those only when its threads have read the buffer.
"""

from functools import cache
from typing import Any, NamedTuple

from numba import cuda, float32, int32, uint32, uint64

from numbalstm.kernels.cuda import ptx as P
from numbalstm.kernels.cuda.cluster import await_bytes, fragment_words, make_fragment_steps, start_cluster
from numbalstm.kernels.cuda.kernel import Kernel, device, make_chain
from numbalstm.kernels.cuda.options import WARPS, ClusterShape, Options
from numbalstm.kernels.cuda.step_backward import make_coefficients

THREADS = 32 * WARPS


class Parts(NamedTuple):
    """How a block makes its parts of dh.

    Attributes
    ----------
    word : type
        Of weights and dz.
    pitch : int
        Words of a row of dz.
    weights : int
        Words of a thread.
    groups : int
        Parts of a block for each unit.
    load, store, send : device functions
        Fill a thread's weights; leave the dz of a unit and row for the block; compute parts and store them at their
        owners.
    """

    word: Any
    pitch: int
    weights: int
    groups: int
    load: Any
    store: Any
    send: Any


def make_simt_parts(shape: ClusterShape, per_gate: bool) -> Parts:
    """Return the parts in float32: a thread has one source unit and the weights to some of the block's gates.

    `per_gate`: each gate has factors of h of its own, which the parts are multiplied with.
    """
    size, rows, blocks, block_units = shape
    gates, groups = 4 * block_units, THREADS // size
    weights = gates // groups

    @device
    def load(w, packed, rank, tid):
        start = rank * gates + tid // size * weights
        for r in range(weights):
            w[r] = packed[(start + r) * size + tid % size]

    @device
    def store(shared, now, row, unit, z_i, z_f, z_g, z_o):
        P.sts_v4(P.shared_address(shared, now + row * gates + 4 * unit), z_i, z_f, z_g, z_o)

    @device
    def part(w, shared, at, factors, own, distance):
        s0 = s1 = s2 = s3 = float32(0.0)
        for r in range(weights // 4):
            v = P.lds_v4(P.shared_address(shared, at + 4 * r))
            s0 += w[4 * r] * v[0]
            s1 += w[4 * r + 1] * v[1]
            s2 += w[4 * r + 2] * v[2]
            s3 += w[4 * r + 3] * v[3]
        if per_gate:
            s0, s1 = s0 * factors[own], s1 * factors[own + distance]
            s2, s3 = s2 * factors[own + 2 * distance], s3 * factors[own + 3 * distance]
        return (s0 + s1) + (s2 + s3)

    @device
    def send(w, shared, now, slots, then, bars, slot, rank, tid, factors, row0, batch, units):
        group, k = tid // size, tid % size
        owner = uint32(k // block_units)
        if k < blocks * block_units:
            bar = P.mapa(P.shared_address(bars, slot), owner)
            place = then + (rank * groups + group) * rows * block_units + k % block_units
            for b in range(rows):
                target = P.mapa(P.shared_address(slots, place + b * block_units), owner)
                own = min(row0 + b, batch - 1) * units + min(k, units - 1)  # behind the ends all parts are zeros
                value = part(w, shared, now + b * gates + group * weights, factors, own, batch * units)
                P.st_async(target, P.float_bits(value), bar)

    return Parts(float32, gates, weights, groups, load, store, send)


def make_tensor_parts(shape: ClusterShape, mode: str) -> Parts:
    """Return the parts on tensor cores: a warp has the source units of some fragments and all gates of its block."""
    size, rows, _, block_units = shape
    bf16, gates, tiles = mode == "bf16", 4 * block_units, size // 16 // WARPS
    words = fragment_words(gates, mode)
    k_steps, all_steps, pitch = words // 8, fragment_words(4 * size, mode) // 8, words + 4
    load_four, add_four = make_fragment_steps(mode, 2)
    dz_words = 2 * k_steps  # of a lane

    def make_tiles(i):
        """Return `load` and `send` of a warp's tiles from the i-th on; the latter takes a lane's fragments of dz."""
        if i == tiles:
            nothing = device(lambda w, dz, slots, then, bars, slot, rank, tid: None)
            return device(lambda w, packed, rank, tid: None), nothing
        load_rest, send_rest = make_tiles(i + 1)
        begin = i * k_steps
        loads, adds = (make_chain(f, begin, begin + k_steps, 4) for f in (load_four, add_four))

        @device
        def load(w, packed, rank, tid):
            step = ((tid >> 5) * tiles + i) * all_steps + rank * k_steps - begin
            loads(w, packed, step * 128 + (tid & 31) * 4, w)
            load_rest(w, packed, rank, tid)

        @device
        def send(w, dz, slots, then, bars, slot, rank, tid):
            acc = cuda.local.array(16, float32)
            q, gr = tid & 3, tid >> 2 & 7
            for a in range(16):
                acc[a] = float32(0.0)
            adds(w, dz, -begin * 2, acc)
            k = ((tid >> 5) * tiles + i) * 16 + gr  # and k + 8, of rows 2q and 2q + 1
            owner = uint32(k // block_units)
            bar = P.mapa(P.shared_address(bars, slot), owner)
            place = then + (rank * rows + 2 * q) * block_units + k % block_units
            for a in range(4):
                target = P.shared_address(slots, place + (a & 1) * block_units + (a >> 1) * 8)
                value = (acc[a] + acc[4 + a]) + (acc[8 + a] + acc[12 + a])
                P.st_async(P.mapa(target, owner), P.float_bits(value), bar)
            send_rest(w, dz, slots, then, bars, slot, rank, tid)

        return load, send

    @device
    def store(shared, now, row, unit, z_i, z_f, z_g, z_o):
        if bf16:
            at = now + row * pitch + 2 * unit
            shared[at], shared[at + 1] = P.cvt_bf16x2(z_f, z_i), P.cvt_bf16x2(z_o, z_g)
        else:
            at = now + row * pitch + 4 * unit
            shared[at], shared[at + 1] = P.cvt_tf32(z_i), P.cvt_tf32(z_f)
            shared[at + 2], shared[at + 3] = P.cvt_tf32(z_g), P.cvt_tf32(z_o)

    load, send_tiles = make_tiles(0)

    @device
    def send(w, shared, now, slots, then, bars, slot, rank, tid, factors, row0, batch, units):
        dz = cuda.local.array(dz_words, uint32)
        at = now + (tid >> 2 & 7) * pitch + (tid & 3)
        for s in range(k_steps):  # once for all tiles
            dz[2 * s], dz[2 * s + 1] = shared[at + 8 * s], shared[at + 8 * s + 4]
        send_tiles(w, dz, slots, then, bars, slot, rank, tid)

    return Parts(uint32, pitch, 4 * k_steps * tiles, 1, load, store, send)


@cache
def make_cluster_backward(options: Options, shape: ClusterShape, mode: str) -> Kernel:
    """Return the backward kernel in clusters of a shape: "fp32", or "tf32" and "bf16" on tensor cores.

    Arguments: weights, (size, 4, size) with zeros beyond U or as `fragments` packs them; the sums z (T, B, U, 4) and
    the c before each step; dy, its strides of rows and steps, first step that has one; mask (T, B), first counted step
    of each row; peepholes; factors of h (B, U) or, in float32, (4, B, U); zoneout factors of c and their stride of
    steps, and of h; dh and dc, of the final states, replaced by those of the initial ones; dz (T, B, U, 4); trouble;
    B, U, T.
    """
    parts = make_simt_parts(shape, options.factors > 1) if mode == "fp32" else make_tensor_parts(shape, mode)
    _, rows, blocks, block_units = shape
    word, load, store, send = parts.word, parts.load, parts.store, parts.send
    weights, buffer, sources = parts.weights, rows * parts.pitch, blocks * parts.groups
    cells = rows * block_units  # units and rows that a block owns, one a thread
    both_dz, arriving = 2 * buffer, sources * cells
    both_slots, expected = 2 * arriving, 4 * arriving
    annotate, coefficients = P.cluster_of(blocks), make_coefficients(options)
    masked, repeat, peephole, factored = options.masked, not options.zero_output, options.peephole, options.factors == 1
    zoneout_c, zoneout_h = options.zoneout

    @device
    def collected(slots, bars, step, tid, trouble):
        """Return dh of this thread's unit and row from the parts of a step, when all are there."""
        await_bytes(bars, step & 1, uint32((step >> 1) & 1), trouble)
        total = float32(0.0)
        if tid < cells:
            for s in range(sources):
                total += slots[(step & 1) * arriving + s * cells + tid]
        return total

    def cluster_backward(
        packed, z, c_before, dy, dy_row, dy_step, dy_first, mask, first, peepholes, factors, zone_c, zone_c_step,
        zone_h, zone_h_step, dh_state, dc_state, dz, trouble, batch, units, steps,
    ):  # fmt: skip
        annotate()
        shared = cuda.shared.array(both_dz, word, alignment=16)
        slots = cuda.shared.array(both_slots, float32)
        bars = cuda.shared.array(2, uint64)
        w = cuda.local.array(weights, word)
        tid = cuda.threadIdx.x
        rank = int32(P.cluster_rank())
        load(w, packed, rank, tid)
        inner, own = tid // block_units, tid % block_units  # this thread's row and unit in the block
        row0 = cuda.blockIdx.x // blocks * rows
        row, unit = row0 + inner, rank * block_units + own
        live = tid < cells and row < batch and unit < units
        at = row * units + unit
        dc = dc_state[at] if live else float32(0.0)
        passed = dh_state[at] if live else float32(0.0)  # dh that did not go through the cell
        p_i = peepholes[unit] if peephole and live else float32(0.0)
        p_f = peepholes[units + unit] if peephole and live else float32(0.0)
        p_o = peepholes[2 * units + unit] if peephole and live else float32(0.0)
        factor = factors[at] if factored and live else float32(1.0)
        start_cluster(bars, tid)
        for step in range(steps):
            t, slot = steps - 1 - step, step & 1
            if tid == 0:
                P.mbar_expect(P.shared_address(bars, slot), uint32(expected))
            to_o = to_c = to_i = to_f = to_g = back = z_c = z_h = z_i = z_f = z_g = z_o = float32(0.0)
            o = t * batch * units + at
            keep = live and (not masked or mask[t * batch + row] != 0)
            if live:  # while the parts of the step behind are on their way
                v = P.ld_nc_v4(P.address(z, 4 * o))
                to_o, to_c, to_i, to_f, to_g, back = coefficients(v[0], v[1], v[2], v[3], c_before[o], p_i, p_f, p_o)
                if t >= dy_first and (keep or (repeat and t > first[row])):
                    passed += dy[row * dy_row + t * dy_step + unit]
                z_c = zone_c[t * zone_c_step + at] if zoneout_c else float32(0.0)
                z_h = zone_h[t * zone_h_step + at] if zoneout_h else float32(0.0)
            if step > 0:
                passed += collected(slots, bars, step - 1, tid, trouble) * factor
            if keep:
                dh, through = passed, float32(0.0)
                passed = z_h * dh if zoneout_h else float32(0.0)
                if zoneout_h:
                    dh = (float32(1.0) - z_h) * dh
                if zoneout_c:
                    through = z_c * dc
                    dc = (float32(1.0) - z_c) * dc
                dc += dh * to_c
                z_i, z_f, z_g, z_o = dc * to_i, dc * to_f, dc * to_g, dh * to_o
                dc = through + dc * back
            if live:
                P.st_v4(P.address(dz, 4 * o), z_i, z_f, z_g, z_o)
            if tid < cells:
                store(shared, slot * buffer, inner, own, z_i, z_f, z_g, z_o)
            cuda.syncthreads()
            send(w, shared, slot * buffer, slots, slot * arriving, bars, slot, rank, tid, factors, row0, batch, units)
        passed += collected(slots, bars, steps - 1, tid, trouble) * factor
        if live:
            dh_state[at] = passed
            dc_state[at] = dc
        P.cluster_arrive()  # no block may leave while others store into it
        P.cluster_wait()

    constants, arguments = (*options, *shape, mode), "RRRRlliBIRRRiRiRRRIiii"
    if mode != "fp32":
        arguments = "U" + arguments[1:]
    return Kernel("cluster_backward", constants, cluster_backward, arguments, THREADS, cluster=blocks)
