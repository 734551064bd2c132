"""Time of the forward pass."""

import numpy as np

from . import LATENCY, ODD, THROUGHPUT, check, data, expected, layer, use_threads


class Layer:
    """One layer, all outputs."""

    param_names = ("batch_time_features_units", "dtype", "threads")
    params = ([LATENCY, THROUGHPUT, ODD], ["float32", "float64"], [1, 2])

    def setup(self, size, dtype, threads):
        use_threads(threads)
        self.x, weights = data(size, dtype)
        self.layer = layer(weights, dtype, return_sequences=True)
        check(self.layer(self.x), expected(self.x, weights), dtype)

    def time_call(self, size, dtype, threads):
        self.layer(self.x)


class MaskedLayer:
    """One layer over right-padded sequences of very different lengths."""

    param_names = ("batch_time_features_units", "threads")
    params = ([THROUGHPUT, ODD], [1, 2])

    def setup(self, size, threads):
        use_threads(threads)
        self.x, weights = data(size, "float32")
        lengths = np.random.default_rng(7).integers(1, size[1] + 1, size[0])
        self.mask = np.arange(size[1]) < lengths[:, None]
        self.layer = layer(weights, "float32", return_sequences=False)
        wanted = expected(self.x, weights)[np.arange(size[0]), lengths - 1]
        check(self.layer(self.x, mask=self.mask), wanted, "float32")

    def time_call(self, size, threads):
        self.layer(self.x, mask=self.mask)


class Stack:
    """Two layers in a model, through `predict`."""

    param_names = ("batch_time_features_units", "threads")
    params = ([LATENCY, THROUGHPUT], [1, 2])

    def setup(self, size, threads):
        import numbalstm as nl

        use_threads(threads)
        self.x, first = data(size, "float32")
        _, second = data((*size[:2], size[3], size[3]), "float32")
        layers = [layer(first, "float32", return_sequences=True), layer(second, "float32")]
        self.model = nl.Sequential([nl.Input((None, size[2])), *layers])
        check(self.model.predict(self.x), expected(expected(self.x, first), second)[:, -1], "float32")

    def time_predict(self, size, threads):
        self.model.predict(self.x)
