"""The table of a model's layers, plain and by rich."""

import sys

import pytest

import numbalstm as nl


@pytest.fixture
def model():
    a, b = nl.Input((None, 3), name="a"), nl.Input((None, 3), name="b")
    memory = nl.LSTM(1000, return_state=True, name="memory")
    frozen = nl.Dense(2, trainable=False, name="frozen")
    return nl.Model([a, b], nl.Add(name="sum")([frozen(memory(a)[0]), frozen(memory(b)[1])]), name="m")


def table(model, **options):
    lines = []
    model.summary(print_fn=lines.append, **options)
    return lines


def test_plain_rows(model):
    lines = table(model, line_length=160)
    row = next(line for line in lines if line.startswith("memory (LSTM)"))
    assert "[(None, 1000), (None, 1000), (None, 1000)]" in row
    assert "4,016,000" in row
    assert row.endswith("a[0][0], b[0][0]")
    row = next(line for line in lines if line.startswith("frozen (Dense)"))
    assert row.endswith("memory[0][0], memory[1][1]")
    assert lines[0] == 'Model: "m"'
    assert lines[-3:] == [
        " Total params: 4,018,002 (15.33 MB)",
        " Trainable params: 4,016,000 (15.32 MB)",
        " Non-trainable params: 2,002 (7.82 KB)",
    ]


def test_long_texts_go_on_in_their_column(model):
    lines = table(model, line_length=60)
    assert max(map(len, lines)) <= 60
    assert "".join(line[:13].strip() for line in lines).count("memory (LSTM)") == 1


def test_a_chain_needs_no_connections():
    model = nl.Sequential([nl.Input((3,)), nl.Dense(2), nl.Dropout(0.1)])
    assert not any("Connected" in line for line in table(model))
    assert any("Connected" in line for line in table(nl.Model(*two_ends())))


def two_ends():
    x = nl.Input((3,))
    y = nl.Dense(2)(x)
    return x, [y, nl.Dense(2)(y), nl.Dense(3)(y)]


def test_a_chain_that_is_not_built():
    model = nl.Sequential([nl.Dense(2, name="d")])
    row = next(line for line in table(model) if line.startswith("d (Dense)"))
    assert row.split() == ["d", "(Dense)", "?", "0", "(unbuilt)"]


def test_printed_with_rich_and_without(model, capsys, monkeypatch):
    pytest.importorskip("rich")
    assert model.summary(line_length=200) is None
    rich = capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "rich.console", None)
    model.summary(line_length=200)
    plain = capsys.readouterr().out
    for text in ('Model: "m"', "memory (LSTM)", "4,016,000", "memory[1][1]", " Trainable params: 4,016,000 (15.32 MB)"):
        assert text in rich
        assert text in plain
    assert "┃" in rich
    assert "┃" not in plain
