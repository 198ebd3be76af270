"""`onnxopt benchmark`: how fast are models here, and is one faster than another?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from onnxopt.cli import options
from onnxopt.cli.output import Output
from onnxopt.cli.progress import ProgressLine

if TYPE_CHECKING:
    from onnxopt.report import BenchmarkReport


@click.command("benchmark")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@options.providers
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="N",
    help="Size of the free batch dimension. May be repeated.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="N",
    help="Threads inside an operator. May be repeated. Default: the cores that may be used.",
)
@options.data
@click.option(
    "--seconds",
    type=options.FiniteFloat(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="S",
    help="Time for each provider, batch size and number of threads.",
)
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    metavar="N",
    help="Fresh processes that each measure every model.",
)
@click.option(
    "--max-slowdown",
    type=options.FiniteFloat(min=0),
    metavar="PCT",
    help="Fail (exit status 1) when a model is for certain more than PCT percent slower than the "
    "first one.",
)
@options.output()
@click.option("-v", "--verbose", is_flag=True, help="Show the environment line by line.")
def command(
    models: tuple[str, ...],
    *,
    providers: tuple[str, ...],
    batches: tuple[int, ...],
    threads: tuple[int, ...],
    data: str | None,
    seconds: float,
    processes: int,
    max_slowdown: float | None,
    output: Output,
    verbose: bool,
) -> int:
    """Measure and compare the speed of models.

    Every model runs on every provider, batch size and number of threads, in fresh sessions that
    take turns. The first MODEL is what the others are compared with.

    Exit status: 0 done; 1 a model could not be run, or is slower than allowed; 2 bad usage.
    """
    output.check(*models)
    if max_slowdown is not None and len(models) < 2:
        raise click.UsageError("--max-slowdown needs two models")
    from onnxopt import api

    with ProgressLine(quiet=output.quiet) as progress:
        report = api.benchmark(
            list(models),
            providers=providers,
            batches=batches or (None,),
            threads=threads or (None,),
            data=data,
            seconds=seconds,
            processes=processes,
            progress=progress,
        )
    from onnxopt.render import markdown
    from onnxopt.render.terminal import benchmark as terminal

    output.emit(
        report.to_dict,
        screen=lambda: terminal.report(report, verbose=verbose),
        markdown=lambda: markdown.benchmark(report),
    )
    return output.end(failure(report, max_slowdown), shown=max_slowdown is None)


def failure(report: BenchmarkReport, max_slowdown: float | None) -> str:
    """Name what could not be run and what is slower than allowed; empty when nothing is.

    A candidate fails only when the whole interval of its ratio lies beyond the limit.
    """
    failed = [f"{each.model}: {each.error}" for each in report.results if each.error is not None]
    if max_slowdown is not None:
        limit = 1 / (1 + max_slowdown / 100)
        failed += [
            f"{each.candidate} is more than {max_slowdown:g} % slower: {each.sentence()}"
            for each in report.differences
            if each.high < limit
        ]
    return "; ".join(failed)
