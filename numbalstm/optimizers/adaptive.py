"""Optimizers that divide by a running size of each element's gradient."""

from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.optimizers.base import EPSILON, Optimizer


class Adagrad(Optimizer):
    """w - rate * g / sqrt(a + epsilon), where a = a + g^2 (Duchi et al. 2011).

    Parameters
    ----------
    learning_rate : float or LearningRateSchedule, default 0.001
    initial_accumulator_value : float, default 0.1
        What a starts from; not negative.
    epsilon : float, default 1e-7
    weight_decay, clipnorm, clipvalue, global_clipnorm, name
        As of `Optimizer`.

    Raises
    ------
    ValueError
        When a setting is out of range.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = EPSILON,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, name)
        start = checks.number("Adagrad", "initial_accumulator_value", initial_accumulator_value, minimum=0.0)
        self.initial_accumulator_value = start
        self.epsilon = checks.number("Adagrad", "epsilon", epsilon, minimum=0.0)

    def slots(self) -> dict[str, float]:
        return {"accumulator": self.initial_accumulator_value}

    def _update(self, value, gradient, slots, rate, new, work) -> None:
        accumulator = slots["accumulator"]
        accumulator += np.square(gradient, out=work)
        np.add(accumulator, self.epsilon, out=work)
        np.sqrt(work, out=work)
        np.multiply(gradient, rate, out=new)
        new /= work
        np.subtract(value, new, out=new)

    def get_config(self) -> dict:
        own = {"initial_accumulator_value": self.initial_accumulator_value, "epsilon": self.epsilon}
        return super().get_config() | own


class RMSprop(Optimizer):
    """w - s with s = rate * g / sqrt(v + epsilon), where v = rho v + (1 - rho) g^2 (Hinton 2012).

    Parameters
    ----------
    learning_rate : float or LearningRateSchedule, default 0.001
    rho : float in [0, 1], default 0.9
    momentum : float in [0, 1], default 0
        Above 0 the step is m = momentum * m + s instead of s.
    epsilon : float, default 1e-7
    centered : bool, default False
        Whether v is reduced by the square of the running mean of g.
    weight_decay, clipnorm, clipvalue, global_clipnorm, name
        As of `Optimizer`.

    Raises
    ------
    ValueError
        When a setting is out of range.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = EPSILON,
        centered: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, name)
        self.rho = checks.fraction("RMSprop", "rho", rho)
        self.momentum = checks.fraction("RMSprop", "momentum", momentum)
        self.epsilon = checks.number("RMSprop", "epsilon", epsilon, minimum=0.0)
        self.centered = checks.one_of("RMSprop", "centered", centered, (False, True))

    def slots(self) -> dict[str, float]:
        names = ["velocity", *(["momentum"] if self.momentum else []), *(["average_gradient"] if self.centered else [])]
        return dict.fromkeys(names, 0.0)

    def _update(self, value, gradient, slots, rate, new, work) -> None:
        velocity = slots["velocity"]
        np.square(gradient, out=work)
        _average(velocity, work, self.rho)
        if self.centered:
            average = slots["average_gradient"]
            np.copyto(work, gradient)
            _average(average, work, self.rho)
            np.square(average, out=work)
            np.subtract(velocity, work, out=work)
        else:
            np.copyto(work, velocity)
        work += self.epsilon
        np.sqrt(work, out=work)
        np.multiply(gradient, rate, out=new)
        new /= work
        if self.momentum:
            momentum = slots["momentum"]
            momentum *= self.momentum
            momentum += new
            np.subtract(value, momentum, out=new)
        else:
            np.subtract(value, new, out=new)

    def get_config(self) -> dict:
        own = {"rho": self.rho, "momentum": self.momentum, "epsilon": self.epsilon, "centered": self.centered}
        return super().get_config() | own


def _average(mean: np.ndarray, sample: np.ndarray, rho: float) -> None:
    """Set `mean` to rho * mean + (1 - rho) * sample; `sample` is used up."""
    mean *= rho
    sample *= 1.0 - rho
    mean += sample
