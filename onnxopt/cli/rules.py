"""`onnxopt rules`: every pass and rule that optimize has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from onnxopt.cli import options
from onnxopt.cli.output import Output


@click.command("rules")
@options.output()
def command(*, output: Output) -> int:
    """List every pass and rule that optimize has.

    The names are what `onnxopt optimize --only` and `--skip` take.
    """
    output.check()
    from onnxopt import pipeline, rules

    entries = [_entry("pass", name, summary) for name, summary in pipeline.pass_names().items()]
    entries += [
        _entry(
            "rule", each.name, each.summary, sorted(each.targets), sorted(each.unsure), each.since
        )
        for each in rules.load()
    ]
    from onnxopt.render.terminal import listings

    output.emit(
        lambda: {"schema": "onnxopt.rules/1", "rules": entries},
        screen=lambda: listings.rules(entries),
    )
    return 0


def _entry(
    kind: str,
    name: str,
    summary: str,
    targets: Sequence[str] = (),
    unsure: Sequence[str] = (),
    since: int | None = None,
) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "summary": summary,
        "targets": list(targets),
        "unsure": list(unsure),
        "since": since,
    }
