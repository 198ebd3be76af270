"""Runs onnxopt and its peers on the same models and writes down what came of it.

Results go to `bench/results/optimizers.json` after every model, so that an interruption loses
nothing; models and tools that were not run keep their results. The optimized models stay in
`bench/.work/` until the next run. `tables.py` makes the tables.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import record
from process import Run, run
from tools import TOOLS, Tool

NAME = "optimizers"
MODELS = record.ROOT / "models"
QUICK = "pp_ocrv4_cls,silero_vad,magika"
TIMEOUT = 300.0


@click.command()
@click.option("--models", help="Names from models/manifest.json, with commas between them.")
@click.option("--tools", help=f"Of: {', '.join(TOOLS)}.")
@click.option(
    "--repeats",
    default=5,
    show_default=True,
    help="Runs of each tool on each model; 0 examines again what the last run made.",
)
@click.option("--quick", is_flag=True, help="Three small models, one run each.")
@click.option("--latency", is_flag=True, help="Measure the speed of what the last run made.")
@click.option("--seconds", default=10.0, show_default=True, help="With --latency: for each result.")
def main(
    models: str | None,
    tools: str | None,
    repeats: int,
    quick: bool,
    latency: bool,
    seconds: float,
) -> None:
    """Compare onnxopt with its peers: time, memory, nodes, size, correctness, and speed gained."""
    entries = chosen_models(models or (QUICK if quick else None))
    selected = list(_pick(tools, TOOLS, "tool").values())
    results = record.read(NAME)
    for tool in (record.EXAMINER, *selected):
        results["tools"][tool.name] = record.describe(tool)
    for entry in entries:
        cells = results["models"].setdefault(entry["name"], {})
        if latency:
            measure_latency(entry, selected, seconds, cells)
        else:
            run_tools(entry, selected, 1 if quick else repeats, cells)
        record.write(NAME, in_order(results))


def in_order(results: dict[str, Any]) -> dict[str, Any]:
    """Return the results with tools as in `TOOLS` and models as in the manifest."""
    manifest = json.loads((MODELS / "manifest.json").read_text(encoding="utf-8"))
    orders = {"tools": list(TOOLS), "models": [entry["name"] for entry in manifest["models"]]}
    for part, order in orders.items():
        known = [name for name in order if name in results[part]]
        results[part] = {name: results[part][name] for name in known}
    return results


def chosen_models(names: str | None) -> list[dict[str, Any]]:
    """Return the manifest's entries that are asked for; without names, all that are here."""
    manifest = json.loads((MODELS / "manifest.json").read_text(encoding="utf-8"))
    entries = {entry["name"]: entry for entry in manifest["models"]}
    chosen = list(_pick(names, entries, "model").values())
    here = [entry for entry in chosen if (MODELS / entry["file"]).exists()]
    missing = [entry["name"] for entry in chosen if entry not in here]
    if missing and names:
        raise click.UsageError(f"fetch it first: python models/fetch.py {' '.join(missing)}")
    if missing:
        click.echo(f"left out: {', '.join(missing)} (python models/fetch.py --all)", err=True)
    return here


def _pick(names: str | None, known: dict[str, Any], what: str) -> dict[str, Any]:
    if names is None:
        return known
    wanted = [name.strip() for name in names.split(",")]
    if unknown := [name for name in wanted if name not in known]:
        raise click.UsageError(f"no {what} is called {unknown[0]!r}; known: {', '.join(known)}")
    return {name: known[name] for name in wanted}


def run_tools(
    entry: dict[str, Any], tools: list[Tool], repeats: int, cells: dict[str, Any]
) -> None:
    """Run every tool `repeats` times on one model, in turn, and examine what they made."""
    model = MODELS / entry["file"]
    typical = {"shapes": entry["shapes"], "values": entry["values"]}
    model.read_bytes()  # into the page cache, for all tools alike
    runs: dict[str, list[Run]] = {tool.name: [] for tool in tools}
    for _ in range(repeats):
        for tool in tools:
            output = output_of(entry, tool.name)
            shutil.rmtree(output.parent, ignore_errors=True)
            output.parent.mkdir(parents=True)
            log = output.parent / "log.txt"
            runs[tool.name].append(run(tool.command(model, output), log, TIMEOUT))
    cells["original"] = record.examine(model, model, typical)
    for tool in tools:
        cell = record.timing(runs[tool.name]) if repeats else cells[tool.name]
        if not cell["error"]:
            cell |= record.examine(model, output_of(entry, tool.name), typical)
        cells[tool.name] = cell
        click.echo(f"{entry['name']:32} {tool.name:26} {_line(cell)}", err=True)


def output_of(entry: dict[str, Any], tool: str) -> Path:
    """Return where a tool's result for a model lies; each has a folder for files beside it."""
    return record.WORK / str(entry["name"]) / tool.replace(" ", "_") / "model.onnx"


def measure_latency(
    entry: dict[str, Any], tools: list[Tool], seconds: float, cells: dict[str, Any]
) -> None:
    """Measure every result against the unmodified model, and that model against its own copy."""
    original, folder = MODELS / entry["file"], record.WORK / entry["name"]
    candidates = {"A/A": folder / "twin.onnx"}
    shutil.copyfile(original, candidates["A/A"])
    for tool in tools:
        cell = cells.get(tool.name, {})
        if not cell.get("error") and output_of(entry, tool.name).exists():
            candidates[tool.name] = output_of(entry, tool.name)
    report = folder / "benchmark.json"
    report.unlink(missing_ok=True)
    paths = [str(path) for path in (original, *candidates.values())]
    command = [str(record.EXAMINER.python), "-m", "onnxopt", "benchmark", *paths]
    command += ["--threads", "1", "--seconds", str(seconds * len(paths)), "--json", str(report)]
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    found = json.loads(report.read_text(encoding="utf-8"))["differences"]
    by_path = {difference["candidate"]: difference for difference in found}
    for name, path in candidates.items():
        difference = by_path.get(str(path))
        cells.setdefault(name, {})["latency"] = difference
        told = (
            f"{difference['ratio']:.2f}× ({difference['low']:.2f}–{difference['high']:.2f}), "
            f"{difference['verdict']}"
            if difference
            else "not measured"
        )
        click.echo(f"{entry['name']:32} {name:26} {told}", err=True)


def _line(cell: dict[str, Any]) -> str:
    if cell.get("error"):
        return f"failed: {cell['error']}"
    right = "verified" if cell["verification"]["passed"] else "WRONG"
    same = "" if not cell["signature"] else ", signature changed"
    return (
        f"{cell['median_seconds']:6.2f} s {cell['peak_rss_bytes'] / 1e6:5.0f} MB "
        f"{cell['nodes']:4} nodes, {right}{same}"
    )


if __name__ == "__main__":
    main()
