"""The variants of the layer beside the plain one, forward and as a training step.

In turns, with the target: ../compare/variants.py.
"""

import warnings

import cells

from . import needs, use_threads

OPTIONS = {"plain": {}} | cells.variants(64)


class Variant:
    """One layer in float32, 64 units."""

    param_names = ("batch_time_features_units", "variant")
    params = ([(1, 100, 64, 64), (32, 100, 64, 64)], list(OPTIONS))
    timeout = 120

    def setup(self, size, variant):
        needs(*OPTIONS[variant])
        use_threads(1)
        warnings.simplefilter("ignore", cells.SlowPathWarning)
        cells.check(size, OPTIONS[variant])
        self.x, self.dy, self.layer = cells.made(size, **OPTIONS[variant])
        self.training = variant in cells.DROPPING

    def time_forward(self, size, variant):
        self.layer(self.x, training=self.training)

    def time_step(self, size, variant):
        cells.step(self.layer, self.x, self.dy)
