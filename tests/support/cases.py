"""Random LSTM problems, and the scalar oracle run over a batch."""

import numpy as np
from support import scalar_oracle

from numbalstm.parameters import LSTMParameters, Norm


def make_parameters(rng, features, units, dtype=np.float64, *, bias=True, peephole=False, projection=None, norm=False):
    """Random weights of a size that keeps the gates away from saturation, asymmetric in every index."""
    width = projection or units

    def draw(*shape):
        return (rng.normal(0.1, 0.6, shape) / np.sqrt(shape[0])).astype(dtype)

    return LSTMParameters(
        draw(features, 4 * units),
        draw(width, 4 * units),
        draw(4 * units) if bias else None,
        peephole_kernel=draw(3, units) if peephole else None,
        projection_kernel=draw(units, projection) if projection else None,
        norm=make_norm(rng, units, dtype) if norm else None,
    )


def make_norm(rng, units, dtype=np.float64):
    """Random weights of layer normalisation around their usual start, gamma 1 and beta 0."""
    widths = (4 * units, 4 * units, units)
    arrays = [rng.normal(mean, 0.2, width).astype(dtype) for width in widths for mean in (1.0, 0.0)]
    return Norm(*arrays, epsilon=1e-3)


def make_state(rng, parameters, batch):
    """A random initial state that is nowhere zero."""
    dtype = parameters.dtype
    h = rng.uniform(0.2, 0.9, (batch, parameters.output_size)).astype(dtype)
    c = rng.uniform(-1.5, -0.2, (batch, parameters.units)).astype(dtype)
    return h, c


def holes(rng, batch, time):
    """A mask with every pattern: the rows masked at random, row 0 at its first step, the last row everywhere."""
    mask = rng.random((batch, time)) < 0.6
    mask[0, 0] = False
    mask[-1] = False
    return mask


def oracle(x, parameters, *, initial_state=None, mask=None, dropout_masks=None, zoneout=None, **options):
    """Run the scalar oracle row by row; returns outputs, h and c, lists of arrays for the outputs."""
    m_x, m_h = dropout_masks or (None, None)

    def row_factors(factors, row):
        if factors is None:
            return None
        return (factors[:, row] if factors.ndim == 3 else np.stack([factors[row]] * 4)).tolist()

    def row_zones(row):
        if zoneout is None:
            return None
        pairs = list(zip(zoneout, (parameters.units, parameters.output_size), strict=True))
        return [
            [[zone] * width if np.ndim(zone) == 0 else zone[row, t].tolist() for zone, width in pairs]
            for t in range(len(x[row]))
        ]

    norm = parameters.norm and [np.asarray(part).tolist() for part in parameters.norm]
    outputs, hs, cs = [], [], []
    for row in range(len(x)):
        result = scalar_oracle.lstm(
            np.asarray(x[row], float).tolist(),
            parameters.kernel.tolist(),
            parameters.recurrent_kernel.tolist(),
            None if parameters.bias is None else parameters.bias.tolist(),
            peephole=None if parameters.peephole_kernel is None else parameters.peephole_kernel.tolist(),
            projection=None if parameters.projection_kernel is None else parameters.projection_kernel.tolist(),
            h0=None if initial_state is None else initial_state[0][row].tolist(),
            c0=None if initial_state is None else initial_state[1][row].tolist(),
            mask=None if mask is None else mask[row].tolist(),
            m_x=row_factors(m_x, row),
            m_h=row_factors(m_h, row),
            norm=norm,
            zoneout=row_zones(row),
            **options,
        )
        outputs.append(np.array(result[0]).reshape(-1, parameters.output_size))
        hs.append(result[1])
        cs.append(result[2])
    return outputs, np.array(hs), np.array(cs)
