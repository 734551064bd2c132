"""benchmarks/gpu/verify.py as far as it goes without a GPU: its checks pass in the simulator, and it resumes."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from simulated_device import SimulatedDevice, product_by_numpy

from numbalstm.backends.cuda import choice, device, mode, presence, products, rehearsal

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu" / "verify.py"


@pytest.fixture
def verify(monkeypatch):
    monkeypatch.setattr(mode, "_mode", "fp32")
    monkeypatch.setattr(mode, "_kernel", "auto")
    monkeypatch.syspath_prepend(SCRIPT.parent)
    spec = importlib.util.spec_from_file_location("verify", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_correctness_is_judged_against_float64(verify):
    found = verify.checks.correctness(SimulatedDevice(), "fp32", "grid", 3, 4, 3, 5, 1e-5)
    assert found["good"]
    assert {"kernel", "recurrent_kernel", "bias", "x", "forward"} <= set(found["masked"])
    assert not verify.checks.correctness(SimulatedDevice(), "fp32", "grid", 3, 4, 3, 5, 1e-12)["good"]
    assert verify.checks.worst(np.array([np.nan, 1.0]), np.ones(2)) == float("inf")


def test_variants(verify):
    assert verify.checks.variants(SimulatedDevice())["good"]


def test_whole_rows(verify):
    assert verify.checks.whole_rows(SimulatedDevice())["good"]


def test_checkpoints(verify):
    assert verify.checks.checkpoints(SimulatedDevice())["good"]


def test_what_the_sanitizer_watches(verify, monkeypatch):
    monkeypatch.setattr(products, "product", product_by_numpy)
    device = SimulatedDevice(limits=choice.H100._replace(multiprocessors=5))
    verify.checks.small(device)
    assert {"step", "grid", "cluster_simt", "cluster", "cluster_backward", "tiles"} <= set(device.launches)


def test_the_host_side(verify, driver, monkeypatch):
    """What concerns streams, graphs and layers runs on a simulated driver, with times that mean nothing."""
    monkeypatch.setattr(presence, "capability", lambda number: (8, 0))
    driver.device.properties.multiprocessor_count = 0  # room for the step kernels alone
    found = device.get()
    monkeypatch.setattr(verify.timing, "timed", lambda call, where: float(len([call(i) for i in range(3)])))
    monkeypatch.setattr(verify.timing, "per_call", lambda call, where: float(call() is None))
    assert verify.timing.stream_of_steps(found, [(2, 3, 4)], 3)["good"]
    assert verify.checks.layers_on_the_gpu(found, (2, 3, 2), 3)["good"]
    told = verify.timing.at_once(found, [("auto", 1, 3), ("step", 2, 3)], 3, 2)
    assert told["good"]
    assert "launches 3" in verify.table({"at once": told})[0]
    assert verify.checks.memory(found)["good"]


def test_compiling_ahead(verify, monkeypatch, capsys):
    monkeypatch.setattr(rehearsal, "build", lambda found, limits: None)
    monkeypatch.setattr(verify.timing, "CASES", verify.timing.CASES[:1])
    monkeypatch.setattr(verify.checks, "CORRECTNESS", verify.checks.CORRECTNESS[:2])
    monkeypatch.setattr(sys, "argv", ["verify.py", "--compile"])
    assert verify.main() == 0
    assert len(capsys.readouterr().out.splitlines()) == 3 * (2 + 3)


def test_the_time_is_limited(verify, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(verify.presence, "problem", lambda: None)
    monkeypatch.setattr(verify.gpu, "get", SimulatedDevice)
    monkeypatch.setattr(sys, "argv", ["verify.py", "--output", str(tmp_path / "gpu.json"), "--minutes", "0"])
    assert verify.main() == 0
    assert "0 minutes are over: run again" in capsys.readouterr().out


def test_a_second_run_goes_on_where_the_first_ended(verify, tmp_path, monkeypatch, capsys):
    ran = []

    def good(device):
        ran.append("good")
        return {"good": True}

    def broken(device):
        raise RuntimeError("no such luck")

    monkeypatch.setattr(verify.presence, "problem", lambda: None)
    monkeypatch.setattr(verify.gpu, "get", SimulatedDevice)
    monkeypatch.setattr(verify, "plan", lambda: [("one", good), ("two", broken)])
    output = tmp_path / "gpu.json"
    monkeypatch.setattr(sys, "argv", ["verify.py", "--output", str(output)])
    assert verify.main() == 1
    assert "no such luck" in json.loads(output.read_text())["two"]["error"]
    output.write_text(json.dumps({"two": {"good": True}}))
    assert verify.main() == 0
    assert ran == ["good", "good"]
    assert capsys.readouterr().out.splitlines()[-1].split() == ["one", "good"]


def test_without_a_gpu_it_says_why(verify, monkeypatch, capsys):
    monkeypatch.setattr(verify.presence, "problem", lambda: "there is none.")
    monkeypatch.setattr(sys, "argv", ["verify.py"])
    assert verify.main() == 2
    assert capsys.readouterr().out == "nothing can be checked here: there is none.\n"
