"""The recurrence in clusters: launches of `numbalstm.kernels.cuda.cluster`."""

from typing import Any

import numpy as np

from numbalstm.backends.cuda.choice import cluster_size
from numbalstm.backends.cuda.grids import outputs_of, peepholes_of
from numbalstm.backends.cuda.problem import Problem
from numbalstm.backends.cuda.steps import Extras, States
from numbalstm.backends.cuda.weights import Weights, by_unit
from numbalstm.kernels.cuda.cluster import fragments, make_cluster
from numbalstm.kernels.cuda.options import CLUSTER_ROWS
from numbalstm.parameters import LSTMParameters


def packed(parameters: LSTMParameters, device: Any, size: int, mode: str) -> Any:
    """Return the recurrent kernel on a device as fragments, zeros beyond its units."""
    key = ("cuda", device.number, "fragments", size, mode)
    found = parameters.packed.get(key)
    if found is None:
        units = parameters.units
        host = np.zeros((size, 4, size), np.float32)
        host[:units, :, :units] = by_unit(parameters.recurrent_kernel)
        found = parameters.packed[key] = device.upload(fragments(host, mode))
    return found


def run(
    device: Any, problem: Problem, weights: Weights, extras: Extras, states: States, xw: Any, y: Any, start: int,
    stop: int, mode: str,
) -> None:  # fmt: skip
    """Run steps start to stop, whose products `xw` begins with."""
    size = cluster_size(problem.units, mode)
    kernel = make_cluster(problem.options, size, mode, device.warps_of_clusters)
    clusters = -(-problem.batch // CLUSTER_ROWS)
    after = start + 1 if problem.options.record else stop
    device.launch(
        kernel, clusters * kernel.cluster, xw.at(), packed(problem.request.parameters, device, size, mode).at(),
        states.h_at(start), states.c_at(start), states.h_at(after), states.c_at(after),
        *outputs_of(problem, y, start), extras.mask_at(start), extras.first, start, peepholes_of(device, weights),
        problem.batch, problem.units, stop - start,
    )  # fmt: skip
