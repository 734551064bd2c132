"""Adam and what was made from it.

All keep m = beta_1 m + (1 - beta_1) g and v = beta_2 v + (1 - beta_2) g^2, which start from 0; t counts updates from 1.
"""

from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.optimizers.base import EPSILON, Optimizer


class _Moments(Optimizer):
    """Base of the optimizers with both moments."""

    def __init__(
        self,
        learning_rate: Any,
        beta_1: float,
        beta_2: float,
        epsilon: float,
        weight_decay: float | None,
        clipnorm: float | None,
        clipvalue: float | None,
        global_clipnorm: float | None,
        name: str | None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, name)
        where = type(self).__name__
        self.beta_1 = checks.fraction(where, "beta_1", beta_1)
        self.beta_2 = checks.fraction(where, "beta_2", beta_2)
        self.epsilon = checks.number(where, "epsilon", epsilon, minimum=0.0)

    def slots(self) -> dict[str, float]:
        return {"momentum": 0.0, "velocity": 0.0}

    def get_config(self) -> dict:
        return super().get_config() | {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}

    def _moments(
        self, gradient: np.ndarray, slots: dict[str, np.ndarray], work: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Update and return m and v."""
        m, v = slots["momentum"], slots["velocity"]
        np.subtract(gradient, m, out=work)
        work *= 1.0 - self.beta_1
        m += work
        np.square(gradient, out=work)
        work -= v
        work *= 1.0 - self.beta_2
        v += work
        return m, v


class Adam(_Moments):
    """w - rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon) (Kingma and Ba 2014, section 2).

    Parameters
    ----------
    learning_rate : float or LearningRateSchedule, default 0.001
    beta_1, beta_2 : float in [0, 1], default 0.9 and 0.999
    epsilon : float, default 1e-7
        The "epsilon hat" of the paper.
    amsgrad : bool, default False
        Whether the largest v so far stands in place of v (Reddi et al. 2018).
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
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = EPSILON,
        amsgrad: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, weight_decay, clipnorm, clipvalue, global_clipnorm, name
        )
        self.amsgrad = checks.one_of(type(self).__name__, "amsgrad", amsgrad, (False, True))

    def slots(self) -> dict[str, float]:
        return super().slots() | ({"velocity_hat": 0.0} if self.amsgrad else {})

    def _update(self, value, gradient, slots, rate, new, work) -> None:
        m, v = self._moments(gradient, slots, work)
        if self.amsgrad:
            v = np.maximum(slots["velocity_hat"], v, out=slots["velocity_hat"])
        step = self.iterations + 1
        np.sqrt(v, out=work)
        work += self.epsilon
        np.multiply(m, rate * (1.0 - self.beta_2**step) ** 0.5 / (1.0 - self.beta_1**step), out=new)
        new /= work
        np.subtract(value, new, out=new)

    def get_config(self) -> dict:
        return super().get_config() | {"amsgrad": self.amsgrad}


class AdamW(Adam):
    """`Adam` with a weight decay that is not part of the gradient (Loshchilov and Hutter 2017).

    Parameters
    ----------
    learning_rate : float or LearningRateSchedule, default 0.001
    weight_decay : float, default 0.004
        Every weight loses this part of itself times the learning rate, before its update.
    beta_1, beta_2, epsilon, amsgrad
        As of `Adam`.
    clipnorm, clipvalue, global_clipnorm, name
        As of `Optimizer`.

    Raises
    ------
    ValueError
        When a setting is out of range.
    TypeError
        When `weight_decay` is None.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = EPSILON,
        amsgrad: bool = False,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str | None = None,
    ) -> None:
        weight_decay = checks.number("AdamW", "weight_decay", weight_decay, minimum=0.0)
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay, clipnorm, clipvalue, global_clipnorm, name
        )


class Nadam(_Moments):
    """Adam with Nesterov momentum (Dozat 2016), with the schedule u_t = beta_1 (1 - 0.96^t / 2) of the momentum.

    w - rate * m' / (sqrt(v / (1 - beta_2^t)) + epsilon), where m' = u_(t+1) m / (1 - p_(t+1)) + (1 - u_t) g / (1 - p_t)
    and p_t = u_1 u_2 ... u_t.

    Parameters
    ----------
    learning_rate : float or LearningRateSchedule, default 0.001
    beta_1, beta_2 : float in [0, 1], default 0.9 and 0.999
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
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = EPSILON,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, weight_decay, clipnorm, clipvalue, global_clipnorm, name
        )
        self.momentum_product = 1.0

    def _numbers(self) -> list[str]:
        return [*super()._numbers(), "momentum_product"]

    def _start(self) -> None:
        self.momentum_product *= self._momentum_at(self.iterations + 1)

    def _momentum_at(self, step: int) -> float:
        return self.beta_1 * (1.0 - 0.5 * 0.96**step)

    def _update(self, value, gradient, slots, rate, new, work) -> None:
        m, v = self._moments(gradient, slots, work)
        step = self.iterations + 1
        now, next_one = self._momentum_at(step), self._momentum_at(step + 1)
        np.multiply(m, next_one / (1.0 - self.momentum_product * next_one), out=new)
        np.multiply(gradient, (1.0 - now) / (1.0 - self.momentum_product), out=work)
        new += work
        new *= rate
        np.divide(v, 1.0 - self.beta_2**step, out=work)
        np.sqrt(work, out=work)
        work += self.epsilon
        new /= work
        np.subtract(value, new, out=new)
