"""The few shapes that every terminal report is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from onnxopt.render import rows
from onnxopt.render.words import printable
from onnxopt.report import OutputComparison, Profile
from onnxopt.text import human_bytes

GOOD, BAD, CARE, FAINT = "green", "bold red", "yellow", "dim"
OUTPUTS_SHOWN = 8


def line(text: str, style: str = "") -> Text:
    """Make a line of text that no name in it can turn into markup or control codes."""
    return Text(printable(text), style=style)


def heading(text: str) -> Text:
    """Open a section."""
    return line(text, "bold")


def table(*columns: str, right: Iterable[str] = ()) -> Table:
    """Make a table without a frame, its numbers to the `right`."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=FAINT)
    numbers = set(right)
    for name in columns:
        made.add_column(
            name,
            justify="right" if name in numbers else "left",
            no_wrap=name in numbers,
            overflow="fold",
        )
    return made


def row(made: Table, cells: Sequence[str], style: str = "") -> None:
    """Add a row of plain texts."""
    made.add_row(*(line(cell) for cell in cells), style=style)


class LongTable:
    """A table of thousands of rows, each of which costs rich's own half a millisecond.

    Columns are as wide as what they hold. A line that is too long is left to the terminal, so its
    last column should be the long one. The first `numbers` columns are aligned to the right.
    """

    def __init__(
        self, header: Sequence[str], cells: Sequence[Sequence[str]], *, numbers: int
    ) -> None:
        self._rows = [tuple(header), *(tuple(map(printable, each)) for each in cells)]
        self._widths = [max(map(len, column)) for column in zip(*self._rows, strict=True)]
        self._numbers = numbers

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for index, cells in enumerate(self._rows):
            aligned = (
                cell.rjust(width) if column < self._numbers else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(cells, self._widths, strict=True))
            )
            style = None if index else console.get_style(FAINT)
            yield Segment("  " + "  ".join(aligned).rstrip() + "\n", style)


def section(title: str, *parts: RenderableType) -> RenderableType:
    """Put a heading over indented parts, with an empty line after them."""
    # What is empty has no width to pad, and would vanish.
    body = [
        part if isinstance(part, Text) and not part else Padding(part, (0, 0, 0, 2), expand=False)
        for part in parts
    ]
    return Group(heading(title), *body, Text(""))


def long_section(title: str, made: LongTable) -> list[RenderableType]:
    """Put a heading over a table that indents itself and may be wider than the screen."""
    return [heading(title), made, line("")]


def more(count: int, shown: int) -> list[RenderableType]:
    """Say how many are not shown; nothing where all are."""
    return [line(f"and {count - shown:,} more (-v shows them)", FAINT)] if count > shown else []


def notes(warnings: Sequence[str]) -> list[RenderableType]:
    """Show warnings, one to a paragraph."""
    return [line(f"warning: {text}", CARE) for text in warnings]


def file_line(profile: Profile) -> str:
    """Say which file this is."""
    digest = f"  sha256 {profile.sha256[:12]}" if profile.sha256 else ""
    return f"{profile.path or '(in memory)'}  {human_bytes(profile.file_bytes)}{digest}"


def outputs_table(outputs: Sequence[OutputComparison], *, verbose: bool) -> RenderableType:
    """Show how far each output is from its reference."""
    shown = list(outputs) if verbose else list(outputs)[:OUTPUTS_SHOWN]
    made = table(
        "output", "max abs", "allowed", "max rel", "SQNR", "cosine", "",
        right=("max abs", "allowed", "max rel", "SQNR", "cosine"),
    )  # fmt: skip
    for each in shown:
        row(made, (each.name, *rows.output_cells(each)), "" if each.passed else BAD)
    parts: list[RenderableType] = [made]
    parts += [line(f"{each.name}: {each.reason}", BAD) for each in shown if each.reason]
    return Group(*parts, *more(len(outputs), len(shown)))
