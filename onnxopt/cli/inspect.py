"""`onnxopt inspect`: what is in a model, what it costs, who would run it."""

from __future__ import annotations

import click

from onnxopt.cli import options
from onnxopt.cli.output import Output


@click.command("inspect")
@options.model
@options.providers
@click.option(
    "--costs",
    is_flag=True,
    help="Predict what each node takes from shapes alone, on the first provider: the costliest "
    "first, with sizes from --fix or the ones that a benchmark would try first.",
)
@options.fix
@click.option("--nodes", is_flag=True, help="List every node, not only the ten most costly.")
@options.output("markdown")
def command(
    model: str,
    *,
    providers: tuple[str, ...],
    costs: bool,
    fix: dict[str, int],
    nodes: bool,
    output: Output,
) -> int:
    """Show what is in a model and what it costs.

    Operators with their parameters and multiply-accumulates, inputs and outputs, free dimensions,
    and the execution provider that would really run each node. Free dimensions count as 1, unless
    --costs is given.
    """
    output.check(model)
    from onnxopt import api

    report = api.inspect(model, providers=providers, costs=costs, fix=fix)
    from onnxopt.render import markdown
    from onnxopt.render.terminal import inspect as terminal

    output.emit(
        report.to_dict,
        screen=lambda: terminal.report(report, nodes=nodes),
        markdown=lambda: markdown.inspect(report),
    )
    return 0
