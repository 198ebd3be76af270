"""Shows a report as a terminal would, without one."""

import io

from rich.console import Console

from onnxopt.render.terminal import prune, quantize
from onnxopt.report import PruneReport


def screen(report, *, width=80, verbose=False):
    shape = prune if isinstance(report, PruneReport) else quantize
    return shown(shape.report(report, verbose=verbose), width=width)


def shown(what, *, width=80):
    out = io.StringIO()
    Console(file=out, width=width, markup=False, highlight=False, emoji=False).print(
        what, crop=False
    )
    return out.getvalue()


def flat(text):
    return " ".join(text.split())
