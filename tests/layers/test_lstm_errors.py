"""Every wrong argument of the LSTM layer, one by one, with its exact message."""

import math

import numpy as np
import pytest

from numbalstm.backends.cuda import presence
from numbalstm.backends.interface import DeviceUnavailableError
from numbalstm.layers.lstm import LSTM

X = np.ones((2, 6, 3), np.float32)
S = np.ones((2, 5), np.float32)
KNOWN = "Known: "


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"units": 0}, ValueError, "LSTM: units must be at least 1, got 0."),
        ({"units": -2}, ValueError, "LSTM: units must be at least 1, got -2."),
        ({"units": math.nan}, TypeError, "LSTM: units must be an integer, got nan."),
        ({"units": 5.0}, TypeError, "LSTM: units must be an integer, got 5.0."),
        ({"units": "5"}, TypeError, "LSTM: units must be an integer, got '5'."),
        ({"units": True}, TypeError, "LSTM: units must be an integer, got True."),
        ({"units": None}, TypeError, "LSTM: units must be an integer, got None."),
        ({"activation": "tahn"}, ValueError, "LSTM: activation: unknown activation 'tahn'. Did you mean 'tanh'? Known"),
        ({"activation": "Tanh"}, ValueError, "LSTM: activation: unknown activation 'Tanh'. Did you mean 'tanh'? Known"),
        ({"activation": "glu"}, ValueError, "LSTM: activation: 'glu' cannot be used: it halves the width"),
        ({"recurrent_activation": 3}, ValueError, "LSTM: recurrent_activation: unknown activation 3. Known: "),
        ({"kernel_initializer": "nope"}, ValueError, "LSTM: kernel_initializer: unknown initializer 'nope'. "),
        ({"recurrent_initializer": 1.5}, ValueError, "LSTM: recurrent_initializer: unknown initializer 1.5. "),
        ({"bias_initializer": "one_s"}, ValueError, "LSTM: bias_initializer: unknown initializer 'one_s'. "),
        ({"kernel_regularizer": "l3"}, ValueError, "LSTM: kernel_regularizer: unknown regularizer 'l3'. "),
        ({"recurrent_regularizer": "l3"}, ValueError, "LSTM: recurrent_regularizer: unknown regularizer 'l3'. "),
        ({"bias_regularizer": "l3"}, ValueError, "LSTM: bias_regularizer: unknown regularizer 'l3'. "),
        ({"kernel_constraint": "norm"}, ValueError, "LSTM: kernel_constraint: unknown constraint 'norm'. "),
        ({"recurrent_constraint": "norm"}, ValueError, "LSTM: recurrent_constraint: unknown constraint 'norm'. "),
        ({"bias_constraint": "norm"}, ValueError, "LSTM: bias_constraint: unknown constraint 'norm'. "),
        ({"dropout": 1.5}, ValueError, "LSTM: dropout must be in [0, 1], got 1.5."),
        ({"dropout": -0.1}, ValueError, "LSTM: dropout must be in [0, 1], got -0.1."),
        ({"dropout": math.nan}, ValueError, "LSTM: dropout must be in [0, 1], got nan."),
        ({"dropout": "half"}, TypeError, "LSTM: dropout must be a number in [0, 1], got 'half'."),
        ({"recurrent_dropout": 3}, ValueError, "LSTM: recurrent_dropout must be in [0, 1], got 3."),
        ({"recurrent_dropout": math.nan}, ValueError, "LSTM: recurrent_dropout must be in [0, 1], got nan."),
        ({"seed": "a"}, ValueError, "LSTM: seed must be None or an integer of at least 0, got 'a'."),
        ({"seed": 1.0}, ValueError, "LSTM: seed must be None or an integer of at least 0, got 1.0."),
        ({"seed": True}, ValueError, "LSTM: seed must be None or an integer of at least 0, got True."),
        ({"seed": -1}, ValueError, "LSTM: seed must be None or an integer of at least 0, got -1."),
        ({"use_cudnn": "yes"}, ValueError, "LSTM: use_cudnn must be one of 'auto', True, False, got 'yes'."),
        ({"use_cudnn": 1}, ValueError, "LSTM: use_cudnn must be one of 'auto', True, False, got 1."),
        ({"implementation": 3}, ValueError, "LSTM: implementation must be one of 1, 2, got 3."),
        ({"implementation": True}, ValueError, "LSTM: implementation must be one of 1, 2, got True."),
        ({"device": "gpu"}, ValueError, "LSTM: device must be one of 'auto', 'cpu', 'cuda', got 'gpu'."),
        (
            {"generation": "keras4"},
            ValueError,
            "LSTM: generation must be one of 'keras3', 'keras2', 'v1', got 'keras4'.",
        ),
        ({"return_sequence": True}, ValueError, "LSTM: unknown argument 'return_sequence'. Did you mean 'return_seque"),
        ({"input_shape": 3}, TypeError, "LSTM: input_shape must be a tuple of integers and None, got 3."),
        ({"batch_size": 3}, ValueError, "LSTM: batch_size needs input_shape."),
        ({"name": 3}, TypeError, "LSTM: name must be a string, got 3."),
    ],
)
def test_constructor_arguments(options, kind, message):
    with pytest.raises(kind) as caught:
        LSTM(**{"units": 5, **options})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("dtype", ["float65", object, "int32"])
def test_dtype(dtype):
    with pytest.raises(ValueError, match=r"^LSTM: dtype: unknown dtype policy"):
        LSTM(5, dtype=dtype)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 3), "the input must have at least 3 axes, got shape (2, 3)."),
        ((2, 6, 3.0), "a shape must hold integers and None, got (2, 6, 3.0)."),
        ((2, 6, -3), "a shape must hold no negative size, got (2, 6, -3)."),
        ((2, 6, None), "inputs must have shape (batch, time, features) with known features, got (2, 6, None)."),
        ("abc", "build needs the shape (batch, time, features), got 'abc'."),
        (None, "build needs the shape (batch, time, features), got None."),
    ],
)
def test_shapes_to_build_for(shape, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared in full below
        LSTM(5).build(shape)
    assert str(caught.value) == f"LSTM: {message}"


@pytest.mark.parametrize(("weight", "shape"), [("kernel", (3, 20)), ("recurrent", (5, 20)), ("bias", (20,))])
def test_initial_arrays_of_the_wrong_shape_are_refused_at_build(weight, shape):
    options = {f"{weight}_initializer": np.ones((*shape[:-1], 7))}
    with pytest.raises(ValueError, match=r"LSTM: the initial \w+ must have shape .*20,?\), got \(.*7,?\)"):
        LSTM(5, **options).build((None, None, 3))


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (X[0], {}, "inputs must have shape (batch, time, 3), or be a list of arrays (time, 3), got (6, 3)."),
        (
            X[..., None],
            {},
            "inputs must have shape (batch, time, 3), or be a list of arrays (time, 3), got (2, 6, 3, 1).",
        ),
        (X[:, :, :2], {}, "inputs must have shape (batch, time, 3), got (2, 6, 2)."),
        (X[:, :0], {}, "inputs must have at least one time step, got shape (2, 0, 3)."),
        (X.astype(object), {}, "inputs must hold real numbers, got dtype object. Convert it with astype('float32')."),
        (
            X.astype(complex),
            {},
            "inputs must hold real numbers, got dtype complex128. Convert it with astype('float32').",
        ),
        (X.astype(str), {}, "inputs must hold real numbers, got dtype <U32. Convert it with astype('float32')."),
        ([X[0], X[0, :, :2]], {}, "inputs[1] must have shape (time, 3), got (6, 2)."),
        (X, {"mask": np.ones((2, 5))}, "mask must have shape (2, 6), got (2, 5)."),
        (X, {"mask": np.ones((3, 6))}, "mask must have shape (2, 6), got (3, 6)."),
        (X, {"mask": np.ones(6)}, "mask must have shape (2, 6), got (6,)."),
        (X, {"mask": np.full((2, 6), None)}, "mask must hold booleans or numbers, got dtype object."),
        (
            [X[0]],
            {"mask": np.ones((1, 6))},
            "mask is for one array of sequences; leave it out with a list of sequences.",
        ),
        (X, {"initial_state": [S, S[:1]]}, "initial_state[1] must have shape (2, 5), got (1, 5)."),
        (X, {"initial_state": [S[:, :4], S]}, "initial_state[0] must have shape (2, 5), got (2, 4)."),
        (X, {"initial_state": [S]}, "initial_state must hold 2 arrays [h, c], got 1."),
        (X, {"initial_state": [S, S, S]}, "initial_state must hold 2 arrays [h, c], got 3."),
        (
            X,
            {"mask": [[True], [True, False]]},
            "mask cannot be made an array: setting an array element with a sequence",
        ),
        ([[1, 2], [3]], {}, "inputs cannot be made an array: setting an array element with a sequence"),
        (X, {"initial_state": S}, "initial_state[0] must have shape (2, 5), got (5,)."),
        (X, {"initial_state": "zeros"}, "initial_state must be a pair [h, c], got 'zeros'."),
        (
            X,
            {"initial_state": [S, S.astype(object)]},
            "initial_state[1] must hold real numbers, got dtype object. Convert it with astype('float32').",
        ),
    ],
)
def test_call_arguments(x, options, message):
    layer = LSTM(5, input_shape=(None, 3), name="l")
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared in full below
        layer(x, **options)
    assert str(caught.value).startswith(f"LSTM 'l': {message}")


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (X[0], {}, "inputs must have shape (time, batch, features), got (6, 3)."),
        (X, {"mask": np.ones((6, 2))}, "mask must have shape (2, 6), got (6, 2)."),
        (X, {"initial_state": [S, S]}, "initial_state[0] must have shape (6, 5), got (2, 5)."),
    ],
)
def test_call_arguments_of_a_time_major_layer(x, options, message):
    layer = LSTM(5, input_shape=(None, 3), name="l", time_major=True)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared in full below
        layer(x, **options)
    assert str(caught.value) == f"LSTM 'l': {message}"


@pytest.mark.parametrize("options", [{}, {"activation": "relu", "recurrent_dropout": 0.25, "use_bias": False}])
def test_use_cudnn_needs_a_gpu_and_nothing_else(monkeypatch, options):
    monkeypatch.setattr(presence, "problem", lambda: "there is no driver. Install it.")
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared in full below
        LSTM(5, use_cudnn=True, name="l", **options)(X)
    assert str(caught.value) == (
        "LSTM 'l': use_cudnn=True cannot be served: there is no driver. Install it. Or use use_cudnn=\"auto\"."
    )
    with pytest.raises(ValueError, match='use_cudnn=True cannot be served: the layer has device="cpu"; leave that out'):
        LSTM(5, use_cudnn=True, device="cpu", **options)(X)
    for choice in ("auto", False):
        assert LSTM(5, use_cudnn=choice, **options)(X).shape == (2, 5)


def test_cuda_without_a_gpu():
    with pytest.raises(DeviceUnavailableError, match="LSTM 'l': device=\"cuda\" was asked for"):
        LSTM(5, device="cuda", name="l")(X)


def test_implementation_0_is_an_old_name_of_1():
    with pytest.warns(UserWarning, match="LSTM: implementation=0 is an old name of 1; using 1"):
        assert LSTM(5, implementation=0).implementation == 1


def test_weights_of_the_wrong_count_or_shape():
    layer = LSTM(5, name="l")
    with pytest.raises(ValueError, match=r"LSTM 'l': expected 0 weight arrays, got 3\. The layer is not built yet"):
        layer.set_weights([X, X, X])
    layer(X)
    kernel, recurrent, bias = layer.get_weights()
    with pytest.raises(ValueError, match="LSTM 'l': expected 3 weight arrays, got 2"):
        layer.set_weights([kernel, recurrent])
    with pytest.raises(ValueError, match=r"LSTM 'l': weight 'recurrent_kernel' must have shape \(5, 20\), got"):
        layer.set_weights([kernel, recurrent.T, bias])
    with pytest.raises(TypeError, match="LSTM 'l': weights must be a list of arrays, got None"):
        layer.set_weights(None)
    assert np.array_equal(layer.get_weights()[0], kernel)
