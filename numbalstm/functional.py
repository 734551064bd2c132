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
from numbalstm.backends import arguments, compiled_tape, cpu, reference, reference_backward
from numbalstm.backends.cuda import dispatch as gpu
from numbalstm.backends.cuda import streams
from numbalstm.backends.interface import (
    PLAIN,
    Forward,
    Gradients,
    Recorded,
    Request,
    ScaledTape,
    SlowPathWarning,
    Tape,
    Trace,
    Variant,
)
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
    out: Any = None,
    device: Device = "auto",
    stream: Any = None,
    threads: int | None = None,
    variant: Variant | None = None,
    tape: bool = False,
    checkpoint_every: int | None = None,
    where: str = "lstm_forward",
) -> Forward:
    """Run an LSTM over a batch of sequences.

    Parameters
    ----------
    x : array_like (B, T, F), T >= 1, or list of array_like (T_i, F), T_i >= 0
        Input.  Integers, booleans and other floats are converted to the parameters' dtype; any strides.  An array on a
        GPU, of the parameters' dtype, is computed there, and what is returned lies there.
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
        Receives the outputs: of the parameters' dtype, any strides, apart from x and in the same place.  Not for lists.
    device : {"auto", "cpu", "cuda"}, default "auto"
    stream : int or object, optional
        CUDA stream to compute on: its handle, or a stream of CuPy, PyTorch or cuda.core.  None: the one that `x` names,
        else the default stream.  Nothing on the CPU.
    threads : int, optional
        Most threads to use.  None: `numbalstm.set_threads`.
    variant : Variant, optional
        Per-gate activations, coupled gates, clipping, zoneout.  None: the plain LSTM.
    tape : bool, default False
        Keep what `lstm_backward` needs.  The tape refers to `x`, to the masks and to zoneout arrays, where they were
        of the right type: leave them as they are until the last `lstm_backward`.
    checkpoint_every : int, optional
        With `tape`: keep the states of every so manieth step only, and compute the steps between them again in
        `lstm_backward`, to the same bits; about sqrt(T) needs the least memory.  None: keep every step.
    where : str
        Opens the messages of errors.

    Returns
    -------
    Forward
        ``outputs`` (B, T, P) or (B, P); for a list of sequences a list of (T_i, P), or (B, P).
        ``h`` (B, P) and ``c`` (B, U), the final states.  ``tape``, None without `tape`; it is no part of the tuple.

    Raises
    ------
    ValueError
        When a shape, a count or a dtype does not fit.
    TypeError
        When `tape` is set and an activation is a callable without a ``vjp`` method.
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
    if variant is not None:
        variant = arguments.variant(where, variant, x, parameters)
    factors = None
    if dropout_masks is not None:
        x, dropout_masks, factors = arguments.dropout(where, dropout_masks, x, parameters)
    if out is not None:
        width = parameters.output_size
        shape = () if isinstance(x, list) else (*x.shape[:2], width) if return_sequences else (x.shape[0], width)
        out = arguments.checked_out(where, out, x, shape, parameters.dtype)
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
        variant or PLAIN,
    )
    if stream is not None:
        stream = streams.settled(where, stream)
    if tape or checkpoint_every is not None:
        return _record(where, request, tape, checkpoint_every, factors, device, stream)
    return _compute(where, request, device, stream)


def lstm_backward(
    d_outputs: Any,
    tape: Tape,
    *,
    d_h: Any = None,
    d_c: Any = None,
    out: Any = None,
    stream: Any = None,
    where: str = "lstm_backward",
) -> Gradients:
    """Return the gradients of a pass of `lstm_forward`, for cotangents of what it returned.

    Parameters
    ----------
    d_outputs : array_like of the outputs' shape, list of arrays where the outputs were a list, or None
        Gradient of the loss with respect to the outputs.  None: zero.
    tape : Tape
        ``lstm_forward(..., tape=True).tape``.  It may be used any number of times.
    d_h, d_c : array_like (B, P) and (B, U), optional
        With respect to the final states, beside what `d_outputs` says of the last output.  None: zero.
    out : array of the input's shape, optional
        Receives the gradient of the input: as for `lstm_forward`.
    stream : int or object, optional
        CUDA stream to compute on, as for `lstm_forward`.  None: that of the forward pass.
    where : str
        Opens the messages of errors.

    Returns
    -------
    Gradients
        ``x`` as the input, 0 at masked steps; ``h`` and ``c`` of the initial states; ``parameters``, a dict by the
        names of `LSTMParameters`, on the host.  New arrays of the parameters' dtype.  Dropout factors are constants.

    Raises
    ------
    TypeError
        When `tape` is no tape.
    ValueError
        When a shape, a count or a dtype does not fit.

    Notes
    -----
    Backpropagation through time, derived by hand: `numbalstm.backends.reference_backward`.  A step that the mask leaves
    out passes dh and dc on; the cotangent of an output that repeats an earlier one counts for that one.
    """
    if not hasattr(tape, "pullback"):
        raise TypeError(f"{where}: tape must be the tape of lstm_forward(..., tape=True), got {checks.describe(tape)}.")
    request = tape.request
    if d_outputs is not None:
        d_outputs = arguments.output_cotangent(where, d_outputs, request)
    widths = {"d_h": (d_h, request.parameters.output_size), "d_c": (d_c, request.parameters.units)}
    d_h, d_c = (arguments.state_cotangent(where, name, *given, request) for name, given in widths.items())
    if out is not None:
        out = arguments.checked_out(where, out, request.x, np.shape(request.x), request.parameters.dtype)
    stream = streams.settled(where, stream)
    found = gpu.pullback(where, tape, (d_outputs, d_h, d_c), stream)
    return found if out is None else found._replace(x=gpu.written(found.x, out))


def lstm_step(
    x_t: Any,
    parameters: LSTMParameters,
    state: Any = None,
    *,
    activation: Any = "tanh",
    recurrent_activation: Any = "sigmoid",
    dropout_masks: Any = None,
    variant: Variant | None = None,
    where: str = "lstm_step",
) -> tuple[np.ndarray, np.ndarray]:
    """Run one step.

    Parameters
    ----------
    x_t : array_like (B, F)
    parameters : LSTMParameters
    state : pair of array_like (B, P) and (B, U), optional
        States h and c.  None: zeros.
    activation, recurrent_activation, dropout_masks, variant, where
        As in `lstm_forward`, for a sequence of one step.

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
        variant=variant,
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
    variant: Variant | None = None,
    where: str = "lstm_trace",
) -> Trace:
    """Run an LSTM over a batch and return every gate and state of every step.

    Parameters
    ----------
    x : array_like (B, T, F)
        Not a list of sequences of different lengths.
    parameters, initial_state, mask, activation, recurrent_activation, go_backwards, variant, where
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
        variant=PLAIN if variant is None else arguments.variant(where, variant, x, parameters),
    )
    return reference.trace(request)


def _record(
    where: str,
    request: Request,
    tape: bool,
    checkpoint_every: int | None,
    factors: np.ndarray | None,
    device: str,
    stream: Any,
) -> Forward:
    """Compute the request and keep its tape; `factors` is what x was multiplied with."""
    if not tape:
        raise ValueError(f"{where}: checkpoint_every is for tape=True; without a tape nothing is kept.")
    if checkpoint_every is not None:
        checkpoint_every = checks.positive_integer(where, "checkpoint_every", checkpoint_every)
    if gpu.takes(where, device, request):
        forward, kept = gpu.record(request, stream, checkpoint_every)
    else:
        reason = compiled_tape.unsupported_record(request)
        if reason is not None:
            _warn_slow(where, reason)
        backend = reference_backward if reason else compiled_tape
        forward, kept = backend.record(request, checkpoint_every)
    result = Recorded(*forward)
    result.kept = kept if factors is None else ScaledTape(kept, factors)
    return result


def _compute(where: str, request: Request, device: str, stream: Any) -> Forward:
    """Hand the request to a GPU or to the compiled kernels, or say why not and use the reference."""
    if gpu.takes(where, device, request):
        return gpu.forward(request, stream)
    reason = cpu.unsupported(request)
    if reason is None:
        return cpu.forward(request)
    if compiled_tape.unsupported(request) is None:
        return compiled_tape.forward(request)
    _warn_slow(where, reason)
    return reference.forward(request)


def _warn_slow(where: str, reason: str) -> None:
    message = f"{where}: the compiled CPU kernels do not cover {reason}; computing with the slower NumPy reference."
    warnings.warn(message, SlowPathWarning, stacklevel=caller_level())


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
