"""The recurrence in clusters: launches of `numbalstm.kernels.cuda.cluster`, `cluster_simt` and `cluster_backward`."""

from typing import Any

import numpy as np

from numbalstm.backends.cuda.choice import cluster_shape
from numbalstm.backends.cuda.grids import cotangents_of, outputs_of, peepholes_of, recurrent
from numbalstm.backends.cuda.problem import Problem
from numbalstm.backends.cuda.products import blocks
from numbalstm.backends.cuda.steps import Extras, States
from numbalstm.backends.cuda.weights import Weights, by_unit
from numbalstm.kernels.cuda.cluster import backward_fragments, forward_fragments, make_cluster
from numbalstm.kernels.cuda.cluster_backward import make_cluster_backward
from numbalstm.kernels.cuda.cluster_simt import make_cluster_simt
from numbalstm.kernels.cuda.options import ClusterShape
from numbalstm.parameters import LSTMParameters

TENSOR = ("tf32", "bf16")


def packed(parameters: LSTMParameters, device: Any, size: int, mode: str, backward: bool) -> Any:
    """Return the recurrent kernel on a device as a mode's kernels read it, zeros beyond its units."""
    if mode not in TENSOR:
        return recurrent(parameters, device, size)
    key = ("cuda", device.number, "fragments", size, mode, backward)
    found = parameters.packed.get(key)
    if found is None:
        units = parameters.units
        host = np.zeros((size, 4, size), np.float32)
        host[:units, :, :units] = by_unit(parameters.recurrent_kernel)
        pack = backward_fragments if backward else forward_fragments
        found = parameters.packed[key] = device.keep(pack(host, mode))
    return found


def run(
    device: Any, problem: Problem, weights: Weights, extras: Extras, states: States, xw: Any, y: Any, start: int,
    stop: int, mode: str,
) -> None:  # fmt: skip
    """Run steps start to stop, whose products `xw` begins with."""
    options, shape = problem.options, _shape(device, problem, mode)
    if mode in TENSOR:
        kernel = make_cluster(options, shape, mode)
    else:
        kernel = make_cluster_simt(options, shape, mode == "fp32-fast")
    after = start + 1 if options.record else stop
    device.launch(
        kernel, _count(problem, shape), xw.at(),
        packed(problem.request.parameters, device, shape.size, mode, False).at(),
        states.h_at(start), states.c_at(start), states.h_at(after), states.c_at(after),
        *outputs_of(problem, y, start), extras.mask_at(start), extras.first, start,
        *_of_owners(device, weights, extras, start), device.trouble.at(), problem.batch, problem.units, stop - start,
    )  # fmt: skip


def run_backward(
    device: Any, problem: Problem, weights: Weights, extras: Extras, states: States, z: Any, dy: Any, dh: Any, dc: Any,
    mode: str,
) -> Any:  # fmt: skip
    """Go back over all steps; dh and dc become the cotangents of the initial states. Returns dz (T, B, U, 4)."""
    batch, units, steps = problem.batch, problem.units, problem.steps
    shape = _shape(device, problem, mode)
    kernel = make_cluster_backward(problem.options, shape, mode if mode in TENSOR else "fp32")
    dz = device.empty((steps, batch, units, 4), "float32")
    device.launch(
        kernel, _count(problem, shape), packed(problem.request.parameters, device, shape.size, mode, True).at(),
        z.at(), states.c_at(0), *cotangents_of(device, problem, dy), extras.mask_at(0), extras.first,
        *_of_owners(device, weights, extras, 0), dh.at(), dc.at(), dz.at(), device.trouble.at(), batch, units, steps,
    )  # fmt: skip
    return dz


def _shape(device: Any, problem: Problem, mode: str) -> ClusterShape:
    return cluster_shape(problem.batch, problem.units, mode, device.limits, problem.options.factors)


def _count(problem: Problem, shape: ClusterShape) -> int:
    """Return the blocks of a launch."""
    return blocks(problem.batch, shape.rows) * shape.blocks


def _of_owners(device: Any, weights: Weights, extras: Extras, start: int) -> tuple:
    """Return what the lane of a unit and row reads: peepholes, factors of h, zoneout factors and their strides."""
    zones = ((extras.zone_at(which, start), extras.zone_step(which)) for which in range(2))
    return (peepholes_of(device, weights), extras.factors, *(item for zone in zones for item in zone))
