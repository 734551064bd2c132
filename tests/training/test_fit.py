"""The training loop: data in every form, weights of samples and classes, validation, shuffling, windows, mistakes."""

import warnings

import numpy as np
import pytest

import numbalstm as nl
from numbalstm.callbacks import LambdaCallback
from numbalstm.models.batches import Arrays, Batch, Feed

OPTIONS = {"epochs": 2, "batch_size": 8, "verbose": 0, "seed": 4}


def weights_after(model, *args, **options):
    model.fit(*args, **OPTIONS | options)
    return model.get_weights()


def assert_same(first, second):
    assert all(map(np.array_equal, first, second))


def assert_close(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_it_learns(make, data):
    model = make(dropout=0.0, optimizer=nl.optimizers.Adam(0.05))
    history = model.fit(*data, epochs=40, batch_size=8, verbose=0, seed=0)
    assert history is model.history
    assert history.epoch == list(range(40))
    assert history.history["accuracy"][-1] > 0.9 > history.history["accuracy"][0]
    assert model.evaluate(*data, return_dict=True)["accuracy"] > 0.9


def test_seeded_shuffling(make, data):
    first, again, other, unshuffled = (
        weights_after(make(), *data, **options) for options in ({}, {}, {"seed": 5}, {"shuffle": False})
    )
    assert_same(first, again)
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0], unshuffled[0])


def test_every_sample_once_an_epoch_in_another_order():
    source = Arrays(Batch([np.arange(23)], [np.arange(23) * 2], [None]), 5)
    feed = Feed("here", source, random=np.random.default_rng(0))
    epochs = []
    for _ in range(3):
        batches = list(feed.epoch())
        assert [batch.size for batch in batches] == [5, 5, 5, 5, 3]
        epochs.append(np.concatenate([batch.inputs[0] for batch in batches]))
        assert np.array_equal(np.concatenate([batch.targets[0] for batch in batches]), epochs[-1] * 2)
        assert np.array_equal(np.sort(epochs[-1]), np.arange(23))
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[1], epochs[2])


def test_forms_of_data(make, data):
    x, y = data
    order = {"shuffle": False}
    arrays = weights_after(make(), x, y, **order)
    assert_same(arrays, weights_after(make(), x.tolist(), y.tolist(), **order))
    assert_same(arrays, weights_after(make(), [x], [y], **order))
    model = make()
    assert_same(arrays, weights_after(model, {model.input_names[0]: x}, {model.output_names[0]: y}, **order))
    batches = [(x[start : start + 8], y[start : start + 8]) for start in range(0, 45, 8)]
    options = {"epochs": 2, "verbose": 0}

    class Loader:
        def __len__(self):
            return len(batches)

        def __getitem__(self, index):
            return batches[index]

    class Again:
        def __iter__(self):
            return iter(batches)

    for source in (Loader(), Again()):
        model = make()
        model.fit(source, **options)
        assert_same(arrays, model.get_weights())
    model = make()
    model.fit((batch for batch in batches * 2), steps_per_epoch=6, **options)
    assert_same(arrays, model.get_weights())


def test_steps_of_an_epoch_go_through_all_data(make, data):
    losses = []
    record = LambdaCallback(on_epoch_end=lambda epoch, logs: losses.append(logs["loss"]))
    model = make(dropout=0.0, optimizer=nl.optimizers.SGD(0.0))
    model.fit(*data, batch_size=9, epochs=5, steps_per_epoch=1, shuffle=False, verbose=0, callbacks=record)
    parts = [
        model.test_on_batch(data[0][start : start + 9], data[1][start : start + 9])[0] for start in range(0, 45, 9)
    ]
    np.testing.assert_allclose(losses, parts, rtol=1e-6)


def test_the_batch_size_follows_from_the_steps(make, data):
    seen = []
    record = LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    make().fit(*data, steps_per_epoch=7, verbose=0, callbacks=record)
    assert seen == list(range(7))


def test_a_generator_that_ends_says_so(make, data):
    once = (batch for batch in [data])
    with pytest.raises(ValueError, match="used up after 1 batches"):
        make().fit(once, epochs=2, verbose=0)
    with pytest.raises(ValueError, match="there are no batches"):
        make().fit(iter([]), verbose=0)


def test_an_unbuilt_model_is_built(data):
    model = nl.Sequential([nl.LSTM(4), nl.Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(*data, **OPTIONS)
    assert model.count_params() == 3 * 16 + 4 * 16 + 16 + 15


def test_weights_of_samples(make, data, rng):
    x, y = data
    ones = weights_after(make(), x, y)
    assert_same(ones, weights_after(make(), x, y, sample_weight=np.ones(45)))
    assert_same(ones, weights_after(make(), x, y, class_weight={0: 1.0}))
    by_class = {0: 2.0, 2: 0.5}
    found = weights_after(make(), x, y, class_weight=by_class)
    assert not np.array_equal(found[0], ones[0])
    assert_same(found, weights_after(make(), x, y, sample_weight=np.choose(y, [2.0, 1.0, 0.5])))
    batches = [(x[i : i + 8], y[i : i + 8]) for i in range(0, 45, 8)]

    class Again:
        def __iter__(self):
            return iter(batches)

    model = make()
    model.fit(Again(), epochs=2, verbose=0, class_weight=by_class)
    assert_same(model.get_weights(), weights_after(make(), x, y, class_weight=by_class, shuffle=False))


def test_a_sample_of_no_weight_does_not_count(make, data, rng):
    x, y = data
    weight = (rng.random(45) < 0.6).astype(float)
    changed = np.where(weight[:, None, None] > 0, x, 9.0)
    assert_same(
        weights_after(make(dropout=0.0), x, y, sample_weight=weight),
        weights_after(make(dropout=0.0), changed, y, sample_weight=weight),
    )


def test_masked_steps_do_not_count(rng):
    """Longer padding changes neither loss nor weights."""
    x = rng.normal(size=(11, 6, 3))
    lengths = rng.integers(1, 7, 11)
    x[np.arange(6) >= lengths[:, None]] = 0.0
    y = rng.normal(size=(11, 6, 2))
    results = []
    for more in (0, 4):
        model = nl.Sequential(
            [nl.Masking(), nl.LSTM(3, return_sequences=True, dtype="float64"), nl.Dense(2, dtype="float64")]
        )
        model.build((None, None, 3))
        model.set_weights([np.random.default_rng(1).normal(size=w.shape) for w in model.weights])
        model.compile("sgd", "mse", metrics=["mae"])
        pad = [(0, 0), (0, more), (0, 0)]
        history = model.fit(np.pad(x, pad), np.pad(y, pad, constant_values=7.0), **OPTIONS)
        results.append((model.get_weights(), history.history["loss"]))
    for one, other in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-10)


def test_validation(make, data):
    x, y = data
    first = make(optimizer=nl.optimizers.SGD(0.0))
    history = first.fit(x, y, **OPTIONS, validation_split=0.2).history
    assert history["val_loss"][0] == pytest.approx(first.evaluate(x[36:], y[36:])[0])
    history = first.fit(x, y, **OPTIONS, validation_data=(x[:10], y[:10])).history
    assert history["val_accuracy"][-1] == pytest.approx(first.evaluate(x[:10], y[:10])[1])
    batches = [(x[:4], y[:4]), (x[4:10], y[4:10])]
    history = first.fit(x, y, **OPTIONS, validation_data=iter(batches * 2), validation_steps=2).history
    assert history["val_loss"][-1] == pytest.approx(first.evaluate(x[:10], y[:10])[0])


def test_each_validation_is_of_the_same_samples(make, data):
    x, y = data
    model = make(optimizer=nl.optimizers.SGD(0.0))
    expected = pytest.approx(model.evaluate(x[:16], y[:16])[0])
    batches = {start: (x[start : start + 8], y[start : start + 8]) for start in (0, 8, 16)}.values()
    for validation in ((x, y), batches):
        options = {"validation_data": validation, "validation_steps": 2, "validation_batch_size": 8}
        assert model.fit(x, y, **OPTIONS | {"epochs": 3}, **options).history["val_loss"] == [expected] * 3


@pytest.mark.parametrize(("frequency", "count"), [(1, 5), (2, 2), ([1, 4], 2)])
def test_validation_now_and_then(make, data, frequency, count):
    history = make().fit(*data, **OPTIONS | {"epochs": 5}, validation_split=0.1, validation_freq=frequency)
    assert len(history.history["val_loss"]) == count
    assert len(history.history["loss"]) == 5


def test_validation_leaves_the_training_alone(make, data):
    assert_same(weights_after(make(), *data), weights_after(make(), *data, validation_data=data))


def test_class_weights_do_not_touch_the_validation(make, data):
    model = make(optimizer=nl.optimizers.SGD(0.0), dropout=0.0)
    history = model.fit(*data, **OPTIONS, validation_split=0.2, class_weight={0: 5.0, 1: 3.0, 2: 4.0}).history
    assert history["val_loss"][0] == pytest.approx(model.evaluate(data[0][36:], data[1][36:])[0])


def two_ends(rng):
    a, b = nl.Input((None, 3), name="a"), nl.Input((2,), name="b")
    h = nl.Concatenate()([nl.LSTM(4)(a), b])
    model = nl.Model({"a": a, "b": b}, {"left": nl.Dense(1, name="l")(h), "right": nl.Dense(2, name="r")(h)})
    x = {"a": rng.normal(size=(13, 5, 3)), "b": rng.normal(size=(13, 2))}
    return model, x, {"left": rng.normal(size=13), "right": rng.normal(size=(13, 2))}


def test_several_ends(rng):
    model, x, y = two_ends(rng)
    start = model.get_weights()
    model.compile("sgd", {"left": "mse", "right": "mae"}, {"left": 2.0, "right": 0.5}, metrics={"right": ["mse"]})
    found = model.evaluate(x, y, return_dict=True)
    assert list(found) == model.metrics_names == ["loss", "left_loss", "right_loss", "right_mse"]
    outputs = model.predict(x)
    left = np.mean((outputs["left"][:, 0] - y["left"]) ** 2)
    assert found["left_loss"] == pytest.approx(left, rel=1e-5)
    assert found["right_loss"] == pytest.approx(np.abs(outputs["right"] - y["right"]).mean(), rel=1e-5)
    assert found["loss"] == pytest.approx(2 * found["left_loss"] + 0.5 * found["right_loss"])
    in_batches = model.evaluate(x, y, batch_size=5, return_dict=True)  # of 5, 5 and 3 samples
    assert in_batches == pytest.approx(found, rel=1e-5)
    by_name = weights_after(model, x, y)
    model.set_weights(start)
    model.compile("sgd", ["mse", "mae"], [2.0, 0.5])
    assert_same(by_name, weights_after(model, [x["a"], x["b"]], [y["left"], y["right"]]))


def test_an_output_without_loss(rng):
    model, x, y = two_ends(rng)
    before = dict(zip(model.weight_paths(), model.get_weights(), strict=True))
    model.compile("sgd", {"left": "mse"})
    model.fit(x, {"left": y["left"]}, **OPTIONS)
    after = dict(zip(model.weight_paths(), model.get_weights(), strict=True))
    assert {path for path in before if np.array_equal(before[path], after[path])} == {"r/kernel", "r/bias"}
    assert model.metrics_names == ["loss"]


def test_one_weight_for_all_outputs(rng):
    model, x, y = two_ends(rng)
    weight = rng.random(13)
    model.compile("sgd", "mse")
    both = model.evaluate(x, y, sample_weight={"left": weight, "right": weight})
    assert model.evaluate(x, y, sample_weight=weight) == both != model.evaluate(x, y)


def test_layers_are_told_of_each_update(data):
    class Told(nl.Dense):
        times = 0

        def on_weights_changed(self):
            self.times += 1

    layer = Told(1)
    model = nl.Sequential([nl.Input((7, 3)), nl.Flatten(), layer])
    model.compile("sgd", "mse")
    model.fit(data[0], data[1], batch_size=9, verbose=0)
    assert layer.times == 5


def test_frozen_layers_stay(make, data):
    model = make()
    model.layers[0].trainable = False
    before = model.get_weights()
    after = weights_after(model, *data)
    assert_same(before[:3], after[:3])
    assert not np.array_equal(before[3], after[3])
    model.trainable = False
    with pytest.warns(UserWarning, match="no trainable weights"):
        model.train_on_batch(*data)


def test_penalties_are_in_the_loss_and_the_gradient(rng):
    x, y = rng.normal(size=(5, 4)), rng.normal(size=(5, 2))
    options = {"kernel_regularizer": nl.regularizers.L2(0.3), "activity_regularizer": nl.regularizers.L2(0.2)}
    layer = nl.Dense(2, dtype="float64", **options)
    model = nl.Sequential([nl.Input((4,)), layer])
    kernel, bias = (w.value.copy() for w in layer.weights)
    model.compile(nl.optimizers.SGD(0.1), "mse")
    out = x @ kernel + bias
    loss = np.mean((out - y) ** 2) + 0.3 * np.sum(kernel**2) + 0.2 * np.sum(out**2) / 5
    assert model.test_on_batch(x, y) == pytest.approx(loss)
    assert model.train_on_batch(x, y) == pytest.approx(loss)
    d_out = 2 * (out - y) / out.size + 0.4 * out / 5
    np.testing.assert_allclose(
        layer.weights[0].value, kernel - 0.1 * (x.T @ d_out + 0.6 * kernel), rtol=1e-6, atol=1e-7
    )
    np.testing.assert_allclose(layer.weights[1].value, bias - 0.1 * d_out.sum(axis=0), rtol=1e-6, atol=1e-7)


def test_constraints_hold(rng):
    model = nl.Sequential(
        [nl.Input((None, 3)), nl.LSTM(4, kernel_constraint="unit_norm", bias_constraint="non_neg"), nl.Dense(1)]
    )
    model.compile(nl.optimizers.SGD(0.5), "mse")
    model.fit(rng.normal(size=(20, 5, 3)), rng.normal(size=20), **OPTIONS)
    kernel, _, bias, *_ = model.get_weights()
    np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), 1.0, rtol=1e-5)
    assert bias.min() >= 0.0


def test_steps_by_hand_are_those_of_fit(make, data):
    x, y = data
    model, other = make(), make()
    model.fit(x, y, batch_size=9, epochs=2, shuffle=False, verbose=0)
    for _ in range(2):
        for start in range(0, 45, 9):
            found = other.train_on_batch(x[start : start + 9], y[start : start + 9], return_dict=True)
    assert_same(model.get_weights(), other.get_weights())
    assert list(found) == ["loss", "accuracy"]
    assert model.test_on_batch(x, y) == pytest.approx(model.evaluate(x, y, batch_size=45))


def test_stateful_models(rng):
    x, y = rng.normal(size=(12, 5, 2)), rng.normal(size=(12, 1))
    model = nl.Sequential([nl.LSTM(3, stateful=True, batch_input_shape=(4, None, 2)), nl.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="leave shuffle=False"):
        model.fit(x, y, shuffle=True, verbose=0)
    with pytest.raises(ValueError, match="batch size of 4, which does not divide 11"):
        model.fit(x[:11], y[:11], verbose=0)
    model.fit(x, y, verbose=0)  # batches of 4, in order
    assert model.optimizer.iterations == 3
    assert np.abs(model.layers[0].states[0]).max() > 0


def sequence_model(batch=5, **options):
    layers = [
        nl.LSTM(3, stateful=True, return_sequences=True, batch_input_shape=(batch, None, 2), **options),
        nl.Dense(1),
    ]
    model = nl.Sequential(layers)
    model.set_weights([np.random.default_rng(3).normal(size=w.shape) for w in model.weights])
    model.compile(nl.optimizers.SGD(0.1), "mse")
    return model


def test_truncated_backpropagation_is_updates_on_windows(rng):
    x, y = rng.normal(size=(10, 8, 2)), rng.normal(size=(10, 8, 1))
    model, by_hand = sequence_model(), sequence_model()
    model.fit(x, y, tbptt=3, epochs=2, verbose=0)
    assert model.optimizer.iterations == 2 * 2 * 3
    for _ in range(2):
        for rows in (slice(0, 5), slice(5, 10)):
            by_hand.reset_states()
            for start in (0, 3, 6):
                part = np.s_[rows, start : start + 3]
                by_hand.train_on_batch(x[part], y[part])
    assert_same(model.get_weights(), by_hand.get_weights())
    one_window = sequence_model()
    one_window.fit(x, y, tbptt=8, epochs=2, verbose=0)
    assert not np.array_equal(one_window.get_weights()[0], model.get_weights()[0])


@pytest.mark.parametrize(
    ("layer", "target", "message"),
    [
        (nl.LSTM(2, return_sequences=True, name="cell"), (5, 6, 2), "carries states .* so 'cell' needs stateful=True"),
        (nl.LSTM(2, return_sequences=True, stateful=True, go_backwards=True), (5, 6, 2), "goes backwards"),
        (nl.LSTM(2, stateful=True), (5, 2), r"a target for each of the 6 timesteps, got y .* of shape \(5, 2\)"),
    ],
)
def test_what_cannot_be_truncated(rng, layer, target, message):
    model = nl.Sequential([nl.Input((None, 3), batch_size=5), layer])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=message):
        model.fit(rng.normal(size=(5, 6, 3)), rng.normal(size=target), tbptt=3, verbose=0)


def test_half_precision_trains(data):
    x, y = data
    model = nl.Sequential([nl.Input((None, 3)), nl.LSTM(4, dtype="mixed_float16"), nl.Dense(3, activation="softmax")])
    model.compile(nl.optimizers.Adam(0.05), "sparse_categorical_crossentropy")
    losses = model.fit(x, y, **OPTIONS | {"epochs": 15}).history["loss"]
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"y": np.zeros(44)}, "one number of samples, got input 'x': 45, y for 'out': 44"),
        ({"y": None}, "output 'out' has a loss and needs targets"),
        ({"y": np.full(45, "a")}, "y for 'out' must be an array of real numbers, got dtype <U1"),
        (
            {"sample_weight": np.full(45, None)},
            "sample_weight for 'out' must be an array of real numbers, got dtype object",
        ),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"epochs": -1}, "epochs must be at least 0"),
        ({"verbose": 3}, "verbose must be one of"),
        ({"validation_split": 1e-18}, "leaves nothing to validate"),
        ({"validation_split": 1.0}, "leaves nothing to train"),
        ({"validation_freq": 0}, "validation_freq must be at least 1"),
        ({"class_weight": {0: 1.0}, "sample_weight": np.ones(45)}, "either sample_weight or class_weight"),
        ({"class_weight": {0: -1.0}}, r"class_weight\[0\] must be at least 0"),
        ({"sample_weight": {"put": np.ones(45)}}, "unknown output in sample_weight 'put'. Did you mean 'out'"),
        ({"x": {"y": np.ones(45)}}, "unknown input 'y'"),
    ],
)
def test_mistakes(data, options, message):
    x = nl.Input((None, 3), name="x")
    model = nl.Model(x, nl.Dense(3, activation="softmax", name="out")(nl.LSTM(2)(x)))
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises((TypeError, ValueError), match=message):
        model.fit(**{"x": data[0], "y": data[1], "verbose": 0} | options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "msee"}, "Did you mean 'mse'"),
        ({"optimizer": "adem"}, "Did you mean 'adam'"),
        ({"metrics": ["acuracy"]}, "Did you mean 'accuracy'"),
        ({"loss": ["mse", "mse"]}, "loss must hold 1 items"),
        ({"loss": {"other": "mse"}}, "unknown output in loss 'other'"),
    ],
)
def test_compile_finds_mistakes(arguments, message):
    model = nl.Sequential([nl.Input((None, 3)), nl.LSTM(2)])
    with pytest.raises(ValueError, match=message):
        model.compile(**{"loss": "mse"} | arguments)


def test_something_must_be_made_small(data):
    model = nl.Sequential([nl.Input((None, 3)), nl.LSTM(2)])
    model.compile("adamw")
    before = model.get_weights()
    with pytest.raises(ValueError, match="nothing to make small; give compile a loss"):
        model.fit(*data, verbose=0)
    assert all(map(np.array_equal, before, model.get_weights()))


def test_compile_comes_first(data):
    model = nl.Sequential([nl.LSTM(2)])
    for call in (model.fit, model.evaluate, model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match=r"is not compiled; call compile\(optimizer, loss\) first"):
            call(*data)


def test_what_does_not_go_with_batches(make, data):
    for name, value in (("y", data[1]), ("batch_size", 3), ("validation_split", 0.1), ("shuffle", True)):
        with pytest.raises(ValueError, match=f"{name} does not go with an iterable"):
            make().fit(iter([data]), **{name: value}, verbose=0)


def test_a_regularizer_without_gradient_says_what_to_give(data):
    model = nl.Sequential([nl.Input((None, 3)), nl.LSTM(3, kernel_regularizer=lambda w: float((w**2).sum()))])
    model.compile("sgd", "mse")
    with pytest.raises(TypeError, match=r"has no gradient\(w\) method"):
        model.train_on_batch(data[0], np.zeros((45, 3)))


def test_inputs_are_left_alone(make, data):
    x, y = data[0].copy(), data[1].copy()
    with warnings.catch_warnings():
        x.flags.writeable = y.flags.writeable = False
        make().fit(x, y, **OPTIONS, validation_split=0.1)
    assert np.array_equal(x, data[0])
