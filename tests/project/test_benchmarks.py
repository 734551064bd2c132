"""The documentation's figures are those of the measured file, and what measures them can tell right from wrong."""

import importlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
COMPARE = ROOT / "benchmarks" / "compare"


@pytest.fixture
def compare(monkeypatch):
    """Import a module of the comparison by name."""
    monkeypatch.syspath_prepend(COMPARE)
    return importlib.import_module


def case_of(*rows, name="infer (1,100,32,32)"):
    """Return results with one case: rows of contender, threads, seconds."""
    case = {"mode": "infer", "batch": 1, "time": 100, "features": 32, "units": 32, "layers": 1, "bidirectional": False}
    rows = [
        {"contender": contender, "threads": threads, "median": taken, "near": taken, "error": 0.001}
        for contender, threads, taken in rows
    ]
    return {"cases": {name: {"case": case, "rows": rows}}}


def target_of(table):
    return table.splitlines()[2].split(" | ")[-1].removesuffix(" |")


def test_page_and_pictures_are_those_of_the_file_of_results(compare):
    assert compare("report").outdated() == []


def test_results_name_the_machine_and_what_was_measured(compare):
    report = compare("report")
    name = report.BLOCK.search(report.PAGE.read_text())[1]
    found = json.loads((COMPARE / name).read_text())
    assert found["machine"]["cpu"]
    assert {"numbalstm", "numpy", "numba"} <= set(found["machine"]["versions"])
    assert set(found["cases"]) <= {case.name for case in compare("cases").CASES}


@pytest.mark.parametrize(
    ("ours", "verdict"), [(0.79, "met"), (0.81, "not met (1t: under 1.25×)"), (1.01, "not met (1t: behind)")]
)
def test_target_of_whole_sequences(compare, ours, verdict):
    found = case_of(("numbalstm", 1, ours), ("ort", 1, 1.0), ("torch", 1, 3.0), ("ort-int8", 1, 0.1))
    assert target_of(compare("tables").inference(found)) == verdict


def test_two_threads_are_held_to_the_best_peer_with_one_or_two(compare):
    found = case_of(("numbalstm", 1, 1.0), ("numbalstm", 2, 0.9), ("ort", 1, 1.25), ("ort", 2, 2.0))
    table = compare("tables").inference(found)
    assert "| 900.00 ms | ort 1.25 s | 1.39 |" in table
    assert "Geometric mean of the 2 ratios: 1.32 (target: at least 1.25, met)" in table


def test_threads_are_read_at_the_placement_of_most_rounds(compare):
    record = case_of(("ort", 2, 1.0))["cases"]["infer (1,100,32,32)"]
    record["rows"][0] |= {"near": 0.5, "median": 0.8}
    assert compare("reading").seconds(record, record["rows"][0]) == 0.5


def test_limit_is_the_longer_of_arithmetic_and_reading(compare):
    limits, case = compare("limits"), compare("cases").Case("infer", 4, 10, 3, 32)
    machine = {"gflops_1": 1e-3, "read_gbs_1": {"1": 1e6, "1000": 1e6}}
    assert limits.floor(case, machine, 1) == pytest.approx(8 * 4 * 10 * 32 * 35 / 1e6)
    machine = {"gflops_1": 1e6, "read_gbs_1": {"1": 1e-3, "1000": 1e-3}}
    read = 10 * 4 * 4 * 32 * 32 + 4 * 4 * 32 * 3 + 4 * 4 * 10 * (3 + 32)
    assert limits.floor(case, machine, 1) == pytest.approx(read / 1e6)


def test_wrong_numbers_are_not_timed(compare, tmp_path):
    cases, worker = compare("cases"), compare("worker")
    case, path = cases.Case("infer", 2, 5, 3, 4), tmp_path / "reference.npz"
    right = cases.reference(case)
    np.savez(path, right)
    one = worker.Worker("numbalstm", 1)
    for result in (right + 2e-4, right[:, :, ::-1], right[:, 1:], right * np.nan):
        one.contender = one.contender._replace(build=lambda *_, result=result: (lambda: None, lambda: result))
        with pytest.raises(ValueError, match=r"wrong result|shape"):
            one.setup(list(case), path)
        assert one.call is None
    one.contender = one.contender._replace(build=lambda *_: (lambda: None, lambda: right))
    assert one.setup(list(case), path) == {"error": 0.0}


def test_reference_agrees_with_the_layers(compare):
    cases, inference = compare("cases"), compare("inference")
    for case in (cases.Case("infer", 3, 7, 5, 6, layers=2), cases.Case("infer", 3, 7, 5, 6, bidirectional=True)):
        call, result = inference.numbalstm(case, cases.Problem(case), 1)
        call()
        np.testing.assert_allclose(result(), cases.reference(case), atol=1e-6)


def test_reference_gradients_agree_with_this_package_and_with_differences(compare):
    cases, training = compare("cases"), compare("training")
    case = cases.Case("train", 3, 7, 5, 6)
    wanted, problem = cases.reference(case), cases.Problem(case)
    for build in (training.numbalstm, training.numpy):
        call, result = build(case, problem, 1)
        call()
        assert compare("worker").difference(result(), wanted) < 1e-5
    arrays = [array.astype(np.float64) for array in (problem.x, *problem.weights[0][0])]
    rng = np.random.default_rng(1)
    for number, gradient in enumerate(wanted):
        direction = rng.standard_normal(gradient.shape)

        def loss(step, number=number, direction=direction):
            moved = [*arrays]
            moved[number] = moved[number] + step * direction
            return (cases.forward(*moved) * problem.dy).sum()

        difference = (loss(1e-5) - loss(-1e-5)) / 2e-5
        assert difference == pytest.approx((gradient * direction).sum(), rel=1e-7)


def test_wrong_gradients_are_not_timed(compare, tmp_path):
    cases, worker = compare("cases"), compare("worker")
    case, path = cases.Case("train", 2, 5, 3, 4), tmp_path / "reference.npz"
    right = cases.reference(case)
    np.savez(path, *right)
    one = worker.Worker("numbalstm", 1)
    assert one.setup(list(case), path)["error"] < 1e-5
    for number, factor in itertools.product(range(4), (1.001, np.nan)):
        result = [array * (factor if place == number else 1) for place, array in enumerate(right)]
        one.contender = one.contender._replace(build=lambda *_, result=result: (lambda: None, lambda: result))
        with pytest.raises(ValueError, match="wrong result"):
            one.setup(list(case), path)


@pytest.mark.parametrize(
    ("ours", "at_peak", "verdict"),
    [(0.8, 0.7, "met"), (0.9, 0.8, "not met (1t: under 1.2×)"), (0.5, 0.4, "not met (1t: under 85 %)")],
)
def test_target_of_training(compare, ours, at_peak, verdict):
    name = "train (32,100,32,256)"
    case = compare("cases").Case("train", 32, 100, 32, 256)
    found = case_of(("numbalstm", 1, ours), ("torch", 1, 1.0), ("torch-plain", 1, 1.3), name=name)
    found["cases"][name]["case"] = case._asdict()
    assert case.flops == 3 * case._replace(mode="infer").flops
    found["limits"] = {"gflops_1": case.flops / at_peak * 1e-9}
    assert target_of(compare("tables").training(found).partition("\n\n")[2]) == verdict


def test_without_training_cases_there_is_no_section(compare):
    found = case_of(("numbalstm", 1, 1.0), ("ort", 1, 1.0))
    assert compare("tables").training(found) == ""


def test_figures_of_one_target_stand_in_columns(compare):
    figures = [("peephole", "a", 1.1), ("peephole", "b", 1.2), ("clip", "a", 1.1), ("clip", "b", 1.0)]
    rows = [compare("ratios").row(what, value, at_most=1.15) | {"column": column} for what, column, value in figures]
    table = compare("tables").variants({"variants": {"cells": {"title": "About.", "rows": rows}}})
    assert "| what | a | b | target |" in table
    assert "| peephole | 1.10× | 1.20× | at most 1.15: not met |" in table
    assert "| clip | 1.10× | 1.00× | at most 1.15: met |" in table


def test_every_variant_is_one_of_the_layer(compare):
    cells = compare("cells")
    cells.check((1, 1, 3, 8), {})
    for options in cells.variants(8).values():
        cells.made((2, 3, 5, 8), **options)


def test_a_wrong_variant_is_not_timed(compare, monkeypatch):
    cells = compare("cells")
    step = cells.step
    numbers = iter((0, 1e-3))
    monkeypatch.setattr(cells, "step", lambda *given: [array + next(numbers) for array in step(*given)[:1]])
    with pytest.raises(AssertionError):
        cells.check((1, 1, 3, 8), {"peephole": True})


def test_a_contender_that_is_missing_costs_only_its_row(tmp_path):
    path = tmp_path / "results.json"
    path.write_text('{"limits": null}')
    options = ["--only", "(32,10,8,4)", "--contenders", "numbalstm,absent", "--rounds", "1", "--budget", "0.01"]
    code = (
        "import sys, peers; from contenders import CONTENDERS, Contender\n"
        "peers.CONTENDERS['absent'] = Contender(None, ('infer',))\n"
        f"peers.main({[*options, '--out', str(path)]!r})"
    )
    variables = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{COMPARE}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables, check=True)
    assert "left out" in done.stdout
    rows = json.loads(path.read_text())["cases"]["infer (32,10,8,4)"]["rows"]
    assert {row["contender"] for row in rows if "median" in row} == {"numbalstm"}
    assert {row["contender"] for row in rows if "failed" in row} == {"absent"}
