"""Every variant of the layer beside the plain layer: forward passes, and training steps."""

import warnings
from contextlib import contextmanager
from functools import partial
from unittest import mock

import numpy as np
from ratios import brief, plural, ratio, row

import numbalstm as nl
from numbalstm import functional
from numbalstm.backends.interface import SlowPathWarning

SIZES = ((1, 100, 64, 128), (32, 100, 64, 64), (32, 100, 128, 256))
DROPPING = ("dropout", "recurrent_dropout", "weight_drop")  # act in training only
AT_MOST = 1.15


def variants(units):
    """Give the options of every variant by its name."""
    gates = ("hard_sigmoid", "sigmoid", "tanh", "sigmoid", "softsign")  # i, f, g, o, and the state for the output
    return {
        "peephole": {"peephole": True},
        "proj_size, half the units": {"proj_size": units // 2},
        "projection_clip": {"proj_size": units // 2, "projection_clip": 0.5},
        "input_forget": {"input_forget": True},
        "clip": {"clip": 1.0},
        "cell_clip": {"cell_clip": 1.0},
        "gate_activations": {"gate_activations": gates},
        "zoneout": {"zoneout": (0.1, 0.1)},
        "dropout": {"dropout": 0.2},
        "recurrent_dropout": {"recurrent_dropout": 0.2},
        "weight_drop": {"weight_drop": 0.2},
        "layer_norm": {"layer_norm": True},
    }


def made(size, **options):
    """Return inputs, cotangents and a layer that returns sequences; the same ones at every call."""
    batch, steps, features, units = size
    rng = np.random.default_rng(size)
    x = rng.standard_normal((batch, steps, features)).astype(np.float32)
    dy = rng.standard_normal((batch, steps, options.get("proj_size") or units)).astype(np.float32)
    layer = nl.LSTM(units, return_sequences=True, seed=5, **options)
    layer.build((batch, steps, features))
    bound = units**-0.5
    drawn = (rng.uniform(-bound, bound, weight.shape).astype(np.float32) for weight in layer.get_weights())
    scales = [weight.name.endswith("gamma") for weight in layer.weights]  # of layer normalisation: about 1
    layer.set_weights([weight + scale for weight, scale in zip(drawn, scales, strict=True)])
    return x, dy, layer


@contextmanager
def on_the_reference():
    """Compute with the equations in NumPy."""
    with (
        mock.patch.object(functional.cpu, "unsupported", return_value="a check"),
        mock.patch.object(functional.compiled_tape, "unsupported_record", return_value="a check"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", SlowPathWarning)
        yield


def step(layer, x, dy):
    """Return the outputs and all gradients of a training step."""
    outputs, pullback = layer.vjp(x, training=True)
    found = pullback(dy)
    return [outputs, found.inputs, *found.weights]


def check(size, options):
    """Compare the variant with the reference, forward and backward, with the same seeds."""
    few = (3, 7, *size[2:])
    for run in (lambda x, _, layer: [layer(x)], lambda x, dy, layer: step(layer, x, dy)):
        found = run(*made(few, **options))
        with on_the_reference():
            wanted = run(*made(few, **options))
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4 * max(1, np.abs(other).max()))


def beside_the_plain(call):
    """Give the time of each variant over that of the plain layer; `call` makes what is timed."""
    for size in SIZES:
        check(size, {})
        plain = made(size)
        for name, options in variants(size[3]).items():
            check(size, options)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", SlowPathWarning)
                other = made(size, **options)
                call(*other, name in DROPPING)()
            what = name + (" (NumPy reference)" if caught else "")
            for threads in (1, 2):
                nl.set_threads(threads)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", SlowPathWarning)
                    value = ratio(call(*other, name in DROPPING), call(*plain, False))
                yield row(what, value, at_most=AT_MOST) | {"column": f"{brief(size)}, {plural(threads)}"}


def forward():
    """Time of a forward pass over that of the plain layer; what drops something with training=True."""
    yield from beside_the_plain(lambda x, dy, layer, dropping: partial(layer, x, training=dropping))


def training():
    """Time of forward and backward pass, all gradients, over that of the plain layer."""
    yield from beside_the_plain(lambda x, dy, layer, dropping: partial(step, layer, x, dy))
