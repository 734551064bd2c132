"""Gradient descent with or without momentum."""

from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.optimizers.base import Optimizer


class SGD(Optimizer):
    """w - rate * g; with momentum w + m, where m = momentum * m - rate * g.

    Parameters
    ----------
    learning_rate : float or LearningRateSchedule, default 0.01
    momentum : float in [0, 1], default 0
    nesterov : bool, default False
        Whether the step is momentum * m - rate * g with the new m (Nesterov 1983).
    weight_decay, clipnorm, clipvalue, global_clipnorm, name
        As of `Optimizer`.

    Raises
    ------
    ValueError
        When a setting is out of range.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, name)
        self.momentum = checks.fraction("SGD", "momentum", momentum)
        self.nesterov = checks.one_of("SGD", "nesterov", nesterov, (False, True))

    def slots(self) -> dict[str, float]:
        return {"momentum": 0.0} if self.momentum else {}

    def _update(self, value, gradient, slots, rate, new, work) -> None:
        np.multiply(gradient, rate, out=new)
        if not self.momentum:
            np.subtract(value, new, out=new)
            return
        m = slots["momentum"]
        m *= self.momentum
        m -= new
        if self.nesterov:
            np.multiply(m, self.momentum, out=work)
            work -= new
            np.add(value, work, out=new)
        else:
            np.add(value, m, out=new)

    def get_config(self) -> dict:
        return super().get_config() | {"momentum": self.momentum, "nesterov": self.nesterov}
