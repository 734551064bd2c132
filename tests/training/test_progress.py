"""What a person sees: a bar on a terminal, lines when asked for, nothing elsewhere."""

import io
import re
import sys

import pytest

from numbalstm.callbacks import LambdaCallback


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def open_terminal(monkeypatch):
    """Put a terminal in the place of the error stream; in the test itself, for pytest puts its own there before."""

    def open_it():
        screen = Terminal()
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "150")
        return screen

    return open_it


@pytest.mark.parametrize("verbose", ["auto", 0, 1, False, True])
def test_quiet_away_from_a_terminal(make, data, capsys, verbose):
    make().fit(*data, epochs=2, verbose=verbose)
    make().evaluate(*data, verbose=verbose)
    assert capsys.readouterr() == ("", "")


def test_lines(make, data, capsys):
    model = make()
    model.fit(*data, epochs=2, verbose=2, validation_split=0.2)
    first, second = capsys.readouterr().out.splitlines()
    number = r"[\d.e-]+"
    pattern = (
        rf"Epoch %d/2 - \d+\.\d s - loss: {number} - accuracy: {number} - val_loss: {number} - val_accuracy: {number}"
    )
    assert re.fullmatch(pattern % 1, first)
    assert re.fullmatch(pattern % 2, second)
    model.evaluate(*data, verbose=2)
    assert re.fullmatch(rf"Evaluation - \d+\.\d s - loss: {number} - accuracy: {number}\n", capsys.readouterr().out)


@pytest.mark.parametrize("verbose", ["auto", 1])
def test_a_bar_on_a_terminal(make, data, open_terminal, capsys, verbose):
    terminal = open_terminal()
    model = make()
    model.fit(*data, epochs=2, batch_size=9, verbose=verbose, validation_split=0.2)
    model.evaluate(*data, batch_size=9, verbose=verbose)
    shown = terminal.getvalue()
    assert "Epoch 2/2" in shown
    assert "4/4" in shown
    assert "━" in shown
    lines = [line for line in re.sub(r"\x1b\[[\d;?]*\w", "", shown).splitlines() if " s - " in line]
    assert len(lines) == 3
    assert "val_loss" in lines[0]
    assert "Evaluation" in lines[2]
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h")  # the cursor is shown again
    assert capsys.readouterr().out == ""


def test_the_bar_is_taken_off_when_an_error_ends_the_run(make, data, open_terminal):
    terminal = open_terminal()

    def fail(batch, logs):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        make().fit(*data, verbose=1, callbacks=LambdaCallback(on_train_batch_end=fail))
    assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h")


def test_steps_that_nobody_knows(make, data, open_terminal):
    terminal = open_terminal()
    make().fit((batch for batch in [data, data]), verbose=1)
    assert "Epoch 1/1" in terminal.getvalue()


def test_without_rich_lines_do(make, data, open_terminal, capsys, monkeypatch):
    open_terminal()
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    monkeypatch.setattr("numbalstm.callbacks.progress.find_spec", lambda name: None)
    make().fit(*data, epochs=2, verbose="auto")
    assert len(capsys.readouterr().out.splitlines()) == 2
    with pytest.raises(ImportError, match=r"numbalstm\[cli\]"):
        make().fit(*data, verbose=1)
