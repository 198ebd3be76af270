"""The command `onnxopt`: a table of commands that load when called, and what becomes of errors."""

from __future__ import annotations

import errno
import gc
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import click

from onnxopt import __version__
from onnxopt.errors import OnnxOptError
from onnxopt.render.words import printable
from onnxopt.text import near_matches

BAD_USAGE = 2
INTERNAL_ERROR = 70
INTERRUPTED = 130
BROKEN_PIPE = 141
TERMINATED = 143
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class CommandEntry(NamedTuple):
    """Where a command lives, and what `onnxopt --help` says about it."""

    module: str
    summary: str


COMMANDS: dict[str, CommandEntry] = {
    "optimize": CommandEntry(
        "onnxopt.cli.optimize", "Make a model smaller and faster, prove and measure it."
    ),
    "quantize": CommandEntry(
        "onnxopt.cli.quantize", "Make a model int8 where that is faster and still right."
    ),
    "prune": CommandEntry("onnxopt.cli.prune", "Take out of a model what it can do without."),
    "inspect": CommandEntry("onnxopt.cli.inspect", "Show what is in a model and what it costs."),
    "compare": CommandEntry("onnxopt.cli.compare", "Tell whether two models compute the same."),
    "benchmark": CommandEntry("onnxopt.cli.benchmark", "Measure and compare the speed of models."),
    "providers": CommandEntry("onnxopt.cli.providers", "Show what this machine can run models on."),
    "rules": CommandEntry("onnxopt.cli.rules", "List every pass and rule that optimize has."),
}


class CommandTable(click.Group):
    """Finds commands in `COMMANDS`, and imports only the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module; its function is called `command`."""
        del ctx
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = importlib.import_module(entry.module).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table's own summaries, so that help imports no command."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Refuse an unknown command with the near matches."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            is_model = name.endswith(".onnx") or Path(name).is_file()
            hint = f"write onnxopt optimize {name}" if is_model else near_matches(name, COMMANDS)
            raise OnnxOptError(f"{name!r} is no command", hint)
        return super().resolve_command(ctx, args)


@click.group(
    cls=CommandTable,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 90},
    epilog="Exit status: 0 done; 1 a gate failed (outputs differ, slower than allowed); "
    "2 bad usage, bad input or a missing provider.",
)
@click.version_option(__version__, "-V", "--version", message="onnxopt %(version)s")
@click.pass_context
def onnxopt(ctx: click.Context) -> None:
    """Optimize ONNX models for the hardware they run on: proven and measured."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(BAD_USAGE)


def run(args: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status; nothing but a fault of ours escapes."""
    try:
        status = _invoke(list(sys.argv[1:] if args is None else args))
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        return _say(INTERRUPTED, "interrupted")
    except BrokenPipeError:
        _let_go_of_stdout()
        return BROKEN_PIPE
    except click.UsageError as error:
        return _say(BAD_USAGE, f"error: {_lowered(error)}", f"hint: {_usage_hint(error)}")
    except click.ClickException as error:
        return _say(BAD_USAGE, f"error: {_lowered(error)}", "hint: see onnxopt --help")
    except OnnxOptError as error:
        _trace_if_asked()
        return _say(
            BAD_USAGE, f"error: {error.message}", f"hint: {error.hint or 'see onnxopt --help'}"
        )
    except MemoryError:
        _trace_if_asked()
        return _say(
            BAD_USAGE, "error: not enough memory", "hint: free some, or use a larger machine"
        )
    except Exception as error:  # noqa: BLE001  # the last line of defence
        return _no_room(error) if getattr(error, "errno", None) in _FULL else _fault(error)
    return status


def _no_room(error: Exception) -> int:
    """Say what a disk that is full kept from being written: a report on its way, as a rule."""
    assert isinstance(error, OSError)
    _let_go_of_stdout()
    where = error.filename or "standard output, or temporary files"
    return _say(
        BAD_USAGE, f"error: cannot write {where}: {error.strerror}", "hint: make room for it"
    )


def _fault(error: Exception) -> int:
    _trace_if_asked()
    return _say(
        INTERNAL_ERROR,
        f"internal error: {type(error).__name__}: {' '.join(str(error).split())}",
        "hint: this is a fault of onnxopt; ONNXOPT_DEBUG=1 shows where, please report it",
    )


def _let_go_of_stdout() -> None:
    """Point standard output nowhere: Python flushes once more at exit, and would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> NoReturn:
    """Run the command line of this process."""
    # What a command builds, it keeps: looking through it every 700 objects costs a tenth of it all.
    gc.set_threshold(50_000, 20, 50)
    # Only an exception lets a command take its temporary files away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    # A program that was started with these closed has None for them.
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    sys.exit(run())


def _invoke(args: list[str]) -> int:
    completion = os.environ.get("_ONNXOPT_COMPLETE")
    if completion:
        from click.shell_completion import shell_complete

        return shell_complete(onnxopt, {}, "onnxopt", "_ONNXOPT_COMPLETE", completion)
    try:
        with onnxopt.make_context("onnxopt", args) as context:
            result: Any = onnxopt.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    return result if isinstance(result, int) else 0


def _say(status: int, *lines: str) -> int:
    for line in lines:
        click.echo(printable(line), err=True)
    return status


def _lowered(error: click.ClickException) -> str:
    text = " ".join(error.format_message().split()).rstrip(".")
    if isinstance(error, click.NoSuchOption):
        text = f"no such option {error.option_name}"
    return text[:1].lower() + text[1:]


def _usage_hint(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx else "onnxopt"
    if isinstance(error, click.NoSuchOption) and error.possibilities:
        return f"did you mean {' or '.join(error.possibilities)}? See {path} --help"
    if error.ctx and isinstance(error, click.MissingParameter):
        return " ".join(error.ctx.get_usage().split()).replace("Usage:", "write", 1)
    return f"see {path} --help"


def _trace_if_asked() -> None:
    if os.environ.get("ONNXOPT_DEBUG"):
        import traceback

        traceback.print_exc()
