"""Compares static int8 by onnxopt and its peers: accuracy on held-out data, speed, cost.

Every result goes to `bench/results/quantization.json` at once; what was interrupted goes on where
it stopped. `tables.py` makes the page, `quantization.md`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import data_store
import machine
import quantization_costs as costs
import quantization_plan as plan
import record
from hidden_isa import Level, environment
from process import run
from quantization_plan import CANDIDATES, ISAS, OWN, TASKS, Candidate, Task
from tools import FOLDER, prepare

Results = dict[str, Any]
STEPS = ("quantize", "judge", "speed", "costs", "trained")
AA = "A/A"
_TIMEOUT = 3600.0
_QUICK_TASKS, _QUICK_SAMPLES = ("efficientnet_lite0",), 20


@click.command()
@click.option("--prepare", "only_prepare", is_flag=True, help="Only make environments and data.")
@click.option("--task", "tasks", multiple=True, type=click.Choice(list(TASKS)), help="One of them.")
@click.option("--candidate", "names", multiple=True, type=click.Choice(list(CANDIDATES)))
@click.option("--do", "steps", multiple=True, type=click.Choice(STEPS), help="A step, or several.")
@click.option("--isa", "isas", multiple=True, type=click.Choice(ISAS), help="One of them.")
@click.option("--again", is_flag=True, help="Forget what was recorded of what is chosen.")
@click.option("--seconds", default=20.0, show_default=True, help="For each speed measured.")
@click.option("--quick", is_flag=True, help="A few minutes, to see that it works: own record.")
def main(
    tasks: tuple[str, ...],
    names: tuple[str, ...],
    steps: tuple[str, ...],
    isas: tuple[Level, ...],
    *,
    only_prepare: bool,
    again: bool,
    seconds: float,
    quick: bool,
) -> None:
    """Compare onnxopt with its peers; hours on a machine that does nothing else."""
    chosen = [TASKS[name] for name in tasks or (_QUICK_TASKS if quick else TASKS)]
    path = plan.WORK / "quick.json" if quick else plan.RESULTS
    results, names = read(path), names or (plan.QUICK if quick else ())
    for maker, tool in plan.MAKERS.items():
        results["tools"][maker] = {"packages": prepare(tool)}
    session = Session(
        results, path, isas or ISAS, seconds=2.0 if quick else seconds, quick=quick, again=again
    )
    chosen = [task for task in chosen if session.ready(task)]
    if only_prepare:
        return
    wanted = steps or STEPS[: 3 if quick or tasks else None]
    for task in chosen:
        for candidate in plan.candidates_of(task, names):
            session.compare(task, candidate, wanted)
        if "speed" in wanted and (not names or OWN in names):
            session.measure_twin(task)
    if "costs" in wanted:
        costs.measure(results.setdefault("costs", {}), session.save, again=again)
    if "trained" in wanted:
        session.trained()


class Session:
    """The results while they grow, and how each of them is got."""

    def __init__(
        self,
        results: Results,
        path: Path,
        isas: tuple[Level, ...],
        *,
        seconds: float,
        quick: bool,
        again: bool,
    ) -> None:
        """Remember where results go; `quick` takes a split and a few samples of each part."""
        self.results, self.path, self.isas, self.seconds = results, path, isas, seconds
        self.quick, self.again = quick, again

    def save(self, line: str) -> None:
        """Write all results and tell what is new."""
        write(self.path, self.results)
        click.echo(line, err=True)

    def ready(self, task: Task) -> bool:
        """Make a task's data unless they are there; tell whether its model is here."""
        if not task.model.exists():
            click.echo(f"left out: {task.name}, whose model is not here (README.md)", err=True)
            return False
        if not data_store.splits(task.name):
            click.echo(f"making the data of {task.name}", err=True)
            maker = "data" if task.data else "ort"
            script = ["data_make.py", task.data] if task.data else ["data_random.py"]
            rest = [] if task.data else [str(task.model), task.name]
            command = [str(plan.MAKERS[maker].python), str(FOLDER / script[0]), *script[1:], *rest]
            subprocess.run(command, check=True)
        return True

    def compare(self, task: Task, candidate: Candidate, steps: tuple[str, ...]) -> None:
        """Do for one candidate what was not done yet."""
        cells = self.results["tasks"].setdefault(task.name, {})
        if self.again:
            cells.pop(candidate.name, None)
        cell = cells.setdefault(candidate.name, {"made": {}, "scores": {}, "speed": {}})
        splits = data_store.splits(task.name)
        if "quantize" in steps:
            for split, isa in self._wanted(splits, candidate):
                if isa == self.isas[0] or candidate.by_isa:
                    self._quantize(task, candidate, split, isa, cell["made"])
        if "judge" in steps and task.data:
            for split, isa in self._wanted(splits, candidate):
                self._judge(task, candidate, split, isa, cell)
        if "speed" in steps and not candidate.exact:
            for isa in self.isas:
                if isa not in cell["speed"] and self._is_made(candidate, splits[0], isa, cell):
                    output = plan.output_of(task, splits[0], candidate, isa)
                    cell["speed"][isa] = self._speed(task, output, isa)
                    self.save(f"{task.name:20} {candidate.name:36} {isa:6} {_ratio(cell, isa)}")

    def _wanted(self, splits: Sequence[str], candidate: Candidate) -> Iterator[tuple[str, Level]]:
        """Yield the splits of a candidate with instruction sets: native only for the first."""
        for number, split in enumerate(splits):
            if number and (self.quick or not candidate.everywhere):
                return
            yield from ((split, isa) for isa in self.isas if number == 0 or isa == ISAS[0])

    def _quantize(
        self, task: Task, candidate: Candidate, split: str, isa: Level, made: Results
    ) -> None:
        key = f"{split} {isa}" if candidate.by_isa else split
        output = plan.output_of(task, split, candidate, isa)
        if key in made and (made[key].get("error") or output.exists()):
            return
        shutil.rmtree(output.parent, ignore_errors=True)
        output.parent.mkdir(parents=True)
        calibration = data_store.folder_of(task.name, split, data_store.CALIBRATION)
        command = candidate.command(task.model, calibration, output, isa)
        env = environment(isa) if candidate.by_isa and isa != "native" else None
        found = record.timing([run(command, output.with_name("log.txt"), _TIMEOUT, env)])
        if not found["error"] and output.exists():
            found["file_bytes"] = output.stat().st_size
        elif not found["error"]:
            found["error"] = "it ended well but wrote no model"
        if found["error"] and candidate.maker == OWN:
            found["error"] = why(output.with_name("log.txt"))
        made[key] = found | told(output.with_name("report.json"))
        line = found["error"] or f"{found['median_seconds']:.0f} s"
        peak = f"{found['peak_rss_bytes'] / 1e6:.0f} MB"
        self.save(f"{task.name:20} {candidate.name:36} {key:8} {line}, {peak}")

    def _is_made(self, candidate: Candidate, split: str, isa: Level, cell: Results) -> bool:
        made = cell["made"].get(f"{split} {isa}" if candidate.by_isa else split)
        return bool(made) and not made["error"]

    def _judge(
        self, task: Task, candidate: Candidate, split: str, isa: Level, cell: Results
    ) -> None:
        scores = cell["scores"].setdefault(isa, {})
        if split in scores or not self._is_made(candidate, split, isa, cell):
            return
        output = plan.output_of(task, split, candidate, isa)
        options = ["--split", split]
        options += ["--most", str(_QUICK_SAMPLES)] if self.quick else []
        options += ["--exact"] if candidate.exact else []
        script = str(FOLDER / "quantization_judge.py")
        found = ask([script, str(output), task.data, *options], isa)
        scores[split] = found if "error" in found else found[split]
        self.save(f"{task.name:20} {candidate.name:36} {isa:6} {split} {_words(scores[split])}")

    def _speed(self, task: Task, output: Path, isa: Level) -> Results:
        data = data_store.folder_of(task.name, "0", data_store.CALIBRATION)
        arguments = [str(task.model), str(output), str(self.seconds)]
        arguments += [str(data)] if (data / "truth.json").exists() else []
        return ask([str(FOLDER / "quantization_speed.py"), *arguments], isa)

    def measure_twin(self, task: Task) -> None:
        """Measure the model against a copy of itself: what a difference of nothing looks like."""
        cells = self.results["tasks"].setdefault(task.name, {})
        cell = cells.setdefault(AA, {"made": {}, "scores": {}, "speed": {}})
        for isa in self.isas:
            if isa not in cell["speed"] or self.again:
                twin = plan.WORK / "models" / task.name / "twin.onnx"
                twin.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(task.model, twin)
                cell["speed"][isa] = self._speed(task, twin, isa)
                self.save(f"{task.name:20} {AA:36} {isa:6} {_ratio(cell, isa)}")

    def trained(self) -> None:
        """Quantize every model of the manifest with defaults: it is faster, or there is none."""
        rows = self.results.setdefault("trained", {})
        for task in plan.trained():
            for isa in self.isas:
                key = f"{task.name} {isa}"
                if key not in rows or self.again:
                    rows[key] = self._trained(task, isa)
                    told = rows[key].get("error") or rows[key].get("status", "")
                    self.save(f"{key:40} {told} {_ratio({'speed': rows[key]}, 'speed')}")

    def _trained(self, task: Task, isa: Level) -> Results:
        """Do as for a task of that name, or take what was found there."""
        cell = self.results["tasks"].get(task.name, {}).get(OWN)
        if cell and f"0 {isa}" in cell["made"] and isa in cell["speed"]:
            return {**cell["made"][f"0 {isa}"], "speed": cell["speed"][isa]}
        output = plan.output_of(task, "defaults", CANDIDATES[OWN], isa)
        shutil.rmtree(output.parent, ignore_errors=True)
        output.parent.mkdir(parents=True)
        data = data_store.folder_of(task.name, "0", data_store.CALIBRATION)
        command = CANDIDATES[OWN].command(task.model, data, output, isa)
        if not (data / "truth.json").exists():
            place = command.index("--calibration")
            command[place : place + 2] = ["--random-data"]
        env = None if isa == "native" else environment(isa)
        found = record.timing([run(command, output.with_name("log.txt"), _TIMEOUT, env)])
        found |= told(output.with_name("report.json"))
        if output.exists():
            found["speed"] = self._speed(task, output, isa)
        return found


def why(log: Path) -> str:
    """Return what onnxopt said last before its hint."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line for line in lines if line.strip() and not line.startswith("hint:")]
    return said[-1][:300] if said else "it said nothing"


def told(report: Path) -> Results:
    """Return what of onnxopt's own report is kept: its verdict and its front."""
    if not report.exists():
        return {}
    content = json.loads(report.read_text(encoding="utf-8"))
    kept = ("status", "calibration", "saturation", "front", "steps", "phases", "reason")
    return {name: content[name] for name in kept if name in content}


def ask(command: list[str], isa: Level) -> Results:
    """Run a script of this folder in onnxopt's environment and return the JSON that it prints."""
    python = str(plan.MAKERS[OWN].python)
    env = None if isa == "native" else environment(isa)
    child = subprocess.run([python, *command], env=env, check=False, capture_output=True, text=True)
    if child.returncode:
        lines = child.stderr.strip().splitlines() or [f"exit code {child.returncode}"]
        return {"error": lines[-1][:300]}
    found: Results = json.loads(child.stdout.splitlines()[-1])
    return found


def read(path: Path) -> Results:
    """Return the earlier results of this machine, or empty ones."""
    environment = machine.describe()
    if path.exists():
        earlier: Results = json.loads(path.read_text(encoding="utf-8"))
        if earlier["environment"] == environment:
            return earlier
        click.echo(f"the earlier {path.name} is another machine's: starting anew", err=True)
    schema = "onnxopt.bench.quantization/1"
    return {"schema": schema, "environment": environment, "tools": {}, "tasks": {}}


def write(path: Path, results: Results) -> None:
    """Write the results beside their place, then rename; no path of this machine is in them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    results["date"] = time.strftime("%Y-%m-%d")
    for cells in results["tasks"].values():
        order = [name for name in (*CANDIDATES, AA) if name in cells]
        ordered = {name: cells[name] for name in order}
        cells.clear()
        cells.update(ordered)
    text = json.dumps(results, indent=1, ensure_ascii=False).replace(f"{record.ROOT}/", "")
    partial = path.with_suffix(".part")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)


def _ratio(cell: Results, isa: str) -> str:
    found = cell["speed"].get(isa) if isa != "speed" else cell["speed"].get("speed")
    if not found or found.get("ratio") is None:
        return "" if not found else f"not measured: {found.get('error', '')}"
    return f"{found['ratio']:.2f}× ({found['low']:.2f}–{found['high']:.2f})"


def _words(scores: Results) -> str:
    if "error" in scores:
        return f"failed: {scores['error']}"
    return "; ".join(
        f"{part}: " + ", ".join(f"{name} {value:.4g}" for name, value in found.items())
        for part, found in scores.items()
    )


if __name__ == "__main__":
    main()
