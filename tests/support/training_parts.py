"""The recorded losses, metrics, optimizers and schedules of Keras."""

import json
from pathlib import Path

import numpy as np

with np.load(Path(__file__).resolve().parent.parent / "golden" / "training_parts.npz") as _file:
    ARRAYS = dict(_file)
CASES = json.loads(str(ARRAYS["cases"]))

VARIANTS = [
    {"sample_weight": weight, "mask": mask}
    for mask in (None, ARRAYS["mask"])
    for weight in (None, ARRAYS["sample_weight"])
]
"""With and without weights and mask, in the order in which they were recorded."""


def ids(kind):
    """Give each case of a kind a readable name."""
    return [f"{index}-{case['name']}" for index, case in enumerate(CASES[kind])]


def data(kind):
    """Targets and predictions."""
    return ARRAYS[f"data/{kind}/t"], ARRAYS[f"data/{kind}/p"]
