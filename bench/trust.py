"""Measures whether the benchmark can be trusted: false alarms, sensitivity, agreement, cost.

Results go to `bench/results/trust.json` after every comparison; what was interrupted goes on where
it stopped. `tables.py` makes the page, `trust.md`.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import click
import machine
import record
import trust_lanes
import trust_plan
from trust_plan import EXPERIMENTS, PARTS, Experiment

NAME = "trust"
Results = dict[str, Any]


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(PARTS)), help="A part, or several.")
@click.option(
    "--lanes", default=2, show_default=True, help="Comparisons at a time, each on a core."
)
@click.option("--most", type=int, help="Do at most so many more of each experiment.")
@click.option("--anew", is_flag=True, help="Forget what was recorded of these parts.")
@click.option("--quick", is_flag=True, help="A minute, to see that it works; nothing is recorded.")
def main(only: tuple[str, ...], lanes: int, most: int | None, anew: bool, quick: bool) -> None:
    """Measure whether the benchmark can be trusted; an hour on two cores that do nothing else."""
    names = [name for part in only or PARTS for name in PARTS[part]]
    chosen = [experiment for experiment in EXPERIMENTS if experiment.name in names]
    if quick:
        chosen, most = [trust_plan.quick(experiment) for experiment in chosen], most or 2
    path = trust_plan.WORK / "quick.json" if quick else record.RESULTS / f"{NAME}.json"
    results = read(path)
    cores = trust_lanes.cores(lanes)
    models = trust_plan.model_names()
    trust_plan.prepare(models)
    if any(experiment.feeds for experiment in chosen):
        make_feeds(models, cores)
    for experiment in chosen:
        if anew or quick:
            results["experiments"].pop(experiment.name, None)
        measure(experiment, results, models, cores, most, path)


def make_feeds(models: list[str], cores: list[int]) -> None:
    """Make an input for each of the trained models; stop where that fails."""
    for job, found in trust_lanes.spread(trust_plan.make_feeds(models), cores):
        if "error" in found:
            raise click.ClickException(f"{job.key}: {found['error']}")


def measure(
    experiment: Experiment,
    results: Results,
    models: list[str],
    cores: list[int],
    most: int | None,
    path: Path,
) -> None:
    """Do the jobs of an experiment that were not done yet, and write after each."""
    lanes = cores[:1] if experiment.alone else cores
    jobs = experiment.jobs(experiment.settings, models)
    found = begin(results, experiment, len(lanes), len(jobs))
    rows = found["rows"]
    left = [job for job in jobs if "error" in rows.get(job.key, {"error": "not done"})]
    order = {job.key: place for place, job in enumerate(jobs)}
    for job, row in trust_lanes.spread(left[:most], lanes):
        rows[job.key] = row
        found["rows"] = dict(sorted(rows.items(), key=lambda item: order.get(item[0], -1)))
        rows = found["rows"]
        write(path, results)
        click.echo(f"{experiment.name} {len(rows)}/{len(jobs)} {job.key}: {_line(row)}", err=True)


def begin(results: Results, experiment: Experiment, lanes: int, planned: int) -> dict[str, Any]:
    """Return what was recorded of an experiment with these settings, or an empty record of it."""
    settings = {**experiment.settings, "lanes": lanes}
    found: dict[str, Any] = results["experiments"].get(experiment.name, {})
    if found.get("settings") != settings:
        if found.get("rows"):
            click.echo(f"{experiment.name}: recorded with other settings, starting anew", err=True)
        found = {"settings": settings, "rows": {}}
        results["experiments"][experiment.name] = found
    found |= {"planned": planned, "date": time.strftime("%Y-%m-%d"), "packages": _packages()}
    found["commits"] = sorted({*found.get("commits", []), _commit()})
    return found


def read(path: Path) -> Results:
    """Return the earlier results of this machine, or empty ones."""
    environment = machine.describe()
    if path.exists():
        earlier: Results = json.loads(path.read_text(encoding="utf-8"))
        if earlier["environment"] == environment:
            return earlier
        click.echo(f"the earlier {path.name} is another machine's: starting anew", err=True)
    schema = f"onnxopt.bench.{NAME}/1"
    return {"schema": schema, "environment": environment, "experiments": {}}


def write(path: Path, results: Results) -> None:
    """Write the results beside their place, then rename; no path of this machine is in them."""
    text = json.dumps(results, indent=1, ensure_ascii=False).replace(f"{record.ROOT}/", "")
    partial = path.with_suffix(".part")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)


def _packages() -> dict[str, str]:
    names = ("onnxopt", "onnxruntime", "numpy", "scipy")
    return {name: importlib.metadata.version(name) for name in names}


def _commit() -> str:
    command = ["git", "-C", str(trust_plan.FOLDER), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, check=False, text=True).stdout.strip()


def _line(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"failed: {row['error']}"
    if "verdict" not in row:
        return f"{row['seconds']:.1f} s"
    interval = f" ({row['low']:.3f}–{row['high']:.3f})" if "low" in row else f", p {row['p']:.2g}"
    return f"{row['ratio']:.3f}{interval} {row['verdict']}, {row['seconds']:.1f} s"


if __name__ == "__main__":
    main()
