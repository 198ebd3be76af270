"""What was held against what, as Markdown."""

from __future__ import annotations

from onnxopt.render import rows
from onnxopt.render.markdown.blocks import code, escape, join, table
from onnxopt.render.words import decibel, file_name, small
from onnxopt.report import CompareReport, Comparison

OUTPUTS_SHOWN = 20


def compare(report: CompareReport) -> str:
    """Write the verdict and each output."""
    good = "✅" if report else "❌"
    names = f"{code(file_name(report.candidate))} against {code(file_name(report.reference))}"
    verdict, _ = rows.verdict(report.verification)
    return join([f"### {good} {names}", escape(verdict), outputs(report.verification)])


def outputs(comparison: Comparison) -> str:
    """Write how far each output is from its reference, those that failed first."""
    ordered = rows.failing_first(comparison.outputs)
    made = table(
        ("output", "max abs", "allowed", "max rel", "SQNR", "cosine", ""),
        (
            (
                each.name,
                small(each.max_abs),
                small(each.tolerance),
                small(each.max_rel),
                decibel(each.sqnr_db),
                f"{each.cosine:.6f}",
                "ok" if each.passed else f"differs {each.reason}".rstrip(),
            )
            for each in ordered[:OUTPUTS_SHOWN]
        ),
        left=1,
    )
    more = len(ordered) - OUTPUTS_SHOWN
    return f"{made}\n\nand {more} more" if more > 0 else made
