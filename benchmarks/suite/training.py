"""Training: a forward and backward pass with its memory, and an epoch of `fit`."""

import numpy as np

import numbalstm as nl

from . import LATENCY, ODD, THROUGHPUT, TOLERANCES, check, data, gradients, layer, use_threads


def needs_training():
    """Skip the benchmark at a commit that cannot train."""
    if not hasattr(nl.LSTM, "vjp"):
        raise NotImplementedError("LSTM has no vjp")


def cotangents(x, units):
    """Return seeded cotangents of all outputs."""
    return np.random.default_rng(9).standard_normal((*x.shape[:2], units)).astype(x.dtype)


def check_gradients(found, wanted, dtype):
    """Compare gradients, each relative to its largest number."""
    for one, other in zip(found, wanted, strict=True):
        scale = max(1.0, np.abs(other).max())
        np.testing.assert_allclose(one / scale, other / scale, atol=TOLERANCES[dtype])


def step(layer, x, dy):
    """Return the gradients of inputs and weights."""
    found = layer.vjp(x, training=True)[1](dy)
    return [found.inputs, *found.weights]


class Step:
    """Forward pass and all gradients, by the layer."""

    param_names = ("batch_time_features_units", "dtype", "threads")
    params = ([LATENCY, THROUGHPUT, ODD], ["float32", "float64"], [1, 2])

    def setup(self, size, dtype, threads):
        needs_training()
        use_threads(threads)
        self.x, weights = data(size, dtype)
        self.dy = cotangents(self.x, size[3])
        self.layer = layer(weights, dtype, return_sequences=True)
        check_gradients(step(self.layer, self.x, self.dy), gradients(self.x, weights, self.dy), dtype)

    def time_step(self, size, dtype, threads):
        step(self.layer, self.x, self.dy)


class Tape:
    """What is kept between the passes, and the peak of both; with checkpoints it grows with the root of time."""

    param_names = ("timesteps", "checkpoint_every")
    params = ([100, 1_000, 10_000], [None, 32, 100])
    timeout = 120

    def setup(self, timesteps, checkpoint_every):
        needs_training()
        use_threads(1)
        from numbalstm import functional
        from numbalstm.parameters import LSTMParameters

        self.functional, self.every = functional, checkpoint_every
        self.x, weights = data((8, timesteps, 16, 64), "float32")
        self.parameters = LSTMParameters(*weights)
        self.dy = cotangents(self.x, 64)
        short, dy = self.x[:, :50], self.dy[:, :50]
        found = self._gradients(short, dy)
        found = [found.x, *(found.parameters[name] for name in ("kernel", "recurrent_kernel", "bias"))]
        check_gradients(found, gradients(short, weights, dy), "float32")

    def _tape(self, x):
        return self.functional.lstm_forward(x, self.parameters, tape=True, checkpoint_every=self.every).tape

    def _gradients(self, x, dy):
        return self.functional.lstm_backward(dy, self._tape(x))

    def peakmem_step(self, timesteps, checkpoint_every):
        self._gradients(self.x, self.dy)

    def track_tape(self, timesteps, checkpoint_every):
        return self._tape(self.x).nbytes

    track_tape.unit = "bytes"

    def track_floats_of_unit_and_step(self, timesteps, checkpoint_every):
        return self._tape(self.x).nbytes / (4 * 8 * timesteps * 64)

    track_floats_of_unit_and_step.unit = "floats"


class Fit:
    """One epoch of a small model: 20 updates, with batches, loss and optimizer."""

    param_names = ("optimizer", "threads")
    params = (["sgd", "adam"], [1, 2])
    timeout = 120

    def setup(self, optimizer, threads):
        needs_training()
        use_threads(threads)
        self.x, weights = data((640, 28, 28, 32), "float32")
        self.y = (self.x[:, -1, :1] > 0).astype(np.float32)
        head = nl.Dense(1, activation="sigmoid", input_shape=(32,), weights=[np.ones((32, 1)) / 32, np.zeros(1)])
        self.model = nl.Sequential([nl.Input((28, 28)), layer(weights, "float32"), head])
        rates = {"sgd": nl.optimizers.SGD(0.5), "adam": nl.optimizers.Adam(0.01)}
        self.model.compile(rates[optimizer], "binary_crossentropy")
        before = self.model.evaluate(self.x, self.y, verbose=0)
        check(before, self._loss(), "float32")
        self._epoch()
        after = self.model.evaluate(self.x, self.y, verbose=0)
        assert after < 0.98 * before, f"the loss went from {before} to {after}"

    def _loss(self):
        p = self.model.predict(self.x).astype(np.float64)
        return -np.mean(self.y * np.log(p) + (1 - self.y) * np.log(1 - p))

    def _epoch(self):
        self.model.fit(self.x, self.y, batch_size=32, verbose=0, seed=1)

    def time_epoch(self, optimizer, threads):
        self._epoch()
