"""Measures what onnxopt and its peers make of full-size exports that `build_exports.py` made.

Each result is held against the unmodified model: is it right, which operators does onnxruntime run
after its own fusions, how long do they take outside matrix products and convolutions, and how long
does the whole take. Results go to `bench/results/exports.json` after every model.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
from pathlib import Path
from typing import Any

import build_exports
import click
import numpy as np
import record
from process import run
from profiled import ATTENTION, outside
from tools import TOOLS, Tool

NAME = "exports"
COMPARED = (
    *("onnxopt cpu", "onnxopt portable"),
    *("onnxsim", "onnxscript.ort_fusions", "onnxruntime.transformers"),
)
MODEL_TYPES = {"vit": "vit", "gpt2": "gpt2", "llama": "gpt2"}
QUICK = "distilbert_dynamo,llama_script"
TIMEOUT = 900.0
Cells = dict[str, dict[str, Any]]


@click.command()
@click.option("--models", help="As bert_script, with commas between them; without it, all 14.")
@click.option("--tools", help=f"Of: {', '.join(COMPARED)}.")
@click.option(
    "--seconds", default=12.0, show_default=True, help="For each result's latency; 0: none."
)
@click.option("--rounds", default=5, show_default=True, help="Profiles of each result, in turn.")
@click.option("--measured", is_flag=True, help="Let onnxopt verify and measure, as by default.")
@click.option("--keep", is_flag=True, help="Measure what the last run made, without the tools.")
@click.option("--quick", is_flag=True, help="Two models, a few seconds each.")
def main(
    models: str | None,
    tools: str | None,
    seconds: float,
    rounds: int,
    measured: bool,
    keep: bool,
    quick: bool,
) -> None:
    """Compare onnxopt with its peers on exports: correctness, operators, time and its parts."""
    known = {each.path.stem: each for each in build_exports.wanted("full")}
    names = (models or (QUICK if quick else ",".join(known))).split(",")
    selected = tools.split(",") if tools else list(COMPARED)
    _check(names, known, "export")
    _check(selected, COMPARED, "tool")
    results = record.read(NAME)
    for tool in selected:
        results["tools"][tool] = record.describe(TOOLS[tool])
    for name in names:
        each = known[name]
        if not each.path.exists():
            raise click.UsageError(
                f"make it first: python bench/build_exports.py --models {each.model}"
            )
        cells: Cells = results["models"].setdefault(name, {"original": {}})
        feed = write_feed(each)
        if not keep:
            optimize(each, selected, feed, cells, measured)
        profile(each, selected, feed, cells, 1 if quick else rounds)
        if seconds:
            measure(each, selected, feed, cells, 3.0 if quick else seconds)
        _tell(name, cells)
        record.write(NAME, results)


def _check(names: list[str], known: Any, what: str) -> None:
    if unknown := [name for name in names if name not in known]:
        raise click.UsageError(f"no {what} is called {unknown[0]!r}; known: {', '.join(known)}")


def write_feed(each: build_exports.Wanted) -> Path:
    """Write the one input that all are measured with: a picture, or 128 tokens."""
    rng = np.random.default_rng(0)
    if each.model in build_exports.TRANSFORMERS and each.model != "vit":
        ids = rng.integers(0, 5000, (1, 128))
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    else:
        feed = {"pixel_values": rng.standard_normal((1, 3, 224, 224)).astype(np.float32)}
    path = output_of(each, "feed").with_name("feed.npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, allow_pickle=False, **feed)
    return path


def output_of(each: build_exports.Wanted, tool: str) -> Path:
    """Return where a tool's result lies."""
    return record.WORK / NAME / each.path.stem / tool.replace(" ", "_") / "model.onnx"


def command_of(each: build_exports.Wanted, tool: Tool, measured: bool) -> list[str]:
    """Return how a tool is called on an export; some want to know the architecture."""
    command = tool.command(each.path, output_of(each, tool.name))
    if tool.name == "onnxruntime.transformers":
        return [*command, MODEL_TYPES.get(each.model, "bert")]
    unchecked = {"--no-verify", "--no-measure"} if measured else set()
    return [part for part in command if part not in unchecked]


def optimize(
    each: build_exports.Wanted, tools: list[str], feed: Path, cells: Cells, measured: bool
) -> None:
    """Run every tool once, and examine what it made."""
    typical = {"shapes": {}, "values": {}}
    for name, array in np.load(feed).items():
        typical["shapes"][name] = list(array.shape)
    for tool in tools:
        output = output_of(each, tool)
        shutil.rmtree(output.parent, ignore_errors=True)
        output.parent.mkdir(parents=True)
        log = output.parent / "log.txt"
        cells[tool] = record.timing([run(command_of(each, TOOLS[tool], measured), log, TIMEOUT)])
        if not cells[tool]["error"]:
            cells[tool] |= record.examine(each.path, output, typical)


def candidates(each: build_exports.Wanted, tools: list[str], cells: Cells) -> dict[str, Path]:
    """Return the models that can be measured: the unmodified one first."""
    right = [tool for tool in tools if cells.get(tool, {}).get("verification", {}).get("passed")]
    return {"original": each.path, **{tool: output_of(each, tool) for tool in right}}


def profile(
    each: build_exports.Wanted, tools: list[str], feed: Path, cells: Cells, rounds: int
) -> None:
    """Take profiles in turn, each in a process of its own; of each number the median is kept."""
    found: dict[str, list[dict[str, Any]]] = {}
    paths = candidates(each, tools, cells)
    script = str(record.FOLDER / "profiled.py")
    for _ in range(rounds):
        for name, path in paths.items():
            command = [str(record.EXAMINER.python), script, str(path), str(feed), "10"]
            told = subprocess.run(command, capture_output=True, check=True, text=True).stdout
            found.setdefault(name, []).append(json.loads(told.splitlines()[-1]))
    for name, profiles in found.items():
        cell = cells.setdefault(name, {})
        cell["profile"] = middle(profiles)
        pairs = zip(profiles, found["original"], strict=True)
        samples = [round(outside(own, original), 3) for own, original in pairs]
        cell["outside_ms"], cell["outside_samples_ms"] = statistics.median(samples), samples


def middle(profiles: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one profile with the median of each operator's time."""
    first = profiles[0]
    ms = {op: statistics.median(each["ms"].get(op, 0.0) for each in profiles) for op in first["ms"]}
    products = statistics.median(each["attention_products_ms"] for each in profiles)
    return {**first, "ms": ms, "attention_products_ms": products}


def measure(
    each: build_exports.Wanted, tools: list[str], feed: Path, cells: Cells, seconds: float
) -> None:
    """Measure the latency of all results side by side in sessions that take turns."""
    paths = candidates(each, tools, cells)
    report = feed.with_name("benchmark.json")
    report.unlink(missing_ok=True)
    command = [str(record.EXAMINER.python), "-m", "onnxopt", "benchmark", *map(str, paths.values())]
    command += ["--threads", "1", "--data", str(feed), "--json", str(report)]
    command += ["--seconds", str(seconds * len(paths))]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = json.loads(report.read_text(encoding="utf-8"))
    for (name, path), row in zip(paths.items(), found["results"], strict=True):
        cells[name]["median_ms"] = row["median_ms"]
        differences = [each for each in found["differences"] if each["candidate"] == str(path)]
        cells[name]["latency"] = differences[0] if differences else None


def _tell(name: str, cells: Cells) -> None:
    start = cells["original"]
    for tool, cell in cells.items():
        if cell.get("error") or "profile" not in cell:
            click.echo(f"{name:20} {tool:26} failed or wrong", err=True)
            continue
        nodes = cell["profile"]["nodes"]
        fused = sum(nodes.get(op, 0) for op in ATTENTION)
        told = f"outside {cell['outside_ms']:6.2f} ms "
        told += f"({cell['outside_ms'] / start['outside_ms']:.2f}), {sum(nodes.values())} nodes"
        if latency := cell.get("latency"):
            told += f", {latency['ratio']:.2f}× ({latency['low']:.2f}–{latency['high']:.2f})"
        click.echo(f"{name:20} {tool:26} {told}, {fused} attention", err=True)


if __name__ == "__main__":
    main()
