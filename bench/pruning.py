"""Compares pruning by onnxopt, by peers and by lot: accuracy on held-out data, speed, cost.

Every result goes to `bench/results/pruning.json` at once; what was interrupted goes on where it
stopped. `tables.py` makes the page, `pruning.md`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import click
import data_store
import pruning_coverage
import pruning_memory
import pruning_plan as plan
import quantization
import record
from hidden_isa import Level
from process import run
from pruning_plan import CANDIDATES, PARTS, TRIALS, Candidate, Task, Trial
from quantization_plan import MAKERS, OWN
from tools import FOLDER, prepare

Results = dict[str, Any]
NAME = "pruning"
STEPS = ("prune", "judge", "patterns", "speed")
BESIDES = ("coverage", "memory")
NATIVE: Level = "native"
_TIMEOUT = 3600.0
_QUICK_SAMPLES = 5
_TOLD = ("status", "reason", "sparsity", "importance", "solver", "ridge", "calibration")
_FRONT = ("name", "macs", "parameters", "sqnr_db", "predicted", "difference", "chosen")
_PARTS = ("name", "unit", "before", "after", "lost_db")


@click.command()
@click.option("--prepare", "only_prepare", is_flag=True, help="Only make environments and data.")
@click.option("--part", "parts", multiple=True, type=click.Choice([*PARTS, *BESIDES]))
@click.option("--trial", "trials", multiple=True, type=click.Choice(list(TRIALS)))
@click.option("--candidate", "names", multiple=True, type=click.Choice(list(CANDIDATES)))
@click.option("--do", "steps", multiple=True, type=click.Choice(STEPS), help="A step, or several.")
@click.option("--again", is_flag=True, help="Forget what was recorded of what is chosen.")
@click.option("--seconds", default=20.0, show_default=True, help="For each speed measured.")
@click.option("--quick", is_flag=True, help="A few minutes, to see that it works: own record.")
def main(
    parts: tuple[str, ...],
    trials: tuple[str, ...],
    names: tuple[str, ...],
    steps: tuple[str, ...],
    *,
    only_prepare: bool,
    again: bool,
    seconds: float,
    quick: bool,
) -> None:
    """Compare pruning with its peers; hours on a machine that does nothing else."""
    session = Session(seconds=2.0 if quick else seconds, quick=quick, again=again)
    for maker in ("data", "ort", "onnxsim", OWN):
        session.results["tools"][maker] = {"packages": prepare(MAKERS[maker])}
    chosen = [trial for trial in wanted(parts, trials, quick=quick) if session.ready(trial.task)]
    if only_prepare:
        return
    for trial in chosen:
        for candidate in trial.chosen(names or (plan.QUICK_CANDIDATES if quick else ())):
            session.compare(trial, candidate, steps or STEPS)
        if "speed" in (steps or STEPS) and trial.speed:
            session.measure_twin(trial.task)
    for besides in BESIDES:
        if besides in parts or not (parts or trials or names or steps):
            session.besides(besides)


def wanted(parts: tuple[str, ...], trials: tuple[str, ...], *, quick: bool) -> list[Trial]:
    """Return the trials that are named, those of the parts that are named, or all."""
    if trials:
        return [TRIALS[name] for name in trials]
    if parts:
        return [trial for trial in TRIALS.values() if trial.part in parts]
    return [TRIALS[name] for name in (plan.QUICK if quick else TRIALS)]


class Session:
    """The results while they grow, and how each of them is got."""

    def __init__(self, *, seconds: float, quick: bool, again: bool) -> None:
        """Read what was recorded; `quick` takes a split and a few samples, in a record apart."""
        self.seconds, self.quick, self.again = seconds, quick, again
        self.folder = plan.WORK / "quick" if quick else None
        self.results: Results = record.read(NAME, self.folder)
        self.results.pop("models", None)
        for name in ("trials", "twins", *BESIDES):
            self.results.setdefault(name, {})

    def save(self, line: str) -> None:
        """Write all results, in the order of the plan, and tell what is new."""
        trials: Results = self.results["trials"]
        self.results["trials"] = {
            name: {who: trials[name][who] for who in CANDIDATES if who in trials[name]}
            for name in TRIALS
            if name in trials
        }
        self.results["date"] = time.strftime("%Y-%m-%d")
        record.write(NAME, self.results, self.folder)
        click.echo(line, err=True)

    def ready(self, task: Task) -> bool:
        """Make a task's model and data unless they are there; tell whether its source is here."""
        if not task.source.exists():
            click.echo(f"left out: {task.name}, whose model is not here (README.md)", err=True)
            return False
        for data in {task.data, task.exam} - {""}:
            if not data_store.splits(data):
                click.echo(f"making the data of {data}", err=True)
                script = ["data_make.py", data] if task.exam else ["data_random.py"]
                rest = [] if task.exam else [str(task.source), data]
                maker = MAKERS["data" if task.exam else "ort"]
                subprocess.run([str(maker.python), str(FOLDER / script[0]), *script[1:], *rest],
                               check=True)  # fmt: skip
        if task.prepared:
            _optimize(task, task.model, "portable")
        return True

    def compare(self, trial: Trial, candidate: Candidate, steps: tuple[str, ...]) -> None:
        """Do for one candidate what was not done yet."""
        cells = self.results["trials"].setdefault(trial.name, {})
        if self.again:
            cells.pop(candidate.name, None)
        empty: Results = {"made": {}, "judged": {}, "scores": {}, "speed": {}, "patterns": {}}
        cell = cells.setdefault(candidate.name, empty)
        if candidate.fused:
            _optimize(trial.task, trial.task.fused, "cpu")
        splits = data_store.splits(trial.task.data)
        for split in splits[: 1 if self.quick or not candidate.everywhere else trial.splits]:
            if "prune" in steps:
                self._prune(trial, candidate, split, cell["made"])
            if "judge" in steps and is_made(cell, split):
                self._judge(trial, candidate, split, cell)
        output = plan.output_of(trial, candidate, splits[0])
        if not is_made(cell, splits[0]):
            return
        if "patterns" in steps and trial.name.endswith("2:4") and not cell["patterns"]:
            cell["patterns"] = self._patterns(trial, output)
            self.save(f"{trial.name:28} {candidate.name:30} {_numbers(cell['patterns'])}")
        if "speed" in steps and trial.speed and NATIVE not in cell["speed"]:
            cell["speed"][NATIVE] = self._speed(trial.task, output)
            self.save(f"{trial.name:28} {candidate.name:30} {_ratio(cell['speed'][NATIVE])}")

    def _prune(self, trial: Trial, candidate: Candidate, split: str, made: Results) -> None:
        output = plan.output_of(trial, candidate, split)
        if split in made and (made[split].get("error") or output.exists()):
            return
        shutil.rmtree(output.parent, ignore_errors=True)
        output.parent.mkdir(parents=True)
        log = output.with_name("log.txt")
        command = plan.command(trial, candidate, split, output)
        found = record.timing([run(command, log, _TIMEOUT)])
        if not found["error"] and not output.exists():
            found["error"] = "it ended well but wrote no model"
        if found["error"] and candidate.maker == OWN:
            # A condition that does not hold is said by the exit status, though the model is there.
            found["error"] = None if output.exists() else quantization.why(log)
        made[split] = found | told(output.with_name("report.json"))
        line = found["error"] or f"{found['median_seconds']:.0f} s"
        peak = f"{found['peak_rss_bytes'] / 1e6:.0f} MB"
        self.save(f"{trial.name:28} {candidate.name:30} {split} {line}, {peak}")

    def _judge(self, trial: Trial, candidate: Candidate, split: str, cell: Results) -> None:
        if split in cell["judged"]:
            return
        task, output = trial.task, plan.output_of(trial, candidate, split)
        data = data_store.folder_of(task.data, split, data_store.CALIBRATION)
        options = ["--split", split, *(["--exam", task.exam] if task.exam else [])]
        options += ["--most", str(_QUICK_SAMPLES)] if self.quick else []
        script = str(FOLDER / "pruning_judge.py")
        found = quantization.ask(
            [script, str(task.model), str(output), str(data), *options], NATIVE
        )
        scores = found.pop("scores", None)
        cell["judged"][split] = found
        if scores:
            cell["scores"].setdefault(NATIVE, {})[split] = scores
        self.save(f"{trial.name:28} {candidate.name:30} {split} {_words(found, scores or {})}")

    def _patterns(self, trial: Trial, output: Path) -> Results:
        exam = trial.task.exam
        data = data_store.folder_of(exam, "0", data_store.parts(exam, "0")[0])
        script = str(FOLDER / "pruning_patterns.py")
        most = [str(_QUICK_SAMPLES)] if self.quick else []
        return quantization.ask(
            [script, str(trial.task.model), str(output), str(data), *most], NATIVE
        )

    def _speed(self, task: Task, output: Path) -> Results:
        data = data_store.folder_of(task.exam or task.data, "0", data_store.CALIBRATION)
        arguments = [str(task.model), str(output), str(self.seconds), str(data)]
        return quantization.ask([str(FOLDER / "quantization_speed.py"), *arguments], NATIVE)

    def measure_twin(self, task: Task) -> None:
        """Measure a model against a copy of itself: what a difference of nothing looks like."""
        if task.name in self.results["twins"] and not self.again:
            return
        twin = plan.WORK / "models" / f"{task.name}.twin.onnx"
        twin.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(task.model, twin)
        self.results["twins"][task.name] = self._speed(task, twin)
        twin.unlink()
        self.save(f"{task.name:28} {'A/A':30} {_ratio(self.results['twins'][task.name])}")

    def besides(self, what: str) -> None:
        """Prune every model that there is, or measure memory."""
        found = self.results[what]
        if self.again:
            found.clear()
        if what == "coverage":
            pruning_coverage.cover(found, self.save, most=_QUICK_SAMPLES if self.quick else None)
        else:
            pruning_memory.measure(found, self.save)


def _optimize(task: Task, output: Path, target: str) -> None:
    """Optimize the model of a task, unless that was done."""
    if not output.exists():
        output.parent.mkdir(parents=True, exist_ok=True)
        command = [str(MAKERS[OWN].python), "-m", OWN, "optimize", str(task.source)]
        command += ["-o", str(output), "--target", target, "--quiet"]
        subprocess.run([*command, "--no-verify", "--no-measure"], check=True)


def is_made(cell: Results, split: str) -> bool:
    """Tell whether a candidate made a model of a split."""
    made = cell["made"].get(split)
    return bool(made) and not made["error"]


def told(report: Path) -> Results:
    """Return what of onnxopt's own report is kept: its verdict, its parts, its front."""
    if not report.exists():
        return {}
    content = json.loads(report.read_text(encoding="utf-8"))
    found = {name: content[name] for name in _TOLD if name in content}
    found["parts"] = [{n: part.get(n) for n in _PARTS} for part in content.get("parts", ())]
    found["front"] = [{n: point.get(n) for n in _FRONT} for point in content.get("front", ())]
    found["attempts"] = list(content.get("attempts", ()))
    found["frozen"] = len(content.get("frozen", ()))
    return found


def _ratio(found: Results) -> str:
    if found.get("ratio") is None:
        return f"not measured: {found.get('error', '')}"
    return f"{found['ratio']:.2f}× ({found['low']:.2f}–{found['high']:.2f})"


def _numbers(found: Results) -> str:
    numbers = {name: value for name, value in found.items() if isinstance(value, int | float)}
    told = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
    return f"failed: {found['error']}" if "error" in found else told


def _words(found: Results, scores: Results) -> str:
    lists = [line for name in ("signature", "shapes") for line in found.get(name, ())]
    parts = [f"{part}: {_numbers(values)}" for part, values in scores.items()]
    return "; ".join([_numbers(found), *parts, *lists])


if __name__ == "__main__":
    main()
