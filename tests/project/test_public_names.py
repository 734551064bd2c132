"""Public names resolve, are documented, and their docstrings name the arguments that they take."""

import inspect
import re
from pathlib import Path

import pytest

import numbalstm

API = Path(__file__).parents[2] / "docs" / "reference" / "api.md"
SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)
ENTRY = re.compile(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: :.*)?$", re.MULTILINE)


def documented_arguments(thing):
    """Return the names in the docstring's section Parameters, or None without one."""
    parts = SECTION.split(inspect.getdoc(thing) or "")
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    if "Parameters" not in sections:
        return None
    names = {name.strip().lstrip("*") for entry in ENTRY.findall(sections["Parameters"]) for name in entry.split(",")}
    return names - {"optional"}


def public_things():
    """Give every public class and function, and the public methods that each class defines itself, by name."""
    for name in numbalstm.__all__:
        thing = getattr(numbalstm, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            yield name, thing
        if inspect.isclass(thing):
            for method, function in vars(thing).items():
                if not method.startswith("_") and inspect.isfunction(function):
                    yield f"{name}.{method}", function


THINGS = dict(public_things())


def test_every_name_resolves():
    assert len(set(numbalstm.__all__)) == len(numbalstm.__all__)
    assert set(numbalstm.__all__) <= set(dir(numbalstm))
    for name in numbalstm.__all__:
        assert getattr(numbalstm, name) is not None


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="LTSM"):
        numbalstm.LTSM  # noqa: B018


@pytest.mark.parametrize("name", THINGS)
def test_has_a_docstring(name):
    thing = THINGS[name]
    assert (inspect.getdoc(thing) or "").strip()


@pytest.mark.parametrize("name", THINGS)
def test_docstring_names_arguments_that_exist(name):
    documented = documented_arguments(THINGS[name])
    if documented is None:
        return
    taken = set()
    # a class may leave arguments to its bases, and its metaclass hides the signature
    for function in [c.__init__ for c in THINGS[name].__mro__] if inspect.isclass(THINGS[name]) else [THINGS[name]]:
        taken |= set(inspect.signature(function).parameters)
    assert documented <= taken, f"{name} documents {sorted(documented - taken)}, which it does not take"


@pytest.mark.parametrize("name", [name for name, thing in THINGS.items() if inspect.isfunction(thing)])
def test_docstring_names_every_argument(name):
    documented = documented_arguments(THINGS[name])
    taken = set(inspect.signature(THINGS[name]).parameters) - {"self"}
    if documented is None or not taken:
        return
    assert taken <= documented, f"{name} does not document {sorted(taken - documented)}"


def test_api_page_lists_exactly_the_public_names():
    section = re.search(r"^## Names of the package$(.*?)^## ", API.read_text(), re.MULTILINE | re.DOTALL)[1]
    listed = set(re.findall(r"^\| `(\w+)", section, re.MULTILINE))
    public = {name for name in numbalstm.__all__ if not name.startswith("__")}
    assert listed == public
