"""The LSTM in Python floats, one number at a time, straight from the equations; imports nothing of the project.

Gate blocks of the weights stand in the order i, f, g, o.  Everything is a nested list.
"""

import math


def sigmoid(z):
    return 1.0 / (1.0 + math.exp(-z)) if z >= 0 else math.exp(z) / (1.0 + math.exp(z))


def lstm(
    x,
    kernel,
    recurrent_kernel,
    bias=None,
    *,
    h0=None,
    c0=None,
    mask=None,
    peephole=None,
    projection=None,
    m_x=None,
    m_h=None,
    go_backwards=False,
    zero_output_for_mask=False,
    phi=math.tanh,
    rho=sigmoid,
):
    """One sequence: x is a list of feature lists.

    mask: list of bool.  peephole: three lists (i, f, o).  projection: U lists of P.
    m_x, m_h: factors for each gate, four lists.  Returns (outputs, h, c, gates), gates a list of dicts.
    """
    units = len(recurrent_kernel[0]) // 4
    width = len(recurrent_kernel)
    h = list(h0) if h0 is not None else [0.0] * width
    c = list(c0) if c0 is not None else [0.0] * units
    order = range(len(x) - 1, -1, -1) if go_backwards else range(len(x))
    latest = [0.0] * width
    outputs, gates = [], []
    for t in order:
        if mask is not None and not mask[t]:
            outputs.append([0.0] * width if zero_output_for_mask else list(latest))
            gates.append(None)
            continue
        seen = {"i": [], "f": [], "g": [], "o": []}
        new_c, wide_h = [], []
        for unit in range(units):
            z = []
            for gate in range(4):
                column = gate * units + unit
                total = bias[column] if bias is not None else 0.0
                for feature, value in enumerate(x[t]):
                    factor = m_x[gate][feature] if m_x is not None else 1.0
                    total += value * factor * kernel[feature][column]
                for source, value in enumerate(h):
                    factor = m_h[gate][source] if m_h is not None else 1.0
                    total += value * factor * recurrent_kernel[source][column]
                z.append(total)
            if peephole is not None:
                z[0] += peephole[0][unit] * c[unit]
                z[1] += peephole[1][unit] * c[unit]
            i, f, g = rho(z[0]), rho(z[1]), phi(z[2])
            cell = f * c[unit] + i * g
            o = rho(z[3] + (peephole[2][unit] * cell if peephole is not None else 0.0))
            for name, value in zip("ifgo", (i, f, g, o), strict=True):
                seen[name].append(value)
            new_c.append(cell)
            wide_h.append(o * phi(cell))
        c = new_c
        if projection is None:
            h = wide_h
        else:
            h = [sum(wide_h[unit] * projection[unit][p] for unit in range(units)) for p in range(width)]
        latest = h
        outputs.append(list(h))
        gates.append(seen)
    return outputs, h, c, gates
