"""Check and measure the CUDA kernels on a real GPU: one command, resumable, about eight minutes.

    python benchmarks/gpu/verify.py --output results.json

Every finished step is written to the file at once; a run that is started again with the same file goes on behind the
last one. The table comes last. PyTorch is needed for the comparison with cuDNN only, compute-sanitizer for the race
and memory checks only; without them these steps say so.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np

from numbalstm import activations, set_gpu
from numbalstm.backends import reference_backward
from numbalstm.backends.cuda import device as gpu
from numbalstm.backends.cuda import passes, presence
from numbalstm.backends.interface import Request, Variant
from numbalstm.parameters import LSTMParameters

CASES = (  # batch, steps, features, units
    (1, 100, 64, 128),
    (1, 100, 512, 1024),
    (32, 100, 128, 256),
    (64, 100, 256, 512),
    (64, 50, 512, 1024),
    (256, 100, 512, 1024),
    (16, 1024, 768, 768),
)
CORRECTNESS = (  # mode, kernel, batch, steps, features, units, largest error relative to the largest number
    ("fp32", "step", 5, 17, 37, 70, 1e-5),
    ("fp32", "grid", 1, 17, 37, 70, 1e-5),
    ("fp32", "grid", 7, 33, 64, 1024, 1e-5),
    ("fp32-fast", "grid", 3, 33, 64, 513, 1e-4),
    ("tf32", "auto", 33, 40, 128, 256, 5e-3),
    ("bf16", "auto", 33, 40, 128, 256, 5e-2),
)
REPEATS, ROUNDS, WARM = 2000, 20, 3


def weights(rng, features, units, dtype=np.float32, peephole=False, projection=None):
    """Return random weights of the usual size."""
    bound, width = units**-0.5, projection or units
    kernel, recurrent, bias = (
        rng.uniform(-bound, bound, shape).astype(dtype)
        for shape in ((features, 4 * units), (width, 4 * units), (4 * units,))
    )
    peepholes = rng.uniform(-bound, bound, (3, units)).astype(dtype) if peephole else None
    projected = rng.uniform(-bound, bound, (units, width)).astype(dtype) if projection else None
    return LSTMParameters(kernel, recurrent, bias, peephole_kernel=peepholes, projection_kernel=projected)


def request(x, parameters, **changes):
    """Return a request with tanh and sigmoid, and what `changes` says."""
    plain = Request(
        x, parameters, None, None, activations.get("tanh"), activations.get("sigmoid"), True, False, False, None, None,
        None,
    )  # fmt: skip
    return plain._replace(**changes)


def in_double(one):
    """Return a request in float64: what the reference computes from."""
    p = one.parameters
    arrays = {name: array.astype(np.float64) for name, array in p.arrays.items()}
    return one._replace(x=one.x.astype(np.float64), parameters=LSTMParameters(**arrays))


def worst(found, expected):
    """Return the largest difference relative to the largest expected number; NaN counts as infinite."""
    error = np.abs(found - expected).max() / max(1.0, np.abs(expected).max())
    return float(error) if np.isfinite(error) else float("inf")


def errors(device, one, rng):
    """Return the errors of a pass and of its gradients against the float64 reference."""
    result, tape = passes.record(device, one)
    expected, expected_tape = reference_backward.record(in_double(one), None)
    plain = passes.forward(device, one)
    d_outputs = rng.normal(size=result.outputs.shape).astype(one.x.dtype)
    gradients, wanted = tape.pullback(d_outputs, None, None), expected_tape.pullback(d_outputs, None, None)
    found = {"forward": worst(plain.outputs, expected.outputs), "recorded": worst(result.outputs, expected.outputs)}
    found["x"] = worst(gradients.x, wanted.x)
    return found | {name: worst(gradients.parameters[name], value) for name, value in wanted.parameters.items()}


# ---- steps: each returns what goes into the file


def versions(device):
    """Packages, driver and device."""
    from cuda.bindings import driver

    names = ("numpy", "numba", "numba-cuda", "cuda-core", "cuda-bindings", "nvidia-nvvm", "torch")
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found | {"device": device.name, "limits": list(device.limits), "driver": driver.cuDriverGetVersion()[1]}


def first_result(device):
    """Seconds from the start of a process to its first result: with kernels to compile or to load, then loaded."""
    code = (
        "import numpy; from numbalstm.functional import lstm_forward; from numbalstm.parameters import LSTMParameters; "
        "weights = LSTMParameters(numpy.ones((64, 512), 'f4'), numpy.ones((128, 512), 'f4')); "
        "lstm_forward(numpy.ones((1, 100, 64), 'f4'), weights, device='cuda')"
    )
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds}


def correctness(device, mode, kernel, batch, steps, features, units, bound):
    """One mode and kernel, forward and backward, plain and with a mask of any pattern."""
    rng = np.random.default_rng(3)
    set_gpu(mode, kernel)
    one = request(rng.normal(size=(batch, steps, features)).astype(np.float32), weights(rng, features, units))
    masked = one._replace(mask=rng.random((batch, steps)) < 0.7, go_backwards=True)
    found = {"plain": errors(device, one, rng), "masked": errors(device, masked, rng)}
    return found | {"bound": bound, "good": all(e < bound for group in found.values() for e in group.values())}


def variants(device):
    """Every option of the layer on the step kernels, in float64 and float32."""
    rng = np.random.default_rng(4)
    set_gpu("fp32", "step")
    found = {}
    for dtype, bound in ((np.float64, 1e-12), (np.float32, 1e-5)):
        x = rng.normal(size=(5, 9, 6)).astype(dtype)
        zones = tuple((rng.random((5, 9, 7)) < 0.3).astype(dtype) for _ in range(2))
        factors = tuple(rng.choice([0, 1.25], (4, 5, width)).astype(dtype) for width in (6, 7))
        plain, peephole = weights(rng, 6, 7, dtype), weights(rng, 6, 7, dtype, peephole=True)
        projected = weights(rng, 6, 7, dtype, peephole=True, projection=3)
        problems = {
            "dropout": request(x, plain, dropout_masks=factors),
            "zoneout": request(x, plain, variant=Variant(zoneout=zones)),
            "clips": request(x, peephole, variant=Variant(gate_clip=0.6, cell_clip=0.5)),
            "coupled": request(x, peephole, variant=Variant(coupled=True)),
            "projection": request(x, projected, variant=Variant(projection_clip=0.1)),
        }
        for name, one in problems.items():
            found[f"{name} {np.dtype(dtype)}"] = {"error": max(errors(device, one, rng).values()), "bound": bound}
    return found | {"good": all(entry["error"] < entry["bound"] for entry in found.values())}


def repeats(device):
    """The same numbers thousands of times: what a lost word or a missing fence would change."""
    rng = np.random.default_rng(5)
    found = {}
    for mode, kernel, batch, units in (
        ("fp32", "grid", 1, 1024), ("fp32", "grid", 8, 1024), ("fp32", "grid", 4, 300), ("tf32", "cluster", 33, 256),
        ("bf16", "cluster", 9, 500), ("fp32", "step", 4, 300),
    ):  # fmt: skip
        set_gpu(mode, kernel)
        one = request(rng.normal(size=(batch, 20, 16)).astype(np.float32), weights(rng, 16, units))
        first, tape = passes.record(device, one)
        ones = np.ones_like(first.outputs)
        gradients = tape.pullback(ones, None, None)
        differing = 0
        for i in range(REPEATS // 10 if kernel == "step" else REPEATS):
            differing += not np.array_equal(passes.forward(device, one).outputs, first.outputs)
            if i % 10 == 0:
                again = passes.record(device, one)[1].pullback(ones, None, None)
                differing += not np.array_equal(again.x, gradients.x)
        found[f"{kernel} {batch} {units}"] = differing
    return found | {"good": not any(found.values())}


def sanitizer(device):
    """compute-sanitizer over small shapes: memory, races, barriers, uninitialised reads."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        return {"skipped": "compute-sanitizer was not found"}
    found = {}
    for tool in ("memcheck", "racecheck", "synccheck", "initcheck"):
        command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, __file__, "--small"]
        done = subprocess.run(command, capture_output=True, text=True)
        found[tool] = {"status": done.returncode, "end": done.stdout[-400:]}
    return found | {"good": all(entry["status"] == 0 for entry in found.values())}


def small(device):
    """What the sanitizer watches: every recurrence, forward and backward, small and odd."""
    rng = np.random.default_rng(6)
    for mode, kernel, bound in (("fp32", "step", 1e-5), ("fp32", "grid", 1e-5), ("tf32", "cluster", 5e-3)):
        set_gpu(mode, kernel)
        one = request(rng.normal(size=(3, 5, 6)).astype(np.float32), weights(rng, 6, 37))
        assert max(errors(device, one._replace(mask=rng.random((3, 5)) < 0.7), rng).values()) < bound


def timed(call, device):
    """Return the median milliseconds of a call on the device, by events, after warm-up."""
    from cuda.core import EventOptions

    core, stream = device.core, device.stream
    for i in range(WARM):
        call(i)
    taken = []
    for i in range(ROUNDS):
        start, end = (core.create_event(EventOptions(timing_enabled=True)) for _ in range(2))
        stream.record(start)
        call(i)
        stream.record(end)
        end.sync()
        taken.append(end - start)
    return float(np.median(taken))


def ours(device, batch, steps, features, units, mode):
    """Milliseconds of a forward pass with arrays on the device, plain and masked, and of forward and backward."""
    rng = np.random.default_rng(7)
    set_gpu(mode)
    parameters = weights(rng, features, units)
    inputs = [device_input(device, rng, batch, steps, features) for _ in range(3)]  # rotated, so that no cache helps
    plain = [request(x, parameters) for x in inputs]
    masked = [one._replace(mask=rng.random((batch, steps)) < 0.9) for one in plain]
    ones = device.upload(np.ones((batch, steps, units), np.float32))

    def train(i):
        passes.record(device, plain[i % 3])[1].pullback(ones, None, None)

    return {
        "forward": timed(lambda i: passes.forward(device, plain[i % 3]), device),
        "masked": timed(lambda i: passes.forward(device, masked[i % 3]), device),
        "both": timed(train, device),
    }


def step_cost(device):
    """Microseconds of one step, from passes of 100 and of 1,100 steps: arithmetic, exchange and barrier together."""
    rng, found = np.random.default_rng(8), {}
    for mode, kernel, batch, units in (
        ("fp32", "grid", 1, 128), ("fp32", "grid", 1, 1024), ("fp32", "grid", 8, 1024), ("tf32", "cluster", 8, 256),
        ("bf16", "cluster", 8, 512), ("fp32", "step", 1, 128),
    ):  # fmt: skip
        set_gpu(mode, kernel)
        parameters = weights(rng, 1, units)
        ones = [request(device_input(device, rng, batch, steps, 1), parameters) for steps in (100, 1100)]
        short, long = (timed(lambda i, one=one: passes.forward(device, one), device) for one in ones)
        found[f"{kernel} {batch} {units}"] = long - short  # milliseconds of 1,000 steps
    return found


def device_input(device, rng, batch, steps, features):
    """Return random numbers on the device."""
    return device.upload(rng.normal(size=(batch, steps, features)).astype(np.float32))


def cudnn(device, batch, steps, features, units, mode):
    """Milliseconds of torch.nn.LSTM, which calls cuDNN: forward, and forward and backward."""
    try:
        import torch
    except ImportError:
        return {"skipped": "PyTorch is not installed"}
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = mode == "tf32"
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(mode, torch.float32)
    layer = torch.nn.LSTM(features, units).cuda().to(dtype)
    inputs = [torch.randn(steps, batch, features, device="cuda", dtype=dtype, requires_grad=True) for _ in range(3)]
    ones = torch.ones(steps, batch, units, device="cuda", dtype=dtype)

    def forward(i):
        with torch.no_grad():
            layer(inputs[i % 3])

    return {
        "forward": timed(forward, device),
        "both": timed(lambda i: layer(inputs[i % 3])[0].backward(ones), device),
    }


def plan():
    """Yield name and function of every step, in order."""
    yield "versions", versions
    for row in CORRECTNESS:
        yield "correct " + " ".join(map(str, row[:-1])), lambda device, row=row: correctness(device, *row)
    yield "variants", variants
    yield "repeats", repeats
    yield "sanitizer", sanitizer
    yield "first result", first_result
    yield "us a step", step_cost
    for case in CASES:
        label = " ".join(map(str, case))
        for mode in ("fp32", "tf32", "bf16"):
            yield f"ours {label} {mode}", lambda device, case=case, mode=mode: ours(device, *case, mode)
        for mode in ("fp32", "tf32", "fp16", "bf16"):
            yield f"cudnn {label} {mode}", lambda device, case=case, mode=mode: cudnn(device, *case, mode)


def table(results):
    """Return the results as lines of text."""
    lines = []
    for name, found in results.items():
        if "error" in found or "skipped" in found:
            lines.append(f"{name:<44}{found.get('error') or found.get('skipped')}")
        elif "good" in found:
            lines.append(f"{name:<44}{'good' if found['good'] else 'WRONG'}")
        elif "forward" in found:
            lines.append(f"{name:<44}" + "  ".join(f"{key} {value:.3f} ms" for key, value in found.items()))
        else:
            lines.append(f"{name:<44}{json.dumps(found)}")
    return lines


def main():
    """Run what is not in the file yet; status 1 when something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("gpu.json"), help="results, read first and written to")
    parser.add_argument("--small", action="store_true", help="only the small shapes that the sanitizer watches")
    options = parser.parse_args()
    problem = presence.problem()
    if problem is not None:
        print(f"nothing can be checked here: {problem}")
        return 2
    device = gpu.get()
    if options.small:
        small(device)
        return 0
    results = json.loads(options.output.read_text()) if options.output.exists() else {}
    for name, step in plan():
        if name in results:
            continue
        try:
            results[name] = step(device)
        except Exception as error:  # the other steps still tell something
            results[name] = {"error": repr(error)[:400], "good": False}
        options.output.write_text(json.dumps(results, indent=1))
        print(table({name: results[name]})[0], flush=True)
    print("\n" + "\n".join(table(results)))
    return int(any(found.get("good") is False for found in results.values()))


if __name__ == "__main__":
    sys.exit(main())
