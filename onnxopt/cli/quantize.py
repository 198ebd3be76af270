"""`onnxopt quantize`: a float model and samples in, an int8 model out that is faster and right."""

from __future__ import annotations

from typing import Any

import click

from onnxopt.cli import judged, options
from onnxopt.cli.output import Output, beside
from onnxopt.cli.progress import ProgressLine
from onnxopt.cli.values import FiniteFloat, Several, joined
from onnxopt.config import FORMATS, ISAS, METHODS, REPAIRS, ROUNDINGS
from onnxopt.errors import OnnxOptError

_NAMES = Several(click.STRING)


@click.command("quantize")
@options.model
@judged.calibration
@judged.random_data
@options.out("int8")
@options.target("cpu")
@click.option(
    "--isa",
    type=click.Choice(ISAS),
    default="auto",
    show_default=True,
    help="Instruction set of the processor that will run it. auto: this machine's (native) for "
    "cpu, what is safe on all of them for portable.",
)
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="auto",
    show_default=True,
    help="How ranges are chosen. auto: by tensor, what loses least.",
)
@click.option(
    "--rounding",
    type=click.Choice(ROUNDINGS),
    default="descent",
    show_default=True,
    help="How weights are rounded so that errors cancel: column by column to its optimum "
    "(descent), by handing errors on (gptq), by a gradient (adaround); nearest: each by itself.",
)
@click.option(
    "--format",
    type=click.Choice(FORMATS),
    default="qdq",
    show_default=True,
    help="How int8 is written: QuantizeLinear and DequantizeLinear around float operators, or "
    "int8 operators (QLinearConv).",
)
@click.option(
    "--min-sqnr",
    type=FiniteFloat(),
    metavar="DB",
    help="The fastest choice whose outputs have this signal to noise ratio on held-out samples.",
)
@click.option(
    "--fastest", is_flag=True, help="The fastest choice that the gates leave, however accurate."
)
@judged.max_slowdown("it has to be faster")
@judged.metric
@judged.max_drop
@judged.samples
@judged.max_memory
@click.option("--save-statistics", metavar="FILE", help="Keep what calibration saw.")
@click.option(
    "--statistics", metavar="FILE", help="Take what an earlier calibration saw, for any target."
)
@click.option(
    "--only",
    type=_NAMES,
    multiple=True,
    callback=joined,
    metavar="NAME,...",
    help="Only these nodes or operators may become int8.",
)
@click.option(
    "--skip",
    type=_NAMES,
    multiple=True,
    callback=joined,
    metavar="NAME,...",
    help="Leave these nodes or operators in float.",
)
@click.option(
    "--no-repair",
    "without",
    type=Several(click.Choice([*REPAIRS, "all"])),
    multiple=True,
    callback=joined,
    metavar="NAME,...",
    help=f"Do without some of what is done for accuracy: {', '.join(REPAIRS)}, or all.",
)
@judged.threads
@click.option(
    "--no-measure",
    is_flag=True,
    help="Measure no speed: whatever can be int8 becomes int8, as accuracy allows.",
)
@judged.anyway
@options.output("html", "markdown", "csv")
@click.option("-v", "--verbose", is_flag=True, help="Show every region, tensor and Q/DQ pair.")
def command(
    model: str,
    *,
    calibration: str | None,
    out: str | None,
    without: tuple[str, ...],
    no_measure: bool,
    output: Output,
    verbose: bool,
    **asked: Any,
) -> int:
    """Make a model int8 where that is faster and still right.

    Samples tell the ranges of its tensors; some are held out, to tell the error. Which part of the
    model becomes int8 is decided by its error and by times that are measured on this machine. If no
    int8 model is both right and faster, that is said and nothing is written.

    Exit status: 0 done; 1 no int8 model is both right and faster; 2 bad usage or input.
    """
    out = beside(model, "int8") if out is None else out
    if calibration is None and not asked["random_data"]:
        raise OnnxOptError(
            "int8 needs samples of what the model will meet",
            "give --calibration PATH; --random-data only tries out the speed",
        )
    judged.check_usage(model, out, calibration, output, asked, "statistics", "save_statistics")
    from onnxopt import api

    with ProgressLine(quiet=output.quiet) as progress:
        report = api.quantize(
            model,
            calibration,
            out,
            without=REPAIRS if "all" in without else without,
            measure=not no_measure,
            progress=progress,
            **asked,
        )
    return judged.show(report, "quantize", output, verbose=verbose)
