"""Where a command's report goes: the screen, files, or standard output for another program."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxopt.errors import OnnxOptError, OutputError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

GATE_FAILED = 1
UNBROKEN = 10_000


@dataclass(frozen=True, kw_only=True)
class Output:
    """What --json and its like, and --quiet, asked for: `places` is format to file."""

    places: Mapping[str, str] = field(default_factory=dict)
    quiet: bool = False

    @property
    def screen(self) -> bool:
        """Tell whether standard output belongs to the person, not to a program."""
        return not self.quiet and "-" not in self.places.values()

    def check(self, *models: str) -> None:
        """Refuse, before any work, what could not be written or would replace a model."""
        seen: dict[str, str] = {}
        for name, path in self.places.items():
            if path in seen:
                raise OnnxOptError(
                    f"--{seen[path]} and --{name} both go to {path}", "give one another place"
                )
            seen[path] = name
            if path != "-":
                _check_file(Path(path), models)

    def emit(
        self,
        data: Callable[[], Any],
        *,
        screen: Callable[[], RenderableType],
        **texts: Callable[[], str],
    ) -> None:
        """Write the files that were asked for, then show the report where nothing forbids it.

        `data` gives the report for JSON, `texts` the text for every other format.
        """
        self.write(data, **texts)
        if self.screen:
            # Long tables leave their long lines to the terminal.
            console().print(screen(), crop=False)

    def write(self, data: Callable[[], Any], **texts: Callable[[], str]) -> None:
        """Write the files that were asked for, each whole or not at all."""
        if not self.places:
            return
        from onnxopt.render import files, json

        if "json" in self.places:
            files.write(json.chunks(data()), self.places["json"])
        for name, text in texts.items():
            if name in self.places:
                files.write(text(), self.places[name])

    def only(self, *formats: str) -> Output:
        """Return what writes these formats alone."""
        return replace(
            self, places={name: self.places[name] for name in formats if name in self.places}
        )

    def end(self, failure: str, *, shown: bool = True) -> int:
        """Return the exit status; a failure that the screen has not `shown` is said in a line."""
        if not failure:
            return 0
        if not (self.screen and shown):
            import click

            from onnxopt.render.words import printable

            click.echo(printable(f"failed: {failure}"), err=True)
        return GATE_FAILED


def console() -> Console:
    """Make the console for reports: colours only on a terminal and without NO_COLOR.

    In a file or a pipe no line is broken, so that a name can be found with grep.
    """
    from rich.console import Console

    sized = sys.stdout.isatty() or "COLUMNS" in os.environ
    width = None if sized else UNBROKEN
    return Console(width=width, markup=False, highlight=False, emoji=False)


def _check_file(path: Path, models: tuple[str, ...]) -> None:
    if path.is_dir():
        raise OutputError(f"{path} is a directory", "give the name of a file in it")
    if not path.parent.is_dir():
        hint = f"make it first: mkdir -p {path.parent}"
        raise OutputError(f"there is no directory {path.parent}", hint)
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise OutputError(f"{path} is not writable", "choose another place for the report")
    if any(path.resolve() == Path(model).resolve() for model in models):
        raise OutputError(f"the report would replace the model {path}", "give it another name")
