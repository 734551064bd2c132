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
