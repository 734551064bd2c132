"""Initializers, regularizers and constraints of the variants' weights, and what an unbuilt or stateful layer says."""

import numpy as np
import pytest

import numbalstm as nl
from numbalstm.functional import SlowPathWarning
from numbalstm.layers.lstm_variants import WEIGHT_OPTIONS
from numbalstm.parameters import NORM_ARRAYS

pytestmark = pytest.mark.filterwarnings(f"ignore::{SlowPathWarning.__module__}.{SlowPathWarning.__name__}")

EVERYTHING = {"peephole": True, "proj_size": 3, "layer_norm": True, "learn_initial_state": True}
KINDS = {
    "peephole": ["peephole_kernel"],
    "projection": ["projection_kernel"],
    "gamma": [name for name in NORM_ARRAYS if name.endswith("gamma")],
    "beta": [name for name in NORM_ARRAYS if name.endswith("beta")],
    "initial_state": ["initial_h", "initial_c"],
}
SHAPE = {"batch_input_shape": (None, None, 2)}


def cell(units, **options):
    """A cell, built."""
    made = nl.LSTMCell(units, **options)
    made.build((None, 2))
    return made


MAKERS = {
    "layer": lambda units, **options: nl.LSTM(units, **options, **SHAPE),
    "cell": cell,
    "rnn": lambda units, **options: nl.RNN(nl.LSTMCell(units, **options), **SHAPE),
    "stack": lambda units, **options: nl.StackedLSTM(units, num_layers=1, **options, **SHAPE),
}
every_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
every_kind = pytest.mark.parametrize("kind", KINDS)


def by_name(layer):
    return {weight.name.rpartition("/")[2]: weight for weight in layer.weights}


@every_maker
@every_kind
def test_options_reach_the_weights_of_their_kind_and_no_other(make, kind):
    options = {f"{kind}_initializer": nl.initializers.Constant(0.5), f"{kind}_regularizer": nl.regularizers.L1(2.0)}
    layer = make(4, **EVERYTHING, **options, **{f"{kind}_constraint": nl.constraints.MinMaxNorm(0.0, 0.25)})
    penalties = 0.0
    for name, weight in by_name(layer).items():
        mine = name in KINDS[kind]
        assert (weight.value == 0.5).all() == mine, name
        assert (weight.regularizer is not None) == (weight.constraint is not None) == mine, name
        penalties += 2.0 * np.abs(weight.value).sum() if mine else 0.0
    assert sum(layer.losses) == pytest.approx(penalties)
    before = {name: weight.value for name, weight in by_name(layer).items()}
    layer.apply_constraints()
    for name, weight in by_name(layer).items():
        assert (weight.value is before[name]) == (name not in KINDS[kind]), name


def test_names_follow_the_pattern_of_keras():
    assert list(KINDS) == list(dict.fromkeys(option.rpartition("_")[0] for option in WEIGHT_OPTIONS))
    assert {option.rpartition("_")[2] for option in WEIGHT_OPTIONS} == {"initializer", "regularizer", "constraint"}


def test_each_row_of_peepholes_is_drawn_by_itself():
    def drawn(seed):
        initializer = nl.initializers.GlorotUniform(seed=seed)
        return nl.LSTM(50, peephole=True, peephole_initializer=initializer, **SHAPE).peephole_kernel.value

    first = drawn(3)
    np.testing.assert_array_equal(first, drawn(3))
    assert len(np.unique(first)) == 150
    wide = np.abs(nl.LSTM(50, peephole=True, **SHAPE).peephole_kernel.value).max()
    assert np.sqrt(6 / (3 + 50)) * 0.9 < np.sqrt(6 / 100) * 0.9 < wide <= np.sqrt(6 / 100) or wide <= np.sqrt(6 / 53)
    given = np.arange(12.0).reshape(3, 4)
    layer = nl.LSTM(4, peephole=True, peephole_initializer=given, **SHAPE)
    np.testing.assert_array_equal(layer.peephole_kernel.value, given)
    with pytest.raises(ValueError, match=r"the initial peephole_kernel must have shape \(3, 4\), got \(4, 3\)"):
        nl.LSTM(4, peephole=True, peephole_initializer=given.reshape(4, 3), **SHAPE)


@every_maker
def test_config_round_trip(make):
    plain = make(4, **EVERYTHING)
    assert not set(WEIGHT_OPTIONS) & set(_cell_config(plain))
    options = {
        **{f"{kind}_initializer": "orthogonal" if kind == "projection" else "random_normal" for kind in KINDS},
        **{f"{kind}_regularizer": "l2" for kind in KINDS},
        **{f"{kind}_constraint": "non_neg" for kind in KINDS},
    }
    assert options.keys() == set(WEIGHT_OPTIONS)
    layer = make(4, **EVERYTHING, **options)
    assert options.keys() <= _cell_config(layer).keys()
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    again.build(layer.build_shape)
    for a, b in zip(again.weights, layer.weights, strict=True):
        assert type(a.regularizer) is type(b.regularizer)
        assert type(a.constraint) is type(b.constraint)


def _cell_config(layer):
    config = layer.get_config()
    return config["cell"]["config"] if "cell" in config else config


def test_training_adds_penalties_and_keeps_constraints(rng):
    options = {f"{kind}_regularizer": nl.regularizers.L2(0.5) for kind in KINDS}
    options |= {"peephole_constraint": "non_neg", "initial_state_initializer": "ones"}
    model = nl.Sequential([nl.Input((5, 2)), nl.LSTM(4, **EVERYTHING, **options)])
    model.compile(nl.optimizers.SGD(0.1), "mse")
    x, y = rng.normal(size=(3, 5, 2)).astype("f"), rng.normal(size=(3, 3)).astype("f")
    before = {name: weight.value.copy() for name, weight in by_name(model).items()}
    out, pullback = model.vjp(x, training=True)
    gradients = dict(zip(before, pullback(2 * (out - y) / y.size).weights, strict=True))
    model.train_on_batch(x, y)
    penalised = {name for names in KINDS.values() for name in names}
    for name, weight in by_name(model).items():
        expected = before[name] - 0.1 * (gradients[name] + (before[name] if name in penalised else 0.0))
        expected = np.maximum(expected, 0.0) if name == "peephole_kernel" else expected
        np.testing.assert_allclose(weight.value, expected, rtol=1e-5, atol=1e-6, err_msg=name)


@every_kind
def test_options_of_weights_that_are_not_there(kind):
    variant = {"projection": "proj_size", "gamma": "layer_norm", "beta": "layer_norm"}.get(kind, kind)
    variant = "learn_initial_state" if kind == "initial_state" else variant
    message = f"LSTM: {kind}_regularizer is for weights that are not there; give {variant} too."
    with pytest.raises(ValueError, match=message):
        nl.LSTM(4, **{f"{kind}_regularizer": "l2"})


@pytest.mark.parametrize("cls", [nl.LSTM, nl.LSTMCell, nl.StackedLSTM])
def test_misspelt_options(cls):
    message = r"unknown argument 'peephole_initialiser'\. Did you mean 'peephole_initializer'"
    with pytest.raises(ValueError, match=message):
        cls(4, peephole_initialiser="zeros")
    with pytest.raises(ValueError, match=r"LSTM\w*: peephole_constraint: unknown constraint 'max'"):
        cls(4, peephole=True, peephole_constraint="max")


# ---- before a layer is built, and with stored states -------------------------------------------------------------


def test_an_unbuilt_layer_says_so(rng):
    learned = nl.LSTMCell(4, learn_initial_state=True)
    for call in (
        lambda: learned.get_initial_state(2),
        lambda: nl.StackedRNNCells([nl.LSTMCell(3), learned]).get_initial_state(2),
        lambda: nl.LSTM(4).parameters,
        lambda: nl.LSTMCell(4).parameters,
        lambda: nl.StackedLSTM(4).directions[0].parameters,
        lambda: nl.LSTMCell(4).call(np.zeros((2, 3)), [np.zeros((2, 4))] * 2),
        lambda: nl.LSTM(4).call(np.zeros((2, 3, 3), "f")),
    ):
        with pytest.raises(ValueError, match="is not built yet, so it has no"):
            call()
    assert [state.shape for state in nl.LSTMCell(4).get_initial_state(2)] == [(2, 4)] * 2
    learned.build((None, 3))
    assert [state.shape for state in learned.get_initial_state(2)] == [(2, 4)] * 2


@pytest.mark.parametrize("cells", [lambda one: one, lambda one: [nl.LSTMCell(3), one]], ids=["cell", "list"])
def test_stored_states_and_learned_states_do_not_go_together(cells):
    learned = nl.LSTMCell(4, learn_initial_state=True)
    with pytest.raises(ValueError, match="RNN: learn_initial_state does not go with stateful=True, whose states are"):
        nl.RNN(cells(learned), stateful=True)
    assert nl.RNN(cells(learned))(np.zeros((2, 3, 5), "f")).shape == (2, 4)


# ---- weight drop -------------------------------------------------------------------------------------------------


def test_weight_drop_packs_the_recurrent_kernel_alone_and_only_in_training(rng, monkeypatch):
    from numbalstm.backends import cpu

    packed = []
    whole = cpu.packed_matrix
    monkeypatch.setattr(cpu, "packed_matrix", lambda matrix, tile: packed.append(matrix.shape) or whole(matrix, tile))
    layer, x = nl.LSTM(5, weight_drop=0.5, seed=1), rng.normal(size=(2, 4, 3)).astype("f")
    for _ in range(3):
        layer(x)
    assert packed == [(3, 20), (5, 20)]
    for _ in range(3):
        layer(x, training=True)
    assert packed[2:] == [(5, 20)] * 3
    _, pullback = layer.vjp(x, training=True)
    pullback(np.ones((2, 5), "f"))
    assert packed[5:] == [(5, 20)]
    layer.set_weights(layer.get_weights())
    layer(x, training=True)
    assert packed[6:] == [(3, 20), (5, 20)]


def test_a_cell_drops_weights_once_for_all_its_steps(rng):
    layer, x = nl.LSTMCell(5, weight_drop=0.5, seed=1), rng.normal(size=(2, 3)).astype("f")
    states = layer(x, layer.get_initial_state(2), training=True)[1]
    first = layer._dropped[2]
    layer(x, states, training=True)
    assert layer._dropped[2] is first
    layer.reset_recurrent_dropout_mask()
    layer(x, states, training=True)
    assert layer._dropped[2] is not first
    layer.set_weights([2 * weight for weight in layer.get_weights()])
    doubled = layer(x, states, training=True)[0]
    assert not np.allclose(doubled, layer(x, states)[0])
    np.testing.assert_array_equal(layer._dropped[2].kernel, layer.kernel.value)
    dropped = layer._dropped[2].recurrent_kernel
    assert (np.isclose(dropped, 2 * layer.recurrent_kernel.value) | (dropped == 0)).all()


def test_records_that_differ_in_the_recurrent_kernel(rng):
    parameters = nl.LSTM(5, peephole=True, proj_size=2, **SHAPE).parameters
    other = parameters.with_recurrent_kernel(np.ones((2, 20), "f"))
    assert other.kernel is parameters.kernel
    assert (other.recurrent_kernel == 1).all()
    assert not other.recurrent_kernel.flags.writeable
    assert other.common is parameters.common
    assert other.packed is not parameters.packed
    with pytest.raises(ValueError, match=r"recurrent_kernel must have shape \(2, 20\), got \(5, 20\)"):
        parameters.with_recurrent_kernel(np.ones((5, 20), "f"))
