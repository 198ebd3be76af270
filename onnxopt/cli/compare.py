"""`onnxopt compare`: do two models compute the same?"""

from __future__ import annotations

import click

from onnxopt.cli import options, values
from onnxopt.cli.output import Output


@click.command("compare")
@click.argument("reference", metavar="A")
@click.argument("candidate", metavar="B")
@options.data
@click.option(
    "--rtol",
    type=values.FiniteFloat(min=0),
    metavar="R",
    help="Allowed difference relative to each element of A.",
)
@click.option(
    "--atol",
    type=values.FiniteFloat(min=0),
    metavar="T",
    help="Allowed difference beside --rtol, in the output's own unit. Default of both: the noise "
    "that A shows against itself.",
)
@click.option(
    "--min-sqnr",
    type=values.FiniteFloat(),
    metavar="DB",
    help="Least signal to noise ratio of every output, in dB; for quantized models.",
)
@options.output("markdown")
@click.option("-v", "--verbose", is_flag=True, help="Show every output.")
def command(
    reference: str,
    candidate: str,
    *,
    data: str | None,
    rtol: float | None,
    atol: float | None,
    min_sqnr: float | None,
    output: Output,
    verbose: bool,
) -> int:
    """Tell whether two models compute the same.

    A is the reference, B the candidate: both run on the same feeds.

    Exit status: 0 the same; 1 they differ, or neither could be run; 2 bad usage or input.
    """
    output.check(reference, candidate)
    from onnxopt import api

    report = api.compare(reference, candidate, data=data, rtol=rtol, atol=atol, min_sqnr=min_sqnr)
    from onnxopt.render import markdown, rows
    from onnxopt.render.terminal import compare as terminal

    output.emit(
        report.to_dict,
        screen=lambda: terminal.report(report, verbose=verbose),
        markdown=lambda: markdown.compare(report),
    )
    return output.end("" if report else rows.verdict(report.verification)[0])
