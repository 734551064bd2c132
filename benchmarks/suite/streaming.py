"""One step of sequences whose states stay where they are."""

import numpy as np

import numbalstm as nl

from . import check, data, expected, layer, use_threads

SIZES = [(32, 32), (64, 128), (128, 256), (256, 512), (512, 1024)]


class Step:
    """A step of a layer's stream, the call from Python included."""

    param_names = ("features_units", "threads")
    params = (SIZES, [1, 2])

    def setup(self, size, threads):
        use_threads(threads)
        x, weights = data((1, 12, *size), "float32")
        built = layer(weights, "float32")
        if not hasattr(built, "stream"):
            raise NotImplementedError("LSTM has no stream")
        stream, steps = built.stream(batch=1), [np.ascontiguousarray(x[:, t]) for t in range(12)]
        found = np.stack([np.array(stream.step(x_t)) for x_t in steps], axis=1)
        check(found, expected(x, weights), "float32")
        self.step, self.x_t = stream.step, steps[0]

    def time_step(self, size, threads):
        self.step(self.x_t)


class Pool:
    """A step of those streams of a full pool that have input: every other one."""

    param_names = ("features_units", "capacity", "threads")
    params = ([(64, 128)], [16, 1000], [1, 2])

    def setup(self, size, capacity, threads):
        if not hasattr(nl, "StreamPool"):
            raise NotImplementedError("no StreamPool")
        use_threads(threads)
        x, weights = data((capacity, 5, *size), "float32")
        self.pool = nl.StreamPool(layer(weights, "float32"), capacity)
        self.ids = [self.pool.join() for _ in range(capacity)][::2]
        steps = [np.ascontiguousarray(x[::2, t]) for t in range(5)]
        found = np.stack([self.pool.step(self.ids, x_t) for x_t in steps], axis=1)
        check(found, expected(x[::2], weights), "float32")
        self.x_t = steps[0]

    def time_step(self, size, capacity, threads):
        self.pool.step(self.ids, self.x_t)
