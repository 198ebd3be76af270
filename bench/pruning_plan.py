"""What `pruning.py` compares: models, how much of them goes, who takes it out and how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import data_store
import quantization_plan
from quantization_plan import MAKERS, MODELS, OWN
from tools import FOLDER

WORK = FOLDER / ".work" / "pruning"
EXPORTS = FOLDER / ".work" / "exports"
REFERENCES = WORK / "references"
PHOTOGRAPHS = "efficientnet_lite0_pruning"
"""What `data_pictures.py` makes: many more photographs than int8 is judged by."""
SENTENCES = "minilm_l6_pruning"
"""What `data_sentences.py` makes: as many as a refit wants, judged by the same as int8."""
PARTS = ("nets", "photographs", "sentences", "structure", "zeros")


@dataclass(frozen=True, kw_only=True)
class Task:
    """A model, the data that it is judged by, and those that pruning is calibrated with.

    `exam` is what `quantization_judge.py` calls it, data and score; empty where outputs are only
    looked at for their shapes. `made` is the model that `onnxopt optimize` makes `model` of, so
    that layers go by the same names in what every tool makes of it.
    """

    name: str
    source: Path
    exam: str = ""
    calibration: str = ""
    prepared: bool = False

    @property
    def model(self) -> Path:
        """The model that is pruned."""
        return REFERENCES / f"{self.name}.onnx" if self.prepared else self.source

    @property
    def fused(self) -> Path:
        """What onnxopt makes of it for the CPU, for a peer that needs operators fused."""
        return REFERENCES / f"{self.name} for cpu.onnx"

    @property
    def data(self) -> str:
        """Where samples of it lie."""
        return self.calibration or self.exam or self.name


_NET = MODELS / ".cache" / "efficientnet_lite0.onnx"
_BERT = MODELS / ".cache" / "minilm_l6.onnx"
STRUCTURES = ("vit_script", "vit_dynamo", "bert_script", "bert_dynamo")
TASKS = {
    task.name: task
    for task in (
        Task(
            name="fashion_cnn",
            source=FOLDER / "trained" / "fashion_cnn.onnx",
            exam="fashion_cnn",
            calibration="fashion_residual",
        ),
        Task(
            name="fashion_residual",
            source=FOLDER / "trained" / "fashion_residual.onnx",
            exam="fashion_residual",
        ),
        Task(name="efficientnet_lite0", source=_NET, exam=PHOTOGRAPHS),
        Task(name="minilm_l6", source=_BERT, exam=SENTENCES),
        *(Task(name=name, source=EXPORTS / f"{name}.onnx") for name in STRUCTURES),
        Task(name="efficientnet_lite0 ready", source=_NET, exam=PHOTOGRAPHS, prepared=True),
        Task(name="minilm_l6 ready", source=_BERT, exam=SENTENCES, prepared=True),
    )
}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A pruner of a peer, or onnxopt with options; `maker` is whose environment it runs in.

    What is tried `everywhere` is made and judged on all splits of the data, the others on the
    first. Options are added to those of the trial and prevail. What is `fused` is given what
    `onnxopt optimize --target cpu` makes of the model: onnxsim knows no Gelu that is written out.
    """

    name: str
    maker: str = OWN
    options: tuple[str, ...] = ()
    everywhere: bool = False
    fused: bool = False

    @property
    def recipe(self) -> str:
        """What `pruning_peer.py` calls it."""
        return self.name.removesuffix(" after onnxopt")


_PLAIN = "--no-measure"
LEARNED, PASSES = "onnxopt learned", 16
_NO_REFIT = ("--no-refit", _PLAIN)
CANDIDATES = {
    candidate.name: candidate
    for candidate in (
        Candidate(name="onnxopt", everywhere=True),
        Candidate(name=LEARNED, options=("--learn", f"{PASSES}", _PLAIN)),
        Candidate(name="onnxopt by layer", options=("--scope", "layer", _PLAIN)),
        Candidate(name="onnxopt l2", options=("--importance", "l2", _PLAIN)),
        Candidate(name="onnxopt wanda", options=("--importance", "wanda", _PLAIN)),
        Candidate(
            name="onnxopt random", options=("--importance", "random", _PLAIN), everywhere=True
        ),
        Candidate(name="onnxopt as channels", options=("--structure", "channel", _PLAIN)),
        Candidate(name="onnxopt without refit", options=_NO_REFIT),
        Candidate(
            name="onnxopt l2 without refit",
            options=("--importance", "l2", *_NO_REFIT),
            everywhere=True,
        ),
        Candidate(
            name="onnxopt random without refit",
            options=("--importance", "random", *_NO_REFIT),
            everywhere=True,
        ),
        Candidate(name="onnxsim l2", maker="onnxsim", everywhere=True),
        Candidate(name="onnxsim l2 after onnxopt", maker="onnxsim", fused=True),
        *(
            Candidate(name=f"onnxsim {recipe}", maker="onnxsim")
            for recipe in (
                *("l2 global", "wanda", "l2 finetuned", "heads", "blocks"),
                *("magnitude 2:4", "wanda 2:4", "sparsegpt 2:4", "magnitude", "sparsegpt"),
            )
        ),
    )
}
RANDOM = ("onnxopt random", "onnxopt random without refit")
_USUAL = ("onnxopt", LEARNED, *RANDOM, "onnxopt l2 without refit")
_CURVE = ("onnxopt", *RANDOM, "onnxopt l2 without refit", "onnxopt without refit", "onnxsim l2")
_CHANNELS = (
    *_CURVE,
    LEARNED,
    "onnxopt l2",
    "onnxsim wanda",
    "onnxsim l2 global",
    "onnxsim l2 finetuned",
)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """So much taken out of one model, by several candidates.

    `options` are onnxopt's, `how` is `pruning_peer.py`'s. `speed` says that the results' latency is
    asked, and `samples` that pruning is given data. With `splits` only so many are done.
    """

    name: str
    part: str
    task: Task
    options: tuple[str, ...]
    how: str = ""
    candidates: tuple[str, ...] = ("onnxopt",)
    speed: bool = True
    samples: bool = True
    splits: int | None = None

    def chosen(self, names: tuple[str, ...] = ()) -> list[Candidate]:
        """Return its candidates, or those of `names` among them."""
        return [CANDIDATES[name] for name in self.candidates if not names or name in names]


CURVE = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75)
NETS = ("fashion_cnn", "fashion_residual")
_ASKED = (0.25, 0.5)
MACS = {0.9: 1, 0.8: 2, 0.7: 2, 0.6: 1}
"""Shares of EfficientNet-Lite0's multiplications that are left, and on how many splits."""
HALF_DENSE = 0.526
"""What is left of MiniLM's multiplications at 128 tokens where dense layers have half of theirs.

A layer of width 384 has 4·384² + 2·384·1536 of them a token, 128·2·384 in the products of its
attention: (1.77e6 / 2 + 9.83e4) / (1.77e6 + 9.83e4).
"""
ONE_LAYER = 0.85
"""What is left of them where a layer of six became one map of 384 by 384: (5 + 0.079) / 6."""
_ATTENTION = tuple(
    f"encoder.layer.{layer}.attention.self.{which}.weight_T"
    for layer in range(6)
    for which in ("key", "value")
)


def _nets() -> Iterator[Trial]:
    for name in NETS:
        for share in CURVE:
            yield Trial(
                name=f"{name} {share:g}",
                part="nets",
                task=TASKS[name],
                options=("--structure", "channel", "--sparsity", f"{share:g}", _PLAIN),
                how=f"sparsity={share:g}",
                candidates=(*_CHANNELS, "onnxopt by layer") if share in _ASKED else _CURVE,
                speed=share in _ASKED,
            )


def _photographs() -> Iterator[Trial]:
    for share, splits in MACS.items():
        yield Trial(
            name=f"efficientnet_lite0 {share:g}",
            part="photographs",
            task=TASKS["efficientnet_lite0"],
            options=("--structure", "channel", "--target-macs", f"{share:g}"),
            how=f"macs={share:g}",
            candidates=(*_USUAL, "onnxsim l2") if splits == 1 else _CHANNELS,
            splits=splits,
        )
    yield Trial(
        name="efficientnet_lite0 latency 0.8",
        part="photographs",
        task=TASKS["efficientnet_lite0"],
        options=("--structure", "channel", "--target-latency", "0.8"),
        splits=1,
    )


def _sentences() -> Iterator[Trial]:
    kept = tuple(word for name in _ATTENTION for word in ("--protect", name))
    asked = {
        "minilm_l6 neurons 0.3": (
            ("--structure", "channel", "--sparsity", "0.3", *kept),
            "sparsity=0.3",
            (*_CHANNELS, "onnxsim l2 after onnxopt", "onnxopt by layer"),
        ),
        "minilm_l6 layer": (
            ("--structure", "block", "--target-macs", f"{ONE_LAYER:g}"),
            "sparsity=0.17",
            (*_USUAL, "onnxopt without refit", "onnxsim blocks"),
        ),
        "minilm_l6 rank": (
            ("--structure", "rank", "--target-macs", f"{HALF_DENSE:g}"),
            f"macs={HALF_DENSE:g}",
            (*_USUAL, "onnxopt without refit", "onnxopt as channels", "onnxsim l2 after onnxopt"),
        ),
    }
    for name, (options, how, candidates) in asked.items():
        yield Trial(
            name=name,
            part="sentences",
            task=TASKS["minilm_l6"],
            options=options,
            how=how,
            candidates=candidates,
        )


def _structure() -> Iterator[Trial]:
    for name in STRUCTURES:
        for share in _ASKED:
            yield Trial(
                name=f"{name} {share:g}",
                part="structure",
                task=TASKS[name],
                options=(
                    *("--structure", "channel", "--sparsity", f"{share:g}"),
                    *("--scope", "layer", _PLAIN),
                ),
                how=f"sparsity={share:g}",
                candidates=(
                    "onnxopt l2 without refit",
                    RANDOM[1],
                    "onnxsim l2 after onnxopt",
                    "onnxsim heads",
                ),
                samples=False,
            )


def _zeros() -> Iterator[Trial]:
    own = (*_USUAL, "onnxopt without refit", "onnxopt wanda")
    for name in ("minilm_l6 ready", "efficientnet_lite0 ready"):
        yield Trial(
            name=f"{name} 2:4",
            part="zeros",
            task=TASKS[name],
            options=("--structure", "2:4", "--sparsity", "0.5", _PLAIN),
            how="sparsity=0.5",
            candidates=(
                *own,
                "onnxsim magnitude 2:4",
                "onnxsim wanda 2:4",
                "onnxsim sparsegpt 2:4",
            ),
            speed=False,
            splits=1,
        )
    yield Trial(
        name="efficientnet_lite0 ready element",
        part="zeros",
        task=TASKS["efficientnet_lite0 ready"],
        options=("--structure", "element", "--sparsity", "0.5", _PLAIN),
        how="sparsity=0.5",
        candidates=(*own, "onnxsim magnitude", "onnxsim sparsegpt"),
        splits=1,
    )


TRIALS = {
    trial.name: trial
    for make in (_nets, _photographs, _sentences, _structure, _zeros)
    for trial in make()
}
QUICK = ("fashion_cnn 0.5",)
QUICK_CANDIDATES = ("onnxopt", *RANDOM, "onnxsim l2")


def command(trial: Trial, candidate: Candidate, split: str, output: Path) -> list[str]:
    """Return the command line that prunes a trial's model into `output`."""
    calibration = data_store.folder_of(trial.task.data, split, data_store.CALIBRATION)
    python = str(MAKERS[candidate.maker].python)
    model = str(trial.task.fused if candidate.fused else trial.task.model)
    if candidate.maker != OWN:
        script = str(FOLDER / "pruning_peer.py")
        return [python, script, candidate.recipe, model, str(calibration), str(output), trial.how]
    told = ["--calibration", str(calibration)] if trial.samples else []
    told += ["-o", str(output), "--json", str(output.with_name("report.json")), "--quiet"]
    return [
        python,
        "-m",
        OWN,
        "prune",
        model,
        *told,
        "--anyway",
        *trial.options,
        *candidate.options,
    ]


def output_of(trial: Trial, candidate: Candidate, split: str) -> Path:
    """Return where the model of a candidate lies, beside its log."""
    folders = [name.replace(" ", "_").replace(":", "of") for name in (trial.name, candidate.name)]
    return WORK / "models" / folders[0] / split / folders[1] / "model.onnx"


def trained() -> list[tuple[str, Path]]:
    """Return every model of the manifest that is here, and the nets that were trained for this."""
    found = [(task.name, task.source) for task in TASKS.values() if task.name in NETS]
    return [*((task.name, task.model) for task in quantization_plan.trained()), *found]
