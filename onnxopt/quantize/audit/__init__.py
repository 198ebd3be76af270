"""Accounts for every Q/DQ pair and integer weight of a written model, as its target loads it."""

from __future__ import annotations

from pathlib import Path

from onnxopt.quantize.audit import loaded
from onnxopt.report.quantization import Audit


def audit(model: Path | bytes, target: str = "cpu") -> Audit:
    """Return what became of each Q/DQ pair and integer constant of a model that was written.

    onnxruntime loads the model, and each pair is looked for in the graph that it makes. Raises
    `ModelError` where onnxruntime refuses the model. Names of values must be unique in the model.
    """
    del target
    return loaded.audit(model)
