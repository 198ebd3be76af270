"""Help is quick and needs nothing: `sys.modules` says so, not a clock."""

import subprocess
import sys

import pytest

from onnxopt.cli.main import COMMANDS

HEAVY = {"numpy", "onnx", "onnx_ir", "onnxruntime", "ml_dtypes", "sympy", "rich"}
COMMAND_MODULES = {entry.module for entry in COMMANDS.values()}


def modules_after(code: str) -> set[str]:
    """Run code where nothing heavy is installed, and return what it imported."""
    script = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
{code}
print("MODULES", *sys.modules)
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.rpartition("MODULES")[2].split())


def run_and_expect(args: list[str], status: int) -> str:
    return f"from onnxopt.cli.main import run\nassert run({args!r}) == {status}"


def test_importing_the_package_imports_nothing_else_of_it():
    loaded = modules_after("import onnxopt; dir(onnxopt)")
    assert {name for name in loaded if name.startswith("onnxopt")} == {"onnxopt"}
    assert not HEAVY & loaded


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["-h"]], ids=str)
def test_help_of_the_table_imports_no_command(args):
    loaded = modules_after(run_and_expect(args, 0))
    assert not (HEAVY | COMMAND_MODULES) & loaded


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_imports_only_that_command(command):
    loaded = modules_after(run_and_expect([command, "--help"], 0))
    assert not HEAVY & loaded
    assert COMMAND_MODULES & loaded == {COMMANDS[command].module}


@pytest.mark.parametrize(
    "args",
    [["optimze"], ["optimize"], ["optimize", "m.onnx", "--target", "gpu"], ["compare", "a"]],
    ids=str,
)
def test_bad_usage_is_told_without_loading_anything(args):
    assert not HEAVY & modules_after(run_and_expect(args, 2))
