"""What a model carries from one training step to the next: weights, states of layers, random numbers."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from numbalstm.layers.symbolic import leaves, map_leaves
from numbalstm.models.checkpoints import CheckpointError


def layers_inside(layer: Any) -> Iterator[Any]:
    """Yield a layer and all layers inside it, each once."""
    seen: set[int] = set()
    pending = [layer]
    while pending:
        layer = pending.pop()
        if id(layer) not in seen:
            seen.add(id(layer))
            yield layer
            pending += reversed(layer.sublayers)


def _generators(model: Any) -> Iterator[np.random.Generator]:
    for layer in layers_inside(model):
        for name in sorted(vars(layer)):
            if isinstance(vars(layer)[name], np.random.Generator):
                yield vars(layer)[name]


def _stateful(model: Any) -> Iterator[Any]:
    for layer in layers_inside(model):
        if getattr(layer, "stateful", False) and getattr(layer, "states", None) is not None:
            yield layer


def passing_state(model: Any) -> dict[str, Any]:
    """Return the random states and the stored states of the layers, as a checkpoint holds them."""
    return {
        "random": [generator.bit_generator.state for generator in _generators(model)],
        "states": [list(leaves(layer.states)) for layer in _stateful(model)],
    }


def load_passing_state(model: Any, state: Mapping[str, Any]) -> None:
    """Set what `passing_state` gave."""
    for generator, saved in zip(_generators(model), state["random"], strict=True):
        generator.bit_generator.state = saved
    for layer, saved in zip(_stateful(model), state["states"], strict=True):
        values = iter(saved)
        layer.reset_state(map_leaves(lambda _, values=values: next(values), layer.state_size))


def model_state(model: Any, weights_only: bool = False) -> dict[str, Any]:
    """Return the weights and, unless they alone are wanted, what `passing_state` says."""
    weights = [{"name": path, "value": w.value} for path, w in zip(model.weight_paths(), model.weights, strict=True)]
    return {"weights": weights} if weights_only else {"weights": weights, **passing_state(model)}


def load_weights(model: Any, state: Mapping[str, Any]) -> None:
    """Set the weights; CheckpointError when their number or a shape differs."""
    check_weights(model, state)
    model.set_weights([weight["value"] for weight in state["weights"]])


def check_weights(model: Any, state: Mapping[str, Any]) -> None:
    """Raise CheckpointError when the weights are not those of this model."""
    saved, weights = state["weights"], model.weights
    if len(weights) != len(saved):
        raise CheckpointError(f"{model.place}: has {len(weights)} weights, and the checkpoint has {len(saved)}.")
    for path, weight, entry in zip(model.weight_paths(), weights, saved, strict=True):
        if tuple(weight.shape) != np.shape(entry["value"]):
            raise CheckpointError(
                f"{model.place}: weight {path!r} has shape {tuple(weight.shape)}, and {entry['name']!r} in the "
                f"checkpoint has {np.shape(entry['value'])}."
            )


def check(model: Any, state: Mapping[str, Any]) -> None:
    """Raise CheckpointError when what `model_state` gave is of another model."""
    check_weights(model, state)
    for kind, count in (("random", sum(1 for _ in _generators(model))), ("states", sum(1 for _ in _stateful(model)))):
        if len(state[kind]) != count:
            what = "random generators" if kind == "random" else "layers with states"
            raise CheckpointError(f"{model.place}: has {count} {what}, and the checkpoint has {len(state[kind])}.")


def load_model_state(model: Any, state: Mapping[str, Any]) -> None:
    """Set what `model_state` gave and `check` passed."""
    load_weights(model, state)
    load_passing_state(model, state)
