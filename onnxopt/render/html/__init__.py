"""Reports as one HTML file that needs nothing else: no network, no scripts."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from onnxopt.errors import OnnxOptError
from onnxopt.render import rows
from onnxopt.render.words import printable
from onnxopt.report import BenchmarkReport, OptimizeReport, PruneReport, QuantizeReport

_NEEDED = {
    "jinja2": "jinja2",
    "matplotlib": "matplotlib.backends.backend_svg",
}


def check_available() -> None:
    """Raise `OnnxOptError` with the command that installs what the page is made with.

    Imports it, too: better now than after an hour of measuring.
    """
    missing = []
    for package, module in _NEEDED.items():
        try:
            importlib.import_module(module)
        except ImportError:
            missing.append(package)
    if missing:
        raise OnnxOptError(
            f"--html needs {' and '.join(missing)}", f"run: pip install {' '.join(missing)}"
        )


def benchmark(report: BenchmarkReport) -> str:
    """Return the page; samples are read once and never all together.

    Raises `OnnxOptError` where jinja2 or matplotlib is missing.
    """
    check_available()
    from onnxopt.render.html.page import view

    return _page("benchmark.html.j2", view(report))


def quantize(report: QuantizeReport) -> str:
    """Return the page; raises `OnnxOptError` where jinja2 or matplotlib is missing."""
    check_available()
    from onnxopt.render.html.int8 import view

    return _page("quantize.html.j2", view(report))


def prune(report: PruneReport) -> str:
    """Return the page; raises `OnnxOptError` where jinja2 or matplotlib is missing."""
    check_available()
    from onnxopt.render.html.pruned import view

    return _page("prune.html.j2", view(report))


def optimize(report: OptimizeReport) -> str:
    """Return the page, with that of what followed as parts of it.

    Raises `OnnxOptError` where jinja2 or matplotlib is missing.
    """
    check_available()
    from onnxopt.render.html import int8, optimized, pruned

    parts = []
    if report.pruned is not None:
        shown = pruned.view(report.pruned) | {"part": rows.PRUNING}
        parts.append(_page("prune.html.j2", shown))
    if report.quantized is not None:
        shown = int8.view(report.quantized) | {"part": rows.QUANTIZING}
        parts.append(_page("quantize.html.j2", shown))
    return _page("optimize.html.j2", optimized.view(report) | {"parts": parts})


def _page(template: str, shown: Mapping[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("onnxopt.render.html", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    return environment.get_template(template).render(shown).lstrip() + "\n"


def _finalize(value: Any) -> Any:
    """Escape what could drive more than the page: names may hold control characters."""
    return printable(value) if type(value) is str else value
