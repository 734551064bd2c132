"""The LSTM as functions of arrays: every check and conversion, then the backend that can serve the call.

Shapes: B batch, T time, F features, U units, P width of the output (U unless the parameters hold a projection).
"""

import os
import sys
import warnings
from typing import Any, Literal

import numpy as np

from numbalstm import activations, checks
from numbalstm.activations import Activation
from numbalstm.backends import arguments, cpu, reference
from numbalstm.backends.interface import DeviceUnavailableError, Forward, Request, SlowPathWarning, Trace
from numbalstm.parameters import LSTMParameters

Device = Literal["auto", "cpu", "cuda"]
DEVICES = ("auto", "cpu", "cuda")

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def lstm_forward(
    x: Any,
    parameters: LSTMParameters,
    *,
    initial_state: Any = None,
    mask: Any = None,
    activation: Any = "tanh",
    recurrent_activation: Any = "sigmoid",
    return_sequences: bool = True,
    go_backwards: bool = False,
    zero_output_for_mask: bool = False,
    dropout_masks: Any = None,
    out: np.ndarray | None = None,
    device: Device = "auto",
    threads: int | None = None,
    where: str = "lstm_forward",
) -> Forward:
    """Run an LSTM over a batch of sequences.

    Parameters
    ----------
    x : array_like (B, T, F), T >= 1, or list of array_like (T_i, F), T_i >= 0
        Input.  Integers, booleans and other floats are converted to the parameters' dtype; any strides.
    parameters : LSTMParameters
    initial_state : pair of array_like (B, P) and (B, U), optional
        States h and c before the first step.  None: zeros.
    mask : array_like (B, T) or (B, T, 1), optional
        Non-zero: the step counts.  A step that does not leaves the states as they are, and its output repeats the
        row's latest one (zeros where there is none yet); what x holds there does not matter.  None: all count.
        Not for lists.
    activation, recurrent_activation : str, Activation, callable or None
        For the candidate and the cell output; for the gates i, f and o.  None is the identity.
    return_sequences : bool, default True
        False: only the output of the last processed step.
    go_backwards : bool, default False
        Process from the last step to the first, and return the outputs in that order.
    zero_output_for_mask : bool, default False
        Steps that do not count output zeros.
    dropout_masks : pair (m_x, m_h), optional
        Factors of x and of the h that enters the recurrent product.  m_x: None, (B, F), per gate i, f, g, o (4, B, F),
        or per step (B, T, F) (where both fit, per gate); m_h: None, (B, P) or (4, B, P).
    out : array (B, T, P), or (B, P) without `return_sequences`, optional
        Receives the outputs: of the parameters' dtype, any strides, apart from x.  Not for lists.
    device : {"auto", "cpu", "cuda"}, default "auto"
    threads : int, optional
        Most threads to use.  None: `numbalstm.set_threads`.
    where : str
        Opens the messages of errors.

    Returns
    -------
    Forward
        ``outputs`` (B, T, P) or (B, P); for a list of sequences a list of (T_i, P), or (B, P).
        ``h`` (B, P) and ``c`` (B, U), the final states.

    Raises
    ------
    ValueError
        When a shape, a count or a dtype does not fit.
    DeviceUnavailableError
        When ``device="cuda"`` and no GPU backend is there.

    Warns
    -----
    SlowPathWarning
        When the compiled kernels do not cover the call and the NumPy reference serves it.

    Notes
    -----
    Equations: `numbalstm.backends.reference`.  Masks, order and states as in Keras.
    """
    if type(activation) is not Activation:
        activation = activations.get(activation)
    if type(recurrent_activation) is not Activation:
        recurrent_activation = activations.get(recurrent_activation)
    plain = (
        type(x) is np.ndarray
        and x.ndim == 3
        and x.dtype == parameters.dtype
        and (flags := x.flags).c_contiguous
        and flags.aligned
        and x.shape[2] == parameters.features
        and x.shape[1] > 0
    )
    if not plain:
        x = arguments.inputs(where, x, parameters)
    if mask is not None:
        mask = arguments.mask(where, mask, x)
    if initial_state is not None:
        initial_state = arguments.states(where, initial_state, parameters, len(x))
    if dropout_masks is not None:
        x, dropout_masks = arguments.dropout(where, dropout_masks, x, parameters)
    if out is not None:
        arguments.check_out(where, out, x, parameters, return_sequences)
    if device != "auto" or threads is not None:
        _check_device(where, device, threads)
    request = Request(
        x,
        parameters,
        initial_state,
        mask,
        activation,
        recurrent_activation,
        bool(return_sequences),
        bool(go_backwards),
        bool(zero_output_for_mask),
        dropout_masks,
        out,
        threads,
    )
    return _compute(where, request)


def lstm_step(
    x_t: Any,
    parameters: LSTMParameters,
    state: Any = None,
    *,
    activation: Any = "tanh",
    recurrent_activation: Any = "sigmoid",
    dropout_masks: Any = None,
    where: str = "lstm_step",
) -> tuple[np.ndarray, np.ndarray]:
    """Run one step.

    Parameters
    ----------
    x_t : array_like (B, F)
    parameters : LSTMParameters
    state : pair of array_like (B, P) and (B, U), optional
        States h and c.  None: zeros.
    activation, recurrent_activation, dropout_masks, where
        As in `lstm_forward`.

    Returns
    -------
    h, c : arrays (B, P) and (B, U)
        The new states; h is the output of the step.

    Raises
    ------
    ValueError
        When a shape, a count or a dtype does not fit.
    """
    x_t = arguments.real_array(where, "inputs", x_t, parameters.dtype)
    checks.shape(where, "inputs", x_t, ("batch", parameters.features))
    result = lstm_forward(
        x_t[:, None],
        parameters,
        initial_state=state,
        activation=activation,
        recurrent_activation=recurrent_activation,
        dropout_masks=dropout_masks,
        return_sequences=False,
        where=where,
    )
    return result.h, result.c


def lstm_trace(
    x: Any,
    parameters: LSTMParameters,
    *,
    initial_state: Any = None,
    mask: Any = None,
    activation: Any = "tanh",
    recurrent_activation: Any = "sigmoid",
    go_backwards: bool = False,
    where: str = "lstm_trace",
) -> Trace:
    """Run an LSTM over a batch and return every gate and state of every step.

    Parameters
    ----------
    x : array_like (B, T, F)
        Not a list of sequences of different lengths.
    parameters, initial_state, mask, activation, recurrent_activation, go_backwards, where
        As in `lstm_forward`.

    Returns
    -------
    Trace
        Arrays i, f, g, o, c (B, T, U) and h (B, T, P), in processing order.  Gates of masked steps are NaN.

    Raises
    ------
    ValueError
        When a shape, a count or a dtype does not fit.
    """
    x = arguments.inputs(where, x, parameters)
    if isinstance(x, list):
        raise ValueError(
            f"{where}: inputs must be one array (batch, time, features), got a list of {len(x)} sequences."
        )
    request = Request(
        x,
        parameters,
        None if initial_state is None else arguments.states(where, initial_state, parameters, len(x)),
        None if mask is None else arguments.mask(where, mask, x),
        activations.get(activation),
        activations.get(recurrent_activation),
        return_sequences=True,
        go_backwards=bool(go_backwards),
        zero_output_for_mask=False,
        dropout_masks=None,
        out=None,
        threads=None,
    )
    return reference.trace(request)


def _compute(where: str, request: Request) -> Forward:
    """Hand the request to the compiled kernels, or say why not and use the reference."""
    reason = cpu.unsupported(request)
    if reason is None:
        return cpu.forward(request)
    message = f"{where}: the compiled CPU kernels do not cover {reason}; computing with the slower NumPy reference."
    warnings.warn(message, SlowPathWarning, stacklevel=caller_level())
    return reference.forward(request)


def caller_level() -> int:
    """Return the stack level, as seen from this function's caller, of the first frame outside the package."""
    level = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
        level += 1
    return level


def _check_device(where: str, device: Any, threads: Any) -> None:
    checks.one_of(where, "device", device, DEVICES)
    if threads is not None:
        checks.positive_integer(where, "threads", threads)
    if device == "cuda":
        raise DeviceUnavailableError(
            f'{where}: device="cuda" was asked for, but no CUDA GPU backend is available here. '
            'Use device="auto" (a GPU when there is one) or device="cpu".'
        )
