"""Prediction in blocks: the same numbers, bounded memory, files in and out."""

import numpy as np
import pytest

import numbalstm as nl


@pytest.fixture
def model():
    a, b = nl.Input((None, 3), name="a"), nl.Input((2,), name="b")
    y = nl.LSTM(4, return_sequences=True, name="y")(a)
    return nl.Model([a, b], [y, nl.Concatenate(name="z")([nl.GlobalMaxPooling1D()(y), b])], name="m")


def data(rng, samples=7):
    return [rng.standard_normal((samples, 5, 3)).astype("f"), rng.standard_normal((samples, 2)).astype("f")]


@pytest.mark.parametrize("size", [1, 3, 7, 50])
def test_blocks_give_the_bytes_of_the_whole(rng, model, size):
    x = data(rng)
    for part, whole in zip(model.predict(x, batch_size=size), model(x), strict=True):
        assert part.dtype == whole.dtype
        np.testing.assert_array_equal(part, whole)


def test_no_sample_is_held_longer_than_its_block(rng, model):
    sizes = []
    call = model.call
    model.call = lambda block, training: sizes.append([len(array) for array in block]) or call(block, training)
    model.predict(data(rng), batch_size=3)
    assert sizes == [[3, 3], [3, 3], [1, 1]]


def test_the_default_block_has_32_samples(rng, model):
    calls = []
    model.predict(data(rng, 70), progress=lambda *counts: calls.append(counts))
    assert calls == [(32, 70), (64, 70), (70, 70)]


def test_nothing_in_nothing_out(model):
    y, z = model.predict({"a": np.zeros((0, 5, 3)), "b": np.zeros((0, 2))})
    assert (y.shape, z.shape) == ((0, 5, 4), (0, 6))


def test_files_in_and_out(rng, model, tmp_path):
    x = data(rng)
    np.save(tmp_path / "a.npy", x[0])
    given = np.load(tmp_path / "a.npy", mmap_mode="r")
    out = [
        np.lib.format.open_memmap(tmp_path / "y.npy", "w+", "f4", (7, 5, 4)),
        np.empty((7, 6), np.float64),
    ]
    assert model.predict([given, x[1]], batch_size=2, out=out) is out
    out[0].flush()
    expected = model(x)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected[0])
    np.testing.assert_array_equal(out[1], expected[1])


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (lambda: np.empty((7, 5, 4)), ValueError, "out must hold 2 arrays, got 1"),
        (
            lambda: [np.empty((6, 5, 4)), np.empty((7, 6))],
            ValueError,
            r"out for 'y' must have 7 samples, got shape \(6,",
        ),
        (
            lambda: [np.empty((7, 5, 3)), np.empty((7, 6))],
            ValueError,
            r"out for 'y' must take blocks of shape \(7, 5, 4\)",
        ),
        (
            lambda: [np.empty((7, 5, 4), int), np.empty((7, 6))],
            ValueError,
            "out for 'y' must take blocks .* got .*int64",
        ),
        (lambda: [np.empty((7, 5, 4)), None], TypeError, "out for 'z' must be an array, got None"),
    ],
)
def test_out_that_does_not_fit(rng, model, out, error, message):
    with pytest.raises(error, match=message):
        model.predict(data(rng), out=out())


def test_inputs_must_agree_in_their_samples(rng, model):
    x = data(rng)
    with pytest.raises(ValueError, match="Model 'm': all inputs must have one number of samples, got a: 7, b: 6"):
        model.predict([x[0], x[1][:6]])
    with pytest.raises(ValueError, match="got a single number"):
        model.predict([x[0], 3.0])


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (2.0, TypeError), (True, TypeError)])
def test_block_sizes_that_are_none(rng, model, size, error):
    with pytest.raises(error, match="batch_size must be"):
        model.predict(data(rng), batch_size=size)


def test_stateful_blocks_carry_states_and_must_be_full(rng):
    model = nl.Sequential([nl.Input((2, 3), batch_size=4), nl.LSTM(2, stateful=True)], name="s")
    x = rng.standard_normal((8, 2, 3)).astype("f")
    y = model.predict(x)
    model.reset_states()
    np.testing.assert_array_equal(y[:4], model(x[:4]))
    np.testing.assert_array_equal(y[4:], model(x[4:]))
    with pytest.raises(ValueError, match="made for a batch size of 4, which does not divide 7 samples"):
        model.predict(x[:7])
    with pytest.raises(ValueError, match="made for a batch size of 4, got batch_size=2"):
        model.predict(x, batch_size=2)


def test_predict_builds_a_chain(rng):
    model = nl.Sequential([nl.LSTM(2, stateful=True)])
    x = rng.standard_normal((6, 4, 3)).astype("f")
    y = model.predict(x, batch_size=3)
    fresh = nl.LSTM(2, weights=model.get_weights())
    np.testing.assert_array_equal(y[:3], fresh(x[:3]))
    assert not np.array_equal(y[3:], fresh(x[3:]))


def test_training_layers_rest():
    model = nl.Sequential([nl.Input((50,)), nl.Dropout(0.5)])
    x = np.ones((3, 50), np.float32)
    np.testing.assert_array_equal(model.predict(x), x)
    assert (model(x, training=True) == 0).any()


def test_run_by_name_in_blocks(rng, model):
    x = data(rng)
    named = model.run({"b": x[1], "a": x[0]}, batch_size=2)
    assert list(named) == ["y", "z"]
    np.testing.assert_array_equal(named["z"], model(x)[1])
    with pytest.raises(TypeError, match="run needs a dict of arrays by input name"):
        model.run(x)


def test_verbose_writes_to_the_error_stream(rng, model, capsys):
    model.predict(data(rng), batch_size=4, verbose=1)
    assert capsys.readouterr() == ("", "\r4/7\r7/7\n")
    model.predict(data(rng), batch_size=4, verbose=2)
    assert capsys.readouterr() == ("", "\r7/7\n")
    model.predict(data(rng), batch_size=4, verbose="auto")  # no terminal
    assert capsys.readouterr() == ("", "")
    with pytest.raises(ValueError, match="verbose must be one of"):
        model.predict(data(rng), verbose=3)


@pytest.mark.parametrize(("given", "shape"), [((7, 5), (5, 1)), ((7, 5, 1), (5,))])
def test_a_last_axis_of_one_is_added_or_dropped(given, shape):
    model = nl.Sequential([nl.Input(shape), nl.Flatten()])
    assert model.predict(np.ones(given)).shape == (7, 5)
