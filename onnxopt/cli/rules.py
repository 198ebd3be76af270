"""`onnxopt rules`: every pass and rule that optimize has."""

from __future__ import annotations

import click

from onnxopt.cli import options
from onnxopt.cli.output import Output


@click.command("rules")
@options.output(markdown=False)
def command(*, output: Output) -> int:
    """List every pass and rule that optimize has.

    The names are what `onnxopt optimize --only` and `--skip` take.
    """
    output.check()
    from onnxopt.rules import table

    entries = [
        {
            "name": entry.name,
            "kind": entry.kind,
            "summary": entry.summary,
            "targets": sorted(entry.targets),
            "since": entry.since,
        }
        for entry in table()
    ]
    from onnxopt.render.terminal import listings

    output.emit(
        lambda: {"schema": "onnxopt.rules/1", "rules": entries},
        screen=lambda: listings.rules(entries),
    )
    return 0
