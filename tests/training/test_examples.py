"""The examples run in small; in full they are commands, see their first lines."""

import importlib
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    return importlib.import_module


def test_digits(example, tmp_path, capsys):
    (accuracy,), (second,) = example("digits").main(["--epochs", "8", "--learnt", "600", "--seeds", "2"])
    assert accuracy > 0.4
    assert second > 0.4
    assert "mean: numbalstm" in capsys.readouterr().out
    assert (tmp_path / "digits.png").stat().st_size > 10_000


def test_digits_are_the_same_every_time(example):
    digits = example("digits")
    first, again = (digits.train(7, 1, 100)[0].get_weights() for _ in range(2))
    assert all(map(np.array_equal, first, again))


def test_co2_goes_on_where_it_was(example, tmp_path):
    co2 = example("co2")
    arguments = ["--units", "16", "--every", "2", "--epochs", "15", "--checkpoint", "co2.ckpt"]
    found = co2.main(arguments)
    assert found["LSTM"] < found["last year again"]
    assert (tmp_path / "co2.png").stat().st_size > 10_000
    assert co2.main(arguments) == found  # there was nothing left to do
