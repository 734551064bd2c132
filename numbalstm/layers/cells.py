"""What a cell is: the contract between an RNN and the objects that compute its steps."""

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.layers.base import Layer
from numbalstm.layers.gradients import LayerGradients, filled
from numbalstm.layers.symbolic import leaves, map_leaves
from numbalstm.parameters import Weight

StepPull = Callable[[Any, list[Any], bool], LayerGradients]
"""From the cotangents of a step's output and new states, and `regularize`, to gradients."""


def check_cell(where: str, cell: Any) -> None:
    """Raise ValueError when an object is no cell."""
    for attribute in ("call", "state_size"):
        if not hasattr(cell, attribute):
            raise ValueError(
                f"{where}: a cell must have call() and state_size, but {checks.describe(cell)} has no {attribute}."
            )
    sizes = list(leaves(cell.state_size))
    if not sizes or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
        raise ValueError(f"{where}: state_size must be a positive integer or a list of them, got {cell.state_size!r}.")


def list_of_sizes(cell: Any) -> list[Any]:
    """Return a cell's `state_size` as a list."""
    size = cell.state_size
    return [size] if isinstance(size, int) else list(size)


def output_size(cell: Any) -> int:
    """Return the width of a cell's output: `output_size`, or the width of its first state."""
    size = getattr(cell, "output_size", None)
    while size is None or isinstance(size, (list, tuple)):
        size = (list_of_sizes(cell) if size is None else size)[0]
    return size


def policy_of(cell: Any) -> Any:
    """Return the dtype policy of a cell that has one."""
    return getattr(cell, "policy", None)


def call_takes(cell: Any, name: str) -> bool:
    """Return whether a cell's ``call`` has this parameter."""
    return name in _parameter_names(getattr(cell.call, "__func__", cell.call))


@lru_cache(maxsize=64)
def _parameter_names(function: Any) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def run_cell(cell: Any, x: Any, states: Any, training: Any, constants: Any) -> tuple[Any, list[Any]]:
    """Run one step of any cell; returns the output and the list of new states."""
    run = cell.call_inside if isinstance(cell, Layer) else cell.call
    output, new_states = _checked_step(cell, states, run(x, states, **_options(cell, training, constants)))
    return output, list(new_states) if isinstance(new_states, (list, tuple)) else [new_states]


def vjp_cell(cell: Any, x: Any, states: Any, training: Any, constants: Any) -> tuple[Any, list[Any], StepPull]:
    """Run one step of any cell; returns the output, the list of new states, and the pull.

    Raises
    ------
    NotImplementedError
        When the cell is no layer and has no method ``vjp``, or is a layer whose class defines no derivative.
    """
    run = getattr(cell, "vjp_inside" if isinstance(cell, Layer) else "vjp", None)
    if run is None:
        raise NotImplementedError(
            f"{type(cell).__name__}: a cell needs a method vjp(x_t, states, ...) for gradients, which returns what "
            "call() returns and a pullback(d_output, d_states) to LayerGradients."
        )
    results, pullback = run(x, states, **_options(cell, training, constants))
    output, new_states = _checked_step(cell, states, results)
    several = isinstance(new_states, (list, tuple))

    def pull(d_output: Any, d_states: list[Any], regularize: bool) -> LayerGradients:
        cotangents = [d_output, d_states if several else d_states[0]]
        if isinstance(cell, Layer):
            return pullback(cotangents, regularize)
        if all(leaf is None for leaf in leaves(cotangents)):
            return LayerGradients(None)
        return pullback(*filled(cotangents, [output, new_states]))

    return output, list(new_states) if several else [new_states], pull


def _checked_step(cell: Any, states: list[Any], results: Any) -> tuple[Any, Any]:
    """Return a step's output and new states; ValueError when a cell returned something else."""
    wanted = f"{type(cell).__name__}: a cell must return its output and as many states as it got, {len(states)}"
    if not isinstance(results, (list, tuple)) or len(results) != 2:
        raise ValueError(f"{wanted}, in a pair (output, states), got {checks.describe(results)}.")
    output, new_states = results
    count = len(new_states) if isinstance(new_states, (list, tuple)) else 1
    if count != len(states):
        raise ValueError(f"{wanted}, got {count}.")
    return output, new_states


def _options(cell: Any, training: Any, constants: Any) -> dict[str, Any]:
    """Return what the cell's ``call`` takes beside input and states."""
    options = {"training": training} if call_takes(cell, "training") else {}
    return options | {"constants": constants} if constants is not None and call_takes(cell, "constants") else options


def initial_state(cell: Any, batch: int | None, dtype: np.dtype) -> list[Any]:
    """Return the states a cell starts from: what its ``get_initial_state`` says, or zeros."""
    if not hasattr(cell, "get_initial_state"):
        return map_leaves(lambda size: np.zeros((batch, size), dtype), list_of_sizes(cell))
    parameters = inspect.signature(cell.get_initial_state).parameters
    options = {name: value for name, value in (("inputs", None), ("dtype", dtype)) if name in parameters}
    states = cell.get_initial_state(batch_size=batch, **options)
    return list(states) if isinstance(states, (list, tuple)) else [states]


def initial_state_gradients(cell: Any, states: list[Any]) -> dict[Weight, np.ndarray]:
    """Return the gradients of a cell's weights through `initial_state`; a cell whose start is learned has a method."""
    return cell.initial_state_gradients(states) if hasattr(cell, "initial_state_gradients") else {}
