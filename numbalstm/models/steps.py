"""One training step, one evaluation step."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.layers.symbolic import leaves
from numbalstm.models import nonfinite
from numbalstm.models.batches import Batch
from numbalstm.models.snapshot import layers_inside, load_passing_state, passing_state
from numbalstm.parameters import Weight

Gradients = dict[Weight, np.ndarray]


def train(model: Any, batch: Batch, epoch: int | None = None, number: int | None = None) -> None:
    """Update the weights once, and the means and metrics.

    Parameters
    ----------
    model : BaseModel
        Built and compiled.
    batch : Batch
    epoch, number : int, optional
        Of the batch, for messages.

    Raises
    ------
    NonFiniteError
        When the loss or a gradient is not finite; the model is as it was before.
    """
    before, values = passing_state(model), [(weight, weight.value) for weight in model.non_trainable_weights]

    def restore() -> None:
        for weight, value in values:
            weight.value = value
        load_passing_state(model, before)
        model.weights_changed()

    # What overflows is found below, where it can be said where.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        total, parts, outputs, masks, gradients = _gradients(model, batch)
        weights = model.trainable_weights
        problem = _problem(model, total, weights, gradients)
        if problem is not None:
            restore()
            layer, reason = nonfinite.first_layer(model, batch.inputs)
            restore()
            raise _error(model, batch, problem, layer, reason, epoch, number)
        if weights:
            model.optimizer.apply([gradients[weight] for weight in weights], weights)
            model.weights_changed()
        else:
            warnings.warn(f"{model.place}: has no trainable weights.", UserWarning, stacklevel=2)
    _report(model, batch, total, parts, outputs, masks)


def test(model: Any, batch: Batch) -> None:
    """Take a batch into the means and metrics; the model computes as in inference."""
    model.clear_losses()
    outputs, masks = model.call_with_mask(_inputs(batch), None, training=False)
    outputs = list(leaves(outputs))
    total, parts = model.objective.value(batch.targets, outputs, batch.weights, masks)
    _report(model, batch, total + sum(model.losses), parts, outputs, masks)


def _inputs(batch: Batch) -> Any:
    return batch.inputs if len(batch.inputs) > 1 else batch.inputs[0]


def _report(model: Any, batch: Batch, total: float, parts: list, outputs: list, masks: list) -> None:
    model.objective.update(total, parts, batch.size)
    model.objective.update_metrics(batch.targets, outputs, batch.weights, masks)


def _gradients(model: Any, batch: Batch) -> tuple[float, list, list, list, Gradients]:
    """Return the loss with all penalties, each output's loss, outputs, their masks, and each weight's gradient."""
    model.clear_losses()
    outputs, masks, pull = model.vjp_with_mask(_inputs(batch), None, training=True)
    outputs = list(leaves(outputs))
    total, parts, cotangents = model.objective.value_and_cotangents(batch.targets, outputs, batch.weights, masks)
    penalties = model.losses
    if not penalties and all(part is None for part in parts):
        raise ValueError(f"{model.place}: there is nothing to make small; give compile a loss.")
    total += sum(penalties)
    found = pull(cotangents, True).weights if np.isfinite(total) else {}
    gradients = {weight: _with_penalty(model, weight, found.get(weight)) for weight in model.trainable_weights}
    return total, parts, outputs, masks, gradients


def _with_penalty(model: Any, weight: Weight, gradient: np.ndarray | None) -> np.ndarray:
    """Return a weight's gradient with that of its regularizer; zeros where nothing depends on it."""
    if weight.regularizer is None:
        return np.zeros_like(weight.value) if gradient is None else gradient
    if not hasattr(weight.regularizer, "gradient"):
        raise TypeError(
            f"{model.place}: the regularizer {weight.regularizer!r} of weight {weight.name!r} has no gradient(w) "
            "method, so it cannot train."
        )
    penalty = weight.regularizer.gradient(weight.value)
    return penalty if gradient is None else gradient + penalty


def _problem(model: Any, total: float, weights: list[Weight], gradients: Gradients) -> str | None:
    if not np.isfinite(total):
        return f"the loss is {total}"
    bad = [weight for weight in weights if not np.isfinite(gradients[weight]).all()]
    if not bad:
        return None
    paths = dict(zip(map(id, model.weights), model.weight_paths(), strict=True))
    return f"the gradient of {paths[id(bad[0])]!r} is not finite (the loss is {total:g})"


def _error(
    model: Any, batch: Batch, problem: str, layer: str | None, reason: str, epoch: int | None, number: int | None
) -> nonfinite.NonFiniteError:
    if layer is None:
        named = [(f"the input {name!r}", array) for name, array in zip(model.input_names, batch.inputs, strict=True)]
        for kind, arrays in (("y", batch.targets), ("sample_weight", batch.weights)):
            named += [(f"{kind} for {name!r}", array) for name, array in zip(model.output_names, arrays, strict=True)]
        bad = [name for name, array in named if array is not None and not nonfinite.is_finite(array)]
        reason += f", but {' and '.join(bad)} is not" if bad else ""
    step = int(model.optimizer.iterations)
    at = "" if epoch is None else f" in epoch {epoch + 1}, batch {number + 1}"
    return nonfinite.NonFiniteError(
        f"{model.place}: {problem}{at} (step {step + 1}): {reason}. The weights are those before this step.",
        epoch, number, step, layer,
    )  # fmt: skip


def windows(model: Any, batch: Batch, length: int) -> Iterator[Batch]:
    """Yield a batch cut along time, for truncated backpropagation.

    Inputs of three axes, and integer inputs of two, run over time; so do all targets, and weights of two axes.
    """
    over_time = [
        len(t.shape) >= 3 or (len(t.shape) == 2 and np.dtype(_known(t.dtype)).kind in "iu") for t in model.inputs
    ]
    steps = {array.shape[1] for array, cut in zip(batch.inputs, over_time, strict=True) if cut}
    if len(steps) != 1:
        raise ValueError(f"{model.place}: tbptt needs inputs of one number of timesteps, got {sorted(steps)}.")
    total = steps.pop()
    for name, target in zip(model.output_names, batch.targets, strict=True):
        if target is not None and (target.ndim < 2 or target.shape[1] != total):
            raise ValueError(
                f"{model.place}: tbptt needs a target for each of the {total} timesteps, got y for {name!r} of shape "
                f"{target.shape}."
            )
    for start in range(0, total, length):
        part = np.s_[:, start : start + length]
        yield Batch(
            [array[part] if cut else array for array, cut in zip(batch.inputs, over_time, strict=True)],
            [None if array is None else array[part] for array in batch.targets],
            [None if array is None else array[part] if array.ndim > 1 else array for array in batch.weights],
        )


def _known(dtype: str) -> str:
    return "float32" if dtype == "bfloat16" else dtype


def check_truncated(model: Any, length: Any) -> int | None:
    """Return the length of `tbptt` windows if the model can carry its states from one to the next."""
    if length is None:
        return None
    length = checks.positive_integer(model.place, "tbptt", length)
    layers = list(layers_inside(model))
    backward = [layer.name for layer in layers if getattr(layer, "go_backwards", False)]
    if backward:
        raise ValueError(f"{model.place}: tbptt cannot serve {backward[0]!r}, which goes backwards.")
    carrying = [layer for layer in layers if hasattr(layer, "stateful") and not hasattr(layer, "graph")]
    forgetful = [layer.name for layer in carrying if not layer.stateful]
    if forgetful or not carrying:
        name = repr(forgetful[0]) if forgetful else "the model"
        raise ValueError(f"{model.place}: tbptt carries states from window to window, so {name} needs stateful=True.")
    return length
