"""`onnxopt prune`: a model in, a smaller one out that computes nearly the same, untrained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnxopt.cli import judged, options
from onnxopt.cli.output import Output, beside, check_place
from onnxopt.cli.progress import ProgressLine
from onnxopt.cli.values import FiniteFloat, Several, Share, joined
from onnxopt.config import find_target
from onnxopt.errors import OnnxOptError
from onnxopt.prune_config import IMPORTANCES, SCOPES, SOLVERS, STRUCTURES, PruneConfig


@click.command("prune")
@options.model
@click.option(
    "--sparsity",
    type=Share(min_open=False),
    metavar="S",
    help="Share that goes: of the weights (element), channels, blocks or ranks. 0.5 is a half.",
)
@click.option(
    "--threshold",
    type=FiniteFloat(min=0),
    metavar="X",
    help="What is less important than X goes, in the unit of --importance.",
)
@click.option(
    "--target-latency",
    type=Share(min_open=True),
    metavar="SHARE",
    help="Take out until so much of MODEL's time is left: 0.7, or 0.7x.",
)
@click.option(
    "--target-macs",
    type=Share(min_open=True),
    metavar="SHARE",
    help="Take out until so many of MODEL's multiply-accumulates are left.",
)
@click.option(
    "--structure",
    type=click.Choice(STRUCTURES),
    default="channel",
    show_default=True,
    help="What goes. channel: neurons, channels and heads, and the tensors shrink; block: residual "
    "blocks and layers; rank: a layer becomes two thin ones; element: weights become zero; 2:4: "
    "two of every four do. Zeros make nothing faster on a CPU; 2:4 needs sparse tensor cores.",
)
@judged.calibration
@judged.random_data
@options.out("pruned")
@options.target("portable")
@click.option(
    "--importance",
    type=click.Choice(IMPORTANCES),
    default="auto",
    show_default=True,
    help="What goes first. auto: obs, what is lost after the rest has made up for it; l2 without "
    "samples.",
)
@click.option(
    "--scope",
    type=click.Choice(SCOPES),
    default="global",
    show_default=True,
    help="Spread --sparsity over each layer alike, or over all of them by importance.",
)
@click.option(
    "--protect",
    type=Several(click.STRING),
    multiple=True,
    callback=joined,
    metavar="NAME,...",
    help="Leave these nodes and tensors whole.",
)
@click.option(
    "--multiple",
    type=click.IntRange(min=1),
    metavar="N",
    help="Cut widths to multiples of N. Default: what the target's kernels like.",
)
@click.option("--no-refit", is_flag=True, help="Leave what is left as it is, not refitted.")
@click.option(
    "--solver",
    type=click.Choice(SOLVERS),
    default="exact",
    show_default=True,
    help="How what is left is refitted: in closed form, or by gradient steps.",
)
@click.option(
    "--ridge",
    type=FiniteFloat(min=0),
    metavar="X",
    help="How much refitted weights are held small, as a share of the mean power of the inputs. "
    "Default: chosen on samples that are held back.",
)
@click.option(
    "--teach", is_flag=True, help="Refit once more, block by block, against MODEL's own blocks."
)
@click.option(
    "--learn",
    type=click.IntRange(min=0),
    default=0,
    metavar="PASSES",
    help="Then let all layers learn MODEL's outputs by gradient steps, in so many passes over the "
    "samples; 8 is a good start. Minutes for an image classifier.",
)
@click.option("--mask", metavar="FILE", help="Take out what these masks say (.npz).")
@click.option(
    "--mask-out",
    metavar="FILE",
    help="Write masks (.npz) of what would go, and no model: to be looked at, edited, and given "
    "to --mask.",
)
@click.option(
    "--min-sqnr",
    type=FiniteFloat(),
    metavar="DB",
    help="The signal to noise ratio that outputs must have on held-out samples; of blocks, as many "
    "go as it allows.",
)
@judged.max_slowdown("what shrinks has to be faster")
@judged.metric
@judged.max_drop
@judged.samples
@judged.max_memory
@judged.threads
@click.option("--no-measure", is_flag=True, help="Measure no speed: go by multiply-accumulates.")
@judged.anyway
@options.output("html", "markdown", "csv")
@click.option("-v", "--verbose", is_flag=True, help="Show every layer and all that cannot go.")
def command(
    model: str,
    *,
    calibration: str | None,
    out: str | None,
    no_refit: bool,
    no_measure: bool,
    output: Output,
    verbose: bool,
    **asked: Any,
) -> int:
    """Take out of a model what it can do without.

    What goes is chosen by what its loss costs after what is left has been refitted to make up for
    it, without training: samples without labels do. Some are held out, to tell the error. A result
    that misses what was asked for is not written.

    Exit status: 0 done; 1 a gate failed; 2 bad usage or input, or nothing in MODEL can go.
    """
    asked |= {"refit": not no_refit, "measure": not no_measure}
    if asked["mask_out"] is None:
        out = beside(model, "pruned") if out is None else out
    _check_usage(model, out, calibration, output, asked)
    from onnxopt import api

    with ProgressLine(quiet=output.quiet) as progress:
        report = api.prune(model, out, calibration=calibration, progress=progress, **asked)
    return judged.show(report, "prune", output, verbose=verbose)


def _check_usage(
    model: str, out: str | None, calibration: str | None, output: Output, asked: dict[str, Any]
) -> None:
    """Refuse what cannot be meant, before anything is read."""
    judged.check_usage(model, out, calibration, output, asked, "mask", "mask_out")
    config = PruneConfig(**asked | {"target": find_target(asked["target"])})
    config.check(samples=calibration is not None)
    if asked["mask"] is not None and not Path(asked["mask"]).is_file():
        raise OnnxOptError(f"--mask: there is no file {asked['mask']}", "give the path of a file")
    if asked["mask_out"] is not None:
        if out is not None:
            raise click.UsageError("--mask-out writes masks and no model: leave out -o")
        read = [("model", model), *([("samples", calibration)] if calibration else [])]
        check_place(asked["mask_out"], read, "masks")
