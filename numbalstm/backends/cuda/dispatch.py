"""Whether a request goes to a GPU, and the way there. Importing this costs nothing: no compiler is touched.

``device="auto"`` takes a GPU for arrays that are there, and for arrays of the host when one can be used, its kernels
serve the call and the work is at least `WORTH_IT`: at present never, as no kernel has run on a card yet.
"""

from typing import Any

from numbalstm.backends.cuda import presence
from numbalstm.backends.cuda.arrays import DeviceArray
from numbalstm.backends.interface import DeviceUnavailableError, Forward, Request, Tape

WORTH_IT = float("inf")  # multiplications of a call: none, until benchmarks/gpu/verify.py has passed on a card


def takes(where: str, device: str, request: Request, record: bool = False, checkpoints: bool = False) -> bool:
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
    if there and request.out is not None:
        raise ValueError(f"{where}: out is for arrays of the host; outputs of arrays on a GPU are made there.")
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
        reason = "checkpoints (checkpoint_every)" if checkpoints else refusal(request, record)
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


def refusal(request: Request, record: bool) -> str | None:
    """Why no kernel serves a request, or None."""
    from numbalstm.backends.cuda import problem

    return problem.unsupported_record(request) if record else problem.unsupported(request)


def forward(request: Request) -> Forward:
    """Run a forward pass on the GPU where its arrays lie, or on the first."""
    from numbalstm.backends.cuda import passes

    return passes.forward(_device(request), request)


def record(request: Request) -> tuple[Forward, Tape]:
    """Run a forward pass and keep what its backward pass needs, on the GPU."""
    from numbalstm.backends.cuda import passes

    return passes.record(_device(request), request)


def _device(request: Request) -> Any:
    from numbalstm.backends.cuda import device

    return device.get(request.x.device if isinstance(request.x, DeviceArray) else 0)


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
