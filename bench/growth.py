"""Times optimization as models grow: generated ones of 10,000 to 100,000 nodes, or of 6.5 GB.

What it takes beyond loading and saving is the whole process of `onnxopt optimize` less the whole
process of onnxopt loading the same file and saving it. With `--large`, models with 6.5 GB of
external data are optimized instead, and their results run against them. Results go to
`bench/results/growth.json`.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import subprocess
from pathlib import Path
from typing import Any

import click
import large
import record
from process import Run, run
from tools import TOOLS, Tool

NAME = "growth"
SIZES = "10000,20000,50000,100000"
TIMEOUT = 600.0
OWN = TOOLS["onnxopt portable"]
_LOAD_AND_SAVE = (
    "import sys; from onnxopt.graph import io; io.save(io.load(sys.argv[1]), sys.argv[2])"
)
LOAD_AND_SAVE = dataclasses.replace(
    OWN, name="load and save", arguments=("-c", _LOAD_AND_SAVE, "{model}", "{output}")
)


@click.command()
@click.option("--sizes", default=SIZES, show_default=True, help="Numbers of nodes.")
@click.option("--repeats", default=3, show_default=True, help="Runs of each tool on each size.")
@click.option("--peers", is_flag=True, help="Run the peers too, which may take an hour.")
@click.option("--large", "is_large", is_flag=True, help="Optimize 6.5 GB; takes 20 GB of disk.")
def main(sizes: str, repeats: int, peers: bool, is_large: bool) -> None:
    """Time onnxopt on generated models of growing size."""
    if is_large:
        measure_large()
        return
    tools = [LOAD_AND_SAVE, *(TOOLS.values() if peers else [OWN])]
    results = record.read(NAME)
    for tool in tools:
        results["tools"][tool.name] = record.describe(tool)
    for size in sizes.split(","):
        results.setdefault("load_average", {})[size] = os.getloadavg()
        cells = results["models"].setdefault(size, {})
        cells |= time_tools(int(size), tools, repeats)
        record.write(NAME, results)


def measure_large() -> None:
    """Optimize large models of which some layers, or all, are rewritten."""
    results = record.read(NAME)
    results["tools"][OWN.name] = record.describe(OWN)
    for name, share in large.SHARES.items():
        results.setdefault("large", {})[name] = large.measure(share, record.WORK / NAME)
        record.write(NAME, results)
        click.echo(f"{name:8} {results['large'][name]}", err=True)


def time_tools(size: int, tools: list[Tool], repeats: int) -> dict[str, Any]:
    """Generate a model of `size` nodes, run every tool on it, and examine onnxopt's result."""
    folder = record.WORK / NAME / str(size)
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "model.onnx"
    script = str(record.FOLDER / "generate.py")
    subprocess.run([str(OWN.python), script, str(size), str(model)], check=True)
    runs: dict[str, list[Run]] = {tool.name: [] for tool in tools}
    for _ in range(repeats):
        for tool in tools:
            log = folder / f"{tool.name}.txt"
            command = tool.command(model, _output(folder, tool))
            runs[tool.name].append(run(command, log, TIMEOUT))
    cells = {name: record.timing(samples) for name, samples in runs.items()}
    if not cells[OWN.name]["error"]:
        cells[OWN.name] |= record.examine(model, _output(folder, OWN), {"shapes": {}, "values": {}})
        cells[OWN.name]["seconds_beyond"] = seconds_beyond(runs)
    for name, cell in cells.items():
        told = cell["error"] or f"{cell['median_seconds']:.2f} s"
        click.echo(f"{size:6} {name:26} {told}", err=True)
    return cells


def seconds_beyond(runs: dict[str, list[Run]]) -> float:
    """Return what onnxopt took more than loading and saving, each at its median."""
    own, plain = (
        statistics.median(run.seconds for run in runs[tool.name]) for tool in (OWN, LOAD_AND_SAVE)
    )
    return round(own - plain, 4)


def _output(folder: Path, tool: Tool) -> Path:
    return folder / f"{tool.name.replace(' ', '_')}.onnx"


if __name__ == "__main__":
    main()
