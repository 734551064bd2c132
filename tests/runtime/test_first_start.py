"""First starts, together and after a warm-up."""

import pytest

import numbalstm
from numbalstm.kernels import compilation

KERNEL = """
from numbalstm.kernels import compilation

@compilation.entry_point()
def power(x, n):
    result = 1.0
    for _ in range(n):
        result *= x
    return result

assert power(3.0, 4) == 81.0
"""

FIRST_CALL = """
import sys
from calls import digest
from numbalstm.kernels import compilation
digest(2)
print(*compilation.counts(), "numba.np.arraymath" in sys.modules)
"""


def test_eight_processes_at_once(start, run, tmp_path):
    folder = str(tmp_path / "cache")
    processes = [start(KERNEL, NUMBA_CACHE_DIR=folder) for _ in range(8)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert [path.suffix for path in files] == [".nbc"]  # whole, once, and nothing left beside it
    loaded = KERNEL + "print(*compilation.counts())"
    assert run(loaded, NUMBA_CACHE_DIR=folder) == ["0 1"]


def test_a_warm_start_compiles_nothing_and_declares_nothing(run):
    compiled, loaded, declared = run(FIRST_CALL, NUMBA_NUM_THREADS="2")[0].split()
    assert (compiled, declared) == ("0", "False")
    assert int(loaded) >= 2


def test_warmup_says_what_it_did():
    seen = []
    done = numbalstm.warmup(progress=seen.append)
    assert seen == done.steps
    assert done.problem is None
    assert done.folder == str(compilation.folder())
    again = numbalstm.warmup("float32")
    assert {step.action for step in again.steps} == {"ready"}
    assert all(step.name in str(again) for step in again.steps)
    assert done.folder in str(again)


def test_after_warmup_other_processes_load(run):
    numbalstm.warmup()
    script = "import numbalstm\nfor step in numbalstm.warmup().steps: print(step.action)"
    assert set(run(script)) == {"loaded"}


def test_warmup_tells_when_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path / "none"))
    done = numbalstm.warmup()
    assert "No such file" in done.problem
    assert "not kept" in str(done)


def test_warmup_refuses_other_types():
    with pytest.raises(ValueError, match="warmup: dtypes must be one of 'float32', 'float64', got 'float16'"):
        numbalstm.warmup(["float32", "float16"])


def test_the_command(run):
    lines = run("import sys\nfrom numbalstm.cli import main\nsys.exit(main(['warmup', '--dtype', 'float32']))")
    assert lines[0].startswith("float32 LSTM, one thread")
    assert lines[-1].endswith(f"kept in {compilation.folder()}")


def test_a_wrong_type_is_a_users_mistake(start):
    process = start("import sys\nfrom numbalstm.cli import main\nsys.exit(main(['warmup', '--dtype', 'int8']))")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.splitlines()[-1].startswith("numbalstm: error: warmup: dtypes must be")
