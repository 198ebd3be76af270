"""Optimizes random graphs and holds each result against its original.

    python bench/generated.py --graphs 10000        # some minutes; --seed 123 shows one graph again

Hypothesis makes the choices, from a fixed seed and without its database, so that every run writes
the same graphs. Of each result the validity, the signature and the outputs on two feeds (other
sizes of the named dimensions, other values of defaults that callers may override) are those of the
original. What differs goes to `bench/.work/generated` as a model, its seed to
`bench/results/generated.json`, and the exit code is 1.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
import hypothesis
import machine
import numpy as np
import onnx
import record
import workers
import writing
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from in_memory import optimized

from onnxopt.errors import OnnxOptError
from onnxopt.runtime.comparing.compare import Reference
from onnxopt.runtime.sessions.engine import ONNXRUNTIME, open_engine

NAME = "generated"
FOLDER = record.WORK / NAME
CHUNK = 100
TARGETS = ("portable", "cpu")

EQUAL, WITHIN_NOISE, NOT_FINITE = "equal", "within the original's noise", "not finite"
NOT_RUNNABLE, DIFFERENT = "not runnable", "different"
STATUSES = (EQUAL, WITHIN_NOISE, NOT_FINITE, NOT_RUNNABLE, DIFFERENT)
"""What becomes of a graph; only the last is a fault of onnxopt, what cannot be run does not count.

Where the original's outputs are not finite, rounding may make anything of them: only the validity
of the result counts then.
"""

_RTOL, _ATOL = 1e-4, 1e-5
_LOOSER = {np.dtype(np.float16): 100}
_LARGEST = 1e6


@st.composite
def chosen(draw: st.DrawFn) -> onnx.ModelProto:
    """Draw a model whose every choice hypothesis makes, the plainest being 0, and can shrink."""
    return writing.write(lambda n: draw(st.integers(0, n - 1)))


@st.composite
def seeded(draw: st.DrawFn) -> onnx.ModelProto:
    """Draw a larger model whose choices follow from one number: they vary more."""
    choices = np.random.default_rng(draw(st.integers(0, 2**62)))
    return writing.write(lambda n: int(choices.integers(n)), most=2 * writing.MOST)


MODELS = st.one_of(chosen(), seeded(), seeded(), seeded())


def judge(model: onnx.ModelProto, target: str) -> tuple[str, str, Counter[str]]:
    """Optimize a model; return its status, why it is so, and what was done how often."""
    feeds = [writing.feeds(model, seed) for seed in (0, 1)]
    try:
        engine = open_engine(model.SerializeToString(), optimize="none", only=ONNXRUNTIME)
        wanted = [engine.run(feed) for feed in feeds]
    except OnnxOptError as error:
        return NOT_RUNNABLE, str(error)[:300], Counter()
    done: Counter[str] = Counter()
    try:
        result, steps = optimized(model, target)
        for step in steps:
            done.update(step.done)
        engine = open_engine(result.SerializeToString(), optimize="none", only=ONNXRUNTIME)
        found = [engine.run(feed) for feed in feeds]
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault to report
        return DIFFERENT, f"{type(error).__name__}: {error}"[:500], done
    pairs = [pair for a, b in zip(wanted, found, strict=True) for pair in zip(a, b, strict=True)]
    if all(_close(a, b) for a, b in pairs):
        return EQUAL, "", done
    if not all(_is_finite(array) for outputs in wanted for array in outputs):
        return NOT_FINITE, "", done
    comparison = Reference.of(model.SerializeToString(), feeds).judge(result.SerializeToString())
    if comparison.passed:
        return WITHIN_NOISE, "", done
    return DIFFERENT, comparison.reason, done


def _is_finite(array: np.ndarray[Any, Any]) -> bool:
    if array.dtype.kind != "f":
        return True
    return bool(np.isfinite(array).all() and np.abs(array).max(initial=0) < _LARGEST)


def _close(want: np.ndarray[Any, Any], got: np.ndarray[Any, Any]) -> bool:
    if want.dtype != got.dtype or want.shape != got.shape:
        return False
    if want.dtype.kind != "f":
        return bool(np.array_equal(want, got))
    looser = _LOOSER.get(want.dtype, 1)
    largest = float(np.abs(want[np.isfinite(want)]).max(initial=0))
    atol = _ATOL * looser * max(largest, 1e-3)
    return bool(np.allclose(got, want, rtol=_RTOL * looser, atol=atol, equal_nan=True))


def graphs(seed: int, count: int) -> list[onnx.ModelProto]:
    """Return the first `count` graphs that hypothesis writes from one seed, each of them once."""
    found: dict[bytes, onnx.ModelProto] = {}

    @hypothesis.seed(seed)
    @settings(
        max_examples=2 * count, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(MODELS)
    def collect(model: onnx.ModelProto) -> None:
        found.setdefault(model.SerializeToString(deterministic=True), model)

    collect()
    return list(found.values())[:count]


def work(job: tuple[int, int]) -> list[dict[str, Any]]:
    """Judge graphs of one seed until so many could be run, targets in turn."""
    seed, count = job
    verdicts: list[dict[str, Any]] = []
    for index, model in enumerate(graphs(seed, count + count // 4 + 1)):
        if sum(verdict["status"] != NOT_RUNNABLE for verdict in verdicts) == count:
            break
        target = TARGETS[index % len(TARGETS)]
        status, why, done = judge(model, target)
        verdict = {"seed": seed, "index": index, "target": target, "status": status, "why": why,
                   "done": done, "nodes": len(model.graph.node)}  # fmt: skip
        verdicts.append(verdict)
        if status == DIFFERENT:
            FOLDER.mkdir(parents=True, exist_ok=True)
            onnx.save(model, path_of(verdict))
    return verdicts


def path_of(verdict: dict[str, Any]) -> Path:
    """Return where the model goes for which something differs."""
    return FOLDER / f"{verdict['seed']}-{verdict['index']}-{verdict['target']}.onnx"


def _crash(job: tuple[int, int]) -> list[dict[str, Any]]:
    return [{"seed": job[0], "index": None, "target": None, "status": DIFFERENT, "done": {},
             "nodes": 0, "why": f"the process crashed in these {job[1]} graphs"}]  # fmt: skip


@click.command()
@click.option("--graphs", "wanted", default=10000, show_default=True, help="Graphs to optimize.")
@click.option("--first", default=0, show_default=True, help="Seed of the first hundred graphs.")
@click.option("--processes", default=2, show_default=True, help="Processes that share the work.")
def main(wanted: int, first: int, processes: int) -> None:
    """Optimize random graphs and write down what became of them."""
    start = time.perf_counter()
    jobs = [
        (first + number, min(CHUNK, wanted - number * CHUNK))
        for number in range(-(-wanted // CHUNK))
    ]
    counts, done, differences = Counter(dict.fromkeys(STATUSES, 0)), Counter(), []
    nodes = 0
    for job, verdicts in workers.spread(work, jobs, processes):
        for verdict in _crash(job) if verdicts == workers.CRASHED else verdicts:
            counts[verdict["status"]] += 1
            done.update(verdict.pop("done"))
            nodes += verdict.pop("nodes")
            if verdict["status"] == DIFFERENT:
                differences.append(verdict)
                click.echo(str(verdict), err=True)
        click.echo(f"{dict(counts)}", err=True)
    results = {
        "schema": f"onnxopt.bench.{NAME}/1",
        "environment": machine.describe(),
        "date": time.strftime("%Y-%m-%d"),
        "hypothesis": hypothesis.__version__,
        "seconds": round(time.perf_counter() - start, 1),
        "first_seed": first,
        "graphs": sum(counts.values()) - counts[NOT_RUNNABLE],
        "nodes": nodes,
        "counts": counts,
        "differences": differences,
        "fired": dict(sorted(done.items())),
    }
    record.write(NAME, results)
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
