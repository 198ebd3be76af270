"""`onnxopt quantize`: a float model and samples in, an int8 model out that is faster and right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxopt.cli import options
from onnxopt.cli.output import Output
from onnxopt.cli.progress import ProgressLine
from onnxopt.cli.values import FiniteFloat, Percent, Several, Size, joined
from onnxopt.config import FORMATS, ISAS, METHODS, REPAIRS
from onnxopt.errors import OnnxOptError

if TYPE_CHECKING:
    from onnxopt.report import QuantizeReport

_NAMES = Several(click.STRING)


def _read_metric(ctx: click.Context, param: click.Parameter, text: str | None) -> str | None:
    del ctx, param
    if text is None:
        return None
    if re.fullmatch(r".+\.py:\w+", text) is None:
        raise OnnxOptError(f"--metric {text!r} is not file.py:function", "write eval.py:accuracy")
    return text


@click.command("quantize")
@options.model
@click.option(
    "--calibration",
    metavar="PATH",
    help="Samples as the model meets them, without labels; 100 to 1,000 do. An .npz (arrays by "
    "input name, first axis is the sample), a folder of .npz (one feed each), a folder of ONNX "
    "test_data_set_*, or file.py:function that yields feeds.",
)
@click.option(
    "--random-data",
    is_flag=True,
    help="Calibrate with made-up data: for trying out speed only, the report says so for ever.",
)
@click.option(
    "-o",
    "--output",
    "out",
    metavar="OUT",
    help="Where the result goes. Default: MODEL with .int8 before the suffix.",
)
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
@click.option(
    "--max-slowdown",
    type=Percent(min=0),
    metavar="PCT",
    help="Let the result be so much slower than MODEL, for its size. Default: it has to be faster.",
)
@click.option(
    "--metric",
    metavar="FILE.py:FUNCTION",
    callback=_read_metric,
    help="Your own accuracy, higher is better: a function that is given predict(feed), which "
    "returns a dict of outputs, and returns a number.",
)
@click.option(
    "--max-drop",
    type=FiniteFloat(min=0),
    metavar="X",
    help="How much of --metric may be lost, in its own unit.",
)
@click.option(
    "--samples", type=click.IntRange(min=1), metavar="N", help="Read so many samples at most."
)
@click.option(
    "--max-memory",
    type=Size(min=1),
    default="1G",
    show_default=True,
    metavar="SIZE",
    help="What calibration may take, by running more often over the samples (512M, 1.5GiB).",
)
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
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Threads of a run. Default: the cores that may be used.",
)
@click.option(
    "--no-measure",
    is_flag=True,
    help="Measure no speed: whatever can be int8 becomes int8, as accuracy allows.",
)
@click.option(
    "--anyway", is_flag=True, help="Write the result though it is not faster or not right."
)
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
    out = default_output(model) if out is None else out
    _check_usage(model, out, calibration, output, asked)
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
    from onnxopt.render import judged
    from onnxopt.render.terminal import quantize as terminal

    output.emit(
        report.to_dict,
        screen=lambda: terminal.report(report, verbose=verbose),
        **_texts(report),
    )
    return output.end("" if report else judged.failure(report))


def default_output(model: str) -> str:
    """Return MODEL with `.int8` before the suffix: `net.onnx` becomes `net.int8.onnx`."""
    path = Path(model)
    return str(path.with_name(f"{path.stem}.int8{path.suffix}")) if path.name else model


def _check_usage(
    model: str, out: str, calibration: str | None, output: Output, asked: dict[str, Any]
) -> None:
    """Refuse what cannot be meant, before anything is read."""
    if calibration is None and not asked["random_data"]:
        raise OnnxOptError(
            "int8 needs samples of what the model will meet",
            "give --calibration PATH; --random-data only tries out the speed",
        )
    if calibration is not None and asked["random_data"]:
        raise click.UsageError("give --calibration or --random-data, not both")
    if asked["max_drop"] is not None and asked["metric"] is None:
        raise click.UsageError("--max-drop needs --metric")
    if asked["metric"] is not None:
        file = asked["metric"].rpartition(":")[0]
        if not Path(file).is_file():
            raise OnnxOptError(f"--metric: there is no file {file}", "give the path of a file")
    files = {name: asked[name] for name in ("statistics", "save_statistics")}
    output.check(model, out, samples=calibration, **files)
    if "html" in output.places:
        from onnxopt.render.html import check_available

        check_available()


def _texts(report: QuantizeReport) -> dict[str, Any]:
    """Return format to what writes it; each is imported only where it is asked for."""

    def markdown() -> str:
        from onnxopt.render.markdown import quantize

        return quantize(report)

    def html() -> str:
        from onnxopt.render.html import quantize

        return quantize(report)

    def csv() -> str:
        from onnxopt.render.csv import quantize

        return quantize(report)

    return {"markdown": markdown, "html": html, "csv": csv}
