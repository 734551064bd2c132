"""What has to be right on a GPU: results and gradients against float64, the same bits again, arrays that lie there.

Each check takes the device and returns what goes into the file of results; "good" is the verdict.
"""

import numpy as np

import numbalstm as nl
from numbalstm import activations, set_gpu
from numbalstm.backends import reference_backward
from numbalstm.backends.cuda import passes
from numbalstm.backends.interface import Request, Variant
from numbalstm.functional import lstm_forward
from numbalstm.parameters import NORM_ARRAYS, LSTMParameters, Norm

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
REPEATS = 2000


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


def memory(device):
    """Too large an array is one clear error, and the device works on."""
    try:
        device.empty((1 << 45,), np.uint8)
    except MemoryError as error:
        return {"said": str(error), "good": device.download(device.zeros((3,), np.float32)).sum() == 0}
    return {"good": False}


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
