"""What this machine can run, and what optimize can do, on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from onnxopt.render.terminal.blocks import BAD, CARE, FAINT, GOOD, line, row, section, table


def providers(statuses: Sequence[Any], *, verbose: bool = False) -> RenderableType:
    """Show each provider, whether it works, all that is wrong with it, and the exact fixes."""
    made = table("provider", "")
    told: list[Any] = []
    for status in statuses:
        works = line("works", GOOD) if status.usable else line("does not work", BAD)
        parts: list[RenderableType] = [works]
        problems = status.problems or ([status] if status.reason or status.fix else [])
        for problem in [each for each in problems if each not in told] or problems[:1]:
            parts += [line(problem.reason), line(problem.fix, "bold")]
        told += problems
        if verbose:
            parts += _particulars(status)
        elif status is not statuses[-1]:
            parts.append(Text(""))
        made.add_row(line(status.name), Group(*parts))
    return made


def _particulars(status: Any) -> list[RenderableType]:
    """Show versions, devices and libraries of one provider."""
    facts = Table.grid("", "", padding=(0, 2, 0, 0))
    for name, value in status.details.items():
        facts.add_row(line(name, FAINT), line(value))
    shown: list[RenderableType] = [facts] if status.details else []
    if status.libraries:
        found = table("library", "version", "where")
        for each in status.libraries:
            absent = "missing" if each.required else "missing, wanted by some operators"
            where = line(each.source) if each.path else line(absent, BAD if each.required else CARE)
            found.add_row(line(each.name), line(each.version), where)
        shown.append(found)
    return [*shown, Text("")] if shown else []


def rules(entries: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Show passes and rules with what they do, for which targets and from which opset."""
    passes = table("name", "what it does")
    fusions = table("name", "opset", "what it does", right=("opset",))
    for entry in entries:
        if entry["kind"] == "pass":
            row(passes, (entry["name"], entry["summary"]))
        else:
            targets = f" ({', '.join(entry['targets'])} only)" if entry["targets"] else ""
            if entry["unsure"]:
                targets += f" (on {', '.join(entry['unsure'])} only if measured to pay)"
            since = f"{entry['since']}+" if entry["since"] > 1 else ""
            row(fusions, (entry["name"], since, entry["summary"] + targets))
    return Group(section("Passes", passes), section("Rules", fusions))
