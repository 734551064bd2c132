"""Weights stored in fewer bits, and arithmetic in bfloat16: the time, and how far the outputs are from float64."""

import numpy as np

from . import LATENCY, THROUGHPUT, check, data, expected, layer, needs, use_threads

WIDE = (1, 20, 512, 1024)  # more weights than a cache near the core holds


class Weights:
    """A layer with `weights_dtype`."""

    param_names = ("batch_time_features_units", "weights_dtype", "threads")
    params = ([LATENCY, THROUGHPUT, WIDE], ["bfloat16", "int8"], [1, 2])

    def setup(self, size, dtype, threads):
        needs("weights_dtype")
        use_threads(threads)
        self.x, weights = data(size, "float32")
        self.layer = layer(weights, "float32", return_sequences=True, weights_dtype=dtype)
        self.wanted = expected(self.x, weights)
        check(self.layer(self.x), self.wanted, dtype)

    def time_call(self, size, dtype, threads):
        self.layer(self.x)

    def track_largest_error(self, size, dtype, threads):
        return float(np.abs(self.layer(self.x) - self.wanted).max())


class Arithmetic:
    """A layer with `compute_dtype="bfloat16"`."""

    param_names = ("batch_time_features_units", "threads")
    params = ([THROUGHPUT], [1, 2])

    def setup(self, size, threads):
        needs("compute_dtype")
        use_threads(threads)
        self.x, weights = data(size, "float32")
        self.layer = layer(weights, "float32", return_sequences=True, compute_dtype="bfloat16")
        check(self.layer(self.x), expected(self.x, weights), "bfloat16")

    def time_call(self, size, threads):
        self.layer(self.x)
