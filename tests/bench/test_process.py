"""A child's time, memory and end are told truly."""

import subprocess
import sys
from pathlib import Path

import process
import pytest
from process import run


def python(code):
    return [sys.executable, "-c", code]


SLIM = """
import sys, pathlib
sys.path.insert(0, sys.argv[1])
from process import run
for code in ("pass", "x = b'x' * 200_000_000"):
    print(run([sys.executable, "-c", code], pathlib.Path(sys.argv[2]), 60).peak_rss_bytes)
"""


def test_peak_memory_is_that_of_the_child(tmp_path):
    # From a small process, as the benchmark is: the parent's own size is the least that is seen.
    command = [*python(SLIM), str(Path(process.__file__).parent), str(tmp_path / "log")]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    small, large = map(int, found.stdout.split())
    assert small < 100_000_000
    assert 190_000_000 < large - small < 210_000_000


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import sys; print('noise'); sys.exit('the reason')", "the reason"),
        ("import sys; sys.exit(3)", "exit code 3"),
        ("import os; os.abort()", "SIGABRT"),
    ],
)
def test_failure_is_told_in_one_line(tmp_path, code, error):
    assert run(python(code), tmp_path / "log", 60).error == error


def test_child_that_hangs_is_killed(tmp_path):
    found = run(python("import time; time.sleep(600)"), tmp_path / "log", 0.5)
    assert found.error == "killed after 0 s"
