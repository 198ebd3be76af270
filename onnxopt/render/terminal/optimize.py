"""What `optimize` did, proved and measured, on a terminal."""

from __future__ import annotations

from collections import Counter

from rich.console import Group, RenderableType

from onnxopt.render import rows
from onnxopt.render.terminal import prune, quantize
from onnxopt.render.terminal.blocks import (
    BAD,
    CARE,
    FAINT,
    GOOD,
    file_line,
    line,
    notes,
    outputs_table,
    row,
    section,
    table,
)
from onnxopt.report import OptimizeReport, Profile, Step
from onnxopt.text import human_bytes, human_seconds, plural

_STEP_STYLES = {"rolled back": CARE, "refused": CARE, "unchanged": FAINT}
_VERDICT_STYLES = {"faster": GOOD, "slower": BAD}


def report(result: OptimizeReport, *, verbose: bool = False) -> RenderableType:
    """Show the tables first and the verdicts last, where the eye is when the work ends."""
    parts: list[RenderableType] = [line(file_line(result.input), "bold")]
    parts.append(line(f"optimized for target {result.target}{rows.then(result)}", FAINT))
    parts.append(line(""))
    parts.append(section("Operators", *_operators(result.input, result.output)))
    steps = rows.worth_showing(result.steps, verbose=verbose)
    nothing = line("nothing found that could be done better", FAINT)
    parts.append(section("Steps", _steps(steps) if steps else nothing))
    if result.verification is not None and result.verification.outputs:
        ordered = rows.failing_first(result.verification.outputs)
        parts.append(section("Outputs", outputs_table(ordered, verbose=verbose)))
    if verbose:
        parts.append(section("Rules that almost fired", *_refusals(result.refusals)))
    parts += [line(text, CARE) for text in rows.drops(result)]
    parts += notes(rows.warnings(result))
    parts.append(_proof(result))
    parts += _chain(result, verbose=verbose) if result.chain() else [_speed(result)]
    return Group(*parts, _end(result))


def _chain(result: OptimizeReport, *, verbose: bool) -> list[RenderableType]:
    """Show what followed as its own command does, each headed by what it is."""
    parts: list[RenderableType] = []
    if result.pruned is not None:
        parts += [line(""), prune.report(result.pruned, verbose=verbose, title=rows.PRUNING)]
    if result.quantized is not None:
        shown = quantize.report(result.quantized, verbose=verbose, title=rows.QUANTIZING)
        parts += [line(""), shown]
    return [*parts, line("")]


def _speed(result: OptimizeReport) -> RenderableType:
    verdict = result.difference.verdict if result.difference is not None else ""
    style = _VERDICT_STYLES.get(verdict, "" if verdict else FAINT)
    asked = (line(f"  {text}", FAINT) for text in rows.measured(result))
    return Group(line(rows.speed(result), style), *asked)


def _operators(before: Profile, after: Profile) -> list[RenderableType]:
    made = table("", "before", "after", "change", right=("before", "after", "change"))
    for each in rows.changed_operators(before, after):
        row(made, each)
    if made.row_count:
        row(made, ("", "", "", ""))
    for each in rows.totals(before, after):
        row(made, each, "bold" if each.name == "nodes" else "")
    same = rows.unchanged_operators(before, after)
    return [made, line(f"unchanged: {same}", FAINT)] if same else [made]


def _steps(steps: list[Step]) -> RenderableType:
    made = table("step", "nodes", "time", "done", right=("nodes", "time"))
    for step in steps:
        cells = (
            step.name,
            f"{step.nodes_before:,} → {step.nodes_after:,}",
            human_seconds(step.seconds),
            rows.step_outcome(step),
        )
        row(made, cells, _STEP_STYLES.get(step.status, ""))
    return made


def _refusals(refusals: tuple[str, ...]) -> list[RenderableType]:
    if not refusals:
        return [line("no rule came close to firing and then refused", FAINT)]
    return [
        line(text if count == 1 else f"{text} ({count} times)")
        for text, count in Counter(refusals).items()
    ]


def _proof(result: OptimizeReport) -> RenderableType:
    sentence, good = rows.verdict(result.verification)
    failed = result.verification is not None and not result.verification.passed
    return line(sentence, GOOD if good else BAD if failed else f"bold {CARE}")


def _end(result: OptimizeReport) -> RenderableType:
    cost = f"took {human_seconds(result.seconds)}, "
    cost += f"peak memory {human_bytes(result.peak_rss_bytes)}"
    if result.chain():  # the last of which has said it
        return line(f"all together {cost}", FAINT)
    if result.written:
        removed = result.input.nodes - result.output.nodes
        less = f", {plural(removed, 'node')} fewer" if removed > 0 else ""
        size = human_bytes(result.output.file_bytes)
        end = line(f"wrote {result.output.path} ({size}{less})", "bold")
    else:
        end = line("NOTHING WRITTEN", BAD)
    return Group(end, line(cost, FAINT))
