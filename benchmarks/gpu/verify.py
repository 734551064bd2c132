"""Check and measure the CUDA kernels on a real GPU: one command, resumable, about eight minutes.

    python benchmarks/gpu/verify.py --compile                   # without a GPU, before: some minutes
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

import numbalstm as nl
from numbalstm import activations, set_gpu
from numbalstm.backends import reference_backward
from numbalstm.backends.cuda import device as gpu
from numbalstm.backends.cuda import passes, presence
from numbalstm.backends.interface import Request, Variant
from numbalstm.functional import lstm_forward
from numbalstm.parameters import NORM_ARRAYS, LSTMParameters, Norm

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
    ("fp32", "tiles", 9, 17, 37, 70, 1e-5),
    ("fp32", "tiles", 64, 33, 64, 512, 1e-5),
    ("fp32", "tiles", 300, 9, 64, 1024, 1e-5),
    ("tf32", "tiles", 64, 33, 64, 1024, 5e-3),
    ("bf16", "tiles", 256, 17, 64, 1024, 5e-2),
    ("fp32", "cluster", 1, 17, 37, 17, 1e-5),
    ("fp32", "cluster", 300, 17, 37, 33, 1e-5),
    ("fp32", "cluster", 33, 40, 128, 256, 1e-5),
    ("fp32-fast", "cluster", 5, 33, 64, 96, 1e-4),
    ("tf32", "cluster", 33, 40, 128, 256, 5e-3),
    ("bf16", "cluster", 33, 40, 128, 256, 5e-2),
    ("bf16", "cluster", 9, 33, 64, 500, 5e-2),
)
REPEATS, ROUNDS, WARM = 2000, 20, 3


def weights(rng, features, units, dtype=np.float32, peephole=False, projection=None, norm=False):
    """Return random weights of the usual size."""
    bound, width = units**-0.5, projection or units
    kernel, recurrent, bias = (
        rng.uniform(-bound, bound, shape).astype(dtype)
        for shape in ((features, 4 * units), (width, 4 * units), (4 * units,))
    )
    peepholes = rng.uniform(-bound, bound, (3, units)).astype(dtype) if peephole else None
    projected = rng.uniform(-bound, bound, (units, width)).astype(dtype) if projection else None
    widths = [4 * units] * 4 + [units] * 2
    normal = Norm(*(rng.uniform(0.5, 1.5, width).astype(dtype) for width in widths)) if norm else None
    return LSTMParameters(kernel, recurrent, bias, peephole_kernel=peepholes, projection_kernel=projected, norm=normal)


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
    norm = None if p.norm is None else Norm(*(arrays.pop(name) for name in NORM_ARRAYS), p.norm.epsilon)
    return one._replace(x=one.x.astype(np.float64), parameters=LSTMParameters(**arrays, norm=norm))


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
    return {"seconds": seconds, "good": seconds[-1] < 3}


def stream_of_steps(device, sizes=((1, 64, 128), (1, 512, 1024), (32, 128, 256)), steps=40):
    """A stream with its state on the GPU: the bits of its block run, and the time of a step, arrays on either side."""
    rng, found = np.random.default_rng(9), {"good": True}
    set_gpu("fp32", "auto")
    for batch, features, units in sizes:
        layer = nl.LSTM(units, input_shape=(None, features), return_sequences=True, device="cuda")
        x = rng.normal(size=(batch, steps, features)).astype(np.float32)
        stream = layer.stream(batch, device="cuda")
        whole = stream.run(x)
        stream.reset()
        single = np.stack([stream.step(x[:, t]).copy() for t in range(steps)], axis=1)
        there = device.upload(x[:, 0])
        close = worst(whole, layer(x).astype(np.float64)) < 1e-5
        found["good"] &= bool(np.array_equal(single, whole)) and close
        found[f"{batch} {features} {units}"] = {
            "host us": per_call(lambda stream=stream, x=x: stream.step(x[:, 0]), device),
            "device us": per_call(lambda stream=stream, there=there: stream.step(there), device),
        }
    return found


def per_call(call, device, count=200):
    """Return microseconds of a call among many, by the clock of the host, with all of them finished."""
    for _ in range(10):
        call()
    device.finish()
    start = time.perf_counter()
    for _ in range(count):
        call()
    device.finish()
    return (time.perf_counter() - start) / count * 1e6


def layers_on_the_gpu(device, shape=(9, 21, 33), units=70):
    """Layers on arrays that lie there, and PyTorch's on a stream of its own: the bits of arrays of the host."""
    rng, found = np.random.default_rng(10), {}
    set_gpu("fp32", "auto")
    x = rng.normal(size=shape).astype(np.float32)
    mask = rng.random(shape[:2]) < 0.8
    for name, layer in (
        ("lstm", nl.LSTM(units, return_sequences=True, device="cuda")),
        ("bidirectional", nl.Bidirectional(nl.LSTM(units, return_sequences=True, device="cuda"))),
        ("mul", nl.Bidirectional(nl.LSTM(units, return_sequences=True, device="cuda"), merge_mode="mul")),
        ("stacked", nl.StackedLSTM(units, 2, bidirectional=True, return_sequences=True, device="cuda")),
    ):
        expected, pull = layer.vjp(x, mask=mask)
        y, pull_there = layer.vjp(device.upload(x), mask=device.upload(mask))
        ones = np.ones_like(expected)
        gradients, wanted = pull_there(device.upload(ones)), pull(ones)
        found[name] = bool(np.array_equal(y.copy_to_host(), expected)) and bool(
            np.array_equal(gradients.inputs.copy_to_host(), wanted.inputs)
        )
    layer = nl.LSTM(units, device="cuda")
    expected = layer(x)
    try:
        import torch
    except ImportError:
        return found | {"good": all(found.values()), "torch": "PyTorch is not installed"}
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        given = torch.as_tensor(x, device="cuda") * 1
        out = torch.empty(*expected.shape, device="cuda")
        layer(given, out=out)
        result = lstm_forward(given, layer.parameters, return_sequences=False, stream=stream).outputs
        copied = torch.as_tensor(result, device="cuda").clone()
    torch.cuda.synchronize()
    found |= {"torch out": bool(np.array_equal(out.cpu().numpy(), expected))}
    found |= {"torch stream": bool(np.array_equal(copied.cpu().numpy(), expected))}
    return found | {"good": all(found.values())}


def at_once(device, sizes=(("auto", 1, 256), ("auto", 32, 256), ("step", 1, 256)), steps=100, features=64):
    """Milliseconds: both directions at once and one by one, and launches of steps as a graph and one by one."""
    rng, found = np.random.default_rng(11), {}
    for kernel, batch, units in sizes:
        set_gpu("fp32", kernel)
        layer = nl.Bidirectional(nl.LSTM(units, return_sequences=True))
        x = device_input(device, rng, batch, steps, features)
        layer(x)
        both = timed(lambda i, layer=layer, x=x: layer(x), device)
        single = sum(timed(lambda i, one=one, x=x: one(x), device) for one in layer.sublayers)
        found[f"{kernel} {batch} {units}"] = {"at once": both, "one by one": single}
    set_gpu("fp32", "step")
    batch, units = sizes[-1][1:]
    one = request(device_input(device, rng, batch, steps, features), weights(rng, features, units))
    graphs = timed(lambda i: passes.forward(device, one), device)
    replayed, device.card.graphs = device.card.graphs and device.replayed, False
    found[f"step {batch} {units} by one"] = {
        "graphs": graphs,
        "launches": timed(lambda i: passes.forward(device, one), device),
    }
    device.card.graphs = replayed is not False
    return found | {"replayed": replayed, "good": bool(replayed)}


def memory(device):
    """Too large an array is one clear error, and the device works on."""
    try:
        device.empty((1 << 45,), np.uint8)
    except MemoryError as error:
        return {"said": str(error), "good": device.download(device.zeros((3,), np.float32)).sum() == 0}
    return {"good": False}


def correctness(device, mode, kernel, batch, steps, features, units, bound):
    """One mode and kernel, forward and backward, plain and with a mask of any pattern."""
    rng = np.random.default_rng(3)
    set_gpu(mode, kernel)
    one = request(rng.normal(size=(batch, steps, features)).astype(np.float32), weights(rng, features, units))
    masked = one._replace(mask=rng.random((batch, steps)) < 0.7, go_backwards=True)
    found = {"plain": errors(device, one, rng), "masked": errors(device, masked, rng)}
    return found | {"bound": bound, "good": all(e < bound for group in found.values() for e in group.values())}


def variants(device):
    """Every option of the layer on the step kernels, in float64 and float32, and in clusters as far as these go."""
    rng = np.random.default_rng(4)
    found = {}
    for dtype, kernel, bound in (
        (np.float64, "step", 1e-12), (np.float32, "step", 1e-5), (np.float32, "cluster", 1e-5),
    ):  # fmt: skip
        set_gpu("fp32", kernel)
        x = rng.normal(size=(5, 9, 6)).astype(dtype)
        zones = tuple((rng.random((5, 9, 7)) < 0.3).astype(dtype) for _ in range(2))
        factors = tuple(rng.choice([0, 1.25], (4, 5, width)).astype(dtype) for width in (6, 7))
        plain, peephole = weights(rng, 6, 7, dtype), weights(rng, 6, 7, dtype, peephole=True)
        projected = weights(rng, 6, 7, dtype, peephole=True, projection=3)
        problems = {
            "dropout": request(x, plain, dropout_masks=factors),
            "one dropout": request(x, plain, dropout_masks=(None, factors[1][0])),
            "zoneout": request(x, plain, variant=Variant(zoneout=zones)),
            "clips": request(x, peephole, variant=Variant(gate_clip=0.6, cell_clip=0.5)),
            "coupled": request(x, peephole, variant=Variant(coupled=True)),
            "projection": request(x, projected, variant=Variant(projection_clip=0.1)),
        }
        for name, one in problems.items():
            error = max(errors(device, one, rng).values())
            found[f"{name} {np.dtype(dtype)} {kernel}"] = {"error": error, "bound": bound}
    return found | {"good": all(entry["error"] < entry["bound"] for entry in found.values())}


def whole_rows(device):
    """Layer normalisation and activations of whole rows, or with numbers of their own: always the step kernels."""
    rng = np.random.default_rng(9)
    set_gpu("fp32")
    found = {}
    softmax, sparsemax, log_softmax = map(activations.get, ("softmax", "sparsemax", "log_softmax"))
    numbers = activations.onnx("HardSigmoid", 0.3, 0.4), activations.onnx("ScaledTanh", 1.5, 0.7)
    mixed = Variant(activations=(numbers[0], softmax, sparsemax, numbers[0], numbers[1]))
    for dtype, bound in ((np.float64, 1e-12), (np.float32, 1e-5)):
        x = rng.normal(size=(3, 5, 4)).astype(dtype)
        normal = weights(rng, 4, 6, dtype, peephole=True, projection=3, norm=True)
        problems = {
            "layer normalisation": request(x, normal, mask=rng.random((3, 5)) < 0.7),
            "softmax": request(x, weights(rng, 4, 6, dtype), activation=softmax, recurrent_activation=log_softmax),
            "mixed": request(x, weights(rng, 4, 6, dtype, norm=True), variant=mixed),
        }
        for name, one in problems.items():
            found[f"{name} {np.dtype(dtype)}"] = {"error": max(errors(device, one, rng).values()), "bound": bound}
    return found | {"good": all(entry["error"] < entry["bound"] for entry in found.values())}


def checkpoints(device):
    """Passes that keep the states of some steps only: the bits of those that keep everything, on every kernel."""
    rng = np.random.default_rng(10)
    found = {}
    for mode, kernel, units in (("fp32", "step", 6), ("fp32", "auto", 6), ("tf32", "cluster", 6)):
        set_gpu(mode, kernel)
        one = request(rng.normal(size=(3, 5, 4)).astype(np.float32), weights(rng, 4, units))
        results = []
        for every in (None, 2):
            result, tape = passes.record(device, one, every)
            gradients = tape.pullback(np.ones_like(result.outputs), None, None)
            results.append([*result, *gradients[:3], *gradients.parameters.values()])
        found[f"{mode} {kernel}"] = sum(not np.array_equal(a, b) for a, b in zip(*results, strict=True))
    return found | {"good": not any(found.values())}


def repeats(device):
    """The same numbers thousands of times: what a lost word or a missing fence would change."""
    rng = np.random.default_rng(5)
    found = {}
    for mode, kernel, batch, units in (
        ("fp32", "grid", 1, 1024), ("fp32", "grid", 8, 1024), ("fp32", "grid", 4, 300), ("tf32", "cluster", 33, 256),
        ("fp32", "cluster", 1, 128), ("fp32", "cluster", 32, 256),
        ("bf16", "cluster", 9, 500), ("fp32", "tiles", 64, 512), ("tf32", "tiles", 64, 300),
        ("bf16", "tiles", 40, 1024), ("fp32", "step", 4, 300),
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
    for mode, kernel, bound in (
        ("fp32", "step", 1e-5), ("fp32", "grid", 1e-5), ("fp32", "cluster", 1e-5), ("tf32", "cluster", 5e-3),
        ("fp32", "tiles", 1e-5),
    ):  # fmt: skip
        set_gpu(mode, kernel)
        one = request(rng.normal(size=(3, 5, 6)).astype(np.float32), weights(rng, 6, 37))
        assert max(errors(device, one._replace(mask=rng.random((3, 5)) < 0.7), rng).values()) < bound
    rows = request(rng.normal(size=(2, 2, 3)).astype(np.float32), weights(rng, 3, 5, norm=True))
    assert max(errors(device, rows._replace(activation=activations.get("sparsemax")), rng).values()) < 1e-5


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

    forward = timed(lambda i: passes.forward(device, plain[i % 3]), device)
    with_mask = timed(lambda i: passes.forward(device, masked[i % 3]), device)
    return {"forward": forward, "masked": with_mask, "both": timed(train, device)}


def step_cost(device):
    """Microseconds of one step, from passes of 100 and of 1,100 steps: arithmetic, exchange and barrier together."""
    rng, found = np.random.default_rng(8), {}
    for mode, kernel, batch, units in (
        ("fp32", "grid", 1, 128), ("fp32", "grid", 1, 1024), ("fp32", "grid", 8, 1024), ("tf32", "cluster", 8, 256),
        ("fp32", "cluster", 1, 128), ("fp32", "cluster", 32, 256),
        ("bf16", "cluster", 8, 512), ("fp32", "tiles", 64, 512), ("tf32", "tiles", 64, 512),
        ("bf16", "tiles", 64, 1024), ("fp32", "tiles", 256, 1024), ("fp32", "step", 1, 128),
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
    yield "whole rows", whole_rows
    yield "checkpoints", checkpoints
    yield "repeats", repeats
    yield "sanitizer", sanitizer
    yield "layers on the gpu", layers_on_the_gpu
    yield "stream", stream_of_steps
    yield "at once", at_once
    yield "memory", memory
    yield "first result", first_result
    yield "us a step", step_cost
    for case in CASES:
        label = " ".join(map(str, case))
        for mode in ("fp32", "tf32", "bf16"):
            yield f"ours {label} {mode}", lambda device, case=case, mode=mode: ours(device, *case, mode)
        for mode in ("fp32", "tf32", "fp16", "bf16"):
            yield f"cudnn {label} {mode}", lambda device, case=case, mode=mode: cudnn(device, *case, mode)


def times(found):
    """Return what a step tells beside its judgement, if that is numbers."""
    told = {key: value for key, value in found.items() if isinstance(value, dict) and key not in ("plain", "masked")}
    if "seconds" in found:
        return f"  {found['seconds'][0]:.1f} s, then {found['seconds'][1]:.1f} s"
    told = {key: value for key, value in told.items() if not {"error", "status"} & set(value)}
    return "".join(
        f"\n  {key:<42}" + "  ".join(f"{name} {number:.3g}" for name, number in value.items())
        for key, value in told.items()
    )


def compile_ahead():
    """Compile most of what the steps launch, so that a card is not lent for compiling."""
    from numbalstm.backends.cuda import choice, rehearsal

    jobs = [(mode, kernel, row) for mode, kernel, *row, _ in CORRECTNESS]
    jobs += [(mode, "auto", case) for case in CASES for mode in ("fp32", "tf32", "bf16")]
    for mode, kernel, (batch, steps, features, units) in jobs:
        set_gpu(mode, kernel)
        for what in ("forward", "masked", "training"):
            found = rehearsal.kernels("float32", batch, steps, features, units, what, choice.H100)
            start = time.perf_counter()
            rehearsal.build(found, choice.H100)
            sizes = f"{batch} {steps} {features} {units}"
            print(f"{mode} {kernel} {sizes} {what}: {time.perf_counter() - start:.1f} s", flush=True)


def table(results):
    """Return the results as lines of text."""
    lines = []
    for name, found in results.items():
        if "error" in found or "skipped" in found:
            lines.append(f"{name:<44}{found.get('error') or found.get('skipped')}")
        elif "good" in found:
            lines.append(f"{name:<44}{'good' if found['good'] else 'WRONG'}{times(found)}")
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
    parser.add_argument("--compile", action="store_true", help="only compile ahead; needs no GPU")
    parser.add_argument("--minutes", type=float, default=8, help="begin no step after so many; %(default)s")
    options = parser.parse_args()
    if options.compile:
        compile_ahead()
        return 0
    problem = presence.problem()
    if problem is not None:
        print(f"nothing can be checked here: {problem}")
        return 2
    device = gpu.get()
    if options.small:
        small(device)
        return 0
    results = json.loads(options.output.read_text()) if options.output.exists() else {}
    end = time.monotonic() + 60 * options.minutes
    for name, step in plan():
        if name in results:
            continue
        if time.monotonic() > end:
            print(f"{options.minutes:g} minutes are over: run again to go on behind the last step")
            break
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
