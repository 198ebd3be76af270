"""What `quantization.py` compares: tasks, candidates, instruction sets, and what each runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import data_store
import record
from hidden_isa import Level
from tools import FOLDER, TOOLS, Tool

WORK = data_store.DATA.parent
MODELS = FOLDER.parent / "models"
OWN = "onnxopt"
ISAS: tuple[Level, ...] = ("avx2", "native")

_PACKAGES = ("onnx==1.23.2", "numpy==2.4.6")
MAKERS = {
    "data": Tool(
        name="the makers of data",
        environment="quantization.data",
        requires=("numpy==2.4.6", "pillow==13.0.0", "tokenizers==0.23.3"),
        arguments=(),
    ),
    "ort": Tool(
        name="onnxruntime.quantization",
        environment="quantization.onnxruntime",
        requires=("onnxruntime==1.32.0", "sympy==1.14.0", *_PACKAGES),
        arguments=(),
    ),
    "onnxsim": TOOLS["onnxsim"],
    OWN: TOOLS["onnxopt cpu"],
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """A trained model with data, or an export that only its speed is asked of.

    `data` is what `data_make.py` calls it; empty where samples are made up, `random` of them.
    `left_out` are words of candidates that are not tried: what would take hours.
    """

    name: str
    model: Path
    data: str = ""
    left_out: tuple[str, ...] = ()


TASKS = {
    task.name: task
    for task in (
        Task(
            name="efficientnet_lite0",
            model=MODELS / ".cache" / "efficientnet_lite0.onnx",
            data="efficientnet_lite0",
        ),
        Task(name="pp_ocrv4_rec", model=MODELS / "pp_ocrv4_rec.onnx", data="pp_ocrv4_rec"),
        Task(
            name="pp_ocrv4_det", model=MODELS / ".cache" / "pp_ocrv4_det.onnx", data="pp_ocrv4_det"
        ),
        Task(name="minilm_l6", model=MODELS / ".cache" / "minilm_l6.onnx", data="minilm_l6"),
        Task(name="magika", model=MODELS / "magika.onnx", data="magika"),
        Task(name="fashion_cnn", model=FOLDER / "trained" / "fashion_cnn.onnx", data="fashion_cnn"),
        Task(
            name="resnet50",
            model=WORK.parent / "exports" / "resnet50_script.onnx",
            left_out=("entropy", "percentile", "onnxsim"),
        ),
        Task(
            name="bert",
            model=WORK.parent / "exports" / "bert_script.onnx",
            left_out=("entropy", "percentile", "onnxsim"),
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A recipe of a peer, or onnxopt with options; `maker` is whose environment it runs in.

    `by_isa` says that it makes another model for each instruction set. `exact` asks of
    onnxruntime's session that kernels never saturate. What is tried `everywhere` is made and judged
    on all splits of the data, the others on the first.
    """

    name: str
    maker: str
    options: tuple[str, ...] = ()
    by_isa: bool = False
    exact: bool = False
    everywhere: bool = False

    @property
    def recipe(self) -> str:
        """What `run_quantizer.py` calls it."""
        return self.name.removesuffix(" exact")

    def command(self, model: Path, calibration: Path, output: Path, isa: Level) -> list[str]:
        """Return the command line that quantizes `model` into `output`."""
        python = str(MAKERS[self.maker].python)
        if self.maker != OWN:
            script = str(FOLDER / "run_quantizer.py")
            return [python, "-P", script, self.recipe, str(model), str(calibration), str(output)]
        told = ["--calibration", str(calibration), "-o", str(output)]
        told += ["--json", str(output.with_name("report.json")), "--quiet"]
        return [python, "-m", OWN, "quantize", str(model), *told, "--isa", isa, *self.options]


def _own(name: str, *options: str) -> Candidate:
    return Candidate(name=name, maker=OWN, options=options, by_isa=True, everywhere=not options)


_ORT = (
    "ort S8S8 raw",
    "ort S8S8",
    "ort S8S8 channels",
    "ort U8U8",
    "ort U8S8",
    "ort U8S8 channels",
    "ort U8S8 channels reduce_range",
    "ort U8S8 channels heavy",
    "ort U8S8 channels heavy reduce_range",
    "ort U8S8 channels qoperator",
    "ort U8S8 channels entropy",
    "ort U8S8 channels percentile",
    "ort dynamic",
    "ort dynamic channels reduce_range",
)
_USUAL = ("ort S8S8", "ort U8S8 channels", "ort U8S8 channels reduce_range")
_ONNXSIM = (
    "onnxsim static",
    "onnxsim static entropy",
    "onnxsim static whole",
    "onnxsim static equalized corrected",
    "onnxsim full_qdq",
    "onnxsim full_qdq percentile",
    "onnxsim full_qdq equalized",
    "onnxsim qoperator",
    "onnxsim dynamic",
)
CANDIDATES = {
    candidate.name: candidate
    for candidate in (
        _own("onnxopt"),
        _own("onnxopt fastest", "--fastest"),
        *(Candidate(name=name, maker="ort", everywhere=name in _USUAL) for name in _ORT),
        Candidate(name="ort U8S8 channels exact", maker="ort", exact=True),
        *(Candidate(name=name, maker="onnxsim") for name in _ONNXSIM),
    )
}
QUICK = ("onnxopt", "ort S8S8", "ort U8S8 channels", "onnxsim full_qdq")


def candidates_of(task: Task, names: tuple[str, ...] = ()) -> list[Candidate]:
    """Return what is tried on a task: all, or those of `names`, but for what it leaves out."""
    return [
        candidate
        for name, candidate in CANDIDATES.items()
        if (not names or name in names) and not any(word in name for word in task.left_out)
    ]


def output_of(task: Task, split: str, candidate: Candidate, isa: Level) -> Path:
    """Return where the model of a candidate lies, beside its log."""
    made = candidate.name.replace(" ", "_") + (f".{isa}" if candidate.by_isa else "")
    return WORK / "models" / task.name / split / made / "model.onnx"


def trained() -> list[Task]:
    """Return every model of the manifest that is here, as tasks without data."""
    manifest = json.loads((MODELS / "manifest.json").read_text(encoding="utf-8"))
    found = [Task(name=m["name"], model=MODELS / m["file"]) for m in manifest["models"]]
    return [task for task in found if task.model.exists()]


RESULTS = record.RESULTS / "quantization.json"
