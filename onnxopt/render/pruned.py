"""What the reports of `prune` say, laid out by neither terminal nor Markdown nor HTML."""

from __future__ import annotations

from collections.abc import Sequence

from onnxopt.render import judged
from onnxopt.render.rows import ChangeRow, totals
from onnxopt.render.words import decibel, milliseconds, optional_db, percent_change
from onnxopt.report import FrozenPart, Learned, PrunedPart, PrunePoint, PruneReport
from onnxopt.text import plural

FRONT_HEADER = ("choice", "MACs", "weights", "SQNR", "metric", "speed")
ATTEMPT_HEADER = ("way", "SQNR", "cost left", "")
_WHAT = {
    "element": "single weights",
    "2:4": "two of every four weights",
    "channel": "channels",
    "block": "blocks",
    "rank": "ranks",
}
_GAINS = {
    "element": "zeros alone gain no speed on a CPU (0.98–1.01× with 90 % zeros): the file gets "
    "smaller once it is compressed, and runtimes with sparse kernels gain",
    "2:4": "2:4 gains only on sparse tensor cores (NVIDIA since Ampere, through TensorRT with "
    "sparse weights allowed); elsewhere these are zeros, which cost what any weight costs",
}


def made_for(report: PruneReport) -> str:
    """Say what was taken out for whom, and how: `channels for cpu, by obs, refitted (exact)`."""
    parts = [f"{_WHAT.get(report.structure, report.structure)} for {report.target}"]
    if report.importance:
        parts.append(f"by {report.importance}")
    if report.solver:
        ridge = "" if report.ridge is None else f", ridge {report.ridge:.3g}"
        parts.append(f"refitted ({report.solver}{ridge})")
    if report.learned is not None:
        parts.append(learned(report.learned))
    return ", ".join([*parts, *([] if report.solver else ["not refitted"])])


def learned(told: Learned) -> str:
    """Say what gradient steps came to: `learned in 8 passes (error -34 %)`."""
    if told.reason:
        return f"nothing learned: {told.reason}"
    if not told.kept or not told.before:
        return "nothing learned: no pass gained anything on samples that were put aside"
    change = percent_change(told.before, told.passes[told.kept - 1])
    return f"learned in {plural(told.kept, 'pass')} (error {change})"


def calibration(report: PruneReport) -> str:
    """Say which data the scores and the refit are from."""
    return judged.calibration(report.calibration, "calibrated", doubt="scores, refits and errors")


def gains(report: PruneReport) -> str:
    """Say who gains by zeros, where the structure leaves nothing but zeros; else empty."""
    return _GAINS.get(report.structure, "")


def sizes(report: PruneReport) -> list[ChangeRow]:
    """List nodes, parameters, MACs and file size, before and after."""
    return totals(report.input, report.output)


def size(report: PruneReport) -> str:
    """Say in one sentence how much is gone, and what of the work is left."""
    verb = "are" if report.status == "pruned" else "would be"
    what = "zero" if gains(report) else "gone"
    text = f"size: {100 * report.sparsity:.1f} % of the weights {verb} {what}"
    before, after = report.input.macs, report.output.macs
    # More than before: sizes that were not known, which counted as 1, are known now.
    if before and after and after < before:
        text += f", {100 * after / before:.1f} % of the multiply-accumulates are left"
    return text


def speed(report: PruneReport) -> str:
    """Say in one sentence how fast the result is, or what is known instead."""
    chosen = next((point for point in report.front if point.chosen), None)
    ratio = None if chosen is None else predicted_ratio(chosen)
    guess = "" if ratio is None else f"{ratio:.2f}× by the measured times of layers"
    return judged.speed(report.difference, guess)


def outcome(report: PruneReport) -> str:
    """Say what became of the model, and of the file."""
    if report.status == "masked":
        return f"wrote masks to {report.masks}; the model is left as it is"
    if report.status == "refused":
        return judged.refusal(report, "NOT PRUNED")
    if report.written:
        return f"wrote {report.output.path} ({judged.size_change(report)})"
    return "pruned, not written by itself"


def changed(report: PruneReport) -> list[PrunedPart]:
    """List the parts of which something went, in the order of the graph."""
    return [part for part in report.parts if part.after != part.before]


def whole(report: PruneReport) -> list[PrunedPart]:
    """List the parts that could have been cut and were not."""
    return [part for part in report.parts if part.after == part.before]


def largest(parts: Sequence[PrunedPart], most: int) -> list[PrunedPart]:
    """Return the parts by which most is saved, in the order in which they came."""

    def saved(part: PrunedPart) -> tuple[int, int]:
        return (part.macs_before or 0) - (part.macs_after or 0), part.before - part.after

    kept = {id(part) for part in sorted(parts, key=saved, reverse=True)[:most]}
    return [part for part in parts if id(part) in kept]


def summary(report: PruneReport) -> str:
    """Count by unit: `What went: channels 9,120 → 6,032 in 31 of 33 layers`."""
    told = []
    for unit in dict.fromkeys(part.unit for part in report.parts):
        parts = [part for part in report.parts if part.unit == unit]
        cut = sum(part.after != part.before for part in parts)
        before, after = sum(part.before for part in parts), sum(part.after for part in parts)
        where = "" if unit == "blocks" else f" in {cut:,} of {plural(len(parts), 'layer')}"
        told.append(f"{unit} {before:,} → {after:,}{where}")
    return f"What {'went' if report.status == 'pruned' else 'would go'}: {'; '.join(told)}"


def part_header(report: PruneReport) -> judged.Cells:
    """Name the columns of `part_cells`."""
    units = {part.unit for part in report.parts}
    unit = units.pop() if len(units) == 1 else "units"
    return ("layer", unit, "left", "SQNR", "MACs", "ms", "why")


def part_cells(part: PrunedPart, report: PruneReport) -> judged.Cells:
    """Write name, units before and after, share left, error of readers, work, time, and why."""
    alike = all(other.unit == part.unit for other in report.parts)
    counts = f"{part.before:,} → {part.after:,}" if part.after != part.before else f"{part.after:,}"
    return (
        part.name,
        counts if alike else f"{counts} {part.unit}",
        f"{100 * left(part):.0f} %",
        optional_db(part.lost_db),
        percent_change(part.macs_before or 0, part.macs_after or 0),
        _times(part),
        part.reason,
    )


def part_rows(report: PruneReport) -> list[judged.Cells]:
    """Write every part, in the order of the graph."""
    return [part_cells(part, report) for part in report.parts]


def left(part: PrunedPart) -> float:
    """Return the share of the units that is left, 0 to 1."""
    return part.after / part.before if part.before else 1.0


def _times(part: PrunedPart) -> str:
    if part.ms_before is None or part.ms_after is None:
        return ""
    return f"{milliseconds(part.ms_before)} → {milliseconds(part.ms_after)}"


def frozen(report: PruneReport) -> list[tuple[str, list[FrozenPart]]]:
    """Gather what could not go by its reason, the most frequent first."""
    found: dict[str, list[FrozenPart]] = {}
    for part in report.frozen:
        found.setdefault(part.reason, []).append(part)
    return sorted(found.items(), key=lambda item: -len(item[1]))


def frozen_text(reason: str, parts: Sequence[FrozenPart]) -> str:
    """Write `Softmax needs all of them: logits, at /head/Softmax, and 3 more`."""
    at = f", at {parts[0].node}" if parts[0].node else ""
    others = f", and {len(parts) - 1:,} more" if len(parts) > 1 else ""
    return f"{reason}: {parts[0].tensor}{at}{others}"


def front_rows(report: PruneReport) -> list[tuple[PrunePoint, judged.Cells]]:
    """Write each choice, as `FRONT_HEADER` names it."""
    return [
        (
            point,
            (
                point.name,
                f"{100 * point.macs:.1f} %",
                f"{100 * point.parameters:.1f} %",
                "" if point.sqnr_db is None else decibel(point.sqnr_db),
                judged.point_metric(point.metric),
                judged.point_speed(point.difference, predicted_ratio(point)),
            ),
        )
        for point in report.front
    ]


def predicted_ratio(point: PrunePoint) -> float | None:
    """Return how much faster a choice should be, by measured costs."""
    return 1 / point.predicted if point.predicted else None


def attempt_rows(report: PruneReport) -> list[judged.Cells]:
    """Write each way that was tried, as `ATTEMPT_HEADER` names it."""
    return [
        (
            each.name,
            decibel(each.sqnr_db),
            f"{100 * each.share:.1f} %",
            ": ".join(filter(None, ("taken" if each.kept else "", each.reason))),
        )
        for each in report.attempts
    ]
