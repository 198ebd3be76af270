"""Optimizes every case that onnx ships for backends and holds the outputs against the expected.

    python bench/conformance.py             # five minutes; --targets cpu --kinds node for a part

A case passes if nothing crashes, the result is valid, its signature is the original's, and the
outputs are those that come with the case, in onnxruntime or, where that cannot run the original or
gives something else itself, in onnx's reference evaluator. What cannot be judged so is listed with
the reason in `bench/results/conformance.json`; what fails is listed first, and the exit code is 1.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Any

import cases
import click
import machine
import onnx
import record
import workers
from cases import Case
from in_memory import optimized

from onnxopt.errors import OnnxOptError
from onnxopt.graph import io
from onnxopt.runtime.sessions.engine import ONNXRUNTIME, REFERENCE, open_engine

NAME = "conformance"
TARGETS = "portable,cpu"
ENGINES = (ONNXRUNTIME, REFERENCE)

EQUAL, UNCHANGED, TAKEN_BACK = "equal", "unchanged", "taken back"
LIKE_ORIGINAL, NOT_RUNNABLE, FAILED = "as the original", "not runnable", "failed"
STATUSES = (EQUAL, UNCHANGED, TAKEN_BACK, LIKE_ORIGINAL, NOT_RUNNABLE, FAILED)
"""What becomes of a case, best first; only the last is a fault of onnxopt."""

REASONS = {
    "test_affine_grid_2d": "onnx's AffineGrid hands a vector to Range, which takes scalars; "
    "onnxruntime only notices once the branch of an If is in the open",
    "test_bernoulli": "the expected outputs are random",
    "test_random": "the expected outputs are random",
}
"""Whose fault it is, for cases whose names begin so, where the engines do not say it themselves."""

Verdict = dict[str, Any]


def judge(case: Case, target: str) -> Verdict:
    """Optimize a case in memory and say what became of it."""
    try:
        result, steps = optimized(case.model, target)
        verdict = compare(case, result) if steps else verdict_of(case)
    except (AssertionError, OnnxOptError, onnx.checker.ValidationError) as error:
        verdict = {"status": FAILED, "why": _first_line(error)}
    if verdict["status"] == FAILED and _taken_back(case, target):
        verdict["status"] = TAKEN_BACK
    reason = next((REASONS[start] for start in REASONS if case.name.startswith(start)), None)
    if reason and verdict["status"] not in (EQUAL, UNCHANGED):
        verdict["why"] = f"{reason}: {verdict['why']}"
    return verdict


def compare(case: Case, result: onnx.ModelProto) -> Verdict:
    """Hold the outputs of a result against those that come with the case."""
    refusals = []
    for engine in ENGINES:
        before = outputs(case, case.model, engine)
        if isinstance(before, str):
            refusals.append(before)
            continue
        after = outputs(case, result, engine)
        if isinstance(after, str):
            return {"status": FAILED, "why": f"the result no longer runs: {after}"}
        if not _agree(case, before, after):
            return {"status": FAILED, "why": f"{engine} gives other outputs than for the original"}
        if _agree(case, [wanted for _, wanted in case.data_sets], after):
            return {"status": EQUAL, "engine": engine}
        refusals.append(f"{engine} gives for the original something else than is expected")
    if any("something else" in text for text in refusals):
        return {"status": LIKE_ORIGINAL, "why": "; ".join(refusals)}
    return {"status": NOT_RUNNABLE, "why": "; ".join(refusals)}


def verdict_of(case: Case) -> Verdict:
    """Say of a case that onnxopt left as it was whether anything can run it at all."""
    refusals = []
    for engine in ENGINES:
        found = outputs(case, case.model, engine)
        if not isinstance(found, str):
            return {"status": UNCHANGED, "engine": engine}
        refusals.append(found)
    return {"status": UNCHANGED, "why": "; ".join(refusals)}


def outputs(case: Case, proto: onnx.ModelProto, engine: str) -> list[list[Any]] | str:
    """Run a model on all sets of inputs of a case, or say why it cannot be run."""
    try:
        opened = open_engine(proto.SerializeToString(), optimize="none", only=engine)
        return [opened.run(cases.feed(case, inputs)) for inputs, _ in case.data_sets]
    except OnnxOptError as error:
        return _first_line(error)


def _agree(case: Case, wanted: list[list[Any]], found: list[list[Any]]) -> bool:
    return all(cases.agree(a, b, case.rtol) for a, b in zip(wanted, found, strict=True))


def _taken_back(case: Case, target: str) -> bool:
    """Tell whether `optimize` notices a fault by itself and hands back a model that is right."""
    import onnxopt

    try:
        report = onnxopt.optimize(case.model, target=target, measure=False)
        result = io.to_proto(report.model)
        onnx.checker.check_model(result)
    except (OnnxOptError, onnx.checker.ValidationError):
        return False
    return bool(report) and compare(case, result)["status"] != FAILED


def _first_line(error: Exception) -> str:
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}"[:400]


def work(job: tuple[str, str, str]) -> Verdict:
    """Judge one case by kind, name and target, whatever it raises."""
    kind, name, target = job
    try:
        return judge(cases.load(kind, name), target)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other cases go on
        return {"status": FAILED, "why": _first_line(error)}


@click.command()
@click.option("--targets", default=TARGETS, show_default=True, help="Targets to optimize for.")
@click.option("--kinds", default=",".join(cases.KINDS), show_default=True, help="Kinds of cases.")
@click.option("--processes", default=2, show_default=True, help="Processes that share the work.")
def main(targets: str, kinds: str, processes: int) -> None:
    """Run every case for every target and write down what became of it."""
    start = time.perf_counter()
    jobs = [(kind, name, target) for kind in kinds.split(",") for name in cases.names(kind)
            for target in targets.split(",")]  # fmt: skip
    verdicts = {}
    for number, (job, verdict) in enumerate(workers.spread(work, jobs, processes), 1):
        crashed = {"status": FAILED, "why": "the process crashed"}
        verdicts[job] = crashed if verdict == workers.CRASHED else verdict
        if verdicts[job]["status"] == FAILED or number % 500 == 0:
            click.echo(f"{number}/{len(jobs)} {job} {verdicts[job]}", err=True)
    results = summary(verdicts, time.perf_counter() - start)
    record.write(NAME, results)
    failed = sum(count[FAILED] for count in results["counts"].values())
    click.echo(f"{len(jobs)} cases, {failed} failed", err=True)
    sys.exit(1 if failed else 0)


def summary(verdicts: dict[tuple[str, str, str], Verdict], seconds: float) -> dict[str, Any]:
    """Count by kind and target, and list what has no expected outputs to show for itself."""
    counts: dict[str, Counter[str]] = {}
    for (kind, _, target), verdict in verdicts.items():
        cell = counts.setdefault(f"{kind} {target}", Counter(dict.fromkeys(STATUSES, 0)))
        cell[verdict["status"]] += 1
    exceptions: dict[str, list[str]] = {status: [] for status in STATUSES[::-1]}
    for (kind, name, target), verdict in sorted(verdicts.items()):
        if "why" in verdict:
            exceptions[verdict["status"]].append(f"{kind} {name} {target}: {verdict['why']}")
    return {
        "schema": f"onnxopt.bench.{NAME}/1",
        "environment": machine.describe(),
        "date": time.strftime("%Y-%m-%d"),
        "onnx": onnx.__version__,
        "seconds": round(seconds, 1),
        "counts": counts,
        "exceptions": {status: lines for status, lines in exceptions.items() if lines},
    }


if __name__ == "__main__":
    main()
