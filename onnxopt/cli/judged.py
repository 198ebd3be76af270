"""What `quantize`, `prune` and the chain of both ask alike: samples, metric, gates, reports."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from onnxopt.cli.output import Output
from onnxopt.cli.values import FiniteFloat, Percent, Size
from onnxopt.errors import OnnxOptError


def _read_metric(ctx: click.Context, param: click.Parameter, text: str | None) -> str | None:
    del ctx, param
    if text is None:
        return None
    if re.fullmatch(r".+\.py:\w+", text) is None:
        raise OnnxOptError(f"--metric {text!r} is not file.py:function", "write eval.py:accuracy")
    return text


calibration = click.option(
    "--calibration",
    metavar="PATH",
    help="Samples as the model meets them, without labels; 100 to 1,000 do. An .npz (arrays by "
    "input name, first axis is the sample), a folder of .npz (one feed each), a folder of ONNX "
    "test_data_set_*, or file.py:function that yields feeds.",
)

random_data = click.option(
    "--random-data",
    is_flag=True,
    help="Calibrate with made-up data: for trying out speed only, the report says so for ever.",
)

samples = click.option(
    "--samples", type=click.IntRange(min=1), metavar="N", help="Read so many samples at most."
)

max_memory = click.option(
    "--max-memory",
    type=Size(min=1),
    default=None,
    metavar="SIZE",
    help="What calibration may take, by running more often over the samples (512M, 1.5GiB). "
    "Default: 1G, or five times MODEL's size where that is more.",
)

metric = click.option(
    "--metric",
    metavar="FILE.py:FUNCTION",
    callback=_read_metric,
    help="Your own accuracy, higher is better: a function that is given predict(feed), which "
    "returns a dict of outputs, and returns a number.",
)

max_drop = click.option(
    "--max-drop",
    type=FiniteFloat(min=0),
    metavar="X",
    help="How much of --metric may be lost, in its own unit.",
)


def max_slowdown(default: str) -> Callable[[Any], Any]:
    """Add --max-slowdown; `default` says what holds without it."""
    return click.option(
        "--max-slowdown",
        type=Percent(min=0),
        metavar="PCT",
        help=f"Let the result be so much slower than MODEL, for its size. Default: {default}.",
    )


threads = click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Threads of a run. Default: the cores that may be used.",
)

anyway = click.option(
    "--anyway", is_flag=True, help="Write the result though it is not faster or not right."
)


def check_usage(
    model: str,
    out: str | None,
    calibration: str | None,
    output: Output,
    asked: dict[str, Any],
    *files: str,
) -> None:
    """Refuse what cannot be meant, before anything is read.

    `files` are those of the options `asked` for that are files.
    """
    if calibration is not None and asked["random_data"]:
        raise click.UsageError("give --calibration or --random-data, not both")
    if asked["max_drop"] is not None and asked["metric"] is None:
        raise click.UsageError("--max-drop needs --metric")
    if asked["metric"] is not None:
        file = asked["metric"].rpartition(":")[0]
        if not Path(file).is_file():
            raise OnnxOptError(f"--metric: there is no file {file}", "give the path of a file")
    models = (model,) if out is None else (model, out)
    output.check(*models, samples=calibration, **{name: asked[name] for name in files})
    if "html" in output.places:
        from onnxopt.render.html import check_available

        check_available()


def show(report: Any, verb: str, output: Output, *, verbose: bool) -> int:
    """Show and write a report as it was asked for, and return the exit status."""
    emit(report, verb, output, verbose=verbose)
    return output.end("" if report else _made("judged").failure(report))


def emit(report: Any, verb: str, output: Output, *, verbose: bool) -> None:
    """Show and write a report; each renderer is imported only where its format is wanted."""
    output.emit(
        report.to_dict,
        screen=lambda: _made(f"terminal.{verb}").report(report, verbose=verbose),
        markdown=lambda: getattr(_made("markdown"), verb)(report),
        html=lambda: getattr(_made("html"), verb)(report),
        csv=lambda: getattr(_made("csv"), verb)(report),
    )


def _made(place: str) -> Any:
    return importlib.import_module(f"onnxopt.render.{place}")
