"""The recurrence on the whole grid at once, float32: for few rows and up to 1024 units.

All blocks are on the device together. The recurrent weights stay in registers from the first step to the last; after
each step the blocks exchange h through the L2 cache as words of a value and the step's tag, so that a reader needs no
other flag. Two slots are enough: a block writes slot t + 2 only when it has read all of t + 1, which every block sent
after the barrier that ended its reading of t. Tags grow from launch to launch, so nothing is ever cleared.

A warp owns one unit: 4 gates x `rows` sums, its lanes split the source units, and halving shuffles leave every lane
one finished sum, the gates of a row on neighbouring lanes.
"""

from functools import cache

from numba import cuda, float32, uint32

from numbalstm.kernels.cuda import activations
from numbalstm.kernels.cuda import ptx as P
from numbalstm.kernels.cuda.kernel import Kernel, device, make_chain
from numbalstm.kernels.cuda.options import WARPS, Options
from numbalstm.kernels.cuda.step import make_clip, make_finish

POLLS = 20_000_000  # then the word is given up: a lost block must not hang the GPU
ALL = 0xFFFFFFFF


def make_gate(options: Options, fast: bool):
    """Return the device function that applies the activation of a gate, by its number."""
    act_i, act_f, act_g, act_o, _ = (activations.value(name, "float32", fast) for name in options.activations)
    names = options.activations
    same = names[0] == names[1] == names[3]

    @device
    def of_gate(z, gate):
        if gate == 2:
            return act_g(z)
        if same or gate == 0:
            return act_i(z)
        if gate == 1:
            return act_f(z)
        return act_o(z)

    return of_gate


def make_lane_cell(options: Options, fast: bool, spread: int):
    """Return the device function of a unit whose gates are on four lanes, `spread` apart: all four get its results."""
    of_gate = make_gate(options, fast)
    act_o, act_c = (activations.value(name, "float32", fast) for name in options.activations[3:])
    clip_gate, clip_cell = make_clip("float32", options.gate_clip), make_clip("float32", options.cell_clip)
    peephole, coupled = options.peephole, options.coupled

    @device
    def cell(z, gate, lead, c, p_gate, p_o):
        """Return the sum of this lane's gate with its peephole, the new c and the new h."""
        if peephole:
            z += p_gate * c
        value = of_gate(clip_gate(z), gate)
        i = cuda.shfl_sync(ALL, value, lead)
        f = cuda.shfl_sync(ALL, value, lead + spread)
        g = cuda.shfl_sync(ALL, value, lead + 2 * spread)
        o = cuda.shfl_sync(ALL, value, lead + 3 * spread)
        if coupled:
            f = float32(1.0) - i
        new_c = clip_cell(f * c + i * g)
        if peephole:
            if gate == 3:
                z += p_o * new_c
            o = act_o(clip_gate(cuda.shfl_sync(ALL, z, lead + 3 * spread)))
        return z, new_c, o * act_c(new_c)

    return cell


def make_dots(size: int, rows: int, sums: int, sets: int = 1):
    """Return the device function that adds one lane's share of the sums of all rows, so many for each.

    `sets`: a row of h for all gates (1) or one for each (4). Row by row: the compiler unrolls loops of 128
    multiply-adds, not of 1,024, and only what it unrolls stays in registers.
    """
    pieces, each = size // 128, sums // sets

    @device
    def row_dot(w, shared, at, acc, row):
        for s in range(sets):
            for j in range(pieces):
                v = P.lds_v4(P.shared_address(shared, at + (row * sets + s) * size + j * 128))
                for n in range(each):
                    for q in range(4):
                        acc[row * sums + n * sets + s] += w[((n * sets + s) * pieces + j) * 4 + q] * v[q]

    return make_chain(row_dot, 0, rows)


def make_reduction(sums: int, bit: int):
    """Return the device function of the sum that a lane owns, over all lanes.

    Each stage halves the sums that a lane has and doubles the lanes that went into them. The stages are functions
    within functions, because no compiler unrolls loops whose bounds depend on loops.
    """
    if bit == 0:
        return device(lambda acc, lane: acc[0])
    rest, half = make_reduction(max(1, sums // 2), bit // 2), sums // 2

    @device
    def halve(acc, lane):
        upper = (lane & bit) != 0
        for a in range(half):
            give = acc[a] if upper else acc[a + half]
            kept = acc[a + half] if upper else acc[a]
            acc[a] = kept + cuda.shfl_xor_sync(ALL, give, bit)
        return rest(acc, lane)

    @device
    def gather(acc, lane):
        acc[0] += cuda.shfl_xor_sync(ALL, acc[0], bit)
        return rest(acc, lane)

    return halve if half else gather


@cache
def make_grid(options: Options, size: int, rows: int, fast: bool = False, warps: int = WARPS) -> Kernel:
    """Return the forward kernel for `size` units (a multiple of 128, at most 1024) and 1, 2, 4 or 8 rows.

    Arguments: xw (T, B, U, 4), replaced by the gates' sums when these are recorded; ut (size, 4, size), zeros beyond
    U; h and c before; h and c after, each step's when recorded; y, its strides of rows and steps, first step written;
    mask (T, B), first counted step of each row, number of the first step; peepholes; exchange (2, rows, size);
    trouble; B, U, T; tag before the first step.
    """
    pieces, sums, row_words = size // 128, 4 * rows, rows * size
    weights, pairs, threads = 4 * size // 32, rows * size // 2, 32 * warps
    stages = sums.bit_length() - 1
    spread = 1 << (5 - stages)  # lanes that end with the same sum, and the distance of neighbouring gates
    all_rows, reduced = make_dots(size, rows, 4), make_reduction(sums, 16)
    cell, finish = make_lane_cell(options, fast, spread), make_finish(options)
    masked, record, peephole = options.masked, options.record, options.peephole

    @device
    def receive(exchange, shared, at, tag, trouble, tid, batch, units):
        """Wait for every word of a step and keep the values; no block is there for units beyond the last pair."""
        for i in range(tid, pairs, threads):
            if 2 * i % size < units and 2 * i // size < batch:
                polls = 0
                pair = P.ld_tagged2(P.address(exchange, at + 2 * i))
                while P.tag_step(pair[0]) != tag or P.tag_step(pair[1]) != tag:
                    polls += 1
                    if polls > POLLS:
                        trouble[0] = 1
                        break
                    pair = P.ld_tagged2(P.address(exchange, at + 2 * i))
                shared[at + 2 * i] = P.tag_value(pair[0])
                shared[at + 2 * i + 1] = P.tag_value(pair[1])

    def grid(
        xw, ut, h_in, c_in, h_out, c_out, y, y_row, y_step, y_first, mask, first, start, peepholes, exchange, trouble,
        batch, units, steps, tag,
    ):  # fmt: skip
        shared = cuda.shared.array(0, float32, alignment=16)
        w = cuda.local.array(weights, float32)
        acc = cuda.local.array(sums, float32)
        tid = cuda.threadIdx.x
        lane = tid & 31
        unit = cuda.blockIdx.x * warps + (tid >> 5)
        mine = lane // spread
        gate = mine & 3
        row = mine >> 2
        lead = lane - gate * spread  # the lane of gate i with this lane's row
        live = unit < units and row < batch
        owner = live and lane % spread == 0
        for g in range(4):
            for j in range(pieces):
                v = P.ld_v4(P.address(ut, (unit * 4 + g) * size + j * 128 + lane * 4))
                for q in range(4):
                    w[(g * pieces + j) * 4 + q] = v[q]
        at = row * units + unit
        c = c_in[at] if live else float32(0.0)
        h = h_in[at] if live else float32(0.0)
        p_gate = float32(0.0)
        p_o = float32(0.0)
        if peephole and live:
            p_gate = peepholes[gate * units + unit] if gate < 2 else float32(0.0)
            p_o = peepholes[2 * units + unit]
        for i in range(tid, row_words, threads):
            inside = i % size < units and i // size < batch
            shared[i] = h_in[i // size * units + i % size] if inside else float32(0.0)
            shared[row_words + i] = float32(0.0)
        cuda.syncthreads()
        for t in range(steps):
            now = (t & 1) * row_words
            then = row_words - now
            x = xw[((t * batch + row) * units + unit) * 4 + gate] if live else float32(0.0)
            keep = not masked or (live and mask[t * batch + row] != 0)
            for a in range(sums):
                acc[a] = float32(0.0)
            all_rows(w, shared, now + lane * 4, acc)
            z, new_c, new_h = cell(reduced(acc, lane) + x, gate, lead, c, p_gate, p_o)
            seen = masked and live and start + t > first[row]
            h, out = finish(new_h, h, keep, seen, float32(0.0))
            c = new_c if keep else c
            if not live:
                h = float32(0.0)  # what others multiply with zeros must be finite
            if lane % spread == 0 and gate == 0:
                P.st_tagged(P.address(exchange, then + row * size + unit), h, uint32(tag + t + 1))
            if owner:
                if record:
                    xw[((t * batch + row) * units + unit) * 4 + gate] = z
                if gate == 0 and t >= y_first:
                    y[row * y_row + t * y_step + unit] = out
                if record and gate == 1:
                    h_out[t * batch * units + at] = h
                if record and gate == 2:
                    c_out[t * batch * units + at] = c
            if t + 1 < steps:
                receive(exchange, shared, then, uint32(tag + t + 1), trouble, tid, batch, units)
            cuda.syncthreads()
        if owner and not record and gate == 0:
            h_out[at] = h
            c_out[at] = c

    constants = (*options, size, rows, fast, warps)
    return Kernel("grid", constants, grid, "RRRRRRRlliBIiRLIiiiu", threads, 8 * row_words, cooperative=True)
