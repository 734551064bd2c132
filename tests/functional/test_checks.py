"""Argument rules: what passes, what is refused, in which words; and the imports of optional packages."""

import sys

import numpy as np
import pytest

from numbalstm import checks, extras


@pytest.mark.parametrize("value", [1, 7, np.int64(3), np.uint8(2)])
def test_positive_integers_pass(value):
    result = checks.positive_integer("LSTM", "units", value)
    assert result == value
    assert type(result) is int


def test_bounds_of_integers():
    assert checks.integer("LSTM", "axis", -3) == -3
    assert checks.integer("LSTM", "seed", 0, minimum=0) == 0


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, ValueError, r"^LSTM: units must be at least 1, got 0\.$"),
        (-3, ValueError, r"^LSTM: units must be at least 1, got -3\.$"),
        (2.0, TypeError, r"^LSTM: units must be an integer, got 2\.0\.$"),
        (float("nan"), TypeError, r"^LSTM: units must be an integer, got nan\.$"),
        (np.float32(4), TypeError, r"^LSTM: units must be an integer, got 4\.0\.$"),
        ("8", TypeError, r"^LSTM: units must be an integer, got '8'\.$"),
        (True, TypeError, r"^LSTM: units must be an integer, got True\.$"),
        (np.True_, TypeError, r"^LSTM: units must be an integer, got True\.$"),
        (None, TypeError, r"^LSTM: units must be an integer, got None\.$"),
    ],
)
def test_positive_integers_refused(value, error, message):
    with pytest.raises(error, match=message):
        checks.positive_integer("LSTM", "units", value)


@pytest.mark.parametrize("value", [0, 1, 0.25, np.float32(0.5)])
def test_fractions_pass(value):
    result = checks.fraction("LSTM", "dropout", value)
    assert result == value
    assert type(result) is float


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (1.5, ValueError, r"^LSTM: dropout must be in \[0, 1\], got 1\.5\.$"),
        (-0.1, ValueError, r"^LSTM: dropout must be in \[0, 1\], got -0\.1\.$"),
        (np.nan, ValueError, r"^LSTM: dropout must be in \[0, 1\], got nan\.$"),
        ("0.5", TypeError, r"^LSTM: dropout must be a number in \[0, 1\], got '0\.5'\.$"),
        (None, TypeError, r"^LSTM: dropout must be a number in \[0, 1\], got None\.$"),
        (0.5j, TypeError, r"^LSTM: dropout must be a number in \[0, 1\], got an object of type complex\.$"),
    ],
)
def test_fractions_refused(value, error, message):
    with pytest.raises(error, match=message):
        checks.fraction("LSTM", "dropout", value)


def test_numbers():
    assert checks.number("L2", "l2", 2) == 2.0
    with pytest.raises(ValueError, match=r"^L2: l2 must be finite, got inf\.$"):
        checks.number("L2", "l2", np.inf)
    with pytest.raises(ValueError, match=r"^L2: l2 must be at least 0, got -1\.$"):
        checks.number("L2", "l2", -1, minimum=0.0)
    with pytest.raises(TypeError, match=r"^L2: l2 must be a number, got an array of shape \(2,\) and dtype float64\.$"):
        checks.number("L2", "l2", np.ones(2))


def test_choices():
    assert checks.one_of("LSTM", "use_cudnn", True, ("auto", True, False)) is True
    for value, shown in ((1, "1"), ("on", "'on'"), (np.ones(2), r"an array of shape \(2,\)")):
        with pytest.raises(ValueError, match=rf"^LSTM: use_cudnn must be one of 'auto', True, False, got {shown}"):
            checks.one_of("LSTM", "use_cudnn", value, ("auto", True, False))


def test_shapes():
    array = np.zeros((8, 32))
    checks.shape("LSTM", "state", array, (8, 32))
    checks.shape("LSTM", "state", array, ("batch", None))
    for expected, shown in (
        ((8, 16), r"\(8, 16\)"),
        (("batch", "time", 4), r"\(batch, time, 4\)"),
        ((256,), r"\(256,\)"),
        ((), r"\(\)"),
        ((None, 3), r"\(None, 3\)"),
    ):
        with pytest.raises(ValueError, match=rf"^LSTM: state must have shape {shown}, got \(8, 32\)\.$"):
            checks.shape("LSTM", "state", array, expected)


def test_unknown_names():
    error = checks.unknown("LSTM", "activation", "rleu", ["tanh", "relu"])
    assert str(error) == "LSTM: unknown activation 'rleu'. Did you mean 'relu'? Known: relu, tanh."
    assert isinstance(error, ValueError)
    assert str(checks.unknown("LSTM", "mode", 3, ["b", "a"])) == "LSTM: unknown mode 3. Known: a, b."


def test_descriptions_are_short():
    assert len(checks.describe("x" * 500)) == 60
    assert checks.describe(np.float64(0.1)) == "0.1"
    assert checks.describe(int) == "the class int"
    assert checks.describe(np.dtype("f4")) == "dtype('float32')"


def test_missing_package_names_its_extra(tmp_path, monkeypatch):
    assert extras.require("json.decoder", "io") is sys.modules["json.decoder"]
    with pytest.raises(
        ImportError, match=r'^no_such_package is needed for this but is not .* pip install "numbalstm\[io\]"\.$'
    ):
        extras.require("no_such_package.part", "io")
    (tmp_path / "broken_package.py").write_text("import another_missing_one\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="another_missing_one"):
        extras.require("broken_package", "io")
