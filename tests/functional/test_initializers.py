"""Initializers: distributions of Keras, seeds, names, configs and messages."""

import json
from pathlib import Path

import numpy as np
import pytest

from numbalstm import initializers
from numbalstm.initializers.distributions import TRUNCATED_STD

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CASES = {case["id"]: case for case in json.loads((GOLDEN / "manifest.json").read_text())["cases"]}
DRAWS = 400
PARAMETERS = [
    pytest.param(entry, id=f"{entry['name']}-{'-'.join(map(str, entry.get('args', {}).values()))}-{entry['shape']}")
    for entry in CASES["fn-initializers"]["initializer_params"]
]


class Replay:
    """A generator that hands out given normal numbers."""

    def __init__(self, numbers):
        self.numbers = numbers

    def standard_normal(self, shape):
        assert shape == self.numbers.shape
        return self.numbers


@pytest.mark.parametrize("entry", PARAMETERS)
def test_distributions_are_those_of_keras(entry, rng):
    maker = {"class_name": entry["name"], "config": entry.get("args", {})}
    initializer = initializers.get(maker)
    values = np.concatenate([initializer(entry["shape"], "float64", rng).ravel() for _ in range(DRAWS)])
    if entry["dist"] == "uniform":
        low, high = entry["minval"], entry["maxval"]
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < values.max() <= high
        std = (high - low) / np.sqrt(12)
    else:
        truncated = entry["dist"].startswith("truncated")
        std = entry["stddev"] * (TRUNCATED_STD if truncated else 1.0)
        edge = np.abs(values - entry["mean"]).max() / entry["stddev"]
        assert (1.9 < edge <= 2.0) if truncated else edge > 2.2
    # Five standard errors of the mean and of the standard deviation.
    assert abs(values.mean() - entry.get("mean", 0.0)) < 5 * std / np.sqrt(values.size)
    assert values.std() == pytest.approx(std, rel=5 / np.sqrt(2 * values.size))


@pytest.mark.parametrize("k", [0, 1, 2])
def test_orthogonal_and_identity_numbers_are_those_of_keras(k):
    case, manifest = np.load(GOLDEN / "fn-initializers.npz"), CASES["fn-initializers"]
    expected = case[f"orthogonal{k}"]
    initializer = initializers.Orthogonal(manifest["orthogonal_gain"])
    values = initializer._draw(expected.shape, Replay(case[f"normal{k}"]))
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-10)
    identity = initializers.Identity(manifest["identity_gain"])
    np.testing.assert_array_equal(identity(expected.shape, "float64"), case[f"identity{k}"])


def test_orthogonal_rows_and_gain():
    wide = initializers.get("orthogonal")((3, 12), "float64", seed=0)
    np.testing.assert_allclose(wide @ wide.T, np.eye(3), atol=1e-14)
    tall = initializers.Orthogonal(gain=-1.5)((7, 4), "float64", seed=1)
    np.testing.assert_allclose(tall.T @ tall, 2.25 * np.eye(4), atol=1e-14)
    assert initializers.Orthogonal()((2, 3, 4), seed=0).shape == (2, 3, 4)


def test_constants():
    np.testing.assert_array_equal(initializers.get("zeros")((2, 3)), np.zeros((2, 3)))
    np.testing.assert_array_equal(initializers.get("ones")((3,)), np.ones(3))
    np.testing.assert_array_equal(initializers.Constant(-0.5)((2, 1)), [[-0.5], [-0.5]])
    np.testing.assert_array_equal(initializers.Identity(2.0)((2, 3)), [[2, 0, 0], [0, 2, 0]])


def test_fans():
    wide, vector = (3, 50), (50,)
    assert np.abs(initializers.LecunUniform()(wide, seed=0)).max() > 0.9  # sqrt(3 / 3)
    assert np.abs(initializers.VarianceScaling(1, "fan_out", "uniform")(wide, seed=0)).max() < np.sqrt(3 / 50)
    assert 0.9 < np.abs(initializers.GlorotUniform()(vector, seed=0)).max() / np.sqrt(3 / 50) < 1
    assert np.abs(initializers.HeUniform()((5, 2, 4), seed=0)).max() < np.sqrt(6 / 10)


RANDOM = [
    name
    for name, cls in initializers.names.NAMED.items()
    if issubclass(cls, initializers.RandomInitializer) and cls is not initializers.ChronoInitializer
]


@pytest.mark.parametrize("name", RANDOM)
def test_seeds(name):
    cls = type(initializers.get(name))
    shape = (4, 8)
    seeded = cls(seed=7)
    np.testing.assert_array_equal(seeded(shape), seeded(shape))
    np.testing.assert_array_equal(seeded(shape, seed=8), seeded(shape))
    np.testing.assert_array_equal(cls()(shape, seed=7), seeded(shape))
    assert (cls(seed=8)(shape) != seeded(shape)).any()
    assert (cls()(shape) != cls()(shape)).any()
    stream = cls(seed=np.random.default_rng(7))
    first, second = stream(shape), stream(shape)
    np.testing.assert_array_equal(first, seeded(shape))
    assert (first != second).any()


def test_chrono_starts_the_gates_as_its_paper_says():
    chrono = initializers.ChronoInitializer(max_time=90, seed=3)
    i, f, g, o = np.split(chrono((4 * 500,), "float64"), 4)
    assert np.array_equal(i, -f)
    assert not g.any()
    assert not o.any()
    span = np.exp(f)
    assert 1 <= span.min() < 2
    assert 87 < span.max() < 89
    assert abs(span.mean() - 45) < 3
    assert initializers.get(initializers.serialize(chrono)) == chrono
    with pytest.raises(ValueError, match=r"shape must be \(4 \* units,\), the bias of an LSTM, got \(3, 4\)"):
        chrono((3, 4))
    with pytest.raises(ValueError, match="max_time must be at least 2, got 1"):
        initializers.ChronoInitializer(1)


@pytest.mark.parametrize("name", ["glorot_uniform", "orthogonal", "zeros", "truncated_normal"])
def test_types_are_cast_at_the_end(name):
    initializer, shape = initializers.get(name), (5, 20)
    exact = initializer(shape, np.float64, seed=3)
    assert exact.dtype == np.float64
    assert initializer(shape, seed=3).dtype == np.float32
    np.testing.assert_array_equal(initializer(shape, "float32", seed=3), exact.astype(np.float32))
    np.testing.assert_array_equal(initializer(shape, "float16", seed=3), exact.astype(np.float16))
    assert initializer(shape, "float16", seed=3).dtype == np.float16


# ---- names and configs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("glorot_uniform", "GlorotUniform"),
        ("lecun_normal", "LecunNormal"),
        ("zero", "Zeros"),
        ("one", "Ones"),
        ("uniform", "RandomUniform"),
        ("normal", "RandomNormal"),
        ("variance_scaling", "VarianceScaling"),
        ("OrthogonalInitializer", "orthogonal"),
        ("IdentityInitializer", "Identity"),
    ],
)
def test_aliases(name, other):
    assert initializers.get(name) == initializers.get(other)


def test_identifiers(rng):
    assert initializers.get(None) is None
    assert initializers.get(None, default="zeros") == initializers.Zeros()
    assert initializers.get("ones", default="zeros") == initializers.Ones()
    assert initializers.get(initializers.HeNormal) == initializers.HeNormal()
    instance = initializers.Orthogonal(2.0, seed=1)
    assert initializers.get(instance) is instance
    assert instance != initializers.Orthogonal(2.0, seed=2)
    assert repr(instance) == "Orthogonal(gain=2.0, seed=1)"
    assert initializers.VarianceScaling(distribution="normal") == initializers.VarianceScaling()

    def ramp(shape, dtype):
        return np.arange(np.prod(shape), dtype=dtype).reshape(shape)

    np.testing.assert_array_equal(initializers.get(ramp)((2, 3)), [[0, 1, 2], [3, 4, 5]])
    assert initializers.serialize(initializers.get(ramp)) is ramp
    array = rng.normal(size=(3, 4))
    given = initializers.get(array)
    result = given((3, 4), "float64")
    np.testing.assert_array_equal(result, array)
    result[:] = 0
    np.testing.assert_array_equal(given((3, 4), "float64"), array)
    np.testing.assert_array_equal(initializers.serialize(given), array)
    assert given == initializers.get(array.copy()) != initializers.get(array + 1)


@pytest.mark.parametrize(("case", "generation"), [("cfg-k3", "keras3"), ("cfg-v1", "keras2")])
def test_configs_are_those_of_keras(case, generation):
    expected = CASES[case]["expected_config"]
    for weight, name in (("kernel", "glorot_uniform"), ("recurrent", "orthogonal"), ("bias", "zeros")):
        config = expected[f"{weight}_initializer"]
        assert initializers.serialize(initializers.get(name), generation) == config
        assert initializers.get(config) == initializers.get(name)


@pytest.mark.parametrize("generation", ["keras3", "keras2"])
@pytest.mark.parametrize(
    "initializer",
    [
        initializers.Constant(0.25),
        initializers.Identity(),
        initializers.Identity(3.0),
        initializers.RandomUniform(-1, 2, seed=3),
        initializers.RandomNormal(0.5, 2.0),
        initializers.TruncatedNormal(0.5, 2.0, 1),
        initializers.VarianceScaling(0.3, "fan_avg", "uniform", 4),
        initializers.HeUniform(9),
        initializers.Orthogonal(0.1, 2),
    ],
    ids=repr,
)
def test_round_trip(initializer, generation):
    written = json.loads(json.dumps(initializers.serialize(initializer, generation)))
    assert initializers.get(written) == initializer
    legacy = {"class_name": written["class_name"], "config": written["config"]}
    assert initializers.get(legacy) == initializer
    assert type(initializer).from_config(initializer.get_config()) == initializer


def test_configs_of_older_and_newer_versions():
    old = {"class_name": "GlorotUniform", "config": {"seed": None, "dtype": "float32"}}
    assert initializers.get(old) == initializers.GlorotUniform()
    generator = {"class_name": "SeedGenerator", "config": {"seed": 5, "name": "seed_generator"}}
    assert initializers.get({"class_name": "HeNormal", "config": {"seed": generator}}) == initializers.HeNormal(5)


# ---- messages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: initializers.get("glorot_unifrom", where="LSTM: kernel_initializer"),
            ValueError,
            r"^LSTM: kernel_initializer: unknown initializer 'glorot_unifrom'\. Did you mean 'glorot_uniform'\?",
        ),
        (lambda: initializers.get(5), ValueError, "unknown initializer 5"),
        (lambda: initializers.get({"class_name": "STFT", "config": {}}), ValueError, "unknown initializer 'STFT'"),
        (
            lambda: initializers.get({"class_name": "Zeros", "config": {"value": 1}}),
            ValueError,
            "Zeros has no setting 'value'",
        ),
        (lambda: initializers.get({"class_name": "Zeros", "config": 3}), ValueError, "must be a dict, got 3"),
        (
            lambda: initializers.get({"class_name": "HeNormal", "config": {"input_axes": [0]}}),
            ValueError,
            r"input_axes of an initializer must be None, got \[0\]",
        ),
        (lambda: initializers.VarianceScaling(0), ValueError, "VarianceScaling: scale must be positive, got 0"),
        (lambda: initializers.VarianceScaling(np.nan), ValueError, "scale must be finite"),
        (lambda: initializers.VarianceScaling(mode="fan"), ValueError, "mode must be one of 'fan_in', .* got 'fan'"),
        (lambda: initializers.VarianceScaling(distribution="t"), ValueError, "distribution must be one of"),
        (
            lambda: initializers.Orthogonal()((4,)),
            ValueError,
            r"Orthogonal: shape must have two axes or more, got \(4,\)",
        ),
        (lambda: initializers.Identity()((4,)), ValueError, r"Identity: shape must be \(rows, columns\), got \(4,\)"),
        (lambda: initializers.Zeros()("ab"), TypeError, "shape must be a sequence of integers, got 'ab'"),
        (lambda: initializers.Zeros()((2, -1)), ValueError, "a size in shape must be at least 0, got -1"),
        (lambda: initializers.Zeros()((2,), "int32"), ValueError, "Zeros: dtype: unknown dtype policy 'int32'"),
        (lambda: initializers.HeNormal(seed="x"), ValueError, "HeNormal: seed must be None, an integer or .* got 'x'"),
        (lambda: initializers.HeNormal(seed=1.5), ValueError, "seed must be None"),
        (lambda: initializers.HeNormal(seed=-1), ValueError, "seed must be at least 0, got -1"),
        (lambda: initializers.Zeros()((2,), seed=[1]), ValueError, "seed must be None"),
        (lambda: initializers.get(np.ones((3, 2)))((2, 3)), ValueError, r"must have shape \(2, 3\), got \(3, 2\)"),
        (
            lambda: initializers.get(lambda shape, dtype: np.ones(3))((2, 3)),
            ValueError,
            r"initializer <lambda>: its result must have shape \(2, 3\), got \(3,\)",
        ),
    ],
)
def test_messages(make, error, message):
    with pytest.raises(error, match=message):
        make()
