"""`onnxopt providers`: what this machine can run, what is broken, and the exact fix."""

from __future__ import annotations

import click

from onnxopt.cli import options
from onnxopt.cli.output import Output


@click.command("providers")
@options.output()
@click.option("-v", "--verbose", is_flag=True, help="Show versions, libraries and devices.")
def command(*, output: Output, verbose: bool) -> int:
    """Show what this machine can run models on.

    Each execution provider is tried with a session of its own: listed is not the same as working.
    """
    output.check()
    from onnxopt.report import plain
    from onnxopt.runtime.execution.providers import survey

    statuses = survey()
    from onnxopt.render.terminal import listings

    output.emit(
        lambda: {"schema": "onnxopt.providers/1", "providers": plain(statuses)},
        screen=lambda: listings.providers(statuses, verbose=verbose),
    )
    return 0
