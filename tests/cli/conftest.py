"""Models for the command line: the bundled one, and small ones that Keras 3 wrote."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

import numbalstm
from numbalstm import cli

GOLDEN = Path(__file__).parents[1] / "golden" / "models" / "keras3.zip"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with `model.keras`, the bundled model."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(Path(numbalstm.__file__).parent / "data" / "co2_forecast.keras", "model.keras")
    return tmp_path


@pytest.fixture
def golden(folder):
    """A function that puts a golden model into the working directory and gives its arrays."""

    def unpack(name):
        with zipfile.ZipFile(GOLDEN) as files:
            files.extract(f"{name}.keras", folder)
            if f"{name}.expected.npz" not in files.namelist():
                return {}
            with files.open(f"{name}.expected.npz") as file, np.load(file) as arrays:
                return dict(arrays)

    return unpack


@pytest.fixture
def run(capsys):
    """A function that runs a command line and gives exit status, standard output and standard error."""

    def run(*arguments):
        status = cli.main([str(argument) for argument in arguments])
        return (status, *capsys.readouterr())

    return run
