"""What the repository may hold: short files, no addresses of a workplace, one version."""

import re
import tomllib
from pathlib import Path

import pytest

import numbalstm

ROOT = Path(__file__).parents[2]
SKIPPED = {".git", ".venv", ".pytest_cache", ".ruff_cache", ".hypothesis", ".mypy_cache", ".asv", "build", "dist"}
FORBIDDEN = [  # written so that this file does not hold them
    "/wo" + "rk/",
    "../sha" + "red",
    "/opt/py" + "pi",
    "py" + "pi.org",
    "pythonhost" + "ed",
    "anaconda" + ".org",
]


def files(*suffixes):
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        kept = not SKIPPED & set(parts) and not any(part.endswith(".egg-info") for part in parts)
        if path.is_file() and kept and "__pycache__" not in parts and (not suffixes or path.suffix in suffixes):
            yield path


def test_no_workplace_or_registry_is_named():
    for path in files():
        data = path.read_bytes()
        found = [word for word in FORBIDDEN if word.encode() in data]
        assert not found, f"{path.relative_to(ROOT)} names {found}"


@pytest.mark.parametrize("path", [path for path in files(".py") if path.is_relative_to(ROOT / "numbalstm")], ids=str)
def test_files_of_the_package_are_short(path):
    assert len(path.read_text().splitlines()) <= 400


def test_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == numbalstm.__version__


def test_data_of_the_package_are_small_and_their_origin_is_told():
    folder = ROOT / "numbalstm" / "data"
    told = (folder / "README.md").read_text()
    bundled = [path for path in files() if path.parent == folder and path.name != "README.md"]
    assert sum(path.stat().st_size for path in bundled) < 1_000_000
    assert all(f"`{path.name}`" in told for path in bundled)


def test_extras_that_messages_name_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = set()
    for path in files(".py"):
        if path.is_relative_to(ROOT / "numbalstm"):
            named |= set(re.findall(r"""require\("[\w.]+", "(\w+)"\)""", path.read_text()))
    assert named
    assert named <= set(project["optional-dependencies"])
