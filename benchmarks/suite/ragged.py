"""Sequences of different lengths, and masks with holes: the time should follow the steps that count."""

import numpy as np

from . import ODD, THROUGHPUT, check, data, expected, layer, use_threads

KINDS = ("full", "right-padded", "list", "holes")


def lengths(size):
    """Return seeded lengths from 1 to the time of the size, one for each sequence."""
    return np.random.default_rng(7).integers(1, size[1] + 1, size[0])


class Lengths:
    """The last output of each sequence; "full" is what the others are compared with."""

    param_names = ("batch_time_features_units", "input", "threads")
    params = ([THROUGHPUT, ODD], KINDS, [1, 2])

    def setup(self, size, kind, threads):
        use_threads(threads)
        x, weights = data(size, "float32")
        counted, self.mask = lengths(size), None
        self.x, rows = x, np.arange(size[0])
        if kind == "list":
            self.x = [np.ascontiguousarray(sequence[:count]) for sequence, count in zip(x, counted, strict=True)]
        elif kind == "right-padded":
            self.mask = np.arange(size[1]) < counted[:, None]
        elif kind == "holes":
            self.mask = np.random.default_rng(8).random(size[:2]) < 0.9
        self.layer = layer(weights, "float32")
        if kind == "holes":  # the steps that count, alone
            some = self.mask[0]
            wanted, found = expected(x[:1, some], weights)[:, -1], self.layer(self.x, mask=self.mask)[:1]
        else:
            wanted = expected(x, weights)[rows, size[1] - 1 if kind == "full" else counted - 1]
            found = self.layer(self.x, mask=self.mask)
        check(found, wanted, "float32")

    def time_call(self, size, kind, threads):
        self.layer(self.x, mask=self.mask)
