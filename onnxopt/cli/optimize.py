"""`onnxopt optimize`: one model in, a proven and measured one out."""

from __future__ import annotations

from pathlib import Path

import click

from onnxopt.cli import options
from onnxopt.cli.output import Output
from onnxopt.cli.progress import ProgressLine


@click.command("optimize")
@options.model
@click.option(
    "-o",
    "--output",
    "out",
    metavar="OUT",
    help="Where the result goes. Default: MODEL with .opt before the suffix.",
)
@options.target("portable")
@options.fix
@click.option(
    "--opset",
    type=click.IntRange(min=1),
    metavar="N",
    help="Raise the model to operator set N. Default: where that gains, up to 20 (cpu: 23).",
)
@options.only
@options.skip
@options.data
@click.option("--no-verify", is_flag=True, help="Do not prove that the outputs are the same.")
@click.option(
    "--no-measure",
    is_flag=True,
    help="Do not measure the speed of the result; go by what is known to pay on the target.",
)
@click.option("--check", is_flag=True, help="Check that the model is valid after each step.")
@options.output("markdown")
@click.option(
    "-v", "--verbose", is_flag=True, help="Show every step, and why rules almost fired but did not."
)
def command(
    model: str,
    *,
    out: str | None,
    target: str,
    fix: dict[str, int],
    opset: int | None,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    data: str | None,
    no_verify: bool,
    no_measure: bool,
    check: bool,
    output: Output,
    verbose: bool,
) -> int:
    """Make a model smaller and faster, prove and measure it.

    The result computes the same as MODEL: both are run on the same inputs, and what differs beyond
    MODEL's own noise is taken back. What is slower on the target, measured on this machine, is not
    kept either.

    Exit status: 0 done; 1 the outputs differ or the result is slower; 2 bad usage or input.
    """
    out = default_output(model) if out is None else out
    output.check(model, out)
    from onnxopt import api

    with ProgressLine(quiet=output.quiet) as progress:
        report = api.optimize(
            model,
            out,
            target=target,
            fix=fix or None,
            opset=opset,
            only=only,
            skip=skip,
            verify=not no_verify,
            measure=not no_measure,
            data=data,
            check=check,
            trace=verbose,
            progress=progress,
        )
    from onnxopt.render import markdown, rows
    from onnxopt.render.terminal import optimize as terminal

    output.emit(
        report.to_dict,
        screen=lambda: terminal.report(report, verbose=verbose),
        markdown=lambda: markdown.optimize(report),
    )
    return output.end("" if report else rows.optimize_failure(report) or "a gate failed")


def default_output(model: str) -> str:
    """Return MODEL with `.opt` before the suffix: `net.onnx` becomes `net.opt.onnx`."""
    path = Path(model)
    return str(path.with_name(f"{path.stem}.opt{path.suffix}")) if path.name else model
