"""Requests to a backend, all options at their plainest, and random weights for them."""

from numbalstm import activations
from numbalstm.backends.interface import Request
from numbalstm.parameters import LSTMParameters


def weights(rng, features, units, dtype="float32", **narrow):
    k = units**-0.5
    shapes = ((features, 4 * units), (units, 4 * units), (4 * units,))
    return LSTMParameters(*(rng.uniform(-k, k, shape).astype(dtype) for shape in shapes), **narrow)


def request(x, parameters, **changes):
    plain = Request(
        x,
        parameters,
        initial_state=None,
        mask=None,
        activation=activations.tanh,
        recurrent_activation=activations.sigmoid,
        return_sequences=True,
        go_backwards=False,
        zero_output_for_mask=False,
        dropout_masks=None,
        out=None,
        threads=1,
    )
    return plain._replace(**changes)
