"""Options that commands share: each is spelt and explained once."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import click

from onnxopt.cli.output import Output
from onnxopt.config import TARGETS, find_target, parse_fix

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class FiniteFloat(click.FloatRange):
    """A number in a range; NaN, which no range keeps out, and infinity are none."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        return number


def _read_fix(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> dict[str, int]:
    del ctx, param
    return parse_fix(texts)


def _check_target(ctx: click.Context, param: click.Parameter, name: str) -> str:
    del ctx, param
    return find_target(name).name


def _split_names(
    ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]
) -> tuple[str, ...]:
    del ctx, param
    return tuple(name.strip() for text in texts for name in text.split(",") if name.strip())


model = click.argument("model", metavar="MODEL")

target = click.option(
    "--target",
    metavar="NAME",
    callback=_check_target,
    default="portable",
    show_default=True,
    help="What the result is made for. "
    + "; ".join(f"{each.name}: {each.summary}" for each in TARGETS.values())
    + ".",
)

fix = click.option(
    "--fix",
    multiple=True,
    metavar="DIM=VALUE",
    callback=_read_fix,
    help="Give a free dimension a size, by its name (batch=1) or by input and axis "
    "(input_ids:1=128). May be repeated.",
)

only = click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    callback=_split_names,
    help="Run only this pass or rule (see onnxopt rules). May be repeated.",
)

skip = click.option(
    "--skip",
    multiple=True,
    metavar="NAME",
    callback=_split_names,
    help="Leave this pass or rule out. May be repeated.",
)

data = click.option(
    "--data",
    metavar="PATH",
    help="Samples to run on: an .npz (arrays by input name, first axis is the sample), a folder "
    "of .npz (one feed each), a folder of ONNX test_data_set_*, or file.py:function that yields "
    "feeds. Without it, seeded random feeds are made.",
)

providers = click.option(
    "--provider",
    "providers",
    multiple=True,
    default=("cpu",),
    show_default=True,
    metavar="NAME",
    help="Execution provider (see onnxopt providers). May be repeated.",
)


def output(*, markdown: bool = True) -> Decorator:
    """Add --json, --markdown and --quiet, handed to the command as one `Output`."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def command(
            *args: Any,
            json_to: str | None,
            markdown_to: str | None = None,
            quiet: bool,
            **rest: Any,
        ) -> Any:
            where = Output(json=json_to, markdown=markdown_to, quiet=quiet)
            return function(*args, output=where, **rest)

        added = [
            click.option(
                "--json",
                "json_to",
                metavar="FILE",
                help="Write the report as JSON; - is standard output, with nothing else on it.",
            ),
            click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors."),
        ]
        if markdown:
            added.insert(
                1,
                click.option(
                    "--markdown",
                    "markdown_to",
                    metavar="FILE",
                    help="Write the report as Markdown, for a pull request; - as above.",
                ),
            )
        for option in reversed(added):
            command = option(command)
        return command

    return decorate
