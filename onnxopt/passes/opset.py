"""Raises a model to a newer operator set, where that changes nothing but what may be written.

From one version of an operator to the next, ONNX mostly adds: types, optional inputs, attributes
whose default is the old behaviour. Whether it did is read from the schemas themselves. Where it
did not, an adapter here rewrites the node (axes became an input, Split counts its outputs), or the
model is not raised. Changes of meaning that no schema shows are listed by hand, from the
operators' changelog. The result is verified like that of any other step.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx

from onnxopt.config import OptimizeConfig
from onnxopt.errors import OnnxOptError
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor

NAME = "opset"
SUMMARY = "Raises the operator set where rules need it, or as --opset asks"

_OLDEST = 11  # before it, too much changed its form: Clip, Pad, Slice, Resize
_OLDEST_IR = 4  # before it, every weight has to be an input, and would become overridable

_CHANGED_UNSEEN = {"RoiAlign": 16, "GridSample": 20, "GroupNormalization": 21, "Hardmax": 13}
"""Operators that mean something else since a version, although their form is the same."""


def run(editor: Editor, config: OptimizeConfig) -> Counter[str]:
    """Raise the model as `--opset` asks; raise `OnnxOptError` where that cannot be done."""
    if config.opset is None:
        return Counter()
    now, newest = editor.opset(None), onnx.defs.onnx_opset_version()
    if config.opset > newest:
        raise OnnxOptError(
            f"operator set {config.opset} is not known", f"the installed onnx knows up to {newest}"
        )
    if config.opset < now:
        raise OnnxOptError(
            f"the model is at operator set {now}, above {config.opset}",
            f"models are only raised: name one from {now} to {newest}",
        )
    obstacle = obstacle_to(editor, config.opset)
    if obstacle:
        reached = [goal for goal in range(now + 1, config.opset) if not obstacle_to(editor, goal)]
        raise OnnxOptError(
            f"the model cannot be raised to operator set {config.opset}: {obstacle}",
            f"it can be raised to {reached[-1]}" if reached else "leave --opset out",
        )
    return raise_to(editor, config.opset)


def obstacle_to(editor: Editor, goal: int) -> str:
    """Say what keeps the model from being raised to an operator set, or nothing."""
    model, now = editor.model, editor.opset(None)
    if goal == now:
        return ""
    if now < _OLDEST:
        return f"operator set {now} is older than {_OLDEST}"
    if model.ir_version < _OLDEST_IR:
        return f"IR version {model.ir_version} is older than {_OLDEST_IR}"
    if model.functions:
        return "it has local functions"
    for graph, _ in facts.scopes(model):
        for node in graph:
            if not node.domain and (reason := _obstacle(node, now, goal)):
                return f"node '{node.name}' ({node.op_type}) {reason}"
    return ""


def raise_to(editor: Editor, goal: int) -> Counter[str]:
    """Raise a model that nothing keeps from it."""
    model, now = editor.model, editor.opset(None)
    if goal == now:
        return Counter()
    for graph, _ in facts.scopes(model):
        for node in tuple(graph):
            if node.domain:
                continue
            for version, adapt in _ADAPTERS.get(node.op_type, ()):
                if now < version <= goal:
                    adapt(editor, node)
            if node.version is not None:
                node.version = None
    model.opset_imports[""] = goal
    model.ir_version = max(model.ir_version, ir_version_of(goal))
    return Counter({f"raise_opset_{now}_to_{goal}": 1})


def ir_version_of(opset: int) -> int:
    """Return the oldest IR version that an operator set goes with."""
    wanted = onnx.helper.OP_SET_ID_VERSION_MAP.get(("ai.onnx", opset))
    return int(wanted) if wanted is not None else _OLDEST_IR


def _obstacle(node: ir.Node, now: int, goal: int) -> str:
    op_type = node.op_type
    if op_type in _CHANGED_UNSEEN and now < _CHANGED_UNSEEN[op_type] <= goal:
        return f"means something else since {_CHANGED_UNSEEN[op_type]}"
    ceil: int = node.attributes.get_int("ceil_mode", 0)
    if op_type == "AveragePool" and now < 19 <= goal and ceil:
        return "counts padding differently since 19 with ceil_mode"
    if op_type in ("Softmax", "LogSoftmax") and now < 13 <= goal:
        axis, rank = node.attributes.get_int("axis", 1), facts.rank(node.inputs[0])
        return "" if rank is not None and axis in (-1, rank - 1) else "flattens its input"
    if op_type == "BatchNormalization" and now < 14 <= goal:
        inference = all(not value.name for value in node.outputs[1:])
        return "" if inference else "trains"
    adapted = {version for version, _ in _ADAPTERS.get(op_type, ())}
    return _changed(op_type, now, goal, frozenset(adapted))


@functools.cache
def _changed(op_type: str, now: int, goal: int, adapted: frozenset[int]) -> str:
    """Say what an operator no longer takes between two operator sets, or nothing."""
    try:
        new = onnx.defs.get_schema(op_type, goal, "")
        while new.since_version > now:
            old = onnx.defs.get_schema(op_type, new.since_version - 1, "")
            reason = "" if new.since_version in adapted else _incompatible(old, new)
            if reason:
                return f"{reason} since {new.since_version}"
            new = old
    except onnx.defs.SchemaError:
        return "is not known"
    return ""


def _incompatible(old: onnx.defs.OpSchema, new: onnx.defs.OpSchema) -> str:
    if new.deprecated:
        return "is deprecated"
    if len(new.inputs) < len(old.inputs) or len(new.outputs) < len(old.outputs):
        return "takes fewer values"
    for one, other in zip(old.inputs, new.inputs, strict=False):
        if not set(one.types) <= set(other.types) and old.name != "Erf":
            return f"takes fewer types as {one.name}"
    for name, attribute in old.attributes.items():
        if name not in new.attributes:
            return f"has no attribute {name}"
        if str(attribute.default_value) != str(new.attributes[name].default_value):
            return f"has another default for {name}"
    known = old.attributes.keys()
    if any(a.required for name, a in new.attributes.items() if name not in known):
        return "requires another attribute"
    return ""


def _to_input(name: str) -> Callable[[Editor, ir.Node], None]:
    """Make an adapter that moves an attribute of integers to the second input."""

    def adapt(editor: Editor, node: ir.Node) -> None:
        if name not in node.attributes:
            return
        values = np.array(node.attributes.get_ints(name), np.int64)
        editor.set_attribute(node, name, None)
        value = editor.constant(values, f"{node.name}/{name}", node)
        node.resize_inputs(2)
        editor.set_input(node, 1, value)

    return adapt


def _last_axis(editor: Editor, node: ir.Node) -> None:
    editor.set_attribute(node, "axis", -1)


def _count_outputs(editor: Editor, node: ir.Node) -> None:
    if len(node.inputs) < 2 or node.inputs[1] is None:
        editor.set_attribute(node, "num_outputs", len(node.outputs))


def _unchanged(editor: Editor, node: ir.Node) -> None:
    """The form is another, the meaning for inference is not."""


_AXES, _SPLIT = _to_input("axes"), _to_input("split")
_ADAPTERS: dict[str, tuple[tuple[int, Callable[[Editor, ir.Node], None]], ...]] = {
    **dict.fromkeys(("ReduceSum", "Squeeze", "Unsqueeze"), ((13, _AXES),)),
    "Split": ((13, _SPLIT), (18, _count_outputs)),
    **dict.fromkeys(("Softmax", "LogSoftmax"), ((13, _last_axis),)),
    "BatchNormalization": ((14, _unchanged),),
    **dict.fromkeys(
        [
            *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"),
            *("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"),
        ],
        ((18, _AXES),),
    ),
}
