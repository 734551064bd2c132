"""Gradients by central differences."""

import numpy as np

from numbalstm.layers.symbolic import leaves, map_leaves

STEP = 1e-6


def random_like(rng, structure):
    """Random cotangents, nested and shaped as arrays."""
    return map_leaves(lambda array: rng.standard_normal(np.shape(array)), structure)


def project(outputs, cotangents):
    """The sum of all outputs times their cotangents."""
    return sum(float((y * g).sum()) for y, g in zip(leaves(outputs), leaves(cotangents), strict=True))


def numerical(function, array):
    """The gradient of a number by the elements of an array, which `function` reads."""
    gradient = np.empty(array.shape)
    for place in np.ndindex(array.shape):
        kept = array[place]
        values = []
        for step in (STEP, -STEP):
            array[place] = kept + step
            values.append(function())
        array[place] = kept
        gradient[place] = (values[0] - values[1]) / (2 * STEP)
    return gradient


def assert_gradient(found, function, array, name=""):
    """Compare a gradient with central differences."""
    assert found is not None, name
    assert found.shape == array.shape, name
    expected = numerical(function, array)
    scale = max(1.0, np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7 * scale, err_msg=name)


def set_values(weight, array):
    """Give a weight new values; the kernels take a changed weight by its array being another one."""
    weight.value = np.array(array)


def check(layer, rng, inputs, *args, before=lambda: None, states=(), constants=(), **options):
    """Compare all gradients of a layer with central differences.

    `before` runs before each call, for example to start random numbers again.  `states` and `constants` are those among
    the arguments, nested.
    """
    before()
    outputs, pullback = layer.vjp(inputs, *args, **options)
    before()
    again = layer(inputs, *args, **options)
    for y, expected in zip(leaves(outputs), leaves(again), strict=True):
        np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-14)
        assert y.dtype == expected.dtype
    assert type(outputs) is type(again)
    cotangents = random_like(rng, outputs)
    found = pullback(*cotangents) if isinstance(outputs, (list, tuple)) else pullback(cotangents)

    def value():
        before()
        return project(layer(inputs, *args, **options), cotangents)

    assert_nested(found.inputs, value, inputs, "inputs")
    if states:
        assert_nested(found.initial_state, value, states, "initial_state")
    if constants:
        assert_nested(found.constants, value, constants, "constants")
    assert len(found.weights) == len(layer.weights)
    for weight, gradient, name in zip(layer.weights, found.weights, found.weights.names, strict=True):
        if weight not in layer.trainable_weights:
            assert gradient is None, name
            continue
        array = np.array(weight.value)

        def changed(weight=weight, array=array):
            set_values(weight, array)
            return value()

        assert_gradient(gradient, changed, array, name)
        set_values(weight, array)
    check_linear(pullback, outputs, cotangents, rng)
    return found


def assert_nested(found, function, arrays, name):
    """Compare nested gradients; integers have none."""
    if isinstance(arrays, (list, tuple)):
        assert len(found) == len(arrays)
        for index, pair in enumerate(zip(found, arrays, strict=True)):
            assert_nested(pair[0], function, pair[1], f"{name}[{index}]")
    elif arrays.dtype.kind == "f":
        assert_gradient(found, function, arrays, name)
    else:
        assert found is None, name


def arrays_of(gradients):
    """All arrays in what a pullback returned."""
    return [leaf for leaf in leaves([*gradients[:3], list(gradients.weights)]) if leaf is not None]


def check_linear(pullback, outputs, cotangents, rng):
    """Zero gives zero, and sums and multiples of cotangents give those of the gradients."""
    nested = isinstance(outputs, (list, tuple))
    run = (lambda g: pullback(*g)) if nested else pullback
    for zero in (map_leaves(np.zeros_like, cotangents), None):
        found = arrays_of(pullback() if zero is None else run(zero))
        assert all(not array.any() for array in found)
    others = random_like(rng, outputs)
    flat = iter(list(leaves(others)))
    mixed = map_leaves(lambda g: 2.0 * g - 0.5 * next(flat), cotangents)
    parts = zip(*(arrays_of(run(g)) for g in (mixed, cotangents, others)), strict=True)
    for both, first, second in parts:
        np.testing.assert_allclose(both, 2.0 * first - 0.5 * second, rtol=1e-9, atol=1e-11)


class Fixed:
    """A layer with some arguments of its calls fixed: those that the checks have a use of their own for."""

    def __init__(self, layer, **fixed):
        self.layer, self.fixed = layer, fixed

    def __getattr__(self, name):
        return getattr(self.layer, name)

    def __call__(self, *args, **options):
        return self.layer(*args, **options, **self.fixed)

    def vjp(self, *args, **options):
        return self.layer.vjp(*args, **options, **self.fixed)
