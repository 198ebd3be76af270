"""Measures what calibration costs: seconds and memory by samples, onnxopt beside onnxruntime."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import data_store
import quantization_plan as plan
import record
from process import run
from quantization_plan import MAKERS, OWN, TASKS
from tools import FOLDER

METHODS = ("minmax", "percentile", "entropy", "mse")
COUNTS = (10, 100, 1000)
# onnxruntime keeps what it sees: a thousand samples would need 60 GB.
PEER_COUNTS = {"MinMax": (10, 100, 1000), "Entropy": (10, 100), "Percentile": (10, 100)}
_TASK = "efficientnet_lite0"
_TIMEOUT = 3600.0


def measure(cells: dict[str, Any], save: Callable[[str], None], *, again: bool) -> None:
    """Fill `cells` ('who samples' to timing) with what is not there yet."""
    if again:
        cells.clear()
    if not data_store.splits(f"{_TASK}_many"):
        click.echo("making 1,110 crops", err=True)
        script = str(FOLDER / "data_make.py")
        subprocess.run([str(MAKERS["data"].python), script, "many"], check=True)
    for key, (command, log) in _commands().items():
        if key not in cells:
            cells[key] = record.timing([run(command, log, _TIMEOUT)]) | _own_time(log)
            cell = cells[key]
            line = cell["error"] or f"{cell['median_seconds']:.1f} s"
            save(f"{key:36} {line}, {cell['peak_rss_bytes'] / 1e6:.0f} MB")


def _commands() -> dict[str, tuple[list[str], Path]]:
    """Return what is run, by key, each with the place of its log."""
    model, found = str(TASKS[_TASK].model), {}
    work = plan.WORK / "costs"
    python = {maker: str(tool.python) for maker, tool in MAKERS.items()}
    for count in COUNTS:
        data = str(data_store.folder_of(f"{_TASK}_many", str(count), data_store.CALIBRATION))
        plain = [python[OWN], str(FOLDER / "quantization_plain.py"), model, data]
        found[f"inference {count}"] = plain
        for method in METHODS:
            folder = work / f"{method}_{count}"
            options = ["--method", method, "--no-repair", "all", "--no-measure", "--quiet"]
            options += ["--json", str(folder / "report.json"), "-o", str(folder / "model.onnx")]
            command = [python[OWN], "-m", OWN, "quantize", model, "--calibration", data]
            found[f"{OWN} {method} {count}"] = [*command, *options, "--anyway"]
        for method, counts in PEER_COUNTS.items():
            if count in counts:
                script = str(FOLDER / "run_quantizer.py")
                command = [python["ort"], "-P", script, f"calibrate {method}", model, data, "none"]
                found[f"onnxruntime {method} {count}"] = command
    placed = {}
    for key, command in found.items():
        own = [part for part in command if part.endswith("report.json")]
        folder = Path(own[0]).parent if own else work / key.replace(" ", "_")
        folder.mkdir(parents=True, exist_ok=True)
        placed[key] = (command, folder / "log.txt")
    return placed


def _own_time(log: Path) -> dict[str, Any]:
    """Return what a run says of its own time: of calibration alone, or of inference alone."""
    report = log.with_name("report.json")
    if report.exists():
        found = json.loads(report.read_text(encoding="utf-8")).get("calibration")
        return {"calibration": found}
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    if lines and lines[-1].startswith("{"):
        return {"inference_seconds": json.loads(lines[-1])["seconds"]}
    return {}
