"""What is timed on a GPU: passes, steps, streams, first results, and cuDNN beside them.

Each returns what goes into the file of results.
"""

import subprocess
import sys
import time

import numpy as np
from checks import request, weights, worst

import numbalstm as nl
from numbalstm import set_gpu
from numbalstm.backends.cuda import passes

CASES = (  # batch, steps, features, units
    (1, 100, 64, 128),
    (1, 100, 512, 1024),
    (32, 100, 128, 256),
    (64, 100, 256, 512),
    (64, 50, 512, 1024),
    (256, 100, 512, 1024),
    (16, 1024, 768, 768),
)
ROUNDS, WARM = 20, 3


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


def device_input(device, rng, batch, steps, features):
    """Return random numbers on the device."""
    return device.upload(rng.normal(size=(batch, steps, features)).astype(np.float32))


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
