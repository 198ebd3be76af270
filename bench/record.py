"""What every benchmark writes down: machine, tools, samples, and an examination of the results."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import click
import machine
from process import Run
from tools import TOOLS, Tool, prepare

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
WORK = FOLDER / ".work"
RESULTS = FOLDER / "results"
EXAMINER = TOOLS["onnxopt portable"]


def read(name: str, folder: Path | None = None) -> dict[str, Any]:
    """Return the earlier results of a benchmark on this machine, or empty ones."""
    path, environment = (folder or RESULTS) / f"{name}.json", machine.describe()
    if path.exists():
        earlier: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if earlier["environment"] == environment:
            return earlier
        click.echo(f"the earlier {path.name} is another machine's: starting anew", err=True)
    schema = f"onnxopt.bench.{name}/1"
    return {"schema": schema, "environment": environment, "tools": {}, "models": {}}


def write(name: str, results: dict[str, Any], folder: Path | None = None) -> None:
    """Write the results beside their place, then rename; no path of this machine is in them."""
    place = folder or RESULTS
    place.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, ensure_ascii=False).replace(f"{ROOT}/", "")
    partial = place / f"{name}.part"
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(place / f"{name}.json")


def describe(tool: Tool) -> dict[str, Any]:
    """Prepare a tool's environment and say what it runs: arguments, versions, commit."""
    told: dict[str, Any] = {"packages": prepare(tool), "arguments": list(tool.arguments)}
    if tool.environment == EXAMINER.environment:
        command = ["git", "-C", str(FOLDER), "describe", "--always", "--dirty"]
        found = subprocess.run(command, capture_output=True, check=False, text=True)
        told["commit"] = found.stdout.strip()
    return told


def timing(runs: list[Run]) -> dict[str, Any]:
    """Return the samples of one tool on one model, their median and minimum, or its error."""
    seconds = [round(run.seconds, 4) for run in runs]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "error": next((run.error for run in runs if run.error), None),
        "seconds": seconds,
        "median_seconds": round(statistics.median(seconds), 4),
        "min_seconds": min(seconds),
        "cpu_seconds": [round(run.cpu_seconds, 4) for run in runs],
        "peak_rss_bytes": max(run.peak_rss_bytes for run in runs),
    }


def examine(original: Path, result: Path, typical: dict[str, Any]) -> dict[str, Any]:
    """Examine a result in a process of its own, which a broken model may take down."""
    if not result.exists():
        return {"error": "it ended well but wrote no model"}
    script = str(FOLDER / "examine.py")
    command = [str(EXAMINER.python), script, str(original), str(result), json.dumps(typical)]
    child = subprocess.run(command, capture_output=True, check=False, text=True)
    if child.returncode:
        lines = child.stderr.strip().splitlines() or [f"exit code {child.returncode}"]
        return {"error": f"cannot be examined: {lines[-1]}"}
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return found
