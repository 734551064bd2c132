"""What a backend is given, what it returns, and how it says no.

A backend is a module with two functions::

    forward(request: Request) -> Forward
    unsupported(request: Request) -> str | None      # why it cannot serve the request; None: it can

`functional` has checked everything before: a backend meets only well-formed requests and never changes their arrays
(``out`` excepted).
"""

from typing import Any, NamedTuple

import numpy as np

from numbalstm.activations import Activation
from numbalstm.parameters import LSTMParameters


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


class Forward(NamedTuple):
    """Result of a forward pass.

    Attributes
    ----------
    outputs : array (B, T, P), or (B, P) without ``return_sequences``; list of (T_i, P) for a list of sequences
        In processing order.
    h, c : arrays (B, P) and (B, U)
        Final states.
    """

    outputs: Any
    h: np.ndarray
    c: np.ndarray


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
