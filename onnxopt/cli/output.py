"""Where a command's report goes: the screen, files, or standard output for another program."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxopt.errors import OnnxOptError, OutputError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

GATE_FAILED = 1
UNBROKEN = 10_000
NARROWEST = 60


@dataclass(frozen=True, kw_only=True)
class Output:
    """What --json and its like, and --quiet, asked for: `places` is format to file."""

    places: Mapping[str, str] = field(default_factory=dict)
    quiet: bool = False

    @property
    def screen(self) -> bool:
        """Tell whether standard output belongs to the person, not to a program."""
        return not self.quiet and "-" not in self.places.values()

    def check(self, *models: str, **others: str | None) -> None:
        """Refuse, before any work, what could not be written or would replace what is read.

        `others` are files, by what they are called.
        """
        read = [("model", model) for model in models]
        read += [
            (name.replace("_", " "), file) for name, file in others.items() if file is not None
        ]
        seen: dict[str, str] = {}
        for name, path in self.places.items():
            place = path if path == "-" else os.path.realpath(path)
            if place in seen:
                raise OnnxOptError(
                    f"--{seen[place]} and --{name} both go to {path}", "give one another place"
                )
            seen[place] = name
            if path != "-":
                _check_file(path, read)

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
        try:
            self.write(data, **texts)
        finally:  # what was found is shown, though a disk be full
            if self.screen:
                self.show(screen())

    def show(self, what: RenderableType) -> None:
        """Print on standard output."""
        # Long tables leave their long lines to the terminal.
        console().print(what, crop=False)

    def write(self, data: Callable[[], Any], **texts: Callable[[], str]) -> None:
        """Write the files that were asked for, each whole or not at all.

        What keeps one from being written is raised when the others have been.
        """
        if not self.places:
            return
        from onnxopt.render import files, json

        faults = []
        made: dict[str, Callable[[], Any]] = {"json": lambda: json.chunks(data()), **texts}
        for name, text in made.items():
            if name in self.places:
                try:
                    files.write(text(), self.places[name])
                except OutputError as error:
                    faults.append(error)
        if faults:
            raise faults[0]

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

    In a file or a pipe no line is broken, so that a name can be found with grep. A very narrow
    terminal breaks lines itself, for tables would lose digits.
    """
    from rich.console import Console

    sized = sys.stdout.isatty() or "COLUMNS" in os.environ
    width = max(shutil.get_terminal_size().columns, NARROWEST) if sized else UNBROKEN
    return Console(width=width, markup=False, highlight=False, emoji=False)


def check_place(place: str, read: Sequence[tuple[str, str]], what: str) -> None:
    """Refuse a file that cannot be there, or would replace what is `read`: (what it is, path)."""
    path = Path(place)
    if os.path.isdir(place):  # noqa: PTH112 - pathlib's raises for a name that is too long
        raise OutputError(f"{path} is a directory", "give the name of a file in it")
    if not path.parent.is_dir():
        hint = f"make it first: mkdir -p {path.parent}"
        raise OutputError(f"there is no directory {path.parent}", hint)
    for other, file in read:
        if os.path.realpath(place) == os.path.realpath(file):
            raise OutputError(f"the {what} would replace the {other} {path}", "give another name")


def beside(model: str, word: str) -> str:
    """Return MODEL with a word before the suffix: `net.onnx` becomes `net.int8.onnx`."""
    path = Path(model)
    return str(path.with_name(f"{path.stem}.{word}{path.suffix}")) if path.name else model


def _check_file(place: str, read: Sequence[tuple[str, str]]) -> None:
    check_place(place, read, "report")
    from onnxopt.render.files import check

    check(place)
