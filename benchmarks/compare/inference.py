"""Inference by each library: builders for the modes "infer" and "stream", and the parts that training shares.

A builder takes (case, problem, threads) and returns ``call``, which is timed, and ``result``, which gives outputs as
`cases.reference` does, from zero states. Each library gets its native layout and tensors of its own type, so no
conversion is charged to it. In mode "stream" ``call`` does one step on the state that it keeps.
"""

import inspect
import os
import tempfile

import numpy as np


def _stream(step, inputs, zero, array):
    """Return call and result of a stream whose step takes (x, state) and returns the state, h first."""
    state = [zero()]

    def call():
        state[0] = step(inputs[0], state[0])

    def result():
        now, outputs = zero(), []
        for x in inputs:
            now = step(x, now)
            outputs.append(np.array(array(now[0])).reshape(1, -1))
        return np.stack(outputs, axis=1)

    return call, result


def sequence(run, array):
    """Return call and result of a function without arguments whose latest value is the output."""
    latest = [None]

    def call():
        latest[0] = run()

    return call, lambda: array(latest[0])


def layers_of(library, case, problem, **options):
    """Return the layers of a case, of this package or of Keras, which take the same arguments."""
    layers, width = [], case.features
    for weights in problem.weights:
        layer = library.LSTM(case.units, return_sequences=True, **options)
        layer = library.Bidirectional(layer) if case.bidirectional else layer
        layer.build((case.batch, case.time, width))
        layer.set_weights([weight for direction in weights for weight in direction])
        layers.append(layer)
        width = case.units * len(weights)
    return layers


def numbalstm(case, problem, threads, **options):
    """Build this package's layers; an option that it does not know yet leaves the row out."""
    import numbalstm as nl

    if not set(options) <= set(inspect.signature(nl.LSTM.__init__).parameters):
        raise NotImplementedError(f"LSTM takes no {', '.join(options)}")
    nl.set_threads(threads)
    layers = layers_of(nl, case, problem, **options)
    if case.mode == "stream":
        if not hasattr(layers[0], "stream"):
            raise NotImplementedError("LSTM has no stream")
        return _numbalstm_stream(layers[0].stream(batch=1), problem.steps)

    def run():
        y = problem.x
        for layer in layers:
            y = layer(y)
        return y

    return sequence(run, np.asarray)


def _numbalstm_stream(stream, steps):
    step, first = stream.step, steps[0]

    def result():
        stream.reset()
        return np.stack([np.array(step(x)).reshape(1, -1) for x in steps], axis=1)

    return lambda: step(first), result


def _onnx_file(case, problem, int8=False):
    """Write the model for onnxruntime and OpenVINO: time-major, for a stream with the states as inputs and outputs."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    batch, units, directions = case.batch, case.units, 1 + case.bidirectional
    stream = case.mode == "stream"

    def order(weight):  # i f g o to i o f g
        i, f, g, o = np.split(weight, 4, axis=-1)
        return np.concatenate([i, o, f, g], axis=-1)

    def value(name, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    nodes, constants, source = [], [], "x"
    for number, layer in enumerate(problem.weights):
        arrays = {
            f"W{number}": [order(kernel).T for kernel, _, _ in layer],
            f"R{number}": [order(recurrent).T for _, recurrent, _ in layer],
            f"B{number}": [np.concatenate([order(bias), np.zeros_like(bias)]) for _, _, bias in layer],
        }
        constants += [numpy_helper.from_array(np.stack(array), name) for name, array in arrays.items()]
        last = number == len(problem.weights) - 1
        inputs = [source, *arrays, *(["", "h0", "c0"] if stream else [])]
        outputs = ["", "h", "c"] if stream else ["y" if last else f"y{number}"]
        direction = "bidirectional" if directions == 2 else "forward"
        nodes.append(helper.make_node("LSTM", inputs, outputs, hidden_size=units, direction=direction))
        if not last:  # (T, directions, B, U) to (T, B, directions * U)
            shape = np.array([case.time, batch, directions * units], np.int64)
            constants.append(numpy_helper.from_array(shape, f"shape{number}"))
            nodes.append(helper.make_node("Transpose", [f"y{number}"], [f"z{number}"], perm=[0, 2, 1, 3]))
            source = f"x{number + 1}"
            nodes.append(helper.make_node("Reshape", [f"z{number}", f"shape{number}"], [source]))
    state = (1, batch, units)
    inputs = [value("x", 1 if stream else case.time, batch, case.features)]
    inputs += [value("h0", *state), value("c0", *state)] if stream else []
    outputs = [value("h", *state), value("c", *state)] if stream else [value("y", case.time, directions, batch, units)]
    graph = helper.make_graph(nodes, "lstm", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model)
    path = os.path.join(tempfile.mkdtemp(), "model.onnx")
    onnx.save(model, path)
    if int8:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(path, path, weight_type=QuantType.QInt8)
    return path


def _from_onnx(y):
    """(T, directions, B, U) to (B, T, directions * U)."""
    time, directions, batch, units = y.shape
    return np.array(y).transpose(2, 0, 1, 3).reshape(batch, time, directions * units)


def onnxruntime(case, problem, threads, int8=False, bound=False):
    """Build a session; `bound`: a stream whose state stays in two sets of buffers that take turns."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    path = _onnx_file(case, problem, int8)
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    run = session.run
    if case.mode == "infer":
        feed = {"x": problem.time_major}
        return sequence(lambda: run(["y"], feed), lambda y: _from_onnx(y[0]))
    if bound:
        return _bound_stream(ort, session, case, problem)

    def zero():
        return np.zeros((2, 1, 1, case.units), np.float32)

    names, inputs = ["h", "c"], [x[None] for x in problem.steps]
    return _stream(lambda x, s: run(names, {"x": x, "h0": s[0], "c0": s[1]}), inputs, zero, np.asarray)


def _bound_stream(ort, session, case, problem):
    zeros, inputs = np.zeros((1, 1, case.units), np.float32), [x[None] for x in problem.steps]
    value = ort.OrtValue.ortvalue_from_numpy
    x_value, states = value(np.zeros_like(inputs[0])), [[value(zeros.copy()) for _ in "hc"] for _ in range(2)]
    bindings = []
    for here, there in (states, states[::-1]):
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", x_value)
        for name, old, new in zip("hc", here, there, strict=True):
            binding.bind_ortvalue_input(f"{name}0", old)
            binding.bind_ortvalue_output(name, new)
        bindings.append(binding)
    run, turn = session.run_with_iobinding, [0]

    def step(x):
        x_value.update_inplace(x)
        run(bindings[turn[0]])
        turn[0] ^= 1

    def result():
        turn[0] = 0
        for state in states[0]:
            state.update_inplace(zeros)
        outputs = []
        for x in inputs:
            step(x)
            outputs.append(states[turn[0]][0].numpy().reshape(1, -1).copy())
        return np.stack(outputs, axis=1)

    return lambda: step(inputs[0]), result


def openvino(case, problem, threads):
    """Build a compiled model with its inputs and states in shared memory."""
    import openvino as ov

    core = ov.Core()
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": 1,
    }
    model = core.compile_model(core.read_model(_onnx_file(case, problem)), "CPU", options)
    request = model.create_infer_request()
    if case.mode == "infer":
        x = problem.time_major
        request.set_tensor("x", ov.Tensor(x, shared_memory=True))
        call, result = sequence(request.infer, lambda _: _from_onnx(request.get_output_tensor(0).data))
        call.keep = x
        return call, result
    x, h, c = np.zeros((1, 1, case.features), np.float32), *np.zeros((2, 1, 1, case.units), np.float32)
    for name, array in (("x", x), ("h0", h), ("c0", c)):
        request.set_tensor(name, ov.Tensor(array, shared_memory=True))
    new_h, new_c = request.get_tensor("h").data, request.get_tensor("c").data

    def step(inputs, state):
        x[0] = inputs
        request.infer()
        h[:], c[:] = new_h, new_c
        return h, c

    def zero():
        h[:] = c[:] = 0
        return h, c

    return _stream(step, problem.steps, zero, np.asarray)


def _load(torch, module, ending, kernel, recurrent, bias):
    arrays = {"weight_ih": kernel.T, "weight_hh": recurrent.T, "bias_ih": bias, "bias_hh": np.zeros_like(bias)}
    for name, array in arrays.items():
        getattr(module, name + ending).data.copy_(torch.from_numpy(np.ascontiguousarray(array)))


def torch_lstm(torch, case, problem):
    """Return `torch.nn.LSTM` with the weights of a problem."""
    lstm = torch.nn.LSTM(case.features, case.units, case.layers, bidirectional=case.bidirectional)
    for number, layer in enumerate(problem.weights):
        for ending, weights in zip(("", "_reverse"), layer, strict=False):
            _load(torch, lstm, f"_l{number}{ending}", *weights)
    return lstm


def torch(case, problem, threads):
    """Build `torch.nn.LSTM` in inference mode; a stream uses `LSTMCell`, which is several times faster there."""
    import torch

    torch.set_num_threads(threads)

    if case.mode == "stream":
        cell = torch.nn.LSTMCell(case.features, case.units).requires_grad_(False)
        _load(torch, cell, "", *problem.weights[0][0])
        inputs = [torch.from_numpy(x) for x in problem.steps]
        return _stream(torch.inference_mode()(cell), inputs, lambda: tuple(torch.zeros(2, 1, case.units)), np.asarray)
    lstm = torch_lstm(torch, case, problem)
    lstm.eval().requires_grad_(False)
    x = torch.from_numpy(problem.time_major)
    return sequence(torch.inference_mode()(lambda: lstm(x)[0]), lambda y: y.numpy().transpose(1, 0, 2))


def jax_functions(case):
    """Return a cell (weights, state, x) -> (state, output), zero states, and a network (weights, x), for `jax.jit`."""
    import jax
    import jax.numpy as jnp

    def cell(weights, state, x):  # the input projection inside the step is the faster way here
        kernel, recurrent, bias = weights
        i, f, g, o = jnp.split(x @ kernel + state[0] @ recurrent + bias, 4, -1)
        c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    def zero():
        return (jnp.zeros((case.batch, case.units)),) * 2

    def network(weights, x):
        for layer in weights:
            outputs = [
                jax.lax.scan(lambda s, x_t, w=w: cell(w, s, x_t), zero(), x, reverse=backwards)[1]
                for backwards, w in zip((False, True), layer, strict=False)
            ]
            x = jnp.concatenate(outputs, -1)
        return x

    return cell, zero, network


def jax(case, problem, threads):
    """Build a compiled `lax.scan`, time-major."""
    import jax
    import jax.numpy as jnp

    cell, zero, network = jax_functions(case)
    weights, compiled = jax.tree.map(jnp.asarray, problem.weights), jax.jit(network)
    if case.mode == "stream":
        step = jax.jit(lambda w, s, x: cell(w, s, x)[0])
        inputs = [jnp.asarray(x) for x in problem.steps]
        return _stream(lambda x, s: jax.block_until_ready(step(weights[0][0], s, x)), inputs, zero, np.asarray)
    x = jnp.asarray(problem.time_major)
    return sequence(lambda: compiled(weights, x).block_until_ready(), lambda y: np.asarray(y).transpose(1, 0, 2))


def tensorflow_and_keras(threads):
    """Return both modules, with the number of threads set."""
    import tensorflow as tf

    if tf.config.threading.get_intra_op_parallelism_threads() != threads:  # it cannot change after the first use
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    import keras

    return tf, keras


def keras_tf(case, problem, threads):
    """Build Keras layers in a graph of TensorFlow; a stream uses `LSTMCell`."""
    tf, keras = tensorflow_and_keras(threads)
    if case.mode == "stream":
        cell = keras.layers.LSTMCell(case.units)
        cell.build((1, case.features))
        cell.set_weights(problem.weights[0][0])
        step = tf.function(lambda x, h, c: cell(x, [h, c])[1])
        inputs = [tf.constant(x) for x in problem.steps]
        return _stream(lambda x, s: step(x, *s), inputs, lambda: [tf.zeros((1, case.units))] * 2, np.asarray)
    layers = layers_of(keras.layers, case, problem)

    @tf.function
    def network(x):
        for layer in layers:
            x = layer(x)
        return x

    x = tf.constant(problem.x)
    return sequence(lambda: network(x), np.asarray)
