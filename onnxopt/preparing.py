"""Brings a model into the form that int8 is put into."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from onnxopt.config import OptimizeConfig, Target
from onnxopt.errors import OnnxOptError
from onnxopt.graph.editor import Editor
from onnxopt.passes import opset, shapes
from onnxopt.prove import Candidate, Prover
from onnxopt.quantizing.naming import tell_apart

INT8 = "int8 with a scale for each channel"
"""What a model is prepared for, unless something else is said."""

_OPSET = 13
"""The first operator set whose DequantizeLinear has a scale for each channel."""

_GROWTH = 4
"""Times its size by which folding may enlarge a model: weights that are stored in int8 and cast
to float on each run become int8 again."""


def prepared(
    source: Path,
    target: Target,
    beside: Path | None = None,
    *,
    exact: OptimizeConfig | None = None,
    purpose: str = INT8,
) -> Candidate:
    """Optimize a model exactly, for int8 to be put into: names unique, types inferred.

    It is made of standard operators at operator set 13 or later, without fused attention, whose
    products could not become int8. What stays float is written as the target's kernels like it.
    `exact` tells what to leave out of that. Raises `OnnxOptError` for a model that cannot be raised
    to it, which says that the `purpose` needs it.
    """
    config = replace(
        exact or OptimizeConfig(),
        target=target.plain(),
        verify=False,
        measure=False,
        max_growth=_GROWTH * source.stat().st_size,
    )
    candidate = Prover(source, config, beside=beside).make()
    model = candidate.model
    tell_apart(model)
    shapes.infer(model)
    if model.opset_imports.get("", _OPSET) < _OPSET:
        editor = Editor(model)
        if obstacle := opset.obstacle_to(editor, _OPSET):
            raise OnnxOptError(
                f"{purpose} needs operator set {_OPSET}: {obstacle}",
                f"export the model again at operator set {_OPSET} or later",
            )
        opset.raise_to(editor, _OPSET)
        shapes.infer(model)
    return candidate
