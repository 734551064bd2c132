"""What a backend is given, what it returns, and how it says no.

A backend is a module with four functions::

    forward(request: Request) -> Forward
    unsupported(request: Request) -> str | None             # why it cannot serve the request; None: it can
    record(request: Request, checkpoint_every: int | None) -> tuple[Forward, Tape]
    unsupported_record(request: Request) -> str | None      # why it cannot record the request

`functional` has checked everything before: a backend meets only well-formed requests and never changes their arrays
(``out`` excepted).
"""

from typing import Any, NamedTuple, Protocol

import numpy as np

from numbalstm.activations import Activation
from numbalstm.parameters import LSTMParameters


class Variant(NamedTuple):
    """What a pass does that the plain LSTM does not; the defaults are the plain LSTM.

    Weights of variants (peepholes, projection, layer normalisation) are fields of `LSTMParameters`.  The order of
    everything in a step: `numbalstm.backends.reference`.

    Attributes
    ----------
    activations : tuple of 5 Activation, or None
        Of the gates i, f, g and o, and of the cell state on its way to the output.  None: the request's two.
    coupled : bool
        f = 1 - i (ONNX ``input_forget``): the forget gate has no pre-activation of its own.
    gate_clip : float or None
        Pre-activations of the gates are clipped to [-gate_clip, gate_clip], peepholes included (ONNX ``clip``).
    cell_clip : float or None
        c is clipped after its update, before the output gate's peephole and the output (TensorFlow ``cell_clip``).
    projection_clip : float or None
        The projected h is clipped (TensorFlow ``proj_clip``); only with a projection.
    zoneout : (z_c, z_h) or None
        How much of the old c, and of the old h, a step keeps: None, one float for all, or an array (B, T, U) and
        (B, T, P), time in the order of x; a list of arrays (T_i, .) for a list of sequences (Krueger et al. 2017).
    """

    activations: tuple[Activation, ...] | None = None
    coupled: bool = False
    gate_clip: float | None = None
    cell_clip: float | None = None
    projection_clip: float | None = None
    zoneout: tuple[Any, Any] | None = None


PLAIN = Variant()
"""The plain LSTM.  Every request without a variant holds this very object."""


class Request(NamedTuple):
    """One forward pass, everything settled.

    Letters: B batch, T time, F features, U units, P width of the output (U without projection).

    Attributes
    ----------
    x : array (B, T, F), T >= 1, or list of arrays (T_i, F), T_i >= 0
        In the parameters' dtype, native byte order, strides never negative; may be read-only.
    parameters : LSTMParameters
    initial_state : (h0, c0) or None
        Arrays (B, P) and (B, U) in the parameters' dtype.  None: zeros.
    mask : bool array (B, T) or None
        True: the step counts.  Always None with a list.
    activation, recurrent_activation : Activation
        For the candidate and the cell output; for the gates i, f and o.
    return_sequences : bool
    go_backwards : bool
        Steps are processed, and outputs returned, from the last to the first.
    zero_output_for_mask : bool
        Masked steps output zeros instead of the latest output before them.
    dropout_masks : (m_x, m_h) or None
        Factors: m_x None, (B, F) or one for each gate (4, B, F); m_h None, (B, P) or (4, B, P).
    out : array or None
        Where the outputs go, of any strides; always None with a list.
    threads : int or None
        Upper limit; None: the setting.
    variant : Variant
    """

    x: Any
    parameters: LSTMParameters
    initial_state: tuple[np.ndarray, np.ndarray] | None
    mask: np.ndarray | None
    activation: Activation
    recurrent_activation: Activation
    return_sequences: bool
    go_backwards: bool
    zero_output_for_mask: bool
    dropout_masks: tuple[np.ndarray | None, np.ndarray | None] | None
    out: np.ndarray | None
    threads: int | None
    variant: Variant = PLAIN


class Forward(NamedTuple):
    """Result of a forward pass; its three fields can be unpacked.

    Attributes
    ----------
    outputs : array (B, T, P), or (B, P) without ``return_sequences``; list of (T_i, P) for a list of sequences
        In processing order.
    h, c : arrays (B, P) and (B, U)
        Final states.
    tape : Tape or None
        For `numbalstm.functional.lstm_backward`, where one was asked for.
    """

    outputs: Any
    h: np.ndarray
    c: np.ndarray

    @property
    def tape(self) -> "Tape | None":
        """None: nothing was kept."""
        return None


class Recorded(Forward):
    """A `Forward` with a tape: `kept`."""

    kept: "Tape | None" = None

    @property
    def tape(self) -> "Tape | None":
        """What `numbalstm.functional.lstm_backward` needs."""
        return self.kept


class Gradients(NamedTuple):
    """What a pullback returns: the gradient of everything that went into a forward pass.

    Attributes
    ----------
    x : array (B, T, F), or list of arrays (T_i, F)
        0 at masked steps.
    h, c : arrays (B, P) and (B, U)
        Of the initial states, also where they were not given.
    parameters : dict of str to array
        By the names of `LSTMParameters`, those of `numbalstm.parameters.Norm` included; only weights that are there.
    """

    x: Any
    h: np.ndarray
    c: np.ndarray
    parameters: dict[str, np.ndarray]


class Tape(Protocol):
    """What a forward pass left for its backward pass.  It never changes: it can be pulled back any number of times.

    Attributes
    ----------
    request : Request
        The pass it belongs to.
    nbytes : int
        Memory that the tape keeps beside inputs and weights.
    """

    request: Request

    @property
    def nbytes(self) -> int: ...

    def pullback(self, d_outputs: Any, d_h: np.ndarray | None, d_c: np.ndarray | None) -> Gradients:
        """Return the gradients for cotangents of the outputs and of the final states, None for zero.

        The cotangents have the shapes of the forward pass' results and its dtype; the gradients are new arrays.
        """


class ScaledTape:
    """The tape of a pass whose input had been multiplied with factors."""

    def __init__(self, tape: Tape, factors: np.ndarray) -> None:
        self._tape, self._factors = tape, factors
        self.request = tape.request

    @property
    def nbytes(self) -> int:
        """Memory kept beside inputs and weights: the product is no input."""
        return self._tape.nbytes + self.request.x.nbytes

    def pullback(self, d_outputs: Any, d_h: np.ndarray | None, d_c: np.ndarray | None) -> Gradients:
        """Return the gradients for cotangents of outputs and final states; None is zero."""
        found = self._tape.pullback(d_outputs, d_h, d_c)
        return found._replace(x=found.x * self._factors)


class Trace(NamedTuple):
    """Everything an LSTM computes, step by step, each array (B, T, U) in processing order (h: (B, T, P)).

    Masked steps have no gates: i, f, g and o are NaN there, and c and h are the states carried over them.
    """

    i: np.ndarray
    f: np.ndarray
    g: np.ndarray
    o: np.ndarray
    c: np.ndarray
    h: np.ndarray


class SlowPathWarning(UserWarning):
    """The compiled kernels cannot serve a call; the NumPy reference does, more slowly.  The text names the reason."""


class DeviceUnavailableError(RuntimeError):
    """The device that was asked for is not there."""


def activations_of(request: Request) -> tuple[Activation, ...]:
    """Return the activations of i, f, g, o and of the cell state on its way to the output."""
    rho, phi = request.recurrent_activation, request.activation
    return request.variant.activations or (rho, rho, phi, rho, phi)
