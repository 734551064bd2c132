"""The recorded cases of other frameworks."""

import json
from pathlib import Path

import numpy as np

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
