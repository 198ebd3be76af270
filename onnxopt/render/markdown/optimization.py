"""What became of a model, as Markdown."""

from __future__ import annotations

from onnxopt.render import rows
from onnxopt.render.markdown.blocks import bullets, code, folded, join, table, warnings
from onnxopt.render.markdown.comparison import outputs
from onnxopt.render.markdown.pruning import prune
from onnxopt.render.markdown.quantization import quantize
from onnxopt.render.words import file_name
from onnxopt.report import OptimizeReport, Profile
from onnxopt.text import human_seconds


def optimize(report: OptimizeReport) -> str:
    """Write the verdicts, the operators before and after, and the details folded away."""
    good = "✅" if report else "❌"
    proof, _ = rows.verdict(report.verification)
    made = f"optimized for {report.target}{rows.then(report)}"
    parts = [
        f"### {good} {code(file_name(report.input))} {made}",
        bullets([proof, rows.speed(report), *_ends(report)]),
        _changes(report.input, report.output),
        _steps(report),
        _measurements(report),
    ]
    if report.verification is not None and report.verification.outputs:
        parts.append(folded("Outputs", outputs(report.verification)))
    parts.append(warnings(rows.warnings(report)))
    parts.append("" if report.pruned is None else prune(report.pruned))
    parts.append("" if report.quantized is None else quantize(report.quantized))
    return join(parts)


def _ends(report: OptimizeReport) -> list[str]:
    dropped = rows.drops(report)
    if report.written:
        return [*dropped, f"wrote {report.output.path} in {human_seconds(report.seconds)}"]
    return [*dropped, "nothing written"]


def _changes(before: Profile, after: Profile) -> str:
    changed = [*rows.totals(before, after), *rows.changed_operators(before, after)]
    return table(("", "before", "after", "change"), changed, left=1)


def _steps(report: OptimizeReport) -> str:
    steps = rows.worth_showing(report.steps, verbose=False)
    if not steps:
        return ""
    made = table(
        ("step", "done", "nodes", "time"),
        (
            (
                step.name,
                rows.step_outcome(step),
                f"{step.nodes_before:,} → {step.nodes_after:,}",
                human_seconds(step.seconds),
            )
            for step in steps
        ),
        left=2,
    )
    return folded("Steps", made)


def _measurements(report: OptimizeReport) -> str:
    """Write what was put to the clock, unless the bullets above say it all."""
    if len(report.measurements) < 2:
        return ""
    made = table(
        ("measured", "against", "speed", "then"),
        (
            (
                each.difference.candidate,
                each.difference.baseline,
                each.difference.times(),
                each.decision,
            )
            for each in report.measurements
        ),
        left=4,
    )
    return folded("Measurements", made)
