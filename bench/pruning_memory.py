"""Measures what Gram matrices take: models of some 100 MB, refitted over 256 samples."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data_store
import pruning_plan as plan
import quantization
import record
from process import run
from quantization_plan import MAKERS, OWN
from tools import FOLDER

SAMPLES = 256
_TIMEOUT = 3600.0
# ResNet-50's samples are noise, made up by `data_random.py`; MiniLM's are what it is judged by.
MODELS = {
    "resnet50": (plan.EXPORTS / "resnet50_script.onnx", "resnet50_many"),
    "minilm_l6": (plan.TASKS["minilm_l6"].model, "minilm_l6"),
}


def measure(cells: dict[str, Any], save: Callable[[str], None]) -> None:
    """Fill `cells` (model to timing) with what is not there yet."""
    for name, (model, data) in MODELS.items():
        if name in cells or not model.exists():
            continue
        cells[name] = _measured(name, model, samples_of(data, model))
        told = cells[name]["error"] or f"{cells[name]['median_seconds']:.0f} s"
        save(f"memory {name:20} {told}, {cells[name]['peak_rss_bytes'] / 1e6:.0f} MB")


def samples_of(task: str, model: Path) -> Path:
    """Return a folder of samples, which is made unless it is there."""
    if data_store.splits(task):
        parts = data_store.parts(task, "0")
        return data_store.folder_of(task, "0", parts[0] if parts else data_store.CALIBRATION)
    script = [str(FOLDER / "data_random.py"), str(model), task, str(SAMPLES)]
    subprocess.run([str(MAKERS["ort"].python), *script], check=True)
    return data_store.folder_of(task, "0", data_store.CALIBRATION)


def _measured(name: str, model: Path, data: Path) -> dict[str, Any]:
    folder = plan.WORK / "memory" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [str(MAKERS[OWN].python), "-m", OWN, "prune", str(model)]
    command += ["--calibration", str(data), "--samples", str(SAMPLES)]
    command += ["--structure", "channel", "--sparsity", "0.3", "--no-measure", "--anyway"]
    command += ["-o", str(folder / "model.onnx"), "--json", str(folder / "report.json"), "--quiet"]
    found = record.timing([run(command, folder / "log.txt", _TIMEOUT)])
    if found["error"]:
        found["error"] = quantization.why(folder / "log.txt")
    return found | {"file_bytes": model.stat().st_size, "samples": SAMPLES}
