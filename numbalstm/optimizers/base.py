"""What every optimizer shares: the learning rate, clipping, decay, constraints and its state."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from numbalstm import checks, objects
from numbalstm.optimizers.schedules import SCHEDULES, LearningRateSchedule
from numbalstm.parameters import Weight

EPSILON = 1e-7
"""Default of the number that keeps quotients finite, as in Keras."""


class Optimizer(objects.Configurable):
    """Base of the optimizers; a subclass defines `slots` and `_update`.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule, or the dict of a schedule's config
        Not negative.
    weight_decay : float, optional
        Every weight loses this part of itself times the learning rate, before its update.  None: no decay.
    clipnorm : float, optional
        Longer gradients are scaled to this Euclidean norm, each weight's by itself.
    clipvalue : float, optional
        Elements of gradients are kept within plus and minus this.
    global_clipnorm : float, optional
        When the norm of all gradients together is larger, all are scaled to give this one.
    name : str, optional
        None: the class name in small letters.

    Attributes
    ----------
    iterations : int
        Number of updates made.

    Raises
    ------
    ValueError
        When a number is out of range, or more than one of the three clips is given.
    """

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str | None = None,
    ) -> None:
        self._rate = self._checked_rate(learning_rate)
        self.weight_decay = self._optional("weight_decay", weight_decay)
        self.clipnorm = self._optional("clipnorm", clipnorm)
        self.clipvalue = self._optional("clipvalue", clipvalue)
        self.global_clipnorm = self._optional("global_clipnorm", global_clipnorm)
        given = [clip for clip in ("clipnorm", "clipvalue", "global_clipnorm") if getattr(self, clip) is not None]
        if len(given) > 1:
            raise ValueError(f"{type(self).__name__}: give only one way of clipping, got {' and '.join(given)}.")
        if any(getattr(self, clip) == 0.0 for clip in given):
            raise ValueError(f"{type(self).__name__}: {given[0]} must be above 0, got 0.")
        self.name = type(self).__name__.lower() if name is None else name
        self.iterations = 0
        self._slots: list[dict[str, np.ndarray]] | None = None
        self._buffer = np.empty(0)

    @property
    def learning_rate(self) -> float:
        """The rate of the next update; may be set to a number or a schedule, but a schedule to a schedule only."""
        return self._rate(self.iterations) if isinstance(self._rate, LearningRateSchedule) else self._rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        rate = self._checked_rate(value)
        if isinstance(self._rate, LearningRateSchedule) and not isinstance(rate, LearningRateSchedule):
            raise TypeError(
                f"{type(self).__name__}: learning_rate follows {self._rate!r} and cannot be set to {rate:g}. Make the "
                "optimizer with a number."
            )
        self._rate = rate

    def apply(self, gradients: Iterable[Any], weights: Iterable[Weight]) -> None:
        """Update weights from their gradients, then apply their constraints.

        Parameters
        ----------
        gradients : sequence of arrays
            Of the shapes of the weights; None leaves a weight as it is.  They are only read.
        weights : sequence of Weight
            The same ones, in the same order, at each call.  Each gets a new array of its dtype; the old is only read.

        Raises
        ------
        ValueError
            When numbers or shapes do not match, or differ from the first call's.

        Notes
        -----
        float16 weights are updated in float32 and rounded.  NaN is not looked for.
        """
        weights = list(weights)
        gradients = self._checked_gradients(list(gradients), weights)
        if self._slots is None:
            self._slots = [self._new_slots(weight) for weight in weights]
        self.check_weights(weights)
        rate = self.learning_rate
        with np.errstate(all="ignore"):
            self._start()
            gradients = self._clipped(gradients)
            for weight, gradient, slots in zip(weights, gradients, self._slots, strict=True):
                if gradient is not None:
                    weight.value = self._updated(weight, gradient, slots, rate)
        self.iterations += 1

    def state(self) -> dict[str, np.ndarray]:
        """Return copies of all that the next update depends on beside weights and settings.

        Returns
        -------
        dict
            "iterations" and further numbers; "learning_rate" unless it follows a schedule; "k/slot" for the arrays of
            weight number k.
        """
        state = {name: np.array(getattr(self, name)) for name in self._numbers()}
        for index, slots in enumerate(self._slots or []):
            state |= {f"{index}/{name}": array.copy() for name, array in slots.items()}
        return state

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` of an optimizer with the same settings returned, to the bit.

        Parameters
        ----------
        state : mapping of str to arrays
            Copied.

        Raises
        ------
        TypeError, ValueError
            When names are missing or unknown, or a number is none; nothing has changed then.
        """
        where = type(self).__name__
        arrays = {name: np.array(value) for name, value in state.items()}
        numbers, slots = self._numbers(), list(self.slots())
        # Whoever has made an update has slots of at least one weight.
        least = 1 if arrays.get("iterations", 0) > 0 else 0
        count = max(sum("/" in name for name in arrays) // len(slots), least) if slots else 0
        expected = {*numbers, *(f"{index}/{name}" for index in range(count) for name in slots)}
        if arrays.keys() != expected:
            strange = min(arrays.keys() ^ expected)
            raise ValueError(f"{where}: the state does not fit: {strange!r} is missing or unknown.")
        strange = [name for name, array in arrays.items() if array.dtype.kind not in "fiu"]
        if strange:
            raise TypeError(f"{where}: {strange[0]} must hold numbers, got dtype {arrays[strange[0]].dtype}.")
        values = {name: checks.number(where, name, arrays[name].item()) for name in numbers}
        values["iterations"] = checks.integer(where, "iterations", arrays["iterations"].item(), minimum=0)
        for name, value in values.items():
            setattr(self, name, value)
        self._slots = [{name: arrays[f"{index}/{name}"] for name in slots} for index in range(count)] or None

    def check_weights(self, weights: Sequence[Weight]) -> None:
        """Raise ValueError when these are not the weights, or of the shapes, of the updates so far."""
        where, slots = type(self).__name__, self._slots
        if slots is None:
            return
        if len(weights) != len(slots):
            raise ValueError(
                f"{where}: weights must be the {len(slots)} of the first update, got {len(weights)}. Use a new "
                "optimizer for other weights."
            )
        for index, (weight, own) in enumerate(zip(weights, slots, strict=True)):
            for array in own.values():
                checks.shape(where, f"weights[{index}] ({weight.name})", weight, array.shape)

    def slots(self) -> dict[str, float]:
        """Return the names of the arrays kept for each weight, and the value that they start from."""
        return {}

    def get_config(self) -> dict:
        rate = self._rate
        scheduled = isinstance(rate, LearningRateSchedule)
        return {
            "name": self.name,
            "learning_rate": objects.serialize(rate, "keras.optimizers.schedules") if scheduled else rate,
            "weight_decay": self.weight_decay,
            "clipnorm": self.clipnorm,
            "global_clipnorm": self.global_clipnorm,
            "clipvalue": self.clipvalue,
        }

    # It has a state: another one with the same settings is not the same.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def _numbers(self) -> list[str]:
        """Return the names of the single numbers of the state, which are attributes."""
        return ["iterations"] if isinstance(self._rate, LearningRateSchedule) else ["iterations", "learning_rate"]

    def _start(self) -> None:
        """Do what is done once for each update of all weights."""

    def _update(
        self,
        value: np.ndarray,
        gradient: np.ndarray,
        slots: dict[str, np.ndarray],
        rate: float,
        new: np.ndarray,
        work: np.ndarray,
    ) -> None:
        """Write the updated value to `new`, change the slots in place; `work` is scratch of the same shape."""
        raise NotImplementedError

    def _updated(self, weight: Weight, gradient: np.ndarray, slots: dict[str, np.ndarray], rate: float) -> np.ndarray:
        """Return the new value of one weight."""
        value = weight.value.astype(gradient.dtype, copy=False)
        if self.weight_decay is not None:
            value = value - value * self.weight_decay * rate
        new = np.empty(value.shape, value.dtype)
        self._update(value, gradient, slots, rate, new, self._work(value))
        new = new.astype(weight.dtype, copy=False)
        return new if weight.constraint is None else np.asarray(weight.constraint(new), dtype=weight.dtype)

    def _work(self, like: np.ndarray) -> np.ndarray:
        """Return scratch of the shape and type of an array, the same memory each time."""
        if self._buffer.size < like.size or self._buffer.dtype != like.dtype:
            self._buffer = np.empty(like.size, like.dtype)
        return self._buffer[: like.size].reshape(like.shape)

    def _clipped(self, gradients: list[np.ndarray | None]) -> list[np.ndarray | None]:
        if self.clipvalue is not None:
            return [None if g is None else np.clip(g, -self.clipvalue, self.clipvalue) for g in gradients]
        if self.clipnorm is not None:
            limit = self.clipnorm
            return [None if g is None else g * limit / np.maximum(np.sqrt(_squares(g)), limit) for g in gradients]
        if self.global_clipnorm is not None:
            norm = np.sqrt(sum(_squares(g) for g in gradients if g is not None))
            # An infinite or NaN norm makes every gradient NaN, as in Keras.
            factor = float(self.global_clipnorm * min(1.0 / norm, 1.0 / self.global_clipnorm) + (norm - norm))
            return [None if g is None else g * factor for g in gradients]
        return gradients

    def _checked_gradients(self, gradients: list[Any], weights: list[Weight]) -> list[np.ndarray | None]:
        """Return the gradients in the types to compute in."""
        where = type(self).__name__
        if len(gradients) != len(weights):
            raise ValueError(
                f"{where}: there must be one gradient for each of {len(weights)} weights, got {len(gradients)}."
            )
        if all(gradient is None for gradient in gradients):
            raise ValueError(f"{where}: there must be a gradient for at least one weight, got none.")
        checked: list[np.ndarray | None] = []
        for index, (gradient, weight) in enumerate(zip(gradients, weights, strict=True)):
            if gradient is not None:
                gradient = np.asarray(gradient, dtype=_compute_type(weight))
                checks.shape(where, f"gradients[{index}] of {weight.name}", gradient, weight.shape)
            checked.append(gradient)
        return checked

    def _new_slots(self, weight: Weight) -> dict[str, np.ndarray]:
        return {name: np.full(weight.shape, start, _compute_type(weight)) for name, start in self.slots().items()}

    def _checked_rate(self, value: Any) -> float | LearningRateSchedule:
        where = type(self).__name__
        if isinstance(value, LearningRateSchedule):
            return value
        if isinstance(value, Mapping):
            name, config = objects.class_and_config(f"{where}: learning_rate", "schedule", value)
            if name not in SCHEDULES:
                raise checks.unknown(f"{where}: learning_rate", "schedule", name, SCHEDULES)
            return objects.build(f"{where}: learning_rate", SCHEDULES[name], config)
        return checks.number(where, "learning_rate", value, minimum=0.0)

    def _optional(self, name: str, value: Any) -> float | None:
        return None if value is None else checks.number(type(self).__name__, name, value, minimum=0.0)


def _squares(gradient: np.ndarray) -> np.float64:
    """Return the sum of squares, in an order that only the shape decides."""
    return np.square(gradient).sum(dtype=np.float64)


def _compute_type(weight: Weight) -> np.dtype:
    return np.dtype(np.float32) if weight.dtype == np.float16 else weight.dtype
