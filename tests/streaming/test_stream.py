"""A stream gives, step by step, the bits of the whole sequence, and keeps its states in place."""

import sys
import tracemalloc
import warnings

import numpy as np
import pytest

import numbalstm as nl
from numbalstm.backends import stream as backend
from numbalstm.backends.interface import SlowPathWarning

STEPS = 11


def slow_tanh(x):
    return np.tanh(x)


def randomize(rng, source):
    source.set_weights([rng.normal(0.1, 0.5, weight.shape) for weight in source.weights])
    return source


def lstm(rng, units, features, **options):
    return randomize(rng, nl.LSTM(units, input_shape=(None, features), return_sequences=True, **options))


def assert_same_bits(got, expected):
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert got.tobytes() == expected.tobytes()


def stepped(stream, x):
    return np.stack([stream.step(x[:, t]).copy() for t in range(x.shape[1])], axis=1)


def check(source, x, expected=None):
    """Step by step, as a block, and in a mix of both, a stream gives the bits of a call."""
    expected = source(x) if expected is None else expected
    stream = source.stream(len(x))
    assert_same_bits(stepped(stream, x), expected)
    stream.reset()
    assert_same_bits(stream.run(x), expected)
    stream.reset()
    parts = [stepped(stream, x[:, :3]), stream.run(x[:, 3:7]), stepped(stream, x[:, 7:8]), stream.run(x[:, 8:])]
    assert_same_bits(np.concatenate(parts, axis=1), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("batch", "features", "units"),
    [(1, 1, 1), (1, 7, 33), (1, 40, 100), (2, 5, 17), (7, 3, 16), (13, 9, 31), (201, 2, 5)],
)
def test_layer(rng, dtype, batch, features, units):
    layer = lstm(rng, units, features, dtype=dtype)
    check(layer, rng.normal(size=(batch, STEPS, features)).astype(dtype))


@pytest.mark.parametrize(
    "options", [{"use_bias": False}, {"activation": "softsign", "recurrent_activation": "hard_sigmoid"}]
)
def test_options(rng, options):
    check(lstm(rng, 19, 6, **options), rng.normal(size=(3, STEPS, 6)).astype("f"))


@pytest.mark.parametrize("policy", ["float16", "mixed_float16", "bfloat16", "mixed_bfloat16"])
def test_16_bit_policies(rng, policy):
    layer = lstm(rng, 19, 6, dtype=policy)
    x = rng.normal(size=(3, STEPS, 6)).astype("f")
    check(layer, x)
    model = nl.Sequential([nl.Input((None, 6)), layer, nl.Dropout(0.5, dtype=policy), lstm(rng, 5, 19, dtype=policy)])
    check(model, x)


NARROW = [{"weights_dtype": "bfloat16"}, {"weights_dtype": "int8"}, {"compute_dtype": "bfloat16"}]


@pytest.mark.parametrize("options", NARROW, ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_narrow_weights(rng, monkeypatch, options, batch):
    units = (70, 67, 19)  # input kernels that int8 narrows, and one that it does not
    model = nl.Sequential([nl.Input((None, 6)), *(nl.LSTM(u, return_sequences=True, **options) for u in units)])
    x = rng.normal(size=(batch, STEPS, 6)).astype("f")
    expected = randomize(rng, model)(x)
    check(model, x, expected)
    monkeypatch.setattr(backend, "WORTH_SHARING", 0)
    assert_same_bits(stepped(nl.Stream(model, batch, threads=2), x), expected)
    pool = nl.StreamPool(model, 40, threads=2)
    ids = [pool.join() for _ in range(40)]
    for t in range(STEPS):
        y = pool.step(ids, np.tile(x[:1, t], (40, 1)))
    assert_same_bits(y[-1:], expected[:1, -1])


def test_weights_stored_otherwise_need_a_new_stream(rng):
    layer = lstm(rng, 5, 3)
    stream = layer.stream()
    layer.weights_dtype = "bfloat16"
    for _ in range(2):
        with pytest.raises(ValueError, match="Make a new stream"):
            stream.step(np.zeros(3))


def test_float32_between_float64(rng):
    model = nl.Sequential([nl.Input((None, 6), dtype="float64")])
    for units, dtype in ((9, "float64"), (8, "float32"), (7, "float64")):
        model.add(nl.LSTM(units, return_sequences=True, dtype=dtype))
    check(randomize(rng, model), rng.normal(size=(2, STEPS, 6)))


@pytest.mark.parametrize("batch", [1, 4])
def test_activation_without_a_kernel(rng, batch):
    layer = lstm(rng, 9, 6, activation=slow_tanh)
    x = rng.normal(size=(batch, STEPS, 6)).astype("f")
    with pytest.warns(SlowPathWarning, match="slow_tanh"):
        expected = layer(x)
    with pytest.warns(SlowPathWarning, match="slow_tanh") as seen:
        stream = layer.stream(batch)
    assert [warning.filename for warning in seen] == [__file__]
    assert_same_bits(stepped(stream, x), expected)
    stream.reset()
    assert_same_bits(stream.run(x), expected)


def test_stack_runs_as_one_call_of_the_kernels(rng):
    model = nl.Sequential([nl.Input((None, 6))])
    for units in (33, 8, 17):
        model.add(nl.LSTM(units, return_sequences=True))
        model.add(nl.Dropout(0.3))
    check(randomize(rng, model), rng.normal(size=(2, STEPS, 6)).astype("f"))
    assert len(model.stream().stages) == 1


def test_model_from_tokens_to_probabilities(rng):
    model = nl.Sequential(
        [
            nl.Input((None,), dtype="int64"),
            nl.Embedding(30, 5, mask_zero=True),
            nl.SpatialDropout1D(0.2),
            nl.LSTM(12, return_sequences=True),
            nl.LayerNormalization(),
            nl.LSTM(9, return_sequences=True, activation="relu"),
            nl.BatchNormalization(),
            nl.TimeDistributed(nl.Dense(7, activation="gelu")),
            nl.Dense(6),
            nl.Activation("softmax"),
        ]
    )
    check(randomize_positive(rng, model), rng.integers(1, 30, (5, STEPS)))
    stream = model.stream()
    assert_same_bits(stream.step(4), model(np.array([[4]]))[:, 0])


def randomize_positive(rng, model):
    """Variances must be positive."""
    model.set_weights([rng.uniform(0.1, 0.9, weight.shape) for weight in model.weights])
    return model


def test_without_return_sequences_every_step_is_taken_for_the_last(rng):
    model = nl.Sequential([nl.Input((None, 4)), nl.LSTM(6), nl.Flatten(), nl.Dense(3, "tanh"), nl.Reshape((3, 1))])
    randomize(rng, model)
    x = rng.normal(size=(2, STEPS, 4)).astype("f")
    check(model, x, np.stack([model(x[:, : t + 1]) for t in range(STEPS)], axis=1))


def test_graph_with_a_model_inside(rng):
    inner = nl.Sequential([nl.Input((None, 5)), nl.LSTM(7, return_sequences=True)])
    start = nl.Input((None, 3))
    model = nl.Model(start, nl.Dense(2)(inner(nl.Dense(5, "relu")(start))))
    check(randomize(rng, model), rng.normal(size=(3, STEPS, 3)).astype("f"))


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_rnn_of_cells(rng, dtype):
    layer = nl.RNN([nl.LSTMCell(u, dtype=dtype) for u in (9, 4)], return_sequences=True, input_shape=(None, 5))
    check(randomize(rng, layer), rng.normal(size=(3, STEPS, 5)).astype("f"))


def test_time_major_stateful_and_state_returning_layers(rng):
    x = rng.normal(size=(3, STEPS, 4)).astype("f")
    layer = lstm(rng, 6, 4)
    for options in ({"time_major": True}, {"stateful": True, "batch_size": 3}, {"return_state": True}):
        other = nl.LSTM(6, return_sequences=True, input_shape=(None, 4), weights=layer.get_weights(), **options)
        check(other, x, layer(x))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("wakes", [True, False])
def test_threads_share_the_units(rng, monkeypatch, wakes, batch):
    monkeypatch.setattr(backend, "WORTH_SHARING", 0)
    monkeypatch.setattr(backend, "WORTH_WAKING", 0 if wakes else 1e9)
    model = nl.Sequential([nl.Input((None, 5)), nl.LSTM(70, return_sequences=True), nl.LSTM(33, return_sequences=True)])
    x = rng.normal(size=(batch, STEPS, 5)).astype("f")
    expected = randomize(rng, model)(x)
    for threads in (2, 3):
        assert_same_bits(stepped(nl.Stream(model, batch, threads=threads), x), expected)


def test_threads_share_the_rows(rng, monkeypatch):
    monkeypatch.setattr(backend, "WORTH_SHARING", 0)
    layer = lstm(rng, 20, 3)
    x = rng.normal(size=(29, STEPS, 3)).astype("f")
    assert_same_bits(stepped(layer.stream(29, threads=2), x), layer(x))


def test_numbers_of_other_types_and_layouts(rng):
    layer = lstm(rng, 5, 3)
    x = rng.normal(size=(2, STEPS, 3))
    expected = layer(x)
    assert_same_bits(stepped(layer.stream(2), x), expected)
    assert_same_bits(stepped(layer.stream(2), np.asfortranarray(x.astype("f"))), expected)
    stream = layer.stream(2)
    assert_same_bits(np.stack([stream.step(x[:, t].tolist()).copy() for t in range(STEPS)], axis=1), expected)
    whole = np.arange(6).reshape(2, 1, 3)
    assert_same_bits(layer.stream(2).step(whole[:, 0]), layer(whole)[:, 0])


def test_one_row_without_its_axis(rng):
    layer = lstm(rng, 5, 3)
    x = rng.normal(size=(1, STEPS, 3)).astype("f")
    stream = layer.stream()
    got = np.stack([stream.step(x_t).copy() for x_t in x[0]], axis=1)
    assert_same_bits(got, layer(x))
    stream.reset()
    assert_same_bits(stream.run(x[0]), layer(x))


def test_output_is_the_streams_own_buffer_or_out(rng):
    layer = lstm(rng, 5, 5)
    x = rng.normal(size=(2, STEPS, 5)).astype("f")
    expected = layer(x)
    stream = layer.stream(2)
    first = stream.step(x[:, 0])
    out = np.zeros((2, 10), "f")[:, ::2]
    assert stream.step(x[:, 1], out=out) is out
    np.testing.assert_array_equal(out, expected[:, 1])
    assert stream.step(x[:, 2]) is first
    assert stream.step(x[:, 3], out) is out
    fed_back = layer.stream(2)
    y = fed_back.step(x[:, 0])
    for _ in range(3):
        y = fed_back.step(y)
    other = layer.stream(2)
    y_other = other.step(x[:, 0]).copy()
    for _ in range(3):
        y_other = other.step(y_other).copy()
    assert_same_bits(y, y_other)


def test_input_stays(rng):
    layer = lstm(rng, 5, 3)
    x = rng.normal(size=(1, 3)).astype("f")
    before = x.copy()
    layer.stream().step(x)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("steps", [4, 5])
def test_states_are_those_of_a_call(rng, steps):
    first, second = lstm(rng, 6, 4, return_state=True), lstm(rng, 3, 6, return_state=True)
    x = rng.normal(size=(2, steps, 4)).astype("f")
    y, *one = first(x)
    _, *two = second(y)
    model = nl.Sequential([nl.LSTM(6, return_sequences=True, input_shape=(None, 4)), nl.LSTM(3, return_sequences=True)])
    model.set_weights(first.get_weights() + second.get_weights())
    stream = model.stream(2)
    stepped(stream, x)
    for got, expected in zip(stream.states, (one, two), strict=True):
        for state, wanted in zip(got, expected, strict=True):
            assert_same_bits(state, wanted)
    stream.states[0][0][...] = 7
    assert_same_bits(stream.states[0][0], one[0])


@pytest.mark.parametrize("slow", [False, True])
def test_snapshots_are_independent(rng, slow):
    layer = lstm(rng, 6, 4, activation=slow_tanh if slow else "tanh")
    x = rng.normal(size=(2, STEPS, 4)).astype("f")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SlowPathWarning)
        expected, stream, other = layer(x), layer.stream(2), layer.stream(2)
    for cut in (3, 4):
        stream.reset()
        stepped(stream, x[:, :cut])
        snapshot = stream.snapshot()
        for _ in range(2):
            assert_same_bits(stepped(stream, x[:, cut:]), expected[:, cut:])
            stream.restore(snapshot)
        other.restore(snapshot)
        stepped(stream, x[:, :2])
        assert_same_bits(stepped(other, x[:, cut:]), expected[:, cut:])


@pytest.mark.parametrize("parity", [2, 3])
def test_new_weights_act_from_the_next_step(rng, parity):
    model = nl.Sequential([nl.Input((None, 4)), nl.LSTM(6, return_sequences=True), nl.Dense(3, "tanh")])
    randomize(rng, model)
    x = rng.normal(size=(2, STEPS, 4)).astype("f")
    stream, block = model.stream(2), model.stream(2)
    stepped(stream, x[:, :parity])
    block.run(x[:, :parity])
    ((h, c),) = stream.states
    randomize(rng, model)
    expected = model.layers[1](model.layers[0](x[:, parity:], initial_state=[h, c]))
    assert_same_bits(stepped(stream, x[:, parity:]), expected)
    assert_same_bits(block.run(x[:, parity:]), expected)
    model.layers[1].bias.value = np.zeros(3, "f")
    changed = stream.step(x[:, 0])
    assert_same_bits(changed, model.layers[1](stream.states[0][0]))


@pytest.mark.parametrize("share", [False, True])
def test_steps_allocate_nothing(rng, monkeypatch, share):
    if share:
        monkeypatch.setattr(backend, "WORTH_SHARING", 0)
    model = nl.Sequential([nl.Input((None, 600)), nl.LSTM(300, return_sequences=True), nl.LSTM(300), nl.Dense(500)])
    x = rng.normal(size=(1, 600)).astype("f")
    out = np.zeros((1, 500), "f")
    stream = nl.Stream(model, threads=2)

    def steps():
        for _ in range(50):
            stream.step(x)
            stream.step(x, out)

    steps()
    blocks = sys.getallocatedblocks()
    steps()
    assert abs(sys.getallocatedblocks() - blocks) < 10
    tracemalloc.start()
    try:
        steps()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        steps()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - before < 1000  # any array of the model is larger


def test_padding_is_refused_before_any_state_changes(rng):
    tokens = randomize(
        rng, nl.Sequential([nl.Input((None,), dtype="int64"), nl.Embedding(9, 4, mask_zero=True), nl.LSTM(3)])
    )
    stream = tokens.stream(2)
    expected = stream.step([3, 4]).copy()
    stream.reset()
    for refused in (lambda: stream.step([3, 0]), lambda: stream.run([[3], [0]])):
        with pytest.raises(ValueError, match="row 1 of the input is padding"):
            refused()
    assert_same_bits(stream.step([3, 4]), expected)
    masked = nl.Sequential([nl.Input((None, 2)), nl.Masking(-1.0), nl.LSTM(3, return_sequences=True)])
    with pytest.raises(ValueError, match="padding"):
        masked.stream().step([-1.0, -1.0])
    check(masked, rng.uniform(size=(2, STEPS, 2)).astype("f"))


def chain(*layers, features=4):
    return nl.Sequential([nl.Input((None, features)), *layers])


def branches():
    x = nl.Input((None, 4))
    return nl.Model(x, nl.Add()([nl.LSTM(4, return_sequences=True)(x), x]))


def started():
    x, h = nl.Input((None, 4)), nl.Input((3,))
    return nl.Model([x, h], nl.LSTM(3)(x, initial_state=[h, h]))


def skipping():
    x = nl.Input((None, 4))
    y = nl.LSTM(4, return_sequences=True)(x)
    return nl.Model(x, nl.LSTM(2)(nl.Add()([x, y])))


class OwnCall(nl.LSTM):
    def call(self, inputs):
        return super().call(inputs) * 2


class Cell:
    state_size = 4

    def call(self, x, states):
        return x, states


REFUSED = {
    "not built": (lambda: nl.LSTM(3), "is not built yet"),
    "model not built": (lambda: nl.Sequential([nl.LSTM(3)]), "is not built yet"),
    "backwards": (lambda: nl.LSTM(3, go_backwards=True, input_shape=(None, 4)), "go_backwards=True"),
    "backwards inside": (lambda: chain(nl.LSTM(3, go_backwards=True, name="r")), "LSTM 'r' has go_backwards=True"),
    "own call": (lambda: OwnCall(3, input_shape=(None, 4)), "call\\(\\) of its own"),
    "bidirectional": (lambda: chain(nl.Bidirectional(nl.LSTM(3), name="b")), "Bidirectional 'b' reads .* from its end"),
    "pooling": (lambda: chain(nl.LSTM(3, return_sequences=True), nl.GlobalMaxPooling1D()), "needs all steps"),
    "flatten": (lambda: nl.Sequential([nl.Input((5, 4)), nl.LSTM(3, return_sequences=True), nl.Flatten()]), "joins"),
    "reshape": (lambda: nl.Sequential([nl.Input((4, 4)), nl.Reshape((2, 8)), nl.LSTM(3)]), "from step to step"),
    "repeat": (lambda: chain(nl.LSTM(3), nl.RepeatVector(2), nl.LSTM(2)), "makes a sequence"),
    "over time": (lambda: nl.Sequential([nl.Input((5, 4)), nl.LayerNormalization(axis=1), nl.LSTM(3)]), "over the"),
    "by step": (lambda: nl.Sequential([nl.Input((5, 4)), nl.BatchNormalization(axis=1), nl.LSTM(3)]), "each step"),
    "inside": (lambda: chain(nl.Reshape((-1, 2, 2)), nl.TimeDistributed(nl.LSTM(3)), nl.LSTM(2)), "Reshape|LSTM"),
    "mask": (lambda: chain(nl.LSTM(3, return_sequences=True), nl.Masking(), nl.LSTM(2)), "masks what"),
    "merge": (branches, "alone|known"),
    "skip": (skipping, "alone|known"),
    "inputs": (started, "2 inputs"),
    "no recurrent layer": (lambda: chain(nl.Dense(3)), "no recurrent layer"),
    "no time": (lambda: nl.Sequential([nl.Input((4,)), nl.Dense(3)]), "no recurrent layer"),
    "cell": (lambda: nl.RNN(Cell(), input_shape=(None, 4)), "has a Cell"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_causal_is_refused_by_name(case):
    make, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        make().stream()


def test_wrong_arguments(rng):
    layer = lstm(rng, 5, 3)
    stream = layer.stream(2)
    snapshot = stream.snapshot()
    stream.step(np.ones((2, 3)))
    states = stream.states
    out = np.zeros((2, 5), "f")
    out.flags.writeable = False
    refused = {
        r"the step must have shape \(2, 3\), got \(1, 3\)": lambda: stream.step(np.zeros((1, 3), "f")),
        r"the step must have shape \(2, 3\), got \(3,\)": lambda: stream.step(np.zeros(3, "f")),
        r"the step must have shape \(2, 3\), got \(2, 4\)": lambda: stream.step(np.zeros((2, 4))),
        r"out must be .* \(2, 5\) and dtype float32, got an array of shape \(1, 5\)": lambda: stream.step(
            np.zeros((2, 3)), np.zeros((1, 5), "f")
        ),
        "dtype float32, got an array of shape .* float64": lambda: stream.step(np.zeros((2, 3)), np.zeros((2, 5))),
        "writeable": lambda: stream.step(np.zeros((2, 3)), out),
        r"the block must have shape \(2, time, 3\), got \(1, 4, 3\)": lambda: stream.run(np.zeros((1, 4, 3))),
        "at least one step": lambda: stream.run(np.zeros((2, 0, 3))),
        "the snapshot is of another kind": lambda: layer.stream(1).restore(snapshot),
        "batch must be at least 1": lambda: layer.stream(0),
        "threads must be at least 1": lambda: layer.stream(threads=0),
    }
    for message, call in refused.items():
        with pytest.raises(ValueError, match=message):
            call()
    for message, call in {
        "real numbers, got dtype complex128": lambda: stream.step(np.zeros((2, 3), complex)),
        "real numbers, got dtype <U1": lambda: stream.step([["1"] * 3] * 2),
        "needs a snapshot, got None": lambda: stream.restore(None),
        "batch must be an integer": lambda: layer.stream(1.5),
        "needs a layer that runs over time, or a model": lambda: nl.Stream(nl.Dense(3)),
    }.items():
        with pytest.raises(TypeError, match=message):
            call()
    for got, expected in zip(stream.states[0], states[0], strict=True):
        assert_same_bits(got, expected)


def test_integers_are_wanted_where_the_model_says_so():
    model = nl.Sequential([nl.Input((None,), dtype="int64"), nl.Embedding(9, 4), nl.LSTM(3)])
    stream = model.stream()
    stream.step(2.0)
    with pytest.raises(ValueError, match="must hold integers"):
        stream.step(2.5)
    with pytest.raises(ValueError, match=r"integers must be in 0\.\.8, got 9"):
        stream.step(9)
