"""Times optimization as models grow: generated ones of 5,000 to 40,000 nodes, doubling.

What it takes beyond loading and saving is the whole process of `onnxopt optimize` less the whole
process of onnxopt loading the same file and saving it. Results go to `bench/results/growth.json`.
"""

from __future__ import annotations

import dataclasses
import statistics
import subprocess
from pathlib import Path
from typing import Any

import click
import record
from process import Run, run
from tools import TOOLS, Tool

NAME = "growth"
SIZES = "5000,10000,20000,40000"
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
def main(sizes: str, repeats: int, peers: bool) -> None:
    """Time onnxopt on generated models of growing size."""
    tools = [LOAD_AND_SAVE, *(TOOLS.values() if peers else [OWN])]
    results = record.read(NAME)
    for tool in tools:
        results["tools"][tool.name] = record.describe(tool)
    for size in sizes.split(","):
        cells = results["models"].setdefault(size, {})
        cells |= time_tools(int(size), tools, repeats)
        record.write(NAME, results)


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
