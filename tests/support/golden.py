"""The recorded cases of other frameworks."""

import json
from pathlib import Path

import numpy as np

from numbalstm.layers.symbolic import leaves, map_leaves

FOLDER = Path(__file__).resolve().parent.parent / "golden"
CASES = {case["id"]: case for case in json.loads((FOLDER / "manifest.json").read_text())["cases"]}


def cases(*kinds):
    """Ids of the cases of these kinds."""
    return [name for name, case in CASES.items() if case["kind"] in kinds]


def load(name):
    """A case and its arrays."""
    case = CASES[name]
    with np.load(FOLDER / case["file"]) as arrays:
        return case, dict(arrays)


def assert_close(case, found, expected):
    """Compare within the case's forward tolerance, shapes included."""
    assert np.shape(found) == expected.shape
    tolerance = case["tolerance"]["forward"]
    np.testing.assert_allclose(np.asarray(found, np.float64), expected.astype(np.float64), rtol=0, atol=tolerance)


def assert_gradients(case, arrays, layer, names, *inputs, states=(), constants=(), weights=(), **options):
    """Compare the gradients of a layer with the recorded ones, relative to the largest element of each.

    `names` are those of the returned arrays, `states`, `constants` and `weights` those of these arrays, all flat.
    """
    returned, pullback = layer.vjp(*inputs, **options)
    cotangents = iter(names)
    nested = map_leaves(lambda _: arrays[f"g_{next(cotangents)}"], returned)
    found = pullback(*nested) if isinstance(nested, (list, tuple)) else pullback(nested)
    pairs = [(found.inputs, "x"), *zip(leaves(found.initial_state), states, strict=bool(states))]
    pairs += [*zip(found.constants or (), constants, strict=True), *zip(found.weights, weights, strict=True)]
    for gradient, name in pairs:
        expected = arrays[f"d_{name}"]
        assert gradient.shape == expected.shape
        tolerance = case["tolerance"]["gradient"] * np.abs(expected).max()
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=tolerance, err_msg=name)
