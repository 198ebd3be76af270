import os
import signal
import subprocess
import sys

import pytest

from onnxopt.cli.main import COMMANDS, CommandTable, onnxopt
from onnxopt.errors import ModelError


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["optmize", "m.onnx"], "'optmize' is no command", "did you mean optimize"),
        (["m.onnx"], "'m.onnx' is no command", "onnxopt optimize m.onnx"),
        (["optimize"], "missing argument 'MODEL'", "onnxopt optimize [OPTIONS] MODEL"),
        (["optimize", "m", "--taget", "cpu"], "no such option --taget", "--target"),
        (["optimize", "m", "--target", "cdua"], "unknown target 'cdua'", "cuda"),
        (["optimize", "m", "--fix", "batch"], "'batch' is not DIM=VALUE", "--fix batch=1"),
        (["compare", "a"], "missing argument 'B'", "A B"),
        (["benchmark"], "missing argument 'MODEL...'", "MODEL"),
        (["benchmark", "a", "--batch", "0"], "0 is not in the range", "benchmark --help"),
        (["benchmark", "a", "--max-slowdown", "3"], "needs two models", "benchmark --help"),
        (["--versoin"], "no such option --versoin", "--version"),
    ],
)
def test_bad_usage_says_what_is_wrong_and_what_to_do(onnxopt_, api, args, message, hint):
    status, out, err = onnxopt_(*args)
    first, second = err.splitlines()
    assert (status, out, api.calls) == (2, "", [])
    assert first.startswith("error: ")
    assert message in first
    assert second.startswith("hint: ")
    assert hint in second


def test_without_a_command_the_help_is_shown_and_the_status_is_bad_usage(onnxopt_):
    status, out, err = onnxopt_()
    assert (status, out) == (2, "")
    assert "optimize" in err


def test_errors_for_users_are_two_lines(onnxopt_, api):
    api.gives["inspect"] = ModelError("m.onnx is\ntruncated.", "download it again")
    assert onnxopt_("inspect", "m.onnx") == (
        2,
        "",
        "error: m.onnx is truncated\nhint: download it again\n",
    )


def test_names_in_errors_cannot_drive_the_terminal(onnxopt_, api):
    api.gives["inspect"] = ModelError("node \x1b[2J is cyclic", "mend it")
    _, _, err = onnxopt_("inspect", "m.onnx")
    assert "\x1b" not in err
    assert r"\x1b[2J" in err


def test_interruption_is_one_line(onnxopt_, api):
    api.gives["inspect"] = KeyboardInterrupt()
    assert onnxopt_("inspect", "m.onnx") == (130, "", "interrupted\n")


def test_memory_that_is_used_up_is_no_fault_of_ours(onnxopt_, api):
    api.gives["inspect"] = MemoryError()
    status, _, err = onnxopt_("inspect", "m.onnx")
    assert status == 2
    assert "memory" in err


def test_a_fault_of_ours_is_named_and_traced_only_when_asked(onnxopt_, api, monkeypatch):
    api.gives["inspect"] = ValueError("bad\nluck")
    status, out, err = onnxopt_("inspect", "m.onnx")
    assert (status, out) == (70, "")
    assert err.startswith("internal error: ValueError: bad luck\nhint: ")
    assert "ONNXOPT_DEBUG=1" in err
    monkeypatch.setenv("ONNXOPT_DEBUG", "1")
    assert "Traceback" in onnxopt_("inspect", "m.onnx")[2]


def test_the_table_says_what_each_command_says_of_itself():
    context = onnxopt.make_context("onnxopt", ["--help"], resilient_parsing=True)
    assert isinstance(onnxopt, CommandTable)
    for name, entry in COMMANDS.items():
        command = onnxopt.get_command(context, name)
        assert command.name == name
        assert command.help.partition("\n")[0] == entry.summary


def test_completion_knows_commands_and_options(onnxopt_, monkeypatch):
    monkeypatch.setenv("_ONNXOPT_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "onnxopt optimize --targ")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert "--target" in onnxopt_()[1]
    monkeypatch.setenv("COMP_WORDS", "onnxopt comp")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert "compare" in onnxopt_()[1]


def test_a_reader_that_goes_away_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run(
        [sys.executable, "-m", "onnxopt", "--help"],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (141, b"")


def test_termination_lets_temporary_files_be_taken_away():
    script = """
import sys, time, types
import onnxopt
def inspect(*args, **options):
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("taken away", flush=True)
onnxopt.api = types.SimpleNamespace(inspect=inspect)
from onnxopt.cli.main import main
sys.argv = ["onnxopt", "inspect", "m.onnx"]
main()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "taken away\n"
        assert process.wait() == 143
