"""Accounts for every Q/DQ pair and integer weight of a written model, as its target loads it."""

from __future__ import annotations

from pathlib import Path

from onnxopt.quantizing.audit import loaded, tensorrt
from onnxopt.report.quantization import Audit


def audit(model: Path | bytes, target: str = "cpu") -> Audit:
    """Return what became of each Q/DQ pair and integer constant of a model that was written.

    onnxruntime loads it for `cpu` and `portable`, and each pair is looked for in the graph that it
    makes; for `tensorrt` the pairs are held against its rules, and nothing is loaded. Raises
    `ModelError` where onnxruntime refuses the model. Names of values must be unique in the model.
    """
    return tensorrt.audit(model) if target == "tensorrt" else loaded.audit(model)
