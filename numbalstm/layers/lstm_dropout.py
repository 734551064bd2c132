"""Dropout of the LSTM layer and cell: the factors of the input and of the recurrent input in training."""

from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.activations import Activation
from numbalstm.backends import arguments
from numbalstm.dtypes import Policy
from numbalstm.parameters import GATES, LSTMParameters


class LSTMDropout:
    """Draws the dropout factors of an LSTM by the rules of its generation."""

    activation: Activation
    recurrent_activation: Activation
    dropout: float
    recurrent_dropout: float
    generation: str
    implementation: int
    output_size: int
    parameters: LSTMParameters
    place: str
    policy: Policy
    use_bias: bool
    _random: np.random.Generator

    @property
    def whole_input_dropout(self) -> bool:
        """Whether the input dropout draws new factors for each step: Keras 2's `LSTM` on its fused path does."""
        return (
            self.generation == "keras2"
            and self.activation.name == "tanh"
            and self.recurrent_activation.name == "sigmoid"
            and self.recurrent_dropout == 0
            and self.use_bias
        )

    def draw_input_factors(self, batch: int, features: int) -> np.ndarray | None:
        """Draw (B, F) factors of the input, or (4, B, F), one set for each gate, with `implementation` 1."""
        if self.dropout == 0:
            return None
        per_gate = self.implementation == 1 or self.recurrent_dropout > 0
        return self.draw_factors((len(GATES), batch, features) if per_gate else (batch, features), self.dropout)

    def draw_state_factors(self, batch: int) -> np.ndarray | None:
        """Draw (4, B, P) factors of the recurrent input."""
        if self.recurrent_dropout == 0:
            return None
        return self.draw_factors((len(GATES), batch, self.output_size), self.recurrent_dropout)

    def draw_factors(self, shape: tuple[int, ...], rate: float) -> np.ndarray:
        """Draw dropout factors: 0 with probability `rate`, else 1 / (1 - rate)."""
        kept = self.policy.compute.type(1.0 / (1.0 - rate) if rate < 1.0 else 0.0)
        return np.multiply(self._random.random(shape) >= rate, kept, dtype=self.policy.compute)

    def sequence_factors(self, x: Any, training: Any, given: Any, time_major: bool) -> tuple[Any, Any]:
        """Return the factors of x for each step, as x is, and the pair of factors for whole sequences; None: no such.

        x is batch-major; `given` is what a caller passed as ``dropout_masks``, None to draw in training.
        """
        if given is None:
            if not training or not (self.dropout or self.recurrent_dropout):
                return None, None
            if self.whole_input_dropout:
                return self._draw_each_step(x), None
            return None, (self.draw_input_factors(len(x), self.parameters.features), self.draw_state_factors(len(x)))
        if not training:
            raise ValueError(f"{self.place}: dropout_masks are for training=True; nothing is dropped without it.")
        if not isinstance(given, (list, tuple)) or len(given) != 2:
            raise ValueError(f"{self.place}: dropout_masks must be a pair (m_x, m_h), got {checks.describe(given)}.")
        m_x, m_h = given
        if m_x is None or isinstance(x, list):
            return None, (m_x, m_h)
        m_x = arguments.real_array(self.place, "dropout_masks[0]", m_x, self.policy.compute)
        per_gate = m_x.shape == (len(GATES), len(x), x.shape[2])
        if m_x.ndim == 3 and (self.whole_input_dropout or not per_gate):
            m_x = m_x.swapaxes(0, 1) if time_major else m_x
            if m_x.shape == x.shape:
                return m_x, (None, m_h)
        return None, (m_x, m_h)

    def _draw_each_step(self, x: Any) -> Any:
        if isinstance(x, list):
            return [self.draw_factors(sequence.shape, self.dropout) for sequence in x]
        return self.draw_factors(x.shape, self.dropout)
