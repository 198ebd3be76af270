"""Options that commands share: each is spelt and explained once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from onnxopt.cli.output import Output
from onnxopt.config import TARGETS, find_target, parse_fix, parse_provider_options

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


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


def target(default: str) -> Decorator:
    """Add --target, handed over as its name."""
    return click.option(
        "--target",
        metavar="NAME",
        callback=_check_target,
        default=default,
        show_default=True,
        help="What the result is made for. "
        + "; ".join(f"{each.name}: {each.summary}" for each in TARGETS.values())
        + ".",
    )


def out(word: str) -> Decorator:
    """Add --output, whose default is MODEL with a word before the suffix."""
    return click.option(
        "-o",
        "--output",
        "out",
        metavar="OUT",
        help=f"Where the result goes. Default: MODEL with .{word} before the suffix.",
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


def _read_provider_options(
    ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]
) -> dict[str, dict[str, str]]:
    del ctx, param
    return parse_provider_options(texts)


provider_options = click.option(
    "--provider-option",
    "provider_options",
    multiple=True,
    metavar="PROVIDER.KEY=VALUE",
    callback=_read_provider_options,
    help="An option of onnxruntime's for one provider (tensorrt.trt_fp16_enable=1). May be "
    "repeated.",
)

_FORMATS = {
    "json": "Write the report as JSON; - is standard output, with nothing else on it.",
    "markdown": "Write the report as Markdown, for a pull request; - as above.",
    "html": "Write the report as one page with pictures; - as above.",
    "csv": "Write one line for each row of the table; - as above.",
}


def output(*formats: str) -> Decorator:
    """Add --json, an option for each of the other formats, and --quiet, handed over as `Output`."""
    wanted = ("json", *formats)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def command(*args: Any, quiet: bool, **rest: Any) -> Any:
            places = {name: rest.pop(f"{name}_to") for name in wanted}
            where = Output(
                places={name: place for name, place in places.items() if place is not None},
                quiet=quiet,
            )
            return function(*args, output=where, **rest)

        added = [
            click.option(f"--{name}", f"{name}_to", metavar="FILE", help=_FORMATS[name])
            for name in wanted
        ]
        added.append(click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors."))
        for option in reversed(added):
            command = option(command)
        return command

    return decorate
