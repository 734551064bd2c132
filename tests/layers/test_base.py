"""The layer contract: names, weights, configs, shapes, and the words of its errors."""

import numpy as np
import pytest

import numbalstm as nl
from numbalstm.layers import registry
from numbalstm.layers.base import InputSpec, Layer, SymbolicTensor, deserialize


class Scale(Layer):
    """Inputs times a vector, with a counter of what the base class calls."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.builds, self.changes, self.draws = 0, 0, 0

    def build(self, input_shape):
        super().build(input_shape)
        self.builds += 1
        self.factor = self.add_weight("factor", (input_shape[-1],), self.draw)
        self.fixed = self.add_weight("fixed", (2, 1), lambda shape, dtype: np.full(shape, 7, dtype), trainable=False)
        self.input_spec = InputSpec(min_rank=2, axes={-1: input_shape[-1]})

    def draw(self, shape, dtype):
        self.draws += 1
        return np.arange(1, shape[0] + 1, dtype=dtype)

    def call(self, inputs):
        return self.result(self.array(inputs) * self.factor.value)

    def on_weights_changed(self):
        self.changes += 1


class Pair(Layer):
    """Two layers in one."""

    def __init__(self, first, second, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second = first, second

    @property
    def sublayers(self):
        return (self.first, self.second)

    def call(self, inputs):
        return self.second(self.first(inputs))


def test_builds_once_at_the_first_call():
    layer = Scale()
    assert not layer.built
    assert layer.get_weights() == []
    np.testing.assert_array_equal(layer(np.ones((4, 3), np.float32)), np.tile([1, 2, 3], (4, 1)))
    layer.build((None, 8))
    assert layer.builds == 1
    assert layer.build_shape == (4, 3)


@pytest.mark.parametrize("options", [{"input_shape": (5, 3)}, {"batch_input_shape": [None, 5, 3]}])
def test_input_shape_builds_at_construction(options):
    assert Scale(**options).count_params() == 5


def test_batch_size_joins_input_shape():
    assert Scale(input_shape=(3,), batch_size=6).build_shape == (6, 3)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"unit": 3}, ValueError, r"Scale: unknown argument 'unit'.*Known: .*weights"),
        ({"name": 4}, TypeError, "name must be a string, got 4"),
        ({"dtype": "int32"}, ValueError, "unknown dtype policy 'int32'"),
        ({"input_shape": 3}, TypeError, "input_shape must be a tuple of integers and None, got 3"),
        ({"input_shape": (3.0,)}, TypeError, "input_shape must be an integer, got 3.0"),
        ({"batch_size": 2}, ValueError, "batch_size needs input_shape"),
        ({"batch_input_shape": (2, 3), "batch_size": 2}, ValueError, "not both"),
        ({"input_shape": (3,), "batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
    ],
)
def test_wrong_arguments(options, error, message):
    with pytest.raises(error, match=message):
        Scale(**options)


def test_initial_weights_are_set_after_the_build_and_nothing_is_drawn():
    layer = Scale(weights=[[5, 6, 7], [[1], [2]]])
    np.testing.assert_array_equal(layer(np.ones((1, 3))), [[5, 6, 7]])
    assert layer.draws == 0
    assert layer.get_weights()[0].dtype == np.float32


def test_weights_are_drawn_at_the_first_read_only():
    layer = Scale(input_shape=(3,))
    assert (layer.weights[0].shape, layer.weights[0].dtype) == ((3,), np.float32)
    assert layer.draws == 0
    layer.get_weights()
    layer.get_weights()
    assert layer.draws == 1


def test_get_weights_copies_and_set_weights_too():
    layer = Scale(input_shape=(2,))
    layer.get_weights()[0][:] = 9
    given = [np.array([3.0, 4.0]), np.zeros((2, 1))]
    layer.set_weights(given)
    given[0][:] = 9
    np.testing.assert_array_equal(layer.get_weights()[0], [3, 4])
    assert layer.changes == 1


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ([[1, 2]], ValueError, "expected 2 weight arrays, got 1"),
        ([[1, 2, 3], [[1], [2]]], ValueError, r"weight 'factor' must have shape \(2,\), got \(3,\)"),
        ([["a", "b"], [[1], [2]]], TypeError, "weight 'factor' must hold real numbers, got dtype <U1"),
    ],
)
def test_wrong_weights_change_nothing(weights, error, message):
    layer = Scale(input_shape=(2,), name="s")
    with pytest.raises(error, match=f"Scale 's': {message}"):
        layer.set_weights(weights)
    np.testing.assert_array_equal(layer.get_weights()[0], [1, 2])
    assert layer.changes == 0


def test_set_weights_and_count_params_before_build_say_so():
    with pytest.raises(ValueError, match=r"expected 0 weight arrays, got 1\. The layer is not built yet"):
        Scale().set_weights([1])
    with pytest.raises(ValueError, match="not built yet"):
        Scale().count_params()


def test_trainable_and_layers_inside():
    first, second = Scale(input_shape=(2,)), Scale(input_shape=(2,), trainable=False)
    pair = Pair(first, second)
    factor, fixed = first.weights
    assert pair.weights == [factor, fixed, *second.weights]
    assert pair.trainable_weights == [factor]
    assert pair.non_trainable_weights == [fixed, *second.weights]
    pair.set_weights([[3, 4], [[0], [0]], [5, 6], [[0], [0]]])
    np.testing.assert_array_equal(second.get_weights()[0], [5, 6])
    assert (first.changes, second.changes) == (1, 1)
    pair.trainable = False
    assert not first.trainable
    assert pair.trainable_weights == []
    assert Pair(first, first).weights == [factor, fixed]


def test_names_count_up_for_each_class():
    registry.reset_names()
    names = [cls().name for cls in (Scale, Scale, nl.GlobalAveragePooling1D, nl.GlobalAveragePooling1D)]
    names += [nl.LSTM(1).name, nl.LSTMCell(1).name, nl.SpatialDropout1D(0.1).name]
    assert names == [
        "scale",
        "scale_1",
        "global_average_pooling1d",
        "global_average_pooling1d_1",
        "lstm",
        "lstm_cell",
        "spatial_dropout1d",
    ]


def test_shapes_are_checked_on_arrays_and_on_symbols():
    layer = Scale(input_shape=(3,), name="s")
    for given in (np.zeros((2, 4)), nl.Input((4,))):
        with pytest.raises(ValueError, match=r"Scale 's': axis -1 of the input must have size 3, got shape \(.*4\)"):
            layer(given)
    with pytest.raises(ValueError, match="must have at least 2 axes"):
        layer(np.zeros(3))
    with pytest.raises(TypeError, match="must hold real numbers, got dtype complex128"):
        layer(np.zeros((2, 3), complex))


def test_training_is_accepted_by_every_layer():
    layer, x = Scale(), np.ones((2, 3))
    np.testing.assert_array_equal(layer(x, training=True), layer(x, training=False))
    assert isinstance(layer(nl.Input((3,)), training=True), SymbolicTensor)


def test_symbolic_tensors_have_no_values_and_calls_are_checked():
    x = nl.Input((3,), name="x")
    with pytest.raises(TypeError, match="symbolic output of layer 'x' has no values"):
        np.asarray(x)
    with pytest.raises(TypeError, match=r"Scale 's': .*unexpected keyword argument 'maks'"):
        Scale(name="s")(x, maks=None)


def test_input_and_output_of_the_only_call():
    layer, x = Scale(), nl.Input((3,))
    with pytest.raises(ValueError, match="was called 0 times in a graph"):
        layer.output  # noqa: B018
    y = layer(x)
    assert (layer.input, layer.output) == (x, y)
    assert (y.shape, y.dtype, y.index, y.ndim) == ((None, 3), "float32", 0, 2)


def test_from_config_keeps_nothing_silently():
    config = nl.Dense(2).get_config()
    assert nl.Dense.from_config(config | {"quantization_config": None, "lora_rank": None}).units == 2
    with pytest.raises(ValueError, match=r"unknown argument 'lora_rank'"):
        nl.Dense.from_config(config | {"lora_rank": 4})
    with pytest.raises(ValueError, match=r"unknown argument 'unist'. Did you mean 'units'"):
        nl.Dense.from_config(config | {"unist": 4})


@pytest.mark.parametrize("module", [None, "keras.layers", "keras.src.layers.core.dense", "tf_keras.layers"])
def test_deserialize_builds_from_a_build_config(module):
    description = {
        "class_name": "Dense",
        "config": {"units": 2, "name": "d"},
        "build_config": {"input_shape": [None, 3]},
    }
    layer = deserialize(description | ({"module": module, "registered_name": None} if module else {}))
    assert [weight.shape for weight in layer.weights] == [(3, 2), (2,)]
    named = {"shapes_dict": {"sequences_shape": [None, 4, 3], "initial_state_shape": [[None, 2], [None, 2]]}}
    assert deserialize(description | {"build_config": named}).build_shape == (None, 4, 3)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"class_name": "Lambda", "config": {}}, "Lambda layer: is refused"),
        ({"class_name": "TFOpLambda", "config": {}}, "TFOpLambda layer: is refused"),
        ({"class_name": "Mine", "registered_name": "pkg>Mine", "config": {}}, "pkg>Mine: custom classes are refused"),
        ({"class_name": "Dense", "module": "os.path", "config": {}}, "Dense: custom classes are refused"),
        ({"class_name": "Desne", "config": {}}, "unknown layer class 'Desne'. Did you mean 'Dense'"),
        ({"class_name": "Conv2D", "module": "keras.layers", "config": {}}, "unknown layer class 'Conv2D'"),
        ({"class_name": "Exp", "module": "keras.src.ops.numpy", "config": {}}, "unknown layer class 'Exp'"),
        ({"class_name": "Dense", "config": [1]}, "its 'config' must be a dict"),
        ({"config": {}}, "must be a dict with 'class_name'"),
        ("Dense", "must be a dict with 'class_name', got 'Dense'"),
        (
            {"class_name": "Dense", "config": {"units": 1}, "build_config": {"input_shape": [None, "3"]}},
            "build_config: a shape must hold integers and null",
        ),
    ],
)
def test_deserialize_refuses(description, message):
    with pytest.raises(ValueError, match=message):
        deserialize(description)


def test_operations_are_told_from_layers():
    layer = deserialize({"class_name": "Concatenate", "config": {"axis": 1, "name": "c", "trainable": True}})
    assert isinstance(layer, nl.Concatenate)
    for extra in ({}, {"module": "keras.src.ops.numpy"}):
        operation = deserialize({"class_name": "Concatenate", "config": {"axis": 1, "name": "c"}, **extra})
        assert operation.is_operation
        assert operation.get_config() == {"axis": 1, "name": "c"}
    with pytest.raises(ValueError, match="unknown setting 'axes'"):
        deserialize({"class_name": "Any", "module": "keras.src.ops.numpy", "config": {"axes": 1}})


@pytest.mark.parametrize("name", sorted(name for name in nl.__all__ if name[0].isupper()))
def test_public_names_resolve(name):
    assert getattr(nl, name).__name__ == name
    assert name in dir(nl)


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'LTSM'"):
        nl.LTSM  # noqa: B018


@pytest.mark.parametrize("number", [np.int64, np.int32, np.uint8])
def test_numpy_sizes_build_as_pythons_do(number):
    layer = nl.LSTM(2)
    layer.build((None, number(5), number(3)))
    assert layer.build_shape == (None, 5, 3)
    assert [type(size) for size in layer.build_shape[1:]] == [int, int]
    assert [weight.shape for weight in layer.weights] == [(3, 8), (2, 8), (8,)]
    several = nl.Concatenate()
    several.build([(None, number(5)), (None, number(3))])
    assert several.build_shape == [(None, 5), (None, 3)]
