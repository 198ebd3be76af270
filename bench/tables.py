"""Makes the tables of the pages below from `bench/results/`.

A table stands between `<!-- bench:NAME -->` and `<!-- bench:end -->`; NAME is one of `TABLES`.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import board
import export_rows
import judged
import pruning_rows
import quantization_goals
import quantization_rows
import trust_rows

FOLDER = Path(__file__).resolve().parent
PAGES = (
    FOLDER.parent / "README.md",
    FOLDER / "README.md",
    FOLDER / "scoreboard.md",
    FOLDER / "conformance.md",
    FOLDER / "trust.md",
    FOLDER / "quantization.md",
    FOLDER / "pruning.md",
)
Cells = dict[str, dict[str, Any]]

_TITLES = {"onnxruntime": "onnxruntime (offline, extended)"}


def read(name: str) -> dict[str, Any]:
    """Return the results of one benchmark; empty ones where it never ran."""
    path = FOLDER / "results" / f"{name}.json"
    if not path.exists():
        return {"tools": {}, "models": {}}
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return results


def markdown(header: list[str], rows: Iterable[list[str]]) -> str:
    """Write a table whose first column is words and whose others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def optimizers() -> str:
    """One row a tool: what it got right, what it left, what it took."""
    results = read("optimizers")
    models: dict[str, Cells] = results["models"]
    header = ["tool", "outputs right", "signature kept", "nodes left", "seconds", "peak MB"]
    header.append("faster / same / slower")
    rows = []
    for tool in results["tools"]:
        pairs = [(cells["original"], cells[tool]) for cells in models.values() if tool in cells]
        if not pairs:
            continue
        done = [(original, cell) for original, cell in pairs if not cell["error"]]
        total = len(pairs)
        left = [cell["nodes"] / original["nodes"] for original, cell in done]
        rows.append(
            [
                _title(tool, results),
                f"{sum(cell['verification']['passed'] for _, cell in done)} of {total}",
                f"{sum(not cell['signature'] for _, cell in done)} of {total}",
                f"{statistics.geometric_mean(left):.0%}" if left else "–",
                f"{sum(cell['median_seconds'] for _, cell in done):.1f}",
                f"{max((cell['peak_rss_bytes'] for _, cell in done), default=0) / 1e6:.0f}",
                _verdicts([cell for _, cell in done]),
            ]
        )
    aa = [cells["A/A"] for cells in models.values() if "A/A" in cells]
    if aa:
        rows.append(["unmodified copy (A/A)", *["–"] * 5, _verdicts(aa)])
    return markdown(header, rows)


def _title(tool: str, results: dict[str, Any]) -> str:
    packages = results["tools"][tool]["packages"]
    version = packages.get(re.split("[ .]", tool, maxsplit=1)[0], "")
    return f"{_TITLES.get(tool, tool)} {version}".strip()


def _verdicts(cells: list[dict[str, Any]]) -> str:
    verdicts = [cell["latency"]["verdict"] for cell in cells if cell.get("latency")]
    counts = [verdicts.count(word) for word in ("faster", "no difference", "slower")]
    return " / ".join(map(str, counts)) if verdicts else "–"


def _per_model(show: Callable[[dict[str, Any], dict[str, Any]], str], original: bool = True) -> str:
    """One row a model, one column a tool."""
    results = read("optimizers")
    tools = list(results["tools"])
    rows = []
    for name, cells in results["models"].items():
        start = cells["original"]
        row = [show(start, start)] if original else []
        for tool in tools:
            cell = cells.get(tool)
            row.append("–" if cell is None else "failed" if cell["error"] else show(cell, start))
        rows.append([name, *row])
    return markdown(["model", *(["original"] if original else []), *tools], rows)


def nodes() -> str:
    """Nodes with those of nested graphs; in brackets those that are Constant nodes."""

    def show(cell: dict[str, Any], _: dict[str, Any]) -> str:
        count, constants = cell["nodes"], cell["constant_nodes"]
        return f"{count} ({constants})" if constants else str(count)

    return _per_model(show)


def seconds() -> str:
    """Median wall-clock seconds of the whole process."""
    return _per_model(lambda cell, _: f"{cell['median_seconds']:.2f}", original=False)


def memory() -> str:
    """Peak resident memory of the process in MB."""
    return _per_model(lambda cell, _: f"{cell['peak_rss_bytes'] / 1e6:.0f}", original=False)


def size() -> str:
    """Size of the file in MB."""
    return _per_model(lambda cell, _: f"{cell['file_bytes'] / 1e6:.2f}")


def latency() -> str:
    """Time of the unmodified model over that of the result, with its interval."""
    results = read("optimizers")
    tools = ["A/A", *results["tools"]]
    rows = []
    for name, cells in results["models"].items():
        if any(cells.get(tool, {}).get("latency") for tool in tools):
            rows.append([name, *(_interval(cells.get(tool, {}).get("latency")) for tool in tools)])
    return markdown(["model", *tools], rows)


def _interval(difference: dict[str, Any] | None) -> str:
    if not difference or difference["ratio"] is None or not math.isfinite(difference["ratio"]):
        return "–"
    text = f"{difference['ratio']:.2f} ({difference['low']:.2f}–{difference['high']:.2f})"
    return text if difference["verdict"] == "no difference" else f"**{text}**"


def faults() -> str:
    """Everything that a tool got wrong or did not keep, one row each."""
    rows = []
    for name, cells in read("optimizers")["models"].items():
        for tool, cell in cells.items():
            if tool not in {"original", "A/A"}:
                rows += [[tool, name, _short(fault)] for fault in _faults(cell)]
    return _words(markdown(["tool", "model", "what"], sorted(rows)))


def _faults(cell: dict[str, Any]) -> list[str]:
    if cell["error"]:
        return [f"failed: {cell['error']}"]
    wrong = [] if cell["verification"]["passed"] else [f"wrong: {cell['verification']['reason']}"]
    return wrong + [f"signature: {difference}" for difference in cell["signature"]]


def _short(text: str) -> str:
    text = text.replace("|", "/").replace("`", "'")
    return f"`{text}`" if len(text) < 200 else f"`{text[:200]}` …"


def growth() -> str:
    """Seconds of generated models, growing in nodes."""
    results = read("growth")
    tools = list(results["tools"])
    rows = []
    for size, cells in results["models"].items():
        beyond = cells.get("onnxopt portable", {}).get("seconds_beyond")
        row = [size, "–" if beyond is None else f"{beyond:.2f}"]
        row.append("–" if beyond is None else f"{1000 * beyond / int(size):.3f}")
        for tool in tools:
            cell = cells.get(tool)
            row.append("–" if cell is None else cell["error"] or f"{cell['median_seconds']:.2f}")
        rows.append(row)
    head = ["nodes", "onnxopt beyond load and save", "ms a node"]
    return markdown([*head, *tools], rows)


def large() -> str:
    """Time and memory that models of 6.5 GB take."""
    rows = []
    for name, cell in read("growth").get("large", {}).items():
        sizes = " → ".join(f"{size / 1e9:.2f}" for size in cell["file_bytes"])
        right = cell.get("verification", {})
        rows.append(
            [
                name,
                sizes,
                cell["error"] or f"{cell['seconds']:.0f}",
                f"{cell['peak_rss_bytes'] / 1e6:.0f}",
                right.get("error") or f"{right['max_difference']:.1e} of {right['max_abs']:.0f}",
            ]
        )
    head = ["layers rewritten", "GB", "seconds", "peak MB", "largest difference"]
    return markdown(head, rows)


def board_summary() -> str:
    """Count the forms of the scoreboard by what became of them."""
    return markdown(*board.summary(read("scoreboard")))


def board_forms() -> str:
    """One row a form: nodes that onnxruntime runs, and speed."""
    return _words(markdown(*board.forms(read("scoreboard"))))


def board_stays() -> str:
    """Say for each form that nobody touches why it stays."""
    return _words(markdown(*board.stays(read("scoreboard"))))


def board_more_nodes() -> str:
    """Say for each form of which onnxruntime runs more nodes than after a peer why that is."""
    return _words(markdown(*board.more_nodes(read("scoreboard"))))


def exports_outside() -> str:
    """Time outside matrix products and convolutions."""
    return markdown(*export_rows.outside(read("exports")))


def exports_latency() -> str:
    """Time of the unmodified export over that of the result."""
    return markdown(*export_rows.latency(read("exports")))


def exports_fused() -> str:
    """What onnxruntime runs: attention, normalisations, nodes."""
    return markdown(*export_rows.fused(read("exports")))


def exports_parts() -> str:
    """Name the operators that take most of the time outside products."""
    return _words(markdown(*export_rows.parts(read("exports"))))


def conformance() -> str:
    """One row a kind of case: what became of how many."""
    return markdown(*judged.cases(read("conformance")))


def conformance_exceptions() -> str:
    """One row a case that cannot show its expected outputs: why."""
    return _words(markdown(*judged.exceptions(read("conformance"))))


def generated() -> str:
    """What became of random graphs."""
    return markdown(*judged.graphs(read("generated")))


def trust_alarms() -> str:
    """How often each method says that a model differs from its copy."""
    return markdown(*trust_rows.alarms(read("trust")))


def trust_alarms_by_model() -> str:
    """Say the same of each model."""
    return markdown(*trust_rows.alarms_by_model(read("trust")))


def trust_found() -> str:
    """How often a constructed slow-down is found."""
    return markdown(*trust_rows.found(read("trust")))


def trust_agreement() -> str:
    """Median latency by the benchmark and by a plain loop."""
    return markdown(*trust_rows.agreement(read("trust")))


def trust_overhead() -> str:
    """What the loop that times takes of each run."""
    return markdown(*trust_rows.overhead(read("trust")))


def trust_memory() -> str:
    """What the parent holds for its samples."""
    return markdown(*trust_rows.memory(read("trust")))


def quantize_goals() -> str:
    """One row a goal, and whether it is held."""
    return markdown(*quantization_goals.goals(read("quantization")))


def quantize_summary() -> str:
    """One row a task: onnxopt beside its best peer, under AVX2."""
    return markdown(*quantization_rows.summary(read("quantization"), "avx2"))


def quantize_front() -> str:
    """What onnxopt could choose between."""
    return markdown(*quantization_rows.front(read("quantization"), "efficientnet_lite0"))


def quantize_made() -> str:
    """What quantizing takes of time and memory."""
    return markdown(*quantization_rows.made(read("quantization")))


def quantize_costs() -> str:
    """What calibration alone takes, by samples."""
    return markdown(*quantization_rows.costs(read("quantization")))


def quantize_trained() -> str:
    """What defaults do to every trained model."""
    return markdown(*quantization_rows.trained(read("quantization")))


def _compared(task: str, isa: str) -> Callable[[], str]:
    """Return what makes the table of a task under an instruction set."""
    return lambda: markdown(*quantization_rows.compared(read("quantization"), task, isa))


def _pruned(make: Callable[[dict[str, Any]], quantization_rows.Table]) -> Callable[[], str]:
    """Return what makes one of the tables about pruning."""
    return lambda: markdown(*make(read("pruning")))


def _words(table: str) -> str:
    """Align all columns to the left: they hold words."""
    return table.replace("---:", "---")


TABLES: dict[str, Callable[[], str]] = {
    table.__name__: table
    for table in (
        optimizers,
        nodes,
        seconds,
        memory,
        size,
        latency,
        faults,
        growth,
        large,
        board_summary,
        board_forms,
        board_stays,
        board_more_nodes,
        exports_outside,
        exports_latency,
        exports_fused,
        exports_parts,
        conformance,
        conformance_exceptions,
        generated,
        trust_alarms,
        trust_alarms_by_model,
        trust_found,
        trust_agreement,
        trust_overhead,
        trust_memory,
        quantize_goals,
        quantize_summary,
        quantize_front,
        quantize_made,
        quantize_costs,
        quantize_trained,
    )
} | {
    f"quantize_{task}_{isa}": _compared(task, isa)
    for task in quantization_rows.COLUMNS
    for isa in ("avx2", "native")
}
TABLES |= {f"prune_{name}": _pruned(make) for name, make in pruning_rows.TABLES.items()}


def fill(text: str) -> str:
    """Return the page with every table between its markers made anew."""

    def replace(found: re.Match[str]) -> str:
        name = found["name"]
        return f"<!-- bench:{name} -->\n\n{TABLES[name]()}\n\n<!-- bench:end -->"

    pattern = r"<!-- bench:(?P<name>\w+) -->.*?<!-- bench:end -->"
    return re.sub(pattern, replace, text, flags=re.DOTALL)


def main() -> None:
    """Rewrite the tables in all pages."""
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = fill(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
        print(
            f"{page.relative_to(FOLDER.parent)}: {'rewritten' if after != before else 'as it was'}"
        )


if __name__ == "__main__":
    main()
