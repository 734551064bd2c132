"""The cell of one unit as a device function: from the gates' sums and c to h and the new c."""

from typing import Any

from numba import float32

from numbalstm.kernels.cuda import activations
from numbalstm.kernels.cuda.kernel import device
from numbalstm.kernels.cuda.options import Options
from numbalstm.kernels.cuda.step import make_clip


def make_cell(options: Options, fast: bool) -> Any:
    """Return the device function of the sums of i, f and o with their peepholes' parts, of h, and of the new c."""
    act_i, act_f, act_g, act_o, act_c = (activations.value(name, "float32", fast) for name in options.activations)
    clip_gate, clip_cell = make_clip("float32", options.gate_clip), make_clip("float32", options.cell_clip)
    peephole, coupled = options.peephole, options.coupled

    @device
    def cell(z_i, z_f, z_g, z_o, c, p_i, p_f, p_o):
        if peephole:
            z_i += p_i * c
            z_f += p_f * c
        i = act_i(clip_gate(z_i))
        f = float32(1.0) - i if coupled else act_f(clip_gate(z_f))
        c = clip_cell(f * c + i * act_g(clip_gate(z_g)))
        if peephole:
            z_o += p_o * c
        return z_i, z_f, z_o, act_o(clip_gate(z_o)) * act_c(c), c

    return cell
