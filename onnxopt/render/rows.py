"""What the tables and headlines say, laid out by neither terminal nor Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from onnxopt.render import judged
from onnxopt.render.words import (
    counts_text,
    decibel,
    macs_text,
    op_text,
    percent_change,
    signed,
    small,
)
from onnxopt.report import (
    RESULT,
    BenchmarkResult,
    Comparison,
    InspectReport,
    NodeInfo,
    OptimizeReport,
    OutputComparison,
    Profile,
    Setting,
    Step,
)
from onnxopt.text import human_bytes, human_count, plural


class ChangeRow(NamedTuple):
    """One quantity before and after."""

    name: str
    before: str
    after: str
    change: str


class OperatorRow(NamedTuple):
    """All nodes of one operator: how many, and what they cost together."""

    op: str
    nodes: int
    parameters: int
    macs: int


PRUNING, QUANTIZING = "Pruning", "Int8"
"""What the parts of a report are called that followed what is exact."""


def then(report: OptimizeReport) -> str:
    """Say what followed what is exact: `, then pruned, then NOT made int8`; empty where nothing."""
    told = {"pruned": report.pruned, "made int8": report.quantized}
    text = ""
    for name, each in told.items():
        if each is not None and each.status == "untouched":
            text += ", quantized already"
        elif each is not None:
            text += f", then {name if each else f'NOT {name}'}"
    return text


def changed_operators(before: Profile, after: Profile) -> list[ChangeRow]:
    """List the operators whose number changed, the largest change first."""
    names = {name for name in (*before.ops, *after.ops) if _change(name, before, after)}
    return [
        ChangeRow(
            name,
            f"{before.ops.get(name, 0):,}",
            f"{after.ops.get(name, 0):,}",
            signed(_change(name, before, after)),
        )
        for name in sorted(names, key=lambda n: (-abs(_change(n, before, after)), n))
    ]


def unchanged_operators(before: Profile, after: Profile) -> str:
    """Name the operators that stayed, with their numbers."""
    return counts_text({n: c for n, c in before.ops.items() if after.ops.get(n) == c})


def _change(name: str, before: Profile, after: Profile) -> int:
    return after.ops.get(name, 0) - before.ops.get(name, 0)


def totals(before: Profile, after: Profile) -> list[ChangeRow]:
    """List what a model costs as a whole, before and after."""
    macs = percent_change(before.macs, after.macs) if before.macs and after.macs else ""
    return [
        ChangeRow("nodes", f"{before.nodes:,}", f"{after.nodes:,}", _nodes_change(before, after)),
        _sized("parameters", before.parameters, after.parameters, human_count(before.parameters)),
        ChangeRow("MACs", macs_text(before.macs), macs_text(after.macs), macs),
        _file_change(before, after),
    ]


def _nodes_change(before: Profile, after: Profile) -> str:
    return signed(after.nodes - before.nodes)


def _file_change(before: Profile, after: Profile) -> ChangeRow:
    if not after.file_bytes:
        return ChangeRow("file", human_bytes(before.file_bytes), "none", "")
    change = percent_change(before.file_bytes, after.file_bytes)
    return ChangeRow("file", human_bytes(before.file_bytes), human_bytes(after.file_bytes), change)


def _sized(name: str, before: int, after: int, before_text: str) -> ChangeRow:
    return ChangeRow(name, before_text, human_count(after), percent_change(before, after))


def worth_showing(steps: Sequence[Step], *, verbose: bool) -> list[Step]:
    """Leave out the steps that found nothing to do, unless everything is asked for."""
    return [step for step in steps if verbose or step.status != "unchanged"]


def drops(report: OptimizeReport) -> list[str]:
    """Name what was left out, and why, unless a step says so already."""
    told = {step.name for step in report.steps if step.status == "rolled back"}
    return [f"left out {name}: {why}" for name, why in report.dropped.items() if name not in told]


def warnings(report: OptimizeReport) -> list[str]:
    """List the warnings that the verdict does not repeat."""
    verdict_too = report.verification.reason if report.verification is not None else None
    return [text for text in report.warnings if text != verdict_too]


def step_outcome(step: Step) -> str:
    """Say what a step did, and why that was taken back if it was."""
    done = counts_text(step.done) or "nothing to do"
    if step.status in ("kept", "unchanged"):
        return done
    why = f"{step.status}: {step.reason}" if step.reason else step.status
    return f"{done}; {why}" if step.done else why


def verdict(comparison: Comparison | None) -> tuple[str, bool]:
    """Say in one sentence what was proven, and whether that is what one hopes for."""
    if comparison is None:
        return "not verified: --no-verify was given", False
    if not comparison.verified:
        reason = comparison.reason.removeprefix("NOT VERIFIED: ")
        return f"NOT VERIFIED: {reason or 'neither runtime could run the model'}", False
    where = f"on {plural(comparison.feeds, 'feed')} ({comparison.engine}"
    where += f", noise floor {comparison.noise_floor:.1e})"
    wrong = [output for output in comparison.outputs if not output.passed]
    if comparison.passed:
        return f"verified: {plural(len(comparison.outputs), 'output')} the same {where}", True
    if not comparison.outputs:
        return f"NOT THE SAME: {comparison.reason or 'there is no output to compare'}", False
    why = f": {comparison.reason}" if comparison.reason else ""
    count = f"{len(wrong)} of {plural(len(comparison.outputs), 'output')}"
    return f"OUTPUTS DIFFER: {count} {where}{why}", False


def speed(report: OptimizeReport) -> str:
    """Say in one sentence how fast the result is, or why there is nothing to say."""
    if report.difference is not None:
        return f"speed on {report.difference.provider}: {report.difference.sentence()}"
    if whole := [each for each in report.measurements if each.what == RESULT]:
        return f"speed: the original is handed back, the result was {whole[-1].difference.times()}"
    if not any(step.status == "kept" for step in report.steps):
        return "speed: not measured, because nothing was changed"
    return "speed: not measured"


def measured(report: OptimizeReport) -> list[str]:
    """Say of each group that was asked about what it brings or costs, and what became of it."""
    latest = {each.what: each for each in report.measurements if each.what != RESULT}
    telling = [each for each in latest.values() if each.difference.verdict != "no difference"]
    equal = [name for name, each in latest.items() if each not in telling]
    lines = [
        f"{each.what}: {each.difference.times()} with it"
        + ("" if each.decision == "kept" else f", {each.decision}")
        for each in telling
    ]
    if equal:
        lines.append(f"no difference by itself: {', '.join(sorted(equal))}")
    return lines


def failing_first(outputs: Sequence[OutputComparison]) -> list[OutputComparison]:
    """Order outputs so that those that failed come first, else as in the model."""
    return sorted(outputs, key=lambda output: output.passed)


def output_cells(each: OutputComparison) -> tuple[str, ...]:
    """Tell how far an output is from its reference: errors, SQNR, cosine, whether it passed."""
    return (
        small(each.max_abs),
        small(each.tolerance),
        small(each.max_rel),
        decibel(each.sqnr_db),
        f"{each.cosine:.6f}",
        "ok" if each.passed else "differs",
    )


def optimize_failure(report: OptimizeReport) -> str:
    """Name the gates that failed, in one line; empty when all held."""
    failed = []
    if report.verification is not None and not report.verification.passed:
        failed.append(verdict(report.verification)[0])
    if report.difference is not None and report.difference.verdict == "slower":
        failed.append(f"slower: {report.difference.sentence()}")
    told = (judged.failure(each) for each in report.chain())
    return "; ".join([*failed, *filter(None, told)])


def operators(report: InspectReport) -> list[OperatorRow]:
    """Gather nodes by operator, the costliest first."""
    gathered: dict[str, OperatorRow] = {}
    for node in report.nodes:
        name = op_text(node)
        row = gathered.get(name, OperatorRow(name, 0, 0, 0))
        gathered[name] = OperatorRow(
            name,
            row.nodes + 1,
            row.parameters + node.parameters,
            row.macs + (node.macs or 0),
        )
    return sorted(gathered.values(), key=lambda r: (-r.macs, -r.parameters, -r.nodes, r.op))


def costliest(nodes: Sequence[NodeInfo], count: int) -> list[NodeInfo]:
    """Return the `count` nodes with the most multiply-accumulates."""
    costly = [node for node in nodes if node.macs]
    return sorted(costly, key=lambda node: -(node.macs or 0))[:count]


def placement_text(placement: Mapping[str, int] | str) -> str:
    """Say which provider would run how many nodes, or why none would."""
    if isinstance(placement, str):
        return placement
    if not placement:
        return "not known: this onnxruntime keeps no record of it"
    total = sum(placement.values())
    if len(placement) == 1:
        return f"all {plural(total, 'node')} on {next(iter(placement))}"
    return ", ".join(
        f"{count:,} on {name}" for name, count in sorted(placement.items(), key=lambda i: -i[1])
    )


def setting(each: BenchmarkResult | Setting) -> str:
    """Say how a model was run: `cpu, batch 8, 4 threads, 2 callers, 50 requests/s`.

    A result is called by the provider that executed it, see `provider_text`.
    """
    parts = [each.provider if isinstance(each, Setting) else provider_text(each)]
    if each.batch is not None:
        parts.append(f"batch {each.batch}")
    parts.append(plural(each.threads, "thread"))
    if each.callers > 1:
        parts.append(plural(each.callers, "caller"))
    if each.rate is not None:
        parts.append(f"{each.rate:g} requests/s")
    if each.io == "bound":
        parts.append("without copies")
    return ", ".join(parts)


def provider_text(result: BenchmarkResult) -> str:
    """Name the provider that executed a model, and the one asked for where that is another."""
    asked = result.provider
    if result.error is not None or result.executed == asked:
        return asked
    if result.executed:
        return f"{result.executed} (asked for {asked})"
    return asked if asked == "cpu" else f"{asked} (not confirmed)"
