"""Whether a request goes to a GPU, and the way there. Importing this costs nothing: no compiler is touched.

``device="auto"`` takes a GPU for arrays that are there, and for arrays of the host when one can be used, its kernels
serve the call and the work is at least `WORTH_IT`: at present never, as no kernel has run on a card yet.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from functools import partial
from typing import Any

from numbalstm.backends.cuda import arrays, presence, streams
from numbalstm.backends.cuda.arrays import DeviceArray
from numbalstm.backends.interface import DeviceUnavailableError, Forward, Gradients, Request, Tape

WORTH_IT = float("inf")  # multiplications of a call: none, until benchmarks/gpu/verify.py has passed on a card


def takes(where: str, device: str, request: Request) -> bool:
    """Whether a request goes to a GPU.

    Raises
    ------
    DeviceUnavailableError
        When ``device="cuda"`` was asked for and there is none.
    ValueError
        When ``device="cuda"`` was asked for and no kernel serves the request, or the arrays lie on a GPU and
        ``device="cpu"`` was asked for.
    """
    there = isinstance(request.x, DeviceArray)
    if not there and any(
        isinstance(a, DeviceArray) for a in (request.initial_state or ()) + (request.dropout_masks or ())
    ):
        raise ValueError(f"{where}: initial_state or dropout_masks lie on a GPU, inputs do not; put all in one place.")
    if there and device == "cpu":
        raise ValueError(f'{where}: inputs lie on a GPU; copy them to the host first, or leave device="cpu" out.')
    if device == "cpu":
        return False
    problem = presence.problem()
    if device == "auto" and not there and (problem is not None or work(request) < WORTH_IT):
        return False
    if problem is None:
        reason = refusal(request)
        if reason is not None and (device == "cuda" or there):
            raise ValueError(f'{where}: no CUDA kernel covers {reason}; take arrays of the host and device="cpu".')
        return reason is None
    raise DeviceUnavailableError(
        f'{where}: device="cuda" was asked for, but no CUDA GPU can be used: {problem} '
        'Use device="auto" (a GPU when there is one) or device="cpu".'
    )


def work(request: Request) -> int:
    """Return how many multiplications a request takes."""
    parameters = request.parameters
    rows = sum(map(len, request.x)) if isinstance(request.x, list) else request.x.shape[0] * request.x.shape[1]
    return rows * 4 * parameters.units * (parameters.features + parameters.output_size)


def refusal(request: Request) -> str | None:
    """Why no kernel serves a request, or None."""
    from numbalstm.backends.cuda import problem

    return problem.unsupported(request)


def forward(request: Request, stream: Any = None) -> Forward:
    """Run a forward pass on the GPU where its arrays lie, or on the first."""
    from numbalstm.backends.cuda import passes

    return passes.forward(device_for(request.x, stream), request)


def record(
    request: Request, stream: Any = None, checkpoint_every: int | None = None
) -> tuple[Forward, Tape]:  # fmt: skip
    """Run a forward pass and keep what its backward pass needs, on the GPU."""
    from numbalstm.backends.cuda import passes

    return passes.record(device_for(request.x, stream), request, checkpoint_every)


def pullback(where: str, tape: Tape, cotangents: tuple[Any, Any, Any], stream: Any) -> Gradients:
    """Run the backward pass of a tape of any backend."""
    there = isinstance(tape.request.x, DeviceArray)
    if not there and any(isinstance(cotangent, DeviceArray) for cotangent in cotangents):
        raise ValueError(f"{where}: d_outputs, d_h or d_c lies on a GPU, inputs did not; put all in one place.")
    if stream is None or not hasattr(tape, "seen_from"):
        return tape.pullback(*cotangents)
    return tape.seen_from(device_for(tape.request.x, stream)).pullback(*cotangents)


def written(values: Any, out: Any) -> Any:
    """Return `out`, into which values were written that lie in the same place."""
    if isinstance(out, DeviceArray):
        from numbalstm.backends.cuda import elementwise

        return elementwise.given_back(device_for(values), values, out)
    out[...] = values
    return out


def warm(
    dtype: str, sizes: tuple[int, int, int, int], limits: Any
) -> Iterator[tuple[str, Callable[[], None]]]:  # fmt: skip
    """Yield what to compile for LSTM layers of sizes batch, steps, features, units: a name and the call that does it.

    Raises
    ------
    DeviceUnavailableError
        When there is no GPU and its `limits` are not given, or the compiler is not there.
    """
    problem = presence.problem() if limits is None else presence.compiler_problem()
    if problem is not None:
        raise DeviceUnavailableError(f'warmup: device="cuda" was asked for, but: {problem}')
    from numbalstm.backends.cuda import rehearsal

    limits = limits or device_for(None).limits
    for what in ("forward", "masked", "training", "stream"):
        found = rehearsal.kernels(dtype, *sizes, what, limits)
        yield f"cuda {what}, {len(found)} kernels", partial(rehearsal.build, found, limits)


def steps(where: str, requests: Sequence[Request]) -> Any:
    """Return `numbalstm.backends.cuda.stepping.Steps` on the first GPU."""
    for request in requests:
        takes(where, "cuda", request)  # or raises
    from numbalstm.backends.cuda import stepping

    return stepping.Steps(device_for(None), requests)


def both(where: str, x: Any, layers: Sequence[Any], options: Sequence[dict], run: Callable[..., Any]) -> list[Any]:
    """Return ``run(layer, x, **options)`` of two layers for an array on a GPU: at the same time, where both fit."""
    x = arrays.view(where, "inputs", x, None)
    device = device_for(x)
    if not _fit(device, layers, len(x)):
        return [run(layer, x, **each) for layer, each in zip(layers, options, strict=True)]
    side = device.forked(_leaves([x, *options]))
    first = run(layers[0], x, **options[0])
    with streams.on(streams.Named(side.handle, None)):
        second = run(layers[1], _there(x), **_mapped(_there, options[1]))
    return [first, _mapped(device.adopt, second)]


def _fit(device: Any, layers: Sequence[Any], batch: int) -> bool:
    """Whether kernels of two layers may run at once: those whose blocks wait for each other need room for all."""
    from numbalstm.backends.cuda import choice, explaining, mode

    blocks = 0
    for layer in layers:
        if not layer.serves_gpu or layer.recurrent_dropout or any(layer.zoneout):
            return False  # what `explain_gpu` does not know of
        name, kernel = mode.mode_of(layer.parameters)
        found = explaining.explain_gpu(layer.parameters, max(batch, 1), mode=name, kernel=kernel, limits=device.limits)
        if found.forward not in ("step", "cluster", "grid"):
            return False
        blocks += choice.blocks_for(layer.units, device.warps) if found.forward == "grid" else 0
    return blocks <= device.limits.multiprocessors


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Return nested lists, tuples and dicts with a function applied to what is inside."""
    if isinstance(value, dict):
        return {name: _mapped(function, one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_mapped(function, one) for one in value])
    return function(value)


def _leaves(value: Any) -> list[DeviceArray]:
    """Return the arrays on a GPU inside nested lists, tuples and dicts."""
    found: list[DeviceArray] = []
    _mapped(lambda one: found.append(arrays.view("", "", one, None)) if arrays.on_gpu(one) else None, value)
    return found


def _there(value: Any) -> Any:
    """Return an array on a GPU as one whose values need no waiting for."""
    if not arrays.on_gpu(value):
        return value
    found = copy(arrays.view("", "", value, None))
    found.stream = None
    return found


def joined(mode: str, parts: list[DeviceArray]) -> DeviceArray:
    """Return arrays on a GPU as one: "concat", "stack", "sum", "mul" or "ave"."""
    from numbalstm.backends.cuda import elementwise

    device = device_for(parts[0])
    if mode in ("concat", "stack"):
        return (elementwise.concatenated if mode == "concat" else elementwise.stacked)(device, parts)
    return elementwise.compute(device, {"sum": "sum", "mul": "product", "ave": "mean"}[mode], *parts)


def device_for(x: Any, stream: Any = None) -> Any:
    """Return the GPU of an array, the first for one of the host, as seen from the stream that is to be used."""
    from numbalstm.backends.cuda import device

    there = isinstance(x, DeviceArray)
    stream = stream or streams.current() or (x.stream if there else None)
    return device.get(x.device if there else 0, stream)


def describe() -> dict[str, str]:
    """What ``numbalstm doctor`` says of the GPU."""
    problem = presence.problem()
    if problem is not None:
        return {"CUDA device": "none in use", "because": problem}
    from numbalstm.backends.cuda import device, mode

    found = device.get(0)
    major, minor = found.limits.capability
    name, kernel = mode.get_gpu()
    return {
        "CUDA device": f"{found.name}, compute capability {major}.{minor}, {found.limits.multiprocessors} processors",
        "mode": f"{name}, kernel {kernel}",
        "taken by itself": "for arrays that lie on it",
    }
