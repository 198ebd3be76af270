"""What `quantize` and `prune` say alike of a result that is not exact: data, errors, speed, gates.

Laid out by neither terminal nor Markdown nor HTML.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnxopt.render.words import decibel, percent_change, small
from onnxopt.report import Calibration, Difference, OutputComparison, PruneReport, QuantizeReport
from onnxopt.text import human_bytes, human_seconds, plural

Judged = QuantizeReport | PruneReport
Cells = tuple[str, ...]

NO_DECIBEL = -1e9
OUTPUT_HEADER = ("output", "SQNR", "95 % above", "cosine", "max abs", "same class")


def calibration(data: Calibration | None, did: str, *, doubt: str) -> str:
    """Say which data the result was `did` from; `doubt` is what made-up data say nothing with."""
    if data is None:
        return ""
    if data.random:
        start = f"{did.upper()} WITH RANDOM DATA ({plural(data.samples, 'sample')})"
        return f"{start}: {doubt} say nothing of what the model will meet"
    kept = f", {data.held_out:,} held out to tell the error" if data.held_out else ""
    passes = f" in {plural(data.passes, 'pass')}" if data.passes > 1 else ""
    how = [
        f"{data.method}{passes}".strip(),
        human_seconds(data.seconds) if data.seconds else "",
        human_bytes(data.peak_bytes) if data.peak_bytes else "",
        f"ranges from {data.statistics}" if data.statistics else "",
    ]
    told = f"{did} on {plural(data.samples, 'sample')} of {data.source}{kept}"
    return f"{told} ({', '.join(filter(None, how))})" if any(how) else told


def is_random(report: Judged) -> bool:
    """Tell whether the samples were made up."""
    return report.calibration is not None and report.calibration.random


def accuracy(report: Judged) -> str:
    """Say in one sentence how right the result is on held-out samples; empty if not known."""
    found = report.verification
    if found is None:
        return "accuracy: not verified"
    if not found.verified:
        return f"accuracy: NOT VERIFIED: {found.reason.removeprefix('NOT VERIFIED: ')}"
    if not found.outputs:
        return f"accuracy: {found.reason or 'there is no output to compare'}"
    worst = min(found.outputs, key=lambda each: number(each.sqnr_db))
    which = f" ({worst.name}, the worst of {len(found.outputs)})" if len(found.outputs) > 1 else ""
    text = f"accuracy: SQNR {decibel(worst.sqnr_db)}{which}"
    text += f", cosine {worst.cosine:.4f} on {plural(found.feeds, 'held-out sample')}"
    for each in report.quality:
        if each.name == worst.name and each.sqnr_p5_db < math.inf:
            text += f", 95 of 100 above {decibel(each.sqnr_p5_db)}"
        if each.agreement is not None:
            text += f"; {each.name}: {agreement(each.agreement)} the same class"
            if each.sure and each.sure_agreement is not None:
                text += f", {agreement(each.sure_agreement)} of {each.sure:,} that it was sure of"
    return text


def score(report: Judged) -> str:
    """Say what the user's own metric gave; empty without one."""
    found = report.score
    if found is None:
        return ""
    now = "not asked" if found.int8_score is None else f"{found.int8_score:.4g}"
    limit = f", may drop {found.max_drop:g}" if found.max_drop is not None else ""
    return f"{found.function}: {found.float_score:.4g} → {now}{limit}"


def speed(difference: Difference | None, guess: str = "") -> str:
    """Say in one sentence how fast the result is, or what is known instead."""
    if difference is not None:
        return f"speed on {difference.provider}: {difference.sentence()}"
    return f"speed: not measured; {guess}" if guess else "speed: not measured"


def point_speed(difference: Difference | None, ratio: float | None) -> str:
    """Write the speed of a choice against the model, and say where it is only predicted."""
    if difference is not None:
        return difference.times()
    return "" if ratio is None else f"{ratio:.2f}× predicted"


def point_metric(metric: float | None) -> str:
    """Write what the user's metric says of a choice; nothing where it was not asked."""
    return "" if metric is None else f"{metric:#.4g}"


def size_change(report: Judged) -> str:
    """Write `4.9 MB, -73.6 %`."""
    before, after = report.input.file_bytes, report.output.file_bytes
    change = percent_change(before, after)
    return f"{human_bytes(after)}, {change}" if change else human_bytes(after)


def refusal(report: Judged, what: str) -> str:
    """Say that nothing came of it and why: `what` is `NOT QUANTIZED` or its like."""
    anyway = f"written anyway to {report.output.path}" if report.written else "nothing written"
    return f"{what}: {report.reason}; {anyway}"


def failed_gates(report: Judged) -> list[str]:
    """List what did not hold, without what the reason of a refusal says already."""
    failed = (gate.text for gate in report.gates if not gate.passed)
    return [text for text in failed if text not in report.reason]


def failure(report: Judged) -> str:
    """Name what failed in one line; empty when every gate held."""
    refused = [report.reason] if report.status == "refused" else []
    return "; ".join([*refused, *failed_gates(report)])


def warnings(report: Judged) -> list[str]:
    """List what speaks against trusting the result."""
    return [str(each) for each in report.warnings]


def output_rows(report: Judged) -> list[tuple[OutputComparison, Cells]]:
    """Write each output on held-out samples, as `OUTPUT_HEADER` names it."""
    told = {each.name: each for each in report.quality}
    found: list[tuple[OutputComparison, Cells]] = []
    for each in report.verification.outputs if report.verification is not None else ():
        more = told.get(each.name)
        share = more.agreement if more is not None else None
        cells = (
            each.name,
            decibel(each.sqnr_db),
            decibel(more.sqnr_p5_db) if more is not None else "",
            f"{each.cosine:.5f}",
            small(each.max_abs),
            "" if share is None else agreement(share),
        )
        found.append((each, cells))
    return found


def filled(header: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[Cells, list[Cells]]:
    """Return a table without the columns that are empty in all its rows."""
    kept = [place for place in range(len(header)) if any(cells[place] for cells in rows)]

    def keep(cells: Sequence[str]) -> Cells:
        return tuple(cells[place] for place in kept)

    return keep(header), [keep(cells) for cells in rows]


def agreement(share: float) -> str:
    """Write a share of samples in per cent; 100 % only where all agree."""
    return "100 %" if share == 1 else f"{min(99.9, 100 * share):.1f} %"


def number(db: float | None) -> float:
    """Return what dB sort by: unknown ones (NaN) come first, for they are the worst."""
    return NO_DECIBEL if db is None or math.isnan(db) else db
