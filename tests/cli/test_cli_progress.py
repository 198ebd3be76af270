import io
import sys
import time

import pytest
from rich.console import Console, Group
from rich.text import Text

from onnxopt.cli import progress
from onnxopt.cli.progress import ProgressLine, _Above


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BEFORE_SHOWN", 0.0)
    monkeypatch.setenv("TERM", "xterm")


def wait_until_shown(line):
    deadline = time.monotonic() + 10
    while line._bar is None or not line._bar.live.is_started:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_terminal_shows_what_is_going_on(monkeypatch, at_once):
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with ProgressLine() as line:
        line("fold [bold]constants", 0.25)
        wait_until_shown(line)
        line("measure")
        line._bar.refresh()
    assert "fold [bold]constants" in screen.getvalue() or "measure" in screen.getvalue()


@pytest.mark.parametrize(("screen", "quiet"), [(io.StringIO(), False), (Screen(), True)])
def test_elsewhere_nothing_is_written(monkeypatch, at_once, screen, quiet):
    monkeypatch.setattr(sys, "stderr", screen)
    with ProgressLine(quiet=quiet) as line:
        line("fold", 0.5)
        time.sleep(0.05)
    assert line._bar is None
    assert screen.getvalue() == ""


def test_short_work_leaves_the_terminal_alone(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with ProgressLine() as line:
        line("fold", 1.0)
    assert screen.getvalue() == ""


def test_of_a_tall_table_as_much_is_shown_as_fits_above_the_bar():
    console = Console(file=io.StringIO(), width=20, height=6)
    tall = Group(*(Text(f"row {number}") for number in range(30)))
    console.print(_Above(tall))
    assert console.file.getvalue().split("\n") == ["row 0", "row 1", "row 2", "row 3", ""]
