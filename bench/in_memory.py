"""Optimizes a model in memory and holds it valid, with the signature that it had."""

from __future__ import annotations

import onnx

from onnxopt.config import OptimizeConfig, find_target
from onnxopt.graph import io
from onnxopt.graph.signature import Declared, signature_of
from onnxopt.passes import opset
from onnxopt.pipeline import transform
from onnxopt.report import Step


def optimized(proto: onnx.ModelProto, target: str) -> tuple[onnx.ModelProto, list[Step]]:
    """Return what onnxopt makes of a model, and the steps that did something.

    An operator set that was raised in vain is left as it was, as `onnxopt optimize` does. Raises
    `AssertionError` where a rule crashes or the signature changes, onnx's `ValidationError` where
    the result is not valid.
    """
    for without in (frozenset[str](), frozenset({opset.NAME})):
        model = io.from_proto(proto)
        declared, before = Declared.of(model), signature_of(model)
        made = transform(model, OptimizeConfig(target=find_target(target)), without=without)
        if not made.raised_in_vain:
            break
    assert not made.outcome.crashed, f"a rule crashed: {made.outcome.crashed}"
    declared.restore(model)
    differences = before.differences(signature_of(model))
    assert not differences, f"the signature changed: {differences}"
    result = io.to_proto(model)
    onnx.checker.check_model(result)
    return result, made.steps
