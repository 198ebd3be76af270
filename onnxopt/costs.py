"""Predicts what each node of a model costs from shapes alone: nothing is run.

Sizes are those that were given, and for dimensions that were not the ones that a benchmark would
try first. Shapes that only follow from computed constants (padding, reshaping) are found by folding
a copy of the model, in which those sizes stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from onnxopt import pipeline
from onnxopt.config import OptimizeConfig
from onnxopt.errors import DataError
from onnxopt.graph import cost, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.passes import arithmetic, dims, fold, shapes
from onnxopt.passes.concrete import Shape, concrete
from onnxopt.report import Cost
from onnxopt.text import plural


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What nodes cost, by their id, and operators by name, the costliest first.

    `sizes` are those of the free dimensions, of which `assumed` were not given.
    """

    nodes: Mapping[int, Cost] = field(default_factory=dict)
    operators: dict[str, Cost] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def predict(model: ir.Model, copy: ir.Model, fix: Mapping[str, int], provider: str) -> Prediction:
    """Predict the costs of `model`, by help of a `copy` of it that is changed.

    Every branch of an If counts, and the body of a Loop once. Raises `OnnxOptError` for a dimension
    in `fix` that the model does not have.
    """
    dims.fix(copy, fix)
    inputs, assumed = _choose(copy)
    known = {**concrete(model, inputs), **_folded(copy, inputs)}
    found = list(cost.costs(model, known, provider))
    whole = sum(each.seconds for each in found)
    nodes = {id(each.node): _cost([each], whole) for each in found}
    groups: dict[str, list[cost.NodeCost]] = {}
    for each in found:
        groups.setdefault(_operator(each.node), []).append(each)
    operators = {name: _cost(group, whole) for name, group in groups.items()}
    vague = sum(None in (each.macs, each.bytes) for each in found if _is_leaf(each))
    remark = (
        f"{plural(vague, 'node')} whose operator or shapes are not known count only with what is: "
        "onnxopt benchmark --profile measures them"
    )
    return Prediction(
        nodes=nodes,
        operators=dict(sorted(operators.items(), key=lambda item: -item[1].ms)),
        sizes={**fix, **assumed},
        assumed=tuple(assumed),
        remarks=(remark,) if vague else (),
    )


def _operator(node: ir.Node) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


def _is_leaf(each: cost.NodeCost) -> bool:
    return not any(True for _ in facts.nested_graphs(each.node))


def _choose(copy: ir.Model) -> tuple[dict[str, Shape], dict[str, int]]:
    """Choose sizes for what is free: shapes of the inputs by name, and sizes by dimension."""
    from onnxopt.runtime.feeding.inputs import model_inputs
    from onnxopt.runtime.feeding.sizes import candidates

    try:
        inputs = [each for each in model_inputs(copy) if each.required]
    except DataError:
        return {}, {}  # a map: what is behind it has no shape either
    choice = next(candidates(inputs, {}, "measure"))
    return dict(choice.shapes), dict(choice.sizes)


def _folded(copy: ir.Model, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shapes that are known once constants are folded."""
    for value in copy.graph.inputs:
        if (shape := inputs.get(value.name or "")) is not None:
            value.shape = ir.Shape(shape)
    only = (arithmetic.NAME, fold.NAME, shapes.NAME)
    try:
        pipeline.transform(copy, OptimizeConfig(only=only))
    except pipeline.PassCrashedError:
        return {}  # what is known without it will do
    values = (value for graph, _ in facts.scopes(copy) for node in graph for value in node.outputs)
    told = ((value.name or "", facts.static_shape(value)) for value in values)
    return {name: shape for name, shape in told if name and shape is not None}


def _cost(parts: Iterable[cost.NodeCost], whole: float) -> Cost:
    """Sum what is known of nodes."""
    parts = tuple(parts)
    macs, moved = _known(each.macs for each in parts), _known(each.bytes for each in parts)
    seconds = sum(each.seconds for each in parts)
    return Cost(
        count=len(parts),
        macs=macs,
        bytes=moved,
        intensity=2 * macs / moved if macs is not None and moved else None,
        ms=seconds * 1e3,
        share=seconds / whole if whole else 0.0,
    )


def _known(counts: Iterable[int | None]) -> int | None:
    found = [count for count in counts if count is not None]
    return sum(found) if found else None
