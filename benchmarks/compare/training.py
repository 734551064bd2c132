"""Training steps of each library: builders for the mode "train".

As in `inference`; ``call`` is one forward pass and the gradients of ``(outputs * problem.dy).sum()`` with respect to
the inputs, kernel, recurrent kernel and bias, ``result`` gives them in that order, in the shapes of `cases.Problem`.
"""

import inference
import numpy as np
from cases import gradients


def _step(run, arrays):
    return inference.sequence(run, lambda found: [np.asarray(array) for array in arrays(found)])


def _only(case, problem):
    if case.layers > 1 or case.bidirectional:
        raise NotImplementedError("training is compared for one layer and direction")
    return problem.weights[0][0]


def numbalstm(case, problem, threads):
    """Build the two functions of this package that the layers are made of, with a tape between them."""
    from numbalstm import functional, set_threads
    from numbalstm.parameters import LSTMParameters

    set_threads(threads)
    parameters, x, dy = LSTMParameters(*_only(case, problem)), problem.x, problem.dy

    def run():
        forward = functional.lstm_forward(x, parameters, tape=True)
        return functional.lstm_backward(dy, forward.tape)

    names = ("kernel", "recurrent_kernel", "bias")
    return _step(run, lambda found: [found.x, *(found.parameters[name] for name in names)])


def numpy(case, problem, threads):
    """Build the equations in NumPy, as people write them; its BLAS takes the threads from the environment."""
    weights = _only(case, problem)
    return _step(lambda: gradients(problem.x, *weights, problem.dy), list)


def torch(case, problem, threads, onednn=True):
    """Build `torch.nn.LSTM` and autograd, time-major; without oneDNN it uses its own kernels."""
    import torch

    _only(case, problem)
    torch.set_num_threads(threads)
    torch.backends.mkldnn.set_flags(onednn)
    lstm = inference.torch_lstm(torch, case, problem)
    x = torch.from_numpy(problem.time_major).requires_grad_()
    dy = torch.from_numpy(np.ascontiguousarray(problem.dy.transpose(1, 0, 2)))
    wanted = [x, *lstm.parameters()]  # kernel and recurrent kernel transposed, and two biases

    def arrays(found):
        dx, kernel, recurrent, bias, _ = (gradient.numpy() for gradient in found)
        return dx.transpose(1, 0, 2), kernel.T, recurrent.T, bias

    return _step(lambda: torch.autograd.grad(lstm(x)[0], wanted, dy), arrays)


def jax(case, problem, threads):
    """Build a compiled `lax.scan` and its transposition, time-major."""
    import jax

    _only(case, problem)
    *_, network = inference.jax_functions(case)
    weights, x = jax.tree.map(jax.numpy.asarray, (problem.weights, problem.time_major))
    dy = jax.numpy.asarray(problem.dy.transpose(1, 0, 2))
    compiled = jax.jit(lambda weights, x, dy: jax.vjp(network, weights, x)[1](dy))

    def arrays(found):
        weights, dx = found
        return np.asarray(dx).transpose(1, 0, 2), *weights[0][0]

    return _step(lambda: jax.block_until_ready(compiled(weights, x, dy)), arrays)


def keras_tf(case, problem, threads, xla=False):
    """Build a Keras layer and a gradient tape in a graph of TensorFlow, compiled by XLA on demand."""
    tf, keras = inference.tensorflow_and_keras(threads)
    _only(case, problem)
    (layer,) = inference.layers_of(keras.layers, case, problem)
    variables = [variable.value for variable in layer.trainable_variables]

    @tf.function(jit_compile=xla)
    def step(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return tape.gradient(y, [x, *variables], output_gradients=dy)

    x, dy = tf.constant(problem.x), tf.constant(problem.dy)
    return _step(lambda: step(x, dy), list)
