"""Imports point down the floors, without circles, and importing the package costs little."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "numbalstm"
FLOORS = {
    "settings": 0, "extras": 0, "dtypes": 0, "checks": 0, "kernels": 0,
    "parametric": 1,
    "activations": 1, "initializers": 1, "regularizers": 1, "constraints": 1, "parameters": 1, "objects": 1,
    "losses": 1, "metrics": 1,
    "backends": 2, "optimizers": 2,
    "functional": 3,
    "streaming": 3.5,
    "layers": 4,
    "callbacks": 4.5,
    "models": 5,
    "io": 6,
    "cli": 7, "plot": 7, "demo": 7, "doctor": 7, "datafiles": 7, "prediction": 7, "inspection": 7, "startup": 7,
    "__main__": 7,
    "compat": 8, "estimators": 8,
}  # fmt: skip
CORE = {"numpy", "numba", "llvmlite"}
OPTIONAL = {"matplotlib", "rich", "cuda"}


def module_name(path):
    parts = ("numbalstm", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py")) if "data" not in path.parts}


def imported_names(node):
    """Give what one import statement names, with modules of the package by their full name."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert node.level == 0, "imports are absolute"
    full = [f"{node.module}.{alias.name}" for alias in node.names]
    return [name if name in MODULES else node.module for name in full]


def imports(name, everywhere=True):
    """Give the imports of a module, those for type checkers left out; inside functions too, or at its import only."""
    tree = ast.parse(MODULES[name].read_text())
    pending, found = [tree], []
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += imported_names(node)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            pending += node.orelse
        elif everywhere or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)
    return found


def place(name):
    """Return the module or package on the first level, and its floor; the package itself is above what it offers."""
    top = name.split(".")[1] if "." in name else ""
    return top, FLOORS[top] if top else 6.5


@pytest.mark.parametrize("name", [name for name in MODULES if name != "numbalstm"])
def test_imports_point_down(name):
    top, floor = place(name)
    for target in imports(name):
        if target.partition(".")[0] != "numbalstm":
            continue
        target_top, target_floor = place(target)
        assert target_floor <= floor, f"{name} (floor {floor}) imports {target} (floor {target_floor})"
        if top == "kernels":
            assert target_top in ("kernels", "settings"), f"{name} imports {target}"


def test_no_circles():
    graph = {name: [t for t in imports(name, everywhere=False) if t in MODULES and t != name] for name in MODULES}
    TopologicalSorter(graph).prepare()  # CycleError names the circle


@pytest.mark.parametrize("name", MODULES)
def test_optional_packages_are_imported_where_they_are_used(name):
    core = CORE | {"numbalstm"} | sys.stdlib_module_names
    assert {target.partition(".")[0] for target in imports(name, everywhere=False)} <= core
    assert {target.partition(".")[0] for target in imports(name)} <= core | OPTIONAL


@pytest.mark.parametrize("statement", ["import numbalstm", "import numbalstm.cli; numbalstm.cli.main(['predict'])"])
def test_import_is_light(statement):
    heavy = ["numba", "llvmlite", "h5py", "matplotlib", "rich"]
    code = f"{statement}\nimport sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "[]"


def test_first_call_leaves_cuda_alone():
    code = "import numbalstm, numpy, sys; numbalstm.LSTM(3)(numpy.ones((1, 2, 2))); print('numba.cuda' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "False"
