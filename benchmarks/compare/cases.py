"""What is compared: the sizes, seeded data, and the result in float64 that every contender has to agree with."""

from typing import NamedTuple

import numpy as np

STREAM_CHECK = 12  # steps over which a contender of a stream is checked


class Case(NamedTuple):
    """One size.

    Mode "infer": all outputs of a batch of sequences; "train": these and the gradients of everything; "stream": one
    step of one sequence, state kept.
    """

    mode: str
    batch: int
    time: int
    features: int
    units: int
    layers: int = 1
    bidirectional: bool = False

    @property
    def name(self):
        """Return the name that tables and `--only` use."""
        if self.mode == "stream":
            return f"stream {self.features}/{self.units}"
        size = f"{self.mode} ({self.batch},{self.time},{self.features},{self.units})"
        return size + (f" x{self.layers} layers" if self.layers > 1 else "") + (" bidir" if self.bidirectional else "")

    @property
    def flops(self):
        """Return the multiplications and additions of the products, of all layers and directions."""
        directions = 1 + self.bidirectional
        widths = [self.features] + [directions * self.units] * (self.layers - 1)
        once = sum(8 * self.batch * self.time * self.units * (width + self.units) * directions for width in widths)
        return 3 * once if self.mode == "train" else once  # the way back multiplies for the inputs, and for the weights


_SIZES = [
    (1, 100, 32, 32),
    (1, 100, 64, 128),
    (1, 200, 128, 256),
    (1, 100, 256, 512),
    (1, 100, 512, 1024),
    (8, 100, 64, 128),
    (32, 10, 8, 4),
    (32, 100, 64, 64),
    (32, 100, 128, 256),
    (64, 100, 256, 512),
    (64, 50, 512, 1024),
    (256, 100, 32, 64),
    (256, 28, 28, 128),
    (1024, 20, 16, 32),
]
_TRAINING = [(32, 100, 64, 64), (32, 100, 128, 256), (64, 50, 256, 512), (256, 28, 28, 128), (1, 200, 64, 128)]
CASES = [
    *(Case("infer", *size) for size in _SIZES),
    Case("infer", 32, 100, 64, 128, layers=2),
    Case("infer", 32, 100, 64, 128, bidirectional=True),
    *(Case("train", *size) for size in _TRAINING),
    *(Case("stream", 1, 1, *size) for size in [(32, 32), (64, 128), (128, 256), (256, 512), (512, 1024)]),
]


class Problem:
    """Seeded data of a case.

    Inputs ``x`` (B, T, F); ``weights[layer][direction]``: kernel (F, 4U), recurrent (U, 4U), bias (4U,), gates i f g o.
    For training the cotangent ``dy`` (B, T, U).
    """

    def __init__(self, case):
        rng = np.random.default_rng(7)
        units, directions = case.units, 1 + case.bidirectional
        time = STREAM_CHECK if case.mode == "stream" else case.time
        bound = units**-0.5

        def weights(width):
            shapes = ((width, 4 * units), (units, 4 * units), (4 * units,))
            return tuple(rng.uniform(-bound, bound, shape).astype(np.float32) for shape in shapes)

        self.x = rng.standard_normal((case.batch, time, case.features)).astype(np.float32)
        widths = [case.features] + [directions * units] * (case.layers - 1)
        self.weights = [[weights(width) for _ in range(directions)] for width in widths]
        if case.mode == "train":
            self.dy = rng.standard_normal((case.batch, time, directions * units)).astype(np.float32)

    @property
    def steps(self):
        """Return the inputs as a list of contiguous (B, F), one for each step."""
        return [np.ascontiguousarray(self.x[:, t]) for t in range(self.x.shape[1])]

    @property
    def time_major(self):
        """Return the inputs as contiguous (T, B, F)."""
        return np.ascontiguousarray(self.x.transpose(1, 0, 2))


def forward(x, kernel, recurrent, bias):
    """Return the outputs of all steps, (B, T, U), in the type of the arrays: the equations, step by step."""
    h = c = np.zeros((len(x), recurrent.shape[0]), x.dtype)
    outputs = []
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, axis=1)
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
        outputs.append(h)
    return np.stack(outputs, axis=1)


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))


def gradients(x, kernel, recurrent, bias, dy):
    """Return the gradients of (outputs * dy).sum() for x and the weights: input products beside the loop, one tape."""
    units, zeros = len(recurrent), np.zeros((len(x), len(recurrent)), x.dtype)
    h, c, tape = zeros, zeros, []
    z = x @ kernel + bias
    for t in range(x.shape[1]):
        gates = z[:, t] + h @ recurrent
        i, f, o = (_sigmoid(gates[:, k * units : (k + 1) * units]) for k in (0, 1, 3))
        g = np.tanh(gates[:, 2 * units : 3 * units])
        before = h, c
        c = f * c + i * g
        tanh_c = np.tanh(c)
        h = o * tanh_c
        tape.append((i, f, g, o, tanh_c, *before))
    dz, entering, dh, dc = np.empty_like(z), np.empty((*z.shape[:2], units), x.dtype), zeros, zeros
    for t in reversed(range(x.shape[1])):
        i, f, g, o, tanh_c, h_before, c_before = tape[t]
        dh = dh + dy[:, t]
        dc = dc + dh * o * (1 - tanh_c * tanh_c)
        gates = dc * g * i * (1 - i), dc * c_before * f * (1 - f), dc * i * (1 - g * g), dh * tanh_c * o * (1 - o)
        for k, values in enumerate(gates):
            dz[:, t, k * units : (k + 1) * units] = values
        dc = dc * f
        dh = dz[:, t] @ recurrent.T
        entering[:, t] = h_before
    rows = dz.reshape(-1, 4 * units)
    weights = (array.reshape(len(rows), -1).T @ rows for array in (x, entering))
    return dz @ kernel.T, *weights, rows.sum(0)


def reference(case):
    """Return in float64 the outputs of the last layer, (B, T, U times directions); for training a list of gradients."""
    problem = Problem(case)
    if case.mode == "train":
        arrays = problem.x, *problem.weights[0][0], problem.dy
        return list(gradients(*(array.astype(np.float64) for array in arrays)))
    y = problem.x.astype(np.float64)
    for layer in problem.weights:
        layer = [tuple(weight.astype(np.float64) for weight in weights) for weights in layer]
        directions = [forward(y, *layer[0])]
        if case.bidirectional:
            directions.append(forward(y[:, ::-1], *layer[1])[:, ::-1])
        y = np.concatenate(directions, axis=-1)
    return y
