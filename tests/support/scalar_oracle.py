"""The LSTM in Python floats, one number at a time, straight from the equations; imports nothing of the project.

Gate blocks of the weights stand in the order i, f, g, o.  Everything is a nested list.
"""

import math


def sigmoid(z):
    return 1.0 / (1.0 + math.exp(-z)) if z >= 0 else math.exp(z) / (1.0 + math.exp(z))


def clip(value, limit):
    return value if limit is None else max(-limit, min(limit, value))


def normalised(values, gamma, beta, epsilon):
    """Layer normalisation of one row."""
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / len(values)
    spread = math.sqrt(variance + epsilon)
    return [g * (value - mean) / spread + b for value, g, b in zip(values, gamma, beta, strict=True)]


def product(values, weights, factors, gates=4):
    """Values times weights, each gate's block of columns with its own factors of the values."""
    columns = len(weights[0])
    result = []
    for column in range(columns):
        gate = column * gates // columns
        total = 0.0
        for row, value in enumerate(values):
            total += value * (factors[gate][row] if factors is not None else 1.0) * weights[row][column]
        result.append(total)
    return result


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
    norm=None,
    m_x=None,
    m_h=None,
    go_backwards=False,
    zero_output_for_mask=False,
    phi=math.tanh,
    rho=sigmoid,
    functions=None,
    coupled=False,
    gate_clip=None,
    cell_clip=None,
    projection_clip=None,
    zoneout=None,
):
    """One sequence: x is a list of feature lists.

    mask: list of bool.  peephole: three lists (i, f, o).  projection: U lists of P.  m_x, m_h: factors for each gate,
    four lists.  norm: gamma and beta for the input's, the state's and the cell's, then epsilon.  functions: of i, f, g,
    o and of the cell.  zoneout: for each step the shares of the old c and of the old h, two lists.
    Returns (outputs, h, c, gates), gates a list of dicts.
    """
    units = len(recurrent_kernel[0]) // 4
    width = len(recurrent_kernel)
    h = list(h0) if h0 is not None else [0.0] * width
    c = list(c0) if c0 is not None else [0.0] * units
    f_i, f_f, f_g, f_o, f_c = functions or (rho, rho, phi, rho, phi)
    latest = [0.0] * width
    outputs, gates = [], []
    for t in range(len(x) - 1, -1, -1) if go_backwards else range(len(x)):
        if mask is not None and not mask[t]:
            outputs.append([0.0] * width if zero_output_for_mask else list(latest))
            gates.append(None)
            continue
        from_x, from_h = product(x[t], kernel, m_x), product(h, recurrent_kernel, m_h)
        if norm is not None:
            from_x = normalised(from_x, norm[0], norm[1], norm[6])
            from_h = normalised(from_h, norm[2], norm[3], norm[6])
        z = [a + b for a, b in zip(from_x, from_h, strict=True)]
        if bias is not None:
            z = [a + b for a, b in zip(z, bias, strict=True)]
        seen = {"i": [], "f": [], "g": [], "o": []}
        new_c = []
        for unit in range(units):
            z_i, z_f, z_g = z[unit], z[units + unit], z[2 * units + unit]
            if peephole is not None:
                z_i += peephole[0][unit] * c[unit]
                z_f += peephole[1][unit] * c[unit]
            i, g = f_i(clip(z_i, gate_clip)), f_g(clip(z_g, gate_clip))
            f = 1.0 - i if coupled else f_f(clip(z_f, gate_clip))
            new_c.append(clip(f * c[unit] + i * g, cell_clip))
            for name, value in zip("ifg", (i, f, g), strict=True):
                seen[name].append(value)
        shown = new_c if norm is None else normalised(new_c, norm[4], norm[5], norm[6])
        wide = []
        for unit in range(units):
            z_o = z[3 * units + unit] + (peephole[2][unit] * new_c[unit] if peephole is not None else 0.0)
            seen["o"].append(f_o(clip(z_o, gate_clip)))
            wide.append(seen["o"][unit] * f_c(shown[unit]))
        new_h = wide if projection is None else product(wide, projection, None)
        new_h = [clip(value, projection_clip) for value in new_h]
        keep_c, keep_h = zoneout[t] if zoneout is not None else ([0.0] * units, [0.0] * width)
        c = [k * old + (1.0 - k) * new for k, old, new in zip(keep_c, c, new_c, strict=True)]
        h = [k * old + (1.0 - k) * new for k, old, new in zip(keep_h, h, new_h, strict=True)]
        latest = h
        outputs.append(list(h))
        gates.append(seen)
    return outputs, h, c, gates
