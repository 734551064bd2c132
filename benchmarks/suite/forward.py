"""Time of the forward pass."""

import numbalstm as nl

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


class Stack:
    """Two layers in a model, through `predict`."""

    param_names = ("batch_time_features_units", "threads")
    params = ([LATENCY, THROUGHPUT], [1, 2])

    def setup(self, size, threads):
        use_threads(threads)
        self.x, first = data(size, "float32")
        _, second = data((*size[:2], size[3], size[3]), "float32")
        layers = [layer(first, "float32", return_sequences=True), layer(second, "float32")]
        self.model = nl.Sequential([nl.Input((None, size[2])), *layers])
        check(self.model.predict(self.x), expected(expected(self.x, first), second)[:, -1], "float32")

    def time_predict(self, size, threads):
        self.model.predict(self.x)
