"""Learning rates that follow the number of updates made."""

import math
from bisect import bisect_left
from collections.abc import Sequence

from numbalstm import checks, objects


class LearningRateSchedule(objects.Configurable):
    """Base: ``schedule(step)`` is the learning rate of the update number `step`, counted from 0."""

    def __call__(self, step: int) -> float:
        """Return the learning rate."""
        raise NotImplementedError


class _Decay(LearningRateSchedule):
    """Base of the schedules with a period over which the rate decays."""

    def __init__(self, initial_learning_rate: float, decay_steps: float, name: str | None = None) -> None:
        where = type(self).__name__
        self.initial_learning_rate = checks.number(where, "initial_learning_rate", initial_learning_rate)
        self.decay_steps = checks.number(where, "decay_steps", decay_steps)
        if self.decay_steps <= 0:
            raise ValueError(f"{where}: decay_steps must be above 0, got {self.decay_steps:g}.")
        self.name = where if name is None else name

    def get_config(self) -> dict:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "name": self.name,
        }


class ExponentialDecay(_Decay):
    """initial_learning_rate * decay_rate ** (step / decay_steps).

    Parameters
    ----------
    initial_learning_rate : float
    decay_steps : int or float
        Above 0.
    decay_rate : float
    staircase : bool, default False
        Whether the exponent is rounded down, so that the rate changes every `decay_steps` only.
    name : str, optional
        None: the class name.

    Raises
    ------
    ValueError
        When `decay_steps` is not above 0.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, name)
        self.decay_rate = checks.number(type(self).__name__, "decay_rate", decay_rate)
        self.staircase = checks.one_of(type(self).__name__, "staircase", staircase, (False, True))

    def __call__(self, step: int) -> float:
        return self.initial_learning_rate * self.decay_rate ** self._periods(step)

    def get_config(self) -> dict:
        return super().get_config() | {"decay_rate": self.decay_rate, "staircase": self.staircase}

    def _periods(self, step: int) -> float:
        periods = step / self.decay_steps
        return float(math.floor(periods)) if self.staircase else periods


class InverseTimeDecay(ExponentialDecay):
    """initial_learning_rate / (1 + decay_rate * step / decay_steps).

    Parameters
    ----------
    initial_learning_rate : float
    decay_steps : int or float
        Above 0.
    decay_rate : float
    staircase : bool, default False
        Whether step / decay_steps is rounded down.
    name : str, optional
        None: the class name.

    Raises
    ------
    ValueError
        When `decay_steps` is not above 0.
    """

    def __call__(self, step: int) -> float:
        return self.initial_learning_rate / (1.0 + self.decay_rate * self._periods(step))


class PolynomialDecay(_Decay):
    """(initial_learning_rate - end_learning_rate) * (1 - step / decay_steps) ** power + end_learning_rate.

    Parameters
    ----------
    initial_learning_rate : float
    decay_steps : int or float
        Above 0.
    end_learning_rate : float, default 0.0001
        The rate from `decay_steps` on.
    power : float, default 1
    cycle : bool, default False
        Whether the rate jumps up again when it has reached its end, with `decay_steps` stretched to the next multiple
        that is not below the step.
    name : str, optional
        None: the class name.

    Raises
    ------
    ValueError
        When `decay_steps` is not above 0.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, name)
        self.end_learning_rate = checks.number("PolynomialDecay", "end_learning_rate", end_learning_rate)
        self.power = checks.number("PolynomialDecay", "power", power)
        self.cycle = checks.one_of("PolynomialDecay", "cycle", cycle, (False, True))

    def __call__(self, step: int) -> float:
        span = self.decay_steps
        if self.cycle:
            span *= max(math.ceil(step / span), 1)
        left = 1.0 - min(step, span) / span
        return (self.initial_learning_rate - self.end_learning_rate) * left**self.power + self.end_learning_rate

    def get_config(self) -> dict:
        own = {"end_learning_rate": self.end_learning_rate, "power": self.power, "cycle": self.cycle}
        return super().get_config() | own


class CosineDecay(_Decay):
    """A linear rise over `warmup_steps`, then half a cosine down over `decay_steps`, then constant.

    Parameters
    ----------
    initial_learning_rate : float
        Where the warm-up starts; without a warm-up, where the cosine starts.
    decay_steps : int or float
        Above 0.
    alpha : float, default 0
        The last rate as a part of the one at the top.
    name : str, optional
        None: the class name.
    warmup_target : float, optional
        The rate at the top.  None: no warm-up.
    warmup_steps : int, default 0
        Without effect when there is no `warmup_target`.

    Raises
    ------
    ValueError
        When `decay_steps` is not above 0, or `warmup_steps` is negative.

    Notes
    -----
    Loshchilov and Hutter 2016, "SGDR: Stochastic Gradient Descent with Warm Restarts", without restarts.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        alpha: float = 0.0,
        name: str | None = None,
        warmup_target: float | None = None,
        warmup_steps: float = 0,
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, name)
        self.alpha = checks.number("CosineDecay", "alpha", alpha)
        self.warmup_target = warmup_target
        if warmup_target is not None:
            self.warmup_target = checks.number("CosineDecay", "warmup_target", warmup_target)
        self.warmup_steps = checks.number("CosineDecay", "warmup_steps", warmup_steps, minimum=0.0)

    def __call__(self, step: int) -> float:
        top, done = self.initial_learning_rate, float(step)
        if self.warmup_target is not None:
            if step < self.warmup_steps:
                return top + (self.warmup_target - top) * (step / self.warmup_steps)
            top, done = self.warmup_target, step - self.warmup_steps
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(done, self.decay_steps) / self.decay_steps))
        return top * ((1.0 - self.alpha) * cosine + self.alpha)

    def get_config(self) -> dict:
        own = {"alpha": self.alpha, "warmup_target": self.warmup_target, "warmup_steps": self.warmup_steps}
        return super().get_config() | own


class PiecewiseConstantDecay(LearningRateSchedule):
    """``values[k]`` up to and including step ``boundaries[k]``, the last value after all of them.

    Parameters
    ----------
    boundaries : sequence of int or float
        Steps, increasing.
    values : sequence of float
        One more than there are boundaries.
    name : str, optional
        None: the name in Keras, "PiecewiseConstant".

    Raises
    ------
    ValueError
        When the numbers do not match or the boundaries do not increase.
    """

    def __init__(self, boundaries: Sequence[float], values: Sequence[float], name: str | None = None) -> None:
        where = "PiecewiseConstantDecay"
        self.boundaries = [checks.number(where, "boundaries", step) for step in boundaries]
        self.values = [checks.number(where, "values", value) for value in values]
        self.name = "PiecewiseConstant" if name is None else name
        if len(self.values) != len(self.boundaries) + 1:
            found = len(self.values)
            raise ValueError(
                f"{where}: values must be one more than the {len(self.boundaries)} boundaries, got {found}."
            )
        if any(low >= high for low, high in zip(self.boundaries, self.boundaries[1:], strict=False)):
            raise ValueError(f"{where}: boundaries must increase, got {self.boundaries}.")

    def __call__(self, step: int) -> float:
        return self.values[bisect_left(self.boundaries, step)]

    def get_config(self) -> dict:
        return {"boundaries": self.boundaries, "values": self.values, "name": self.name}


SCHEDULES = {
    schedule.__name__: schedule
    for schedule in (ExponentialDecay, InverseTimeDecay, PolynomialDecay, CosineDecay, PiecewiseConstantDecay)
}
