"""Judges one model on held-out data: `quantization_judge.py MODEL TASK [--split 0]`.

Prints a line of JSON: scores by split and part. fp32's outcomes are computed once and kept. Runs
with whatever onnxruntime and instruction set the process has (`hidden_isa.py avx2 -- python …`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import data_store
import numpy as np
import onnxruntime
import quantization_scores as scores

FOLDER = Path(__file__).resolve().parent
MODELS = FOLDER.parent / "models"
KEPT = data_store.DATA.parent / "fp32"
Reduce = Callable[[Sequence[np.ndarray], Mapping[str, np.ndarray]], np.ndarray]
Score = Callable[[Sequence[np.ndarray], Sequence[np.ndarray], Sequence[Any]], scores.Scores]


@dataclass(frozen=True, kw_only=True)
class Exam:
    """How the models of a task are judged: file of fp32, what is kept of outputs, the score."""

    model: Path
    reduce: Reduce = scores.first
    score: Callable[[], Score]


def _characters() -> Score:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(MODELS / "pp_ocrv4_rec.onnx", options)
    known = session.get_modelmeta().custom_metadata_map["character"].split("\n")
    return scores.characters_wrong(["", *known, " "])


def _labels() -> Score:
    labels = (KEPT.parent / "magika_labels.json").read_text(encoding="utf-8")
    return scores.labelled(json.loads(labels))


EXAMS = {
    "efficientnet_lite0": Exam(
        model=MODELS / ".cache" / "efficientnet_lite0.onnx", score=lambda: scores.classes
    ),
    "pp_ocrv4_rec": Exam(
        model=MODELS / "pp_ocrv4_rec.onnx", reduce=scores.best_characters, score=_characters
    ),
    "pp_ocrv4_det": Exam(model=MODELS / ".cache" / "pp_ocrv4_det.onnx", score=lambda: scores.maps),
    "minilm_l6": Exam(
        model=MODELS / ".cache" / "minilm_l6.onnx",
        reduce=scores.pooled,
        score=lambda: scores.embeddings,
    ),
    "magika": Exam(model=MODELS / "magika.onnx", score=_labels),
} | {
    name: Exam(model=FOLDER / "trained" / f"{name}.onnx", score=lambda: scores.labelled(None))
    for name in ("fashion_cnn", "fashion_residual")
}
# The same models and scores, with data of its own for pruning.
EXAMS |= {f"{name}_pruning": EXAMS[name] for name in ("efficientnet_lite0", "minilm_l6")}


def session(model: Path, threads: int = 1, *, exact: bool = False) -> onnxruntime.InferenceSession:
    """Load a model as the benchmark runs it: onnxruntime's default level.

    `exact` asks for kernels that do not saturate.
    """
    options = onnxruntime.SessionOptions()
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def outcomes(
    model: Path, exam: Exam, folder: Path, most: int | None, *, exact: bool = False
) -> list[np.ndarray]:
    """Run a model on every feed of a folder; return what is kept of each."""
    loaded = session(model, exact=exact)
    known = {given.name for given in loaded.get_inputs()}
    found = []
    for feed in data_store.feeds(folder, most):
        outputs = loaded.run(None, {name: feed[name] for name in feed if name in known})
        found.append(exam.reduce(outputs, feed))
    return found


def reference(task: str, split: str, part: str, most: int | None) -> list[np.ndarray]:
    """Return fp32's outcomes, computed the first time."""
    path = KEPT / task / split / f"{part}.npz"
    data = data_store.folder_of(task, split, part)
    if not path.exists() or path.stat().st_mtime < (data / "truth.json").stat().st_mtime:
        path.parent.mkdir(parents=True, exist_ok=True)
        every = outcomes(EXAMS[task].model, EXAMS[task], data, None)
        np.savez(path, *every)
    with np.load(path) as kept:
        return [kept[name] for name in kept.files[:most]]


def judge(
    model: Path, task: str, split: str, most: int | None = None, *, exact: bool = False
) -> dict[str, scores.Scores]:
    """Return the scores of a model by part of a split."""
    exam, found = EXAMS[task], {}
    for part in data_store.parts(task, split):
        folder = data_store.folder_of(task, split, part)
        expected = reference(task, split, part, most)
        got = outcomes(model, exam, folder, most, exact=exact)
        found[part] = exam.score()(expected, got, data_store.truths(folder)[:most])
    return found


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.argument("task", type=click.Choice(list(EXAMS)))
@click.option("--split", help="One of the task's splits; without it, each.")
@click.option("--most", type=int, help="At most so many samples of each part.")
@click.option("--exact", is_flag=True, help="With onnxruntime's kernels that do not saturate.")
def main(model: Path, task: str, split: str | None, most: int | None, *, exact: bool) -> None:
    """Judge MODEL by the held-out data of TASK."""
    chosen = [split] if split else data_store.splits(task)
    found = {name: judge(model, task, name, most, exact=exact) for name in chosen}
    click.echo(json.dumps(found))


if __name__ == "__main__":
    main()
