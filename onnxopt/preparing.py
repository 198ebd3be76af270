"""Brings a model into the form that int8 is put into."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from onnxopt.config import OptimizeConfig, Target
from onnxopt.conversion import converted
from onnxopt.errors import OnnxOptError
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.passes import opset, shapes
from onnxopt.prove import Candidate, Prover
from onnxopt.quantizing.naming import tell_apart
from onnxopt.runtime.sessions.crash import refusal

INT8 = "int8 with a scale for each channel"
"""What a model is prepared for, unless something else is said."""

_OPSET = 13
"""The first operator set whose DequantizeLinear has a scale for each channel."""

_GROWTH = 4
"""Times its size by which folding may enlarge a model: weights that are stored in int8 and cast
to float on each run become int8 again."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A model to be changed, and `source`, what it computes the same as and onnxruntime can run.

    That is the file that was given; only where onnxruntime has no kernels for an operator set as
    old as its is it what onnx's converter made of it.
    """

    candidate: Candidate
    source: Path


def prepared(
    source: Path,
    target: Target,
    beside: Path,
    *,
    exact: OptimizeConfig | None = None,
    purpose: str = INT8,
) -> Prepared:
    """Optimize a model exactly, for int8 to be put into: names unique, types inferred.

    It is made of standard operators at operator set 13 or later, without fused attention, whose
    products could not become int8. What stays float is written as the target's kernels like it.
    `exact` tells what to leave out of that; large and temporary files go to the folder `beside`.
    Raises `OnnxOptError` for a model that cannot be raised to operator set 13, which says that the
    `purpose` needs it.
    """
    config = replace(
        exact or OptimizeConfig(),
        target=target.plain(),
        verify=False,
        measure=False,
        max_growth=_GROWTH * source.stat().st_size,
    )
    candidate = _made(source, config, beside)
    if obstacle := _obstacle(candidate.model):
        try:
            raised = converted(source, _OPSET, beside)
        except OnnxOptError as error:
            raise OnnxOptError(
                f"{purpose} needs operator set {_OPSET}: {obstacle}, and {error.message}",
                f"export the model again at operator set {_OPSET} or later",
            ) from error
        candidate = _made(raised, config, beside)
        if refusal(source):
            source = raised
    if candidate.model.opset_imports.get("", _OPSET) < _OPSET:
        opset.raise_to(Editor(candidate.model), _OPSET)
        shapes.infer(candidate.model)
    return Prepared(candidate=candidate, source=source)


def _made(source: Path, config: OptimizeConfig, beside: Path) -> Candidate:
    candidate = Prover(source, config, beside=beside).make()
    tell_apart(candidate.model)
    shapes.infer(candidate.model)
    return candidate


def _obstacle(model: ir.Model) -> str:
    """Say what keeps a model from operator set 13, or nothing."""
    if model.opset_imports.get("", _OPSET) >= _OPSET:
        return ""
    return opset.obstacle_to(Editor(model), _OPSET)
