"""The backward recurrence on the whole grid at once, float32: for few rows and up to 1024 units.

Reduce and scatter, not gather: a block turns the dz of its own units into partial dh for all units and publishes them,
and the owner of a unit adds the parts of all blocks in their order. That moves one value a unit and row, where
gathering dz would move four, and the weights are the slice that the forward kernel holds. Exchange and tags:
`numbalstm.kernels.cuda.grid`.
"""

from functools import cache

from numba import cuda, float32, uint32

from numbalstm.kernels.cuda import ptx as P
from numbalstm.kernels.cuda.grid import ALL, POLLS
from numbalstm.kernels.cuda.kernel import Kernel, device
from numbalstm.kernels.cuda.options import WARPS, Options
from numbalstm.kernels.cuda.step_backward import make_coefficients


@cache
def make_grid_backward(options: Options, size: int, rows: int, warps: int = WARPS) -> Kernel:
    """Return the backward kernel for `size` units (a multiple of 32 * warps) and at most `rows` rows.

    Arguments: ut (size, 4, size), zeros beyond U; the sums z (T, B, U, 4) and the c before each step; dy, its strides
    of rows and steps, first step that has one; mask (T, B), first counted step of each row; peepholes; dh and dc, of
    the final states, replaced by those of the initial ones; dz (T, B, U, 4); exchange (2, U / warps, B, size); trouble;
    B, U, T; tag before the first step.
    """
    gate_rows, each = 4 * warps, size // (32 * warps)  # of a block; source units of a lane
    arrived_words = rows * warps
    sources = each  # parts that a lane of the owner adds at most: one of each block
    weights, dz_words = gate_rows * each, rows * gate_rows
    coefficients = make_coefficients(options)
    masked, repeat, peephole = options.masked, not options.zero_output, options.peephole

    @device
    def partial(w, shared, row, k):
        """Return this lane's k-th part of dh."""
        s0 = s1 = s2 = s3 = float32(0.0)
        for r in range(gate_rows // 4):
            v = P.lds_v4(P.shared_address(shared, row * gate_rows + 4 * r))
            s0 += w[(4 * r) * each + k] * v[0]
            s1 += w[(4 * r + 1) * each + k] * v[1]
            s2 += w[(4 * r + 2) * each + k] * v[2]
            s3 += w[(4 * r + 3) * each + k] * v[3]
        return (s0 + s1) + (s2 + s3)

    @device
    def total(exchange, at, distance, blocks, tag, trouble, lane):
        """Return the sum of one unit's parts, the same on all lanes."""
        s = float32(0.0)
        for j in range(sources):
            block = lane * sources + j
            if block < blocks:
                word = P.ld_tagged(P.address(exchange, at + block * distance))
                polls = 0
                while P.tag_step(word) != tag:
                    polls += 1
                    if polls > POLLS:
                        trouble[0] = 1
                        break
                    word = P.ld_tagged(P.address(exchange, at + block * distance))
                s += P.tag_value(word)
        for m in range(5):
            s += cuda.shfl_xor_sync(ALL, s, 16 >> m)
        return s

    def grid_backward(
        ut, z, c_before, dy, dy_row, dy_step, dy_first, mask, first, peepholes, dh_state, dc_state, dz, exchange,
        trouble, batch, units, steps, tag,
    ):  # fmt: skip
        shared = cuda.shared.array(dz_words, float32, alignment=16)
        arrived = cuda.shared.array(arrived_words, float32)
        w = cuda.local.array(weights, float32)
        tid = cuda.threadIdx.x
        lane = tid & 31
        warp = tid >> 5
        block, blocks = cuda.blockIdx.x, (units + warps - 1) // warps
        k0 = (warp * 32 + lane) * each
        for r in range(gate_rows):
            for k in range(each):
                w[r * each + k] = ut[(block * gate_rows + r) * size + k0 + k]
        unit = block * warps + warp  # in the part that goes through the cell a lane is a row
        live = unit < units and lane < batch
        at = lane * units + unit
        dc = dc_state[at] if live else float32(0.0)
        passed = dh_state[at] if live else float32(0.0)  # dh that went past masked steps
        p_i = peepholes[unit] if peephole and live else float32(0.0)
        p_f = peepholes[units + unit] if peephole and live else float32(0.0)
        p_o = peepholes[2 * units + unit] if peephole and live else float32(0.0)
        if lane < batch:
            arrived[lane * warps + warp] = float32(0.0)
        to_o = to_c = to_i = to_f = to_g = back = float32(0.0)
        if live:
            o = ((steps - 1) * batch + lane) * units + unit
            v = P.ld_nc_v4(P.address(z, 4 * o))
            to_o, to_c, to_i, to_f, to_g, back = coefficients(v[0], v[1], v[2], v[3], c_before[o], p_i, p_f, p_o)
        cuda.syncthreads()
        for step in range(steps):
            t = steps - 1 - step
            word_tag = uint32(tag + step + 1)
            slot = (step & 1) * blocks * batch * size
            if lane < batch:
                z_i = z_f = z_g = z_o = float32(0.0)
                if live:
                    keep = not masked or mask[t * batch + lane] != 0
                    dh = passed + arrived[lane * warps + warp]
                    if t >= dy_first and (keep or (repeat and t > first[lane])):
                        dh += dy[lane * dy_row + t * dy_step + unit]
                    if keep:
                        dc += dh * to_c
                        z_i, z_f, z_g, z_o = dc * to_i, dc * to_f, dc * to_g, dh * to_o
                        dc *= back
                        passed = float32(0.0)
                    else:
                        passed = dh
                    P.st_v4(P.address(dz, ((t * batch + lane) * units + unit) * 4), z_i, z_f, z_g, z_o)
                place = lane * gate_rows + 4 * warp
                shared[place], shared[place + 1] = z_i, z_f
                shared[place + 2], shared[place + 3] = z_g, z_o
            cuda.syncthreads()
            for b in range(batch):
                for k in range(each):
                    if k0 + k < blocks * warps:
                        target = P.address(exchange, slot + (block * batch + b) * size + k0 + k)
                        P.st_tagged(target, partial(w, shared, b, k), word_tag)
            if live and t > 0:  # while the parts are on their way
                o = ((t - 1) * batch + lane) * units + unit
                v = P.ld_nc_v4(P.address(z, 4 * o))
                to_o, to_c, to_i, to_f, to_g, back = coefficients(v[0], v[1], v[2], v[3], c_before[o], p_i, p_f, p_o)
            for b in range(batch):
                s = total(exchange, slot + b * size + unit, batch * size, blocks, word_tag, trouble, lane)
                if lane == 0:
                    arrived[b * warps + warp] = s
            cuda.syncthreads()
        if live:
            dh_state[at] = passed + arrived[lane * warps + warp]
            dc_state[at] = dc

    constants, arguments = (*options, size, rows, warps), "RRRRlliBIRRRRLIiiiu"
    return Kernel("grid_backward", constants, grid_backward, arguments, 32 * warps, cooperative=True)
