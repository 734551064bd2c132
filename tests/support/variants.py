"""Combinations of everything an LSTM pass can be asked for: a set in which every pair of values occurs."""

import itertools
import math

import numpy as np
from support.cases import holes, make_parameters, make_state
from support.scalar_oracle import sigmoid

from numbalstm.activations import onnx
from numbalstm.backends.interface import Variant

FAMILIES = {
    onnx("HardSigmoid", 0.3, 0.4): lambda z: max(0.0, min(1.0, 0.3 * z + 0.4)),
    onnx("Affine", 0.6, -0.2): lambda z: 0.6 * z - 0.2,
    onnx("ScaledTanh", 1.5, 0.7): lambda z: 1.5 * math.tanh(0.7 * z),
    onnx("Elu", 0.4): lambda z: z if z >= 0.0 else 0.4 * math.expm1(z),
    onnx("LeakyRelu", 0.3): lambda z: z if z >= 0.0 else 0.3 * z,
    onnx("ThresholdedRelu", -0.7): lambda z: z if z >= -0.7 else 0.0,
}
"""Activations with numbers of their own, and what they are of a float."""

CHOICES = {
    "bias": (True, False),
    "peephole": (False, True),
    "projection": (None, 2),
    "norm": (False, True),
    "coupled": (False, True),
    "gate_clip": (None, 0.9),
    "cell_clip": (None, 0.5),
    "projection_clip": (None, 0.3),
    "zoneout": (None, "rates", "arrays"),
    "activations": (None, ("sigmoid", "hard_sigmoid", "softsign", "elu", "tanh"), tuple(FAMILIES)[:5]),
    "mask": (None, "repeat", "zero"),
    "go_backwards": (False, True),
    "return_sequences": (True, False),
    "initial_state": (False, True),
    "dropout": (None, "shared", "gates"),
}
SCALAR = {
    **FAMILIES,
    "sigmoid": sigmoid,
    "tanh": math.tanh,
    "hard_sigmoid": lambda z: max(0.0, min(1.0, z / 6.0 + 0.5)),
    "softsign": lambda z: z / (1.0 + abs(z)),
    "elu": lambda z: z if z > 0.0 else math.expm1(z),
}


def allowed(case):
    """Whether a combination, perhaps of a few choices only, exists."""
    return case.get("projection_clip") is None or case.get("projection", 2) is not None


def pairwise(choices, allowed):
    """Combinations in which each allowed pair of two choices' values occurs, found greedily."""
    names = list(choices)
    missing = {
        pair
        for a, b in itertools.combinations(names, 2)
        for pair in (((a, u), (b, v)) for u in choices[a] for v in choices[b])
        if allowed(dict(pair))
    }
    found = []
    while missing:
        case = dict(min(missing, key=str))
        for name in names:
            if name not in case:
                options = [value for value in choices[name] if allowed({**case, name: value})]
                case[name] = max(options, key=lambda value: _gain(missing, {**case, name: value}, name))
        missing = {pair for pair in missing if not _has(case, pair)}
        found.append({name: case[name] for name in names})
    return found


def _has(case, pair):
    return all(name in case and case[name] == value for name, value in pair)


def _gain(missing, case, name):
    return sum(_has(case, pair) for pair in missing if name in (pair[0][0], pair[1][0]))


CASES = pairwise(CHOICES, allowed)


def label(case):
    """A short name of a combination for the test report."""
    return ",".join(name for name, value in case.items() if value != CHOICES[name][0]) or "plain"


def problem(rng, case, batch=3, time=5, features=3, units=4, dtype=np.float64):
    """Inputs, parameters and options of `lstm_forward` for a combination."""
    parameters = make_parameters(
        rng, features, units, dtype, **{name: case[name] for name in ("bias", "peephole", "projection", "norm")}
    )
    x = rng.normal(size=(batch, time, features)).astype(dtype)
    width = parameters.output_size
    zoneout = None
    if case["zoneout"] == "rates":
        zoneout = (0.2, 0.35)
    elif case["zoneout"] == "arrays":
        shapes = (batch, time, units), (batch, time, width)
        zoneout = tuple((rng.random(shape) < 0.4).astype(dtype) for shape in shapes)
    clips = {name: case[name] for name in ("gate_clip", "cell_clip", "projection_clip")}
    options = {
        "variant": Variant(activations=case["activations"], coupled=case["coupled"], zoneout=zoneout, **clips),
        "go_backwards": case["go_backwards"],
        "return_sequences": case["return_sequences"],
    }
    if case["mask"] is not None:
        options |= {"mask": holes(rng, batch, time), "zero_output_for_mask": case["mask"] == "zero"}
    if case["initial_state"]:
        options["initial_state"] = make_state(rng, parameters, batch)
    if case["dropout"] is not None:
        gates = (4,) if case["dropout"] == "gates" else ()
        shapes = (*gates, batch, features), (*gates, batch, width)
        options["dropout_masks"] = tuple(rng.choice([0.0, 1.25, 2.0], shape).astype(dtype) for shape in shapes)
    return x, parameters, options


def oracle_options(options):
    """The options of `support.cases.oracle` for those of `lstm_forward`."""
    options = dict(options)
    options.pop("return_sequences")
    variant = options.pop("variant")
    options |= {name: getattr(variant, name) for name in ("coupled", "gate_clip", "cell_clip", "projection_clip")}
    if variant.activations is not None:
        options["functions"] = [SCALAR[name] for name in variant.activations]
    return options | {"zoneout": variant.zoneout}
