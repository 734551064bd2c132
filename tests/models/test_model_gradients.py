"""Gradients of whole models: shared layers, several inputs and outputs, states, masks, models in models."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.cells import ConstantCell
from support.differences import assert_gradient, check, project, random_like

import numbalstm as nl

pytestmark = pytest.mark.filterwarnings("ignore::numbalstm.backends.interface.SlowPathWarning")
F64 = {"dtype": "float64"}


def sample(rng, *shape):
    return rng.standard_normal(shape)


def doubles(shape, name=None):
    return nl.Input(shape, dtype="float64", name=name)


def test_sequential(rng):
    model = nl.Sequential(
        [
            doubles((5, 3)),
            nl.Masking(**F64),
            nl.LSTM(4, return_sequences=True, **F64),
            nl.LayerNormalization(**F64),
            nl.LSTM(3, go_backwards=True, **F64),
            nl.Dense(2, activation="softmax", **F64),
        ]
    )
    x = sample(rng, 3, 5, 3)
    x[0, 3:] = x[1, 1] = 0.0  # masked: central differences do not apply there
    _, pullback = model.vjp(x)
    g = sample(rng, 3, 2)
    found = pullback(g)
    assert not found.inputs[0, 3:].any()
    assert not found.inputs[1, 1].any()
    for index, weight in enumerate(model.weights):
        array = np.array(weight.value)

        def value(weight=weight, array=array):
            weight.value = np.array(array)
            return project(model(x), g)

        assert_gradient(found.weights[index], value, array, found.weights.names[index])
        weight.value = array


def test_shared_layers_add_their_gradients(rng):
    a, b = doubles((4, 3), "a"), doubles((4, 3), "b")
    shared, scale = nl.LSTM(2, name="shared", **F64), nl.Dense(3, name="scale", **F64)
    both = nl.Concatenate(**F64)([shared(scale(a)), shared(b)])
    model = nl.Model([a, b], [nl.Dense(2, **F64)(both), shared(scale(scale(b)))])
    found = check(model, rng, [sample(rng, 2, 4, 3), sample(rng, 2, 4, 3)])
    assert found.weights["shared/kernel"].shape == (3, 8)


def test_states_and_masks_travel(rng):
    source, target = doubles((5, 2)), doubles((3, 2))
    _, h, c = nl.LSTM(3, return_state=True, **F64)(source)
    decoded, last, _ = nl.LSTM(3, return_sequences=True, return_state=True, **F64)(target, initial_state=[h, c])
    model = nl.Model([source, target], [decoded, nl.Add(**F64)([h, last])])
    check(model, rng, [sample(rng, 2, 5, 2), sample(rng, 2, 3, 2)])
    masked = nl.Sequential([doubles((4, 2)), nl.LSTM(3, return_sequences=True, **F64), nl.LSTM(2, **F64)])
    mask = np.array([[True, False, True, True], [False, True, True, False]])
    x = sample(rng, 2, 4, 2)
    found = check(masked, rng, x, mask=mask)
    assert not found.inputs[~mask].any()


def test_constants_in_a_graph(rng):
    x, k = doubles((4, 2)), doubles((5,))
    layer = nl.RNN(ConstantCell(), return_sequences=True, **F64)
    first = nl.Dense(2, **F64)(x)
    start = [nl.Dense(2, **F64)(k), nl.Dense(2, **F64)(k)]
    model = nl.Model([x, k], layer(first, initial_state=start, constants=[k]))
    check(model, rng, [sample(rng, 3, 4, 2), sample(rng, 3, 5)])


def test_models_in_models(rng):
    x = doubles((4, 2))
    y = nl.LSTM(3, return_sequences=True, **F64)(x)
    inner = nl.Model(x, [y, nl.GlobalAveragePooling1D(**F64)(y)], name="inner")
    chain = nl.Sequential([doubles((4, 3)), nl.Dense(2, **F64)], name="chain")
    a, b = doubles((4, 2)), doubles((4, 2))
    (s, p), (_, q) = inner(a), inner(b)
    model = nl.Model([a, b], [chain(s), nl.Concatenate(**F64)([p, q])])
    found = check(model, rng, [sample(rng, 2, 4, 2), sample(rng, 2, 4, 2)])
    assert "chain/dense" in " ".join(found.weights.names)


def test_dicts_and_unused_inputs(rng):
    left, right = doubles((3,), "left"), doubles((3,), "right")
    dense = nl.Dense(3, **F64)
    model = nl.Model({"left": left, "right": right}, {"twice": dense(left), "once": nl.Add(**F64)([left, dense(left)])})
    x = {"right": sample(rng, 2, 3), "left": sample(rng, 2, 3)}
    outputs, pullback = model.vjp(x)
    g = {name: sample(rng, *y.shape) for name, y in outputs.items()}
    found = pullback(g)
    assert not found.inputs["right"].any()
    assert found.inputs["right"].shape == (2, 3)
    assert_gradient(found.inputs["left"], lambda: project(model(x), g), x["left"])
    with pytest.raises(ValueError, match=r"unknown output 'twic'.* Did you mean 'twice'"):
        pullback({"twic": g["twice"]})


def test_an_input_that_is_an_output_too(rng):
    x = doubles((3,))
    model = nl.Model(x, [x, nl.Dense(2, **F64)(x)])
    check(model, rng, sample(rng, 2, 3))


def test_one_tensor_as_two_outputs(rng):
    x = doubles((3,))
    y = nl.Dense(2, **F64)(x)
    check(nl.Model(x, [y, y]), rng, sample(rng, 2, 3))


def test_an_axis_that_the_model_adds(rng):
    model = nl.Sequential([doubles((4, 1)), nl.LSTM(2, **F64)])
    assert model.vjp(sample(rng, 3, 4))[1](np.ones((3, 2))).inputs.shape == (3, 4)


def test_training_reaches_all_layers(rng):
    inner = nl.Sequential([doubles((3,)), nl.BatchNormalization(**F64)])
    model = nl.Sequential([doubles((3,)), nl.Dense(3, **F64), inner])
    x = sample(rng, 5, 3)
    before = model.get_weights()
    check(model, rng, x, training=True)
    assert not np.array_equal(model.get_weights()[-1], before[-1])


def test_layers_of_other_types(rng):
    """Each layer takes the cotangents in its own type."""
    x = nl.Input((4, 3), dtype="float64")
    model = nl.Model(x, nl.Dense(2, dtype="float64")(nl.LSTM(3, dtype="float32")(x)))
    _, pullback = model.vjp(sample(rng, 2, 4, 3))
    found = pullback(sample(rng, 2, 2))
    assert [gradient.dtype for gradient in found.weights] == ["float32"] * 3 + ["float64"] * 2


def test_frozen_layers_pass_gradients_on(rng):
    model = nl.Sequential([doubles((3,)), nl.Dense(4, **F64), nl.Dense(2, **F64)])
    model.layers[1].trainable = False
    found = check(model, rng, sample(rng, 2, 3))
    assert [gradient is None for gradient in found.weights] == [False, False, True, True]


def test_a_model_is_not_changed_by_vjp(rng):
    model = nl.Sequential([doubles((4, 3)), nl.LSTM(2, **F64)])
    x = sample(rng, 2, 4, 3)
    outputs, first = model.vjp(x)
    g = random_like(rng, outputs)
    before = first(g)
    model.vjp(sample(rng, 5, 4, 3))
    np.testing.assert_array_equal(first(g).inputs, before.inputs)


def test_threads_may_differentiate_one_model(rng):
    model = nl.Sequential([doubles((9, 3)), nl.LSTM(5, return_sequences=True, **F64), nl.Dense(2, **F64)])
    batches = [(sample(rng, 4, 9, 3), sample(rng, 4, 9, 2)) for _ in range(12)]

    def gradients(batch):
        x, g = batch
        return list(model.vjp(x)[1](g).weights)

    alone = [gradients(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(gradients, batches))
    for one, other in zip(alone, together, strict=True):
        for gradient, expected in zip(other, one, strict=True):
            np.testing.assert_array_equal(gradient, expected)
