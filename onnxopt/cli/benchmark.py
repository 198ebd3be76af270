"""`onnxopt benchmark`: how fast are models here, and is one faster than another?"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxopt.cli import options
from onnxopt.cli.output import Output
from onnxopt.cli.progress import ProgressLine
from onnxopt.cli.values import FiniteFloat, Percent, Seconds, Several, joined
from onnxopt.errors import OnnxOptError, OutputError

if TYPE_CHECKING:
    from onnxopt.report import BenchmarkReport, Copies

_COUNTS = Several(click.IntRange(min=1))


@click.command("benchmark")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@options.providers
@options.provider_options
@click.option(
    "--batch",
    "batches",
    type=_COUNTS,
    multiple=True,
    callback=joined,
    metavar="N,...",
    help="Sizes of the free batch dimension.",
)
@click.option(
    "--threads",
    type=_COUNTS,
    multiple=True,
    callback=joined,
    metavar="N,...",
    help="Threads inside an operator. Default: the cores that may be used.",
)
@click.option(
    "--callers",
    type=_COUNTS,
    multiple=True,
    callback=joined,
    metavar="N,...",
    help="How many call the model at the same time; from 2 on, throughput is compared.",
)
@click.option(
    "--rate",
    "rates",
    type=Several(FiniteFloat(min=0, min_open=True)),
    multiple=True,
    callback=joined,
    metavar="R,...",
    help="Requests a second that arrive at random; latency counts from the arrival.",
)
@click.option(
    "--io",
    type=Several(click.Choice(["copied", "bound"])),
    multiple=True,
    callback=joined,
    metavar="KIND,...",
    help="copied: inputs and outputs are numpy arrays, copied in each run (default); bound: they "
    "stay where the provider computes (IO binding).",
)
@options.data
@options.fix
@click.option(
    "--precision",
    type=Percent(min=0, max=100, min_open=True, max_open=True),
    default="2%",
    show_default=True,
    metavar="PCT",
    help="Stop when half of every interval is as narrow as this.",
)
@click.option(
    "--max-time",
    type=Seconds(min=0),
    default="30s",
    show_default=True,
    metavar="TIME",
    help="The most time for each provider, batch, threads, callers, rate and io, all models "
    "together.",
)
@click.option(
    "--timeout",
    type=Seconds(min=0, min_open=True),
    default="120s",
    show_default=True,
    metavar="TIME",
    help="Give up a model that says nothing for so long.",
)
@click.option("--aa", is_flag=True, help="Compare the first model with itself as well.")
@click.option("--strict", is_flag=True, help="Fail a model whose nodes ran on another provider.")
@click.option("--profile", is_flag=True, help="Show where the time goes, and what is possible.")
@click.option(
    "--against",
    metavar="JSON",
    help="An earlier report: compare with the same models and settings in it.",
)
@click.option(
    "--against-anyway",
    is_flag=True,
    help="Compare although processor, versions, provider or inputs differ.",
)
@click.option(
    "--max-slowdown",
    type=Percent(min=0),
    metavar="PCT",
    help="Fail (exit status 1) when a model is for certain more than PCT percent slower than the "
    "first one, or than it was in --against.",
)
@click.option(
    "--resume", is_flag=True, help="Go on with the interrupted run whose report is at --json."
)
@options.output("markdown", "html", "csv")
@click.option("-v", "--verbose", is_flag=True, help="Show the environment line by line.")
def command(
    models: tuple[str, ...],
    *,
    io: tuple[Copies, ...],
    against: str | None,
    max_slowdown: float | None,
    resume: bool,
    aa: bool,
    output: Output,
    verbose: bool,
    **asked: Any,
) -> int:
    """Measure and compare the speed of models.

    Every model runs on every provider, batch size and so on, in fresh sessions that take turns in
    several processes, until the intervals are narrow. The first MODEL is what the others are
    compared with.

    Exit status: 0 done; 1 a model could not be run, or is slower than allowed; 2 bad usage.
    """
    output.check(*models, samples=asked["data"], baseline=against)
    _check_usage(models, output, against=against, max_slowdown=max_slowdown, resume=resume)
    from onnxopt import api
    from onnxopt.render.terminal import benchmark as terminal

    seen = _Seen(output)
    try:
        with ProgressLine(quiet=output.quiet) as progress:
            report = api.benchmark(
                list(models),
                **{name: value for name, value in asked.items() if value not in ((), None)},
                io=io or ("copied",),
                aa=aa,
                against=against,
                resume=output.places["json"] if resume else None,
                progress=progress,
                watch=lambda partial: seen.keep(partial, progress),
            )
    except (KeyboardInterrupt, OnnxOptError):
        seen.show(verbose=verbose)
        raise
    output.emit(
        lambda: report,
        screen=lambda: terminal.report(report, verbose=verbose),
        **_texts(report),
    )
    return output.end(failure(report, max_slowdown), shown=max_slowdown is None)


class _Seen:
    """What is known so far, drawn over the bar and kept in the file that --json names."""

    def __init__(self, output: Output) -> None:
        self._output = output.only("json")
        self._screen = output.screen
        self._file = output.places.get("json", "-") != "-"
        self._latest: BenchmarkReport | None = None

    def keep(self, report: BenchmarkReport, progress: ProgressLine) -> None:
        """Take the report after another process; a disk that is full now may not be at the end."""
        from onnxopt.render.terminal import live

        self._latest = report
        progress.show(live.table_of(report))
        if self._file:
            with suppress(OutputError):
                self._output.write(lambda: report)

    def show(self, *, verbose: bool) -> None:
        """Show what was measured of a benchmark that came to no end."""
        if self._latest is not None and self._screen:
            from onnxopt.render.terminal import benchmark as terminal

            self._output.show(terminal.report(self._latest, verbose=verbose))


def _texts(report: BenchmarkReport) -> dict[str, Any]:
    """Return format to what writes it; each is imported only where it is asked for."""

    def markdown() -> str:
        from onnxopt.render.markdown import benchmark

        return benchmark(report)

    def html() -> str:
        from onnxopt.render.html import benchmark

        return benchmark(report)

    def csv() -> str:
        from onnxopt.render.csv import benchmark

        return benchmark(report)

    return {"markdown": markdown, "html": html, "csv": csv}


def _check_usage(
    models: tuple[str, ...],
    output: Output,
    *,
    against: str | None,
    max_slowdown: float | None,
    resume: bool,
) -> None:
    """Refuse what cannot be meant, before anything is measured."""
    if max_slowdown is not None and len(models) < 2 and against is None:
        raise click.UsageError("--max-slowdown needs two models, or --against")
    if resume:
        place = output.places.get("json", "-")
        if place == "-":
            raise click.UsageError("--resume needs --json FILE, the report of the earlier run")
        if not Path(place).is_file():
            raise OnnxOptError(f"there is no report {place} to resume", "leave out --resume")
    if "html" in output.places:
        from onnxopt.render.html import check_available

        check_available()


def failure(report: BenchmarkReport, max_slowdown: float | None) -> str:
    """Name what could not be run and what is slower than allowed; empty when nothing is.

    `max_slowdown` is a share. A candidate fails only when the whole interval of its ratio lies
    beyond the limit.
    """
    errors = Counter(
        f"{each.model}: {each.error}" for each in report.results if each.error is not None
    )
    failed = [
        error if count == 1 else f"{error} (in {count} settings)" for error, count in errors.items()
    ]
    if max_slowdown is not None:
        limit, told = 1 / (1 + max_slowdown), f"{max_slowdown * 100:.4g} %"
        failed += [
            f"{each.candidate} is more than {told} slower: {each.sentence()}"
            for each in (*report.differences, *report.against)
            if each.high < limit and not each.control
        ]
    return "; ".join(failed)
