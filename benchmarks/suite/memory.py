"""Peak memory: it may grow with the input, but not with anything else that depends on time."""

from . import check, data, expected, layer, use_threads


class Sequence:
    """The last output of sequences of growing length; the working set beside the input is constant."""

    param_names = ("timesteps",)
    params = ([100, 1_000, 10_000],)

    def setup(self, timesteps):
        use_threads(1)
        self.x, weights = data((8, timesteps, 16, 64), "float32")
        self.layer = layer(weights, "float32")
        short = self.x[:, :50]
        check(self.layer(short), expected(short, weights)[:, -1], "float32")

    def peakmem_call(self, timesteps):
        self.layer(self.x)


class Weights:
    """One step of a wide layer: the weights, and the copy that is packed for the kernels."""

    param_names = ("units",)
    params = ([128, 512, 1024],)

    def setup(self, units):
        use_threads(1)
        self.x, weights = data((1, 1, 64, units), "float32")
        self.layer = layer(weights, "float32")
        check(self.layer(self.x), expected(self.x, weights)[:, -1], "float32")

    def peakmem_call(self, units):
        self.layer(self.x)
