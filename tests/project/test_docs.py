"""The documentation is true: its Python runs, its commands parse, its links lead somewhere."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from numbalstm import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("benchmarks/*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?://)([^)#]+)")


def name(page):
    return str(page.relative_to(ROOT))


def blocks(page, *languages):
    """Give the fenced blocks in one of the languages: line of the first line of code, code."""
    text = page.read_text()
    for match in BLOCK.finditer(text):
        if match[1] in languages:
            yield text[: match.start(2)].count("\n"), match[2]


@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page, "python"))], ids=name)
def test_python_runs(page, tmp_path, monkeypatch, capsys):
    shutil.copy(ROOT / "numbalstm" / "data" / "co2_forecast.keras", tmp_path / "model.keras")
    monkeypatch.chdir(tmp_path)
    scope = {"__name__": page.stem}
    for line, code in blocks(page, "python"):
        exec(compile("\n" * line + code, name(page), "exec"), scope)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_fences_say_python_or_nothing(page):
    assert {match[1] for match in BLOCK.finditer(page.read_text())} <= {"", "python"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_parse(page):
    for _, code in blocks(page, ""):
        for command in re.findall(r"(?:^|/bin/|&& )numbalstm (.+)$", code, re.MULTILINE):
            cli.parser().parse_args(shlex.split(command, comments=True))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_page_is_reached_from_the_readme():
    linked = {(ROOT / target).resolve() for target in LINK.findall((ROOT / "README.md").read_text())}
    missing = [name(page) for page in PAGES if page.is_relative_to(ROOT / "docs") and page not in linked]
    assert not missing


def test_readme_commands_are_those_of_ci():
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    assert '-e ".[test]"' in readme
    assert '".[test,bench]"' in ci
    assert ".venv/bin/pytest" in readme
    assert "/pytest" in ci
    assert ".venv/bin/numbalstm demo" in readme
    assert "numbalstm demo" in ci
