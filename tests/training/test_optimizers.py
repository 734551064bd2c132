"""Optimizers and schedules: the steps of Keras, states, constraints, configs and messages."""

import json

import numpy as np
import pytest
from support.training_parts import ARRAYS, CASES, ids

from numbalstm import constraints, optimizers
from numbalstm.parameters import Weight

NAMES = sorted(optimizers.NAMED)
VARIED = {
    "sgd": {"momentum": 0.9, "nesterov": True},
    "rmsprop": {"momentum": 0.5, "centered": True},
    "adam": {"amsgrad": True},
    "adamw": {"amsgrad": True},
    "adagrad": {},
    "nadam": {},
}


def schedule(index):
    case = CASES["schedules"][index]
    return {"class_name": case["name"], "config": case["config"]}


def made(case):
    config = dict(case["config"])
    if case["schedule"] is not None:
        config["learning_rate"] = schedule(case["schedule"])
    return optimizers.get({"class_name": case["name"], "config": config})


def recorded_start(dtype=np.float64):
    return [Weight(f"w{number}", ARRAYS[f"start/{number}"].astype(dtype)) for number in range(3)]


def recorded_gradients(step):
    return [ARRAYS[f"gradients/{number}"][step] for number in range(3)]


def row(weights):
    return np.concatenate([weight.value.ravel() for weight in weights])


@pytest.mark.parametrize("index", range(len(CASES["optimizers"])), ids=ids("optimizers"))
def test_steps_are_those_of_keras(index):
    case = CASES["optimizers"][index]
    optimizer, weights = made(case), recorded_start()
    if case["constrained"]:
        weights[0].constraint = constraints.MaxNorm(1.5, axis=0)
    first, last = ARRAYS["optimizers"][index]
    for step in range(20):
        optimizer.apply(recorded_gradients(step), weights)
        if step == 0:
            np.testing.assert_allclose(row(weights), first, rtol=0, atol=1e-14)
    np.testing.assert_allclose(row(weights), last, rtol=0, atol=1e-13)
    assert optimizer.iterations == 20
    if case["schedule"] is None and "learning_rate" not in case["config"]:
        # Keras rounds its settings to float32; the steps are small enough to bear that.
        np.testing.assert_allclose(row(weights), ARRAYS["optimizers_as_is"][index][1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("index", range(len(CASES["schedules"])), ids=ids("schedules"))
def test_schedules_are_those_of_keras(index):
    made = optimizers.get({"class_name": "SGD", "config": {"learning_rate": schedule(index)}})
    for expected in ARRAYS["schedules"][index]:
        assert type(made.learning_rate) is float
        assert made.learning_rate == pytest.approx(expected, rel=1e-14)
        made.apply([np.zeros(1)], [Weight("w", np.zeros(1))])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("at", [0, 1, 7])
def test_state_continues_to_the_bit(name, at):
    settings = {**VARIED[name], "global_clipnorm": 2.0, "learning_rate": 0.125}
    first, weights = optimizers.NAMED[name](**settings), recorded_start()
    for step in range(at):
        first.apply(recorded_gradients(step), weights)
    second = optimizers.NAMED[name](**settings)
    second.load_state(first.state())
    copies = [Weight(weight.name, weight.value.copy()) for weight in weights]
    for step in range(at, 12):
        first.apply(recorded_gradients(step), weights)
        second.apply(recorded_gradients(step), copies)
    assert row(weights).tobytes() == row(copies).tobytes()
    states = first.state(), second.state()
    assert states[0].keys() == states[1].keys()
    assert all(states[0][key].tobytes() == states[1][key].tobytes() for key in states[0])


def test_state_holds_a_changed_learning_rate_and_copies():
    optimizer, weights = optimizers.Adam(), recorded_start()
    optimizer.apply(recorded_gradients(0), weights)
    optimizer.learning_rate = 0.5
    state = optimizer.state()
    kept = {name: array.copy() for name, array in state.items()}
    optimizer.apply(recorded_gradients(1), weights)
    assert all(np.array_equal(state[name], kept[name]) for name in kept)
    other = optimizers.Adam()
    other.load_state(state)
    assert other.learning_rate == 0.5
    other.apply(recorded_gradients(1), recorded_start())
    assert all(np.array_equal(state[name], kept[name]) for name in kept)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_narrow_weights_keep_their_type(name, dtype):
    optimizer = optimizers.NAMED[name](learning_rate=0.01, **VARIED[name])
    weights, exact = recorded_start(dtype), recorded_start()
    start = row(exact)
    reference = optimizers.NAMED[name](learning_rate=0.01, **VARIED[name])
    for step in range(3):
        optimizer.apply([g.astype(np.float32) for g in recorded_gradients(step)], weights)
        reference.apply(recorded_gradients(step), exact)
    assert {weight.dtype for weight in weights} == {np.dtype(dtype)}
    moved = np.abs(row(exact) - start).max()
    np.testing.assert_allclose(row(weights), row(exact), rtol=0, atol=2e-5 * moved + 8 * np.finfo(dtype).eps)
    slots = [array for key, array in optimizer.state().items() if "/" in key]
    assert {array.dtype for array in slots} <= {np.dtype(np.float32)}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("clip", [{}, {"clipnorm": 0.5}, {"clipvalue": 0.5}, {"global_clipnorm": 0.5}])
def test_what_is_given_is_only_read(name, clip):
    optimizer = optimizers.NAMED[name](**VARIED[name], **clip)
    weights = recorded_start()
    values = [weight.value for weight in weights]
    kept = row(weights)
    for step in range(2):
        gradients = recorded_gradients(step)
        for array in [*gradients, *(weight.value for weight in weights)]:
            array.flags.writeable = False
        optimizer.apply(gradients, weights)
    np.testing.assert_array_equal(np.concatenate([value.ravel() for value in values]), kept)
    assert not any(np.shares_memory(weight.value, value) for weight, value in zip(weights, values, strict=True))


def test_none_leaves_a_weight_as_it_is():
    optimizer, weights = optimizers.AdamW(global_clipnorm=1.0), recorded_start()
    alone, single = optimizers.AdamW(global_clipnorm=1.0), recorded_start()[1:2]
    kept = weights[0].value
    for step in range(3):
        optimizer.apply([None, recorded_gradients(step)[1], None], weights)
        alone.apply(recorded_gradients(step)[1:2], single)
    assert weights[0].value is kept
    np.testing.assert_array_equal(weights[1].value, single[0].value)


@pytest.mark.parametrize("name", NAMES)
def test_nan_raises_nothing(name):
    for clip in ({}, {"clipnorm": 1.0}, {"clipvalue": 1.0}, {"global_clipnorm": 1.0}):
        weights = [Weight("a", np.ones(3)), Weight("b", np.ones(2))]
        optimizers.NAMED[name](**VARIED[name], **clip).apply([np.array([np.nan, np.inf, 1e300]), np.ones(2)], weights)
        assert np.isnan(weights[0].value[0])


def test_global_norm_that_is_not_finite_spoils_all():
    weights = [Weight("a", np.ones(3)), Weight("b", np.ones(2))]
    optimizers.SGD(global_clipnorm=1.0).apply([np.array([np.inf, 0.0, 1.0]), np.ones(2)], weights)
    assert np.isnan(weights[1].value).all()


def test_zero_gradients_are_clipped_to_zero():
    for clip in ("clipnorm", "global_clipnorm", "clipvalue"):
        weights = [Weight("a", np.ones(3))]
        optimizers.SGD(**{clip: 1.0}).apply([np.zeros(3)], weights)
        np.testing.assert_array_equal(weights[0].value, np.ones(3))


@pytest.mark.parametrize("name", NAMES)
def test_configs(name):
    optimizer = optimizers.NAMED[name](**VARIED[name], clipnorm=0.5, name="mine")
    written = json.loads(json.dumps(optimizers.serialize(optimizer)))
    again = optimizers.get(written)
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()
    assert again != optimizer
    scheduled = optimizers.NAMED[name](optimizers.CosineDecay(0.1, 10, warmup_target=0.2, warmup_steps=3))
    again = optimizers.get(json.loads(json.dumps(optimizers.serialize(scheduled))))
    assert again.get_config() == scheduled.get_config()


def test_identifiers():
    assert optimizers.get("Adam").get_config() == optimizers.get("adam").get_config() == optimizers.Adam().get_config()
    assert optimizers.get("RMSprop").name == "rmsprop"
    optimizer = optimizers.SGD()
    assert optimizers.get(optimizer) is optimizer
    assert isinstance(optimizers.get(optimizers.Nadam), optimizers.Nadam)
    neutral = {"use_ema": False, "ema_momentum": 0.99, "ema_overwrite_frequency": None, "loss_scale_factor": None}
    older = {"decay": 0.0, "jit_compile": True, "is_legacy_optimizer": False, "gradient_accumulation_steps": None}
    written = {"class_name": "Adam", "config": {"name": "Adam", "learning_rate": 0.25, **neutral, **older}}
    assert optimizers.get(written).learning_rate == 0.25


def test_learning_rate_may_be_set():
    optimizer, weights = optimizers.SGD(0.5), [Weight("w", np.zeros(2))]
    optimizer.learning_rate = 0.25
    optimizer.apply([np.ones(2)], weights)
    np.testing.assert_array_equal(weights[0].value, [-0.25, -0.25])
    optimizer.learning_rate = optimizers.PiecewiseConstantDecay([1], [1.0, 2.0])
    optimizer.apply([np.ones(2)], weights)
    assert optimizer.learning_rate == 2.0
    np.testing.assert_array_equal(weights[0].value, [-1.25, -1.25])


def apply(optimizer, *gradients, weights=None):
    optimizer.apply(list(gradients), weights or [Weight("kernel", np.zeros((2, 3)))])
    return optimizer


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: optimizers.get("adm", "compile: optimizer"),
            ValueError,
            "compile: optimizer: unknown optimizer 'adm'. Did",
        ),
        (lambda: optimizers.get(None), ValueError, "unknown optimizer None"),
        (
            lambda: optimizers.get({"class_name": "SGD", "config": {"use_ema": True}}),
            ValueError,
            "no setting 'use_ema'",
        ),
        (lambda: optimizers.SGD("fast"), TypeError, "SGD: learning_rate must be a number, got 'fast'"),
        (lambda: optimizers.SGD(-0.1), ValueError, "learning_rate must be at least 0, got -0.1"),
        (lambda: optimizers.SGD({"class_name": "Step", "config": {}}), ValueError, "unknown schedule 'Step'"),
        (lambda: optimizers.SGD(momentum=1.5), ValueError, r"SGD: momentum must be in \[0, 1\]"),
        (
            lambda: optimizers.Adam(clipnorm=1, clipvalue=1),
            ValueError,
            "only one way of clipping, got clipnorm and clipv",
        ),
        (lambda: optimizers.Adam(clipnorm=0), ValueError, "clipnorm must be above 0, got 0"),
        (lambda: optimizers.Adam(beta_1=2), ValueError, r"Adam: beta_1 must be in \[0, 1\], got 2"),
        (lambda: optimizers.AdamW(weight_decay=None), TypeError, "AdamW: weight_decay must be a number, got None"),
        (lambda: apply(optimizers.SGD()), ValueError, "one gradient for each of 1 weights, got 0"),
        (lambda: apply(optimizers.SGD(), None), ValueError, "for at least one weight, got none"),
        (
            lambda: apply(optimizers.SGD(), np.zeros((3, 2))),
            ValueError,
            r"gradients\[0\] of kernel must have shape \(2, 3\), got \(3, 2\)",
        ),
        (
            lambda: apply(apply(optimizers.Adam(), np.zeros((2, 3))), np.ones(2), weights=[Weight("w", np.ones(2))]),
            ValueError,
            r"weights\[0\] \(w\) must have shape \(2, 3\), got \(2,\)",
        ),
        (
            lambda: apply(
                apply(optimizers.SGD(), np.zeros((2, 3))), *[np.ones(2)] * 2, weights=[Weight("w", np.ones(2))] * 2
            ),
            ValueError,
            "weights must be the 1 of the first update, got 2",
        ),
        (
            lambda: setattr(optimizers.SGD(optimizers.ExponentialDecay(0.1, 2, 0.5)), "learning_rate", 0.1),
            TypeError,
            "learning_rate follows ExponentialDecay",
        ),
        (lambda: optimizers.ExponentialDecay(0.1, 0, 0.5), ValueError, "decay_steps must be above 0, got 0"),
        (lambda: optimizers.PiecewiseConstantDecay([1], [0.1]), ValueError, "one more than the 1 boundaries, got 1"),
        (lambda: optimizers.PiecewiseConstantDecay([2, 1], [1, 1, 1]), ValueError, "boundaries must increase"),
    ],
)
def test_messages(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("change", ["missing", "unknown", "partial", "none"])
def test_states_that_do_not_fit(change):
    optimizer = apply(optimizers.Adam(), np.ones((2, 3)))
    state = optimizer.state()
    other = optimizers.Adam()
    kept = other.state()
    if change == "missing":
        del state["iterations"]
    elif change == "unknown":
        state["0/accumulator"] = np.zeros((2, 3))
    elif change == "partial":
        del state["0/velocity"]
    else:
        del state["0/velocity"], state["0/momentum"]
    with pytest.raises(ValueError, match=r"Adam: the state does not fit: '.*' is missing or unknown"):
        other.load_state(state)
    assert other.state() == kept
    with pytest.raises(ValueError, match="'learning_rate' is missing or unknown"):
        optimizers.Adam(optimizers.CosineDecay(0.1, 3)).load_state(optimizer.state())
