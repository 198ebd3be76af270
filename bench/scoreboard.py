"""Runs onnxopt and its peers on the forms of `patterns` and counts what onnxruntime then runs.

Results go to `bench/results/scoreboard.json`; forms and tools that were not run keep theirs. The
optimized models stay in `bench/.work/scoreboard/`. `tables.py` writes `bench/scoreboard.md`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import onnx
import record
from patterns import FORMS
from tools import TOOLS, Tool
from verdicts import OWN, best_peer

NAME = "scoreboard"
WORK = record.WORK / NAME


@click.command()
@click.option("--forms", help="Names from bench/patterns, with commas between them.")
@click.option("--tools", help=f"Of: {', '.join(TOOLS)}.")
@click.option("--latency", is_flag=True, help="Measure the speed of what the last run made.")
@click.option("--seconds", default=5.0, show_default=True, help="With --latency: for each form.")
def main(forms: str | None, tools: str | None, latency: bool, seconds: float) -> None:
    """Compare onnxopt with its peers, form by form: nodes that onnxruntime runs, and speed."""
    names = pick(forms, list(FORMS), "form")
    selected = [TOOLS[name] for name in pick(tools, list(TOOLS), "tool")]
    results = record.read(NAME)
    for tool in (record.EXAMINER, *selected):
        results["tools"][tool.name] = record.describe(tool)
    if latency:
        for name in names:
            measure(name, seconds, results["models"].get(name, {}))
            record.write(NAME, in_order(results))
        return
    for name in names:
        place(name, "original").parent.mkdir(parents=True, exist_ok=True)
        onnx.save(FORMS[name].make(), place(name, "original"))
    cells = {name: results["models"].setdefault(name, {}) for name in names}
    for tool in selected:
        for name, cell in run_tool(tool, names).items():
            cells[name][tool.name] = cell
    score(names, [tool.name for tool in selected], cells)
    record.write(NAME, in_order(results))
    click.echo("python bench/tables.py writes bench/scoreboard.md", err=True)


def pick(wanted: str | None, known: list[str], what: str) -> list[str]:
    """Return the names that are asked for, or all."""
    if wanted is None:
        return known
    names = [name.strip() for name in wanted.split(",")]
    if unknown := [name for name in names if name not in known]:
        raise click.UsageError(f"no {what} is called {unknown[0]!r}; known: {', '.join(known)}")
    return names


def place(form: str, tool: str) -> Path:
    """Return where a tool's result for a form lies; `original` is the form itself."""
    return WORK / form / f"{tool.replace(' ', '_')}.onnx"


def in_order(results: dict[str, Any]) -> dict[str, Any]:
    """Return the results with tools as in `TOOLS` and forms as in `FORMS`."""
    for part, order in {"tools": TOOLS, "models": FORMS}.items():
        results[part] = {name: results[part][name] for name in order if name in results[part]}
    return results


def run_tool(tool: Tool, names: list[str]) -> dict[str, dict[str, Any]]:
    """Run a tool on all forms in one process; return form to its error and what it says it did."""
    for name in names:
        place(name, tool.name).unlink(missing_ok=True)
    pairs = [[str(place(name, "original")), str(place(name, tool.name))] for name in names]
    script = str(record.FOLDER / "run_peer.py")
    lines = _lines([str(tool.python), "-P", script, "--many", tool.name], pairs)
    told = {line["output"]: line for line in lines}
    cells = {}
    for name in names:
        line = told.get(str(place(name, tool.name)), {"error": "it was never run", "done": None})
        error = line["error"]
        if not error and not place(name, tool.name).exists():
            error = "it ended well but wrote no model"
        cells[name] = {"error": error, "done": line["done"]}
    failed = sum(bool(cell["error"]) for cell in cells.values())
    click.echo(f"{tool.name:26} {len(names)} forms, {failed} failed", err=True)
    return cells


def score(names: list[str], tools: list[str], cells: dict[str, dict[str, Any]]) -> None:
    """Let onnxruntime load the forms and all results, and enter what `score.py` finds."""
    wanted = {
        str(place(name, tool)): (name, tool)
        for name in names
        for tool in ("original", *tools)
        if not cells[name].get(tool, {}).get("error")
    }
    jobs = [
        [str(place(name, "original")), [path for path, (form, _) in wanted.items() if form == name]]
        for name in names
    ]
    script = str(record.FOLDER / "score.py")
    for line in _lines([str(record.EXAMINER.python), script], jobs):
        name, tool = wanted[line["result"]]
        told = {"error": None, "done": None} | cells[name].get(tool, {})
        cells[name][tool] = told | line["cell"]


def measure(name: str, seconds: float, cells: dict[str, Any]) -> None:
    """Measure onnxopt's result against the unmodified form and against the best peer's."""
    if OWN not in cells or cells[OWN]["error"]:
        return
    against = {"original": place(name, "original")}
    if peer := best_peer(cells):
        against[peer] = place(name, peer)
    script = str(record.FOLDER / "duel.py")
    paths = [str(path) for path in (place(name, OWN), *against.values())]
    command = [str(record.EXAMINER.python), script, str(seconds), *paths]
    child = subprocess.run(command, capture_output=True, check=False, text=True)
    if child.returncode:
        raise SystemExit(f"{name} could not be measured: {child.stderr.strip()[-300:]}")
    found = json.loads(child.stdout.splitlines()[-1])
    cells[OWN]["latency"] = {other: found[str(path)] for other, path in against.items()}
    told = ", ".join(
        f"{difference['ratio']:.2f}× against {other} ({difference['verdict']})"
        for other, difference in cells[OWN]["latency"].items()
        if difference
    )
    click.echo(f"{name:40} {told}", err=True)


def _lines(command: list[str], jobs: list[Any]) -> Iterator[dict[str, Any]]:
    """Run `command` with a file of jobs at its end; yield the JSON lines that it prints."""
    file = WORK / "jobs.json"
    file.write_text(json.dumps(jobs), encoding="utf-8")
    with (WORK / "log.txt").open("a", encoding="utf-8") as log:
        child = subprocess.run(
            [*command, str(file)], stdout=subprocess.PIPE, stderr=log, check=True, text=True
        )
    for line in child.stdout.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


if __name__ == "__main__":
    main()
