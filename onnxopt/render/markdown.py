"""Reports as Markdown, for the comment that a build leaves on a pull request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePath

from onnxopt.render import rows
from onnxopt.render.words import (
    decibel,
    macs_text,
    milliseconds,
    opset_text,
    printable,
    share_text,
    small,
    tensor_text,
)
from onnxopt.report import (
    BenchmarkReport,
    CompareReport,
    Comparison,
    InspectReport,
    OptimizeReport,
    Profile,
)
from onnxopt.text import human_bytes, human_count, human_seconds

OUTPUTS_SHOWN = 20


def optimize(report: OptimizeReport) -> str:
    """Write the verdicts, the operators before and after, and the details folded away."""
    good = "✅" if report else "❌"
    proof, _ = rows.verdict(report.verification)
    parts = [
        f"### {good} {_code(_name(report.input))} optimized for {report.target}",
        _bullets([proof, rows.speed(report), *_ends(report)]),
        _changes(report.input, report.output),
        _steps(report),
        _measurements(report),
    ]
    if report.verification is not None and report.verification.outputs:
        parts.append(_folded("Outputs", _outputs(report.verification)))
    parts.append(_warnings(rows.warnings(report)))
    return _join(parts)


def compare(report: CompareReport) -> str:
    """Write the verdict and each output."""
    good = "✅" if report else "❌"
    names = f"{_code(_name(report.candidate))} against {_code(_name(report.reference))}"
    verdict, _ = rows.verdict(report.verification)
    return _join([f"### {good} {names}", _escape(verdict), _outputs(report.verification)])


def inspect(report: InspectReport) -> str:
    """Write the signature, the operators with their cost, and the placement."""
    profile = report.profile
    sizes = f"{human_count(profile.parameters)} parameters, {human_bytes(profile.file_bytes)}"
    work = f"{profile.nodes:,} nodes, {macs_text(profile.macs)} MACs"
    facts = [f"opset {opset_text(profile.opset)}, {work}, {sizes}"]
    if profile.dynamic_dims:
        facts.append(f"free dimensions: {', '.join(profile.dynamic_dims)}")
    facts += [f"input {t.name}: {tensor_text(t)}" for t in profile.inputs]
    facts += [f"output {t.name}: {tensor_text(t)}" for t in profile.outputs]
    facts += [f"on {name}: {rows.placement_text(p)}" for name, p in report.placement.items()]
    gathered = rows.operators(report)
    whole = sum(each.macs for each in gathered)
    operators = _table(
        ("operator", "count", "parameters", "MACs", "share"),
        (
            (
                each.op,
                f"{each.nodes:,}",
                human_count(each.parameters),
                human_count(each.macs),
                share_text(each.macs, whole),
            )
            for each in gathered
        ),
        left=1,
    )
    title = f"### {_code(_name(profile))}"
    return _join([title, _bullets(facts), operators, _warnings(report.warnings)])


def benchmark(report: BenchmarkReport) -> str:
    """Write the latencies, the differences, and where it ran."""
    header = ("model", "setting", "median ms", "p90", "p99", "per second", "ran")
    latencies = _table(
        header,
        (
            (
                PurePath(each.model).name,
                rows.setting(each),
                milliseconds(each.median_ms),
                milliseconds(each.p90_ms),
                milliseconds(each.p99_ms),
                f"{each.throughput:,.1f}",
                rows.placement_text(each.placement),
            )
            if each.error is None
            else (PurePath(each.model).name, rows.setting(each), "failed", "", "", "", each.error)
            for each in report.results
        ),
        left=2,
    )
    differences = _bullets(
        f"{PurePath(each.candidate).name} against {PurePath(each.baseline).name} "
        f"on {each.provider}: {each.sentence()}"
        for each in report.differences
    )
    warnings = [str(each) for result in report.results for each in result.warnings]
    return _join([differences, latencies, _warnings(warnings)])


def _ends(report: OptimizeReport) -> list[str]:
    dropped = rows.drops(report)
    if report.written:
        return [*dropped, f"wrote {report.output.path} in {human_seconds(report.seconds)}"]
    return [*dropped, "nothing written"]


def _changes(before: Profile, after: Profile) -> str:
    changed = [*rows.totals(before, after), *rows.changed_operators(before, after)]
    return _table(("", "before", "after", "change"), changed, left=1)


def _steps(report: OptimizeReport) -> str:
    steps = rows.worth_showing(report.steps, verbose=False)
    if not steps:
        return ""
    made = _table(
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
    return _folded("Steps", made)


def _measurements(report: OptimizeReport) -> str:
    """Write what was put to the clock, unless the bullets above say it all."""
    if len(report.measurements) < 2:
        return ""
    made = _table(
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
    return _folded("Measurements", made)


def _outputs(comparison: Comparison) -> str:
    outputs = rows.failing_first(comparison.outputs)
    made = _table(
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
            for each in outputs[:OUTPUTS_SHOWN]
        ),
        left=1,
    )
    more = len(outputs) - OUTPUTS_SHOWN
    return f"{made}\n\nand {more} more" if more > 0 else made


def _warnings(warnings: Sequence[str]) -> str:
    return _bullets(f"warning: {text}" for text in warnings)


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def _table(header: Sequence[str], body: Iterable[Sequence[str]], *, left: int) -> str:
    """Align the first `left` columns left, the others right."""
    rules = ["---" if index < left else "---:" for index in range(len(header))]
    lines = [header, rules, *([_escape(cell) for cell in cells] for cells in body)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _bullets(texts: Iterable[str]) -> str:
    return "\n".join(f"- {_escape(text)}" for text in texts)


def _name(profile: Profile) -> str:
    return PurePath(profile.path).name if profile.path else "model"


def _code(text: str) -> str:
    return f"`{printable(text).replace('`', 'ˋ')}`"


def _escape(text: str) -> str:
    """Keep names with underscores, pipes or tags from becoming markup."""
    return "".join(f"\\{c}" if c in "\\|`*_<>[]" else c for c in printable(text))


def _join(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"
