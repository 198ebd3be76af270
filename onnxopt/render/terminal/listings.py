"""What this machine can run, and what optimize can do, on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType

from onnxopt.render.terminal.blocks import BAD, FAINT, GOOD, line, row, section, table


def providers(statuses: Sequence[Any], *, verbose: bool = False) -> RenderableType:
    """Show each provider, whether it works, why not, and the exact fix."""
    made = table("provider", "works", "")
    for status in statuses:
        texts = [line(status.reason or status.ort_name)]
        if status.fix:
            texts.append(line(status.fix, "bold"))
        if verbose:
            texts += [line(f"{name}: {value}", FAINT) for name, value in status.details.items()]
        works = line("yes", GOOD) if status.usable else line("no", BAD)
        made.add_row(line(status.name), works, Group(*texts))
    return made


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
