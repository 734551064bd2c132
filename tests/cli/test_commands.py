"""`numbalstm` as a program: demo, info, doctor, version, and how it ends."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import numbalstm
from numbalstm import demo

PROGRAM = [sys.executable, "-W", "error", "-m", "numbalstm"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(numbalstm.__file__).parents[1])}


def test_demo(run, folder):
    status, out, err = run("demo", "--output", "figure.png")
    assert (status, err) == (0, "")
    errors = [float(number) for number in re.findall(r"^(?:LSTM|last year .*?) +(\d+\.\d+)$", out, re.MULTILINE)]
    assert len(errors) == 3
    assert errors[0] < 0.8 * min(errors[1:])
    assert re.search(r"\d µs a timestep", out)
    assert "figure.png" in out
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_demo_forecasts_are_those_of_keras():
    """The error that the training script printed, with the real Keras, for the same weeks."""
    result = demo.run()
    assert len(result.forecasts) == 575
    error = np.sqrt(np.mean(result.errors["LSTM"] ** 2))
    assert error == pytest.approx(0.709, abs=0.001)
    assert (result.dates[result.windows.start] >= demo.FIRST_UNSEEN).all()


def test_demo_mistakes(run, folder):
    status, _, err = run("demo", "--output", "figure.txt")
    assert status == 2
    assert "must name a .png file" in err
    status, _, err = run("demo", "--output", "none/figure.png")
    assert status == 2
    assert err.count("\n") == 1


def test_info(run, folder):
    status, out, err = run("info", "model.keras")
    assert (status, err) == (0, "")
    assert re.search(r"^memory +LSTM .*32.* 4,352 +float32$", out, re.MULTILINE)
    assert re.search(r"^next_year +Dense .*52.* 1,716 +float32$", out, re.MULTILINE)
    assert "6,068 parameters" in out


def test_info_of_a_model_that_is_not_supported(run, golden):
    golden("refused_gru")
    status, out, err = run("info", "refused_gru.keras")
    assert (status, err) == (0, "")
    assert re.search(r"^\S+ +GRU", out, re.MULTILINE)
    assert re.search(r"^\S+ +LSTM", out, re.MULTILINE)
    assert "cannot be loaded" in out
    assert "is a GRU, which numbalstm does not support" in out
    assert "Conv1D" in out.partition("cannot be loaded")[2]


def test_info_mistakes(run, folder):
    (folder / "broken.keras").write_bytes((folder / "model.keras").read_bytes()[:9000])
    for name, message in (("broken.keras", "broken.keras"), ("none.keras", "No such file"), (".", "is a folder")):
        status, out, err = run("info", name)
        assert (status, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1


def test_doctor(run):
    status, out, err = run("doctor")
    assert (status, err) == (0, "")
    for fact in ("numbalstm", "vectors", "tile, float32", "threading layers", "CUDA device", "cache", "writable"):
        assert re.search(rf"^  {fact} +\S", out, re.MULTILINE), fact


def test_wrong_vector_width_is_a_users_mistake(run, monkeypatch):
    monkeypatch.setenv("NUMBALSTM_SIMD", "17")
    status, _, err = run("doctor")
    assert status == 2
    assert "NUMBALSTM_SIMD must be 16, 32 or 64" in err


@pytest.mark.parametrize("arguments", [[], ["dmeo"], ["predict"], ["info"], ["doctor", "extra"], ["--unknown"]])
def test_wrong_command_lines(run, arguments):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("numbalstm: error: ")
    assert err.count("\n") == 1


def test_version():
    done = subprocess.run([*PROGRAM, "--version"], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert done.stdout == f"numbalstm {numbalstm.__version__}\n"


def test_program_with_a_mistake(folder):
    done = subprocess.run(
        [*PROGRAM, "predict", "model.keras", "none.npy", "-o", "y.npy"], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("numbalstm: error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs the signals of POSIX")
def test_ctrl_c_leaves_nothing(folder):
    np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (10_000_000, 104, 1)).flush()  # zeros take no space
    before = sorted(path.name for path in folder.iterdir())
    command = [*PROGRAM, "predict", "model.keras", "x.npy", "-o", "y.npy"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        while process.poll() is None and not any(path.stat().st_size for path in folder.glob(".y.npy.*.part")):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert (process.returncode, err) == (130, "numbalstm: interrupted\n")
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.skipif(os.name != "posix", reason="needs a pipe that breaks")
def test_reader_that_goes_away(folder):
    command = f"{' '.join(PROGRAM)} info model.keras | true"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, env=ENVIRONMENT, timeout=60
    )
    assert done.returncode in (0, 1)  # 0 when it had written everything before
    assert done.stderr == ""


def test_missing_extra(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    status, _, err = run("doctor")
    assert status == 2
    assert 'pip install "numbalstm[cli]"' in err
