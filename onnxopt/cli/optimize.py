"""`onnxopt optimize`: one model in, a proven and measured one out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxopt.chain_config import ChainConfig
from onnxopt.cli import judged, options
from onnxopt.cli.output import Output
from onnxopt.cli.progress import ProgressLine
from onnxopt.cli.values import FiniteFloat, Share


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
@click.option(
    "--prune",
    type=Share(min_open=False),
    metavar="S",
    help="Then take out a share of all channels, as onnxopt prune --sparsity S does. 0.5 is a "
    "half.",
)
@click.option(
    "--learn",
    type=click.IntRange(min=0),
    default=0,
    metavar="PASSES",
    help="Let what --prune leaves learn MODEL's outputs, as onnxopt prune --learn PASSES does.",
)
@click.option("--quantize", is_flag=True, help="Then make it int8, as onnxopt quantize does.")
@judged.calibration
@judged.random_data
@click.option(
    "--min-sqnr",
    type=FiniteFloat(),
    metavar="DB",
    help="The signal to noise ratio, against MODEL, that outputs must have on held-out samples "
    "after --prune and after --quantize.",
)
@judged.metric
@judged.max_drop
@options.output("html", "markdown")
@click.option(
    "-v", "--verbose", is_flag=True, help="Show every step, and why rules almost fired but did not."
)
def command(
    model: str,
    *,
    out: str | None,
    fix: dict[str, int],
    no_verify: bool,
    no_measure: bool,
    calibration: str | None,
    output: Output,
    verbose: bool,
    **asked: Any,
) -> int:
    """Make a model smaller and faster, prove and measure it.

    The result computes the same as MODEL: both are run on the same inputs, and what differs beyond
    MODEL's own noise is taken back. What is slower on the target, measured on this machine, is not
    kept either.

    With --prune and --quantize it goes on through these, which are not exact: what comes out is
    held against MODEL on samples that were held out, and a step that misses a gate ends it with
    nothing written.

    Exit status: 0 done; 1 the outputs differ, the result is slower or a gate failed; 2 bad usage or
    input.
    """
    out = default_output(model) if out is None else out
    judged.check_usage(model, out, calibration, output, asked)
    names = ("prune", "learn", "quantize", "random_data", "min_sqnr", "metric", "max_drop")
    ChainConfig(**{name: asked[name] for name in names}).check(samples=calibration is not None)
    from onnxopt import api

    with ProgressLine(quiet=output.quiet) as progress:
        report = api.optimize(
            model,
            out,
            fix=fix or None,
            verify=not no_verify,
            measure=not no_measure,
            calibration=calibration,
            trace=verbose,
            progress=progress,
            **asked,
        )
    judged.emit(report, "optimize", output, verbose=verbose)
    from onnxopt.render import rows

    return output.end("" if report else rows.optimize_failure(report) or "a gate failed")


def default_output(model: str) -> str:
    """Return MODEL with `.opt` before the suffix: `net.onnx` becomes `net.opt.onnx`."""
    path = Path(model)
    return str(path.with_name(f"{path.stem}.opt{path.suffix}")) if path.name else model
