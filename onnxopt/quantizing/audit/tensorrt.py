"""Holds the pairs of a model against TensorRT's rules, where TensorRT itself cannot be asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.quantizing.audit.pairs import DEQUANTIZE, Constant, Pair, find, read
from onnxopt.report.quantization import Audit, AuditEntry

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_POOLS = ("AveragePool", "GlobalAveragePool")
_THROUGH = ("MaxPool", "Concat", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice")
_FUSED = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "BatchNormalization")
_NOT_LOADED = "TensorRT was not loaded: the pairs were held against its rules"


def audit(model: Path | bytes) -> Audit:
    """Return which pairs TensorRT can take by its rules, and which break them."""
    pairs, constants = find(read(model))
    entries = [*map(_pair, pairs), *map(_constant, constants)]
    fused = sum(bool(entry.kernel) for entry in entries)
    readers = dict.fromkeys(
        [node for pair in pairs for node in pair.readers()]
        + [node for constant in constants for node in constant.readers()]
    )
    return Audit(
        engine="TensorRT",
        kernels=dict(Counter(node.op_type for node in readers if _is_int8(node)).most_common()),
        fused=fused,
        left_over=len(entries) - fused,
        faults=sum(entry.fault for entry in entries),
        entries=tuple(entries),
        reason=_NOT_LOADED,
    )


def _pair(pair: Pair) -> AuditEntry:
    readers = list(pair.readers())
    faults = [
        *_faults_of_numbers(pair.node, activation=True),
        *(fault for node in readers if (fault := _fault_of_reader(pair, node))),
    ]
    takers = sorted({node.op_type for node in readers if _takes(node)})
    kernel = ", ".join(takers)
    reason = "; ".join(faults)
    if not takers and not faults:
        reason = "no int8 kernel reads it"
    return AuditEntry(
        node=pair.node.name or "",
        tensor=pair.tensor,
        kernel="" if faults else kernel,
        reason=reason,
        fault=bool(reason),
    )


def _constant(constant: Constant) -> AuditEntry:
    faults = _faults_of_numbers(constant.node, activation=False)
    readers = list(constant.readers())
    bare = [node for node in readers if not _is_int8(node)]
    if not faults and bare:
        faults = [f"{_is(bare[0])} does not read int8 beside it"]
    return AuditEntry(
        node=constant.node.name or "",
        tensor=constant.integers,
        kernel="" if faults else ", ".join(sorted({node.op_type for node in readers})),
        reason="; ".join(faults),
        fault=bool(faults),
    )


def _faults_of_numbers(node: ir.Node, *, activation: bool) -> list[str]:
    """Say what is wrong with type, zero point and scale of a Q or DQ node."""
    zero = facts.constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros((), np.uint8)
    if zero is None:
        return ["its zero point is computed at run time"]
    if zero.dtype == np.int32:
        return ["TensorRT takes biases in float"]
    faults = []
    if zero.dtype != np.int8:
        faults.append(f"TensorRT has no {zero.dtype}, only int8")
    elif zero.any():
        faults.append("its zero point is not 0")
    scale = facts.constant(node.inputs[1])
    if activation and scale is not None and scale.size > 1:
        faults.append("activations have one scale for the whole tensor")
    return faults


def _fault_of_reader(pair: Pair, node: ir.Node) -> str:
    """Say what a pair in front of a node breaks, or nothing."""
    maker = pair.node.inputs[0].producer() if pair.node.inputs[0] is not None else None
    alone = facts.is_private(pair.node.inputs[0])
    if node.op_type == "MatMul" and all(map(_is_activation, node.inputs)):
        return f"it breaks the fused attention around {_is(node)}"
    if node.op_type in _FUSED and maker is not None and maker.op_type in _WEIGHTED and alone:
        return f"it cuts {_is(maker)} off from {_is(node)}"
    if node.op_type == "Add" and all(map(_is_read_as_int8, node.inputs)):
        return f"both inputs of {_is(node)} are int8: nothing is fused with the sum"
    if node.op_type in (*_WEIGHTED, *_POOLS, *_THROUGH, "Add", DEQUANTIZE):
        return ""
    return f"{_is(node)} runs in float"


def _takes(node: ir.Node) -> bool:
    return node.op_type in (*_POOLS, *_THROUGH, "Add") or _is_int8(node)


def _is_int8(node: ir.Node) -> bool:
    """Tell whether a weighted operator reads both its input and its weight as int8."""
    return node.op_type in _WEIGHTED and all(map(_is_read_as_int8, node.inputs[:2]))


def _is_read_as_int8(value: ir.Value | None) -> bool:
    maker = value.producer() if value is not None else None
    return maker is not None and maker.op_type == DEQUANTIZE


def _is_activation(value: ir.Value | None) -> bool:
    maker = value.producer() if value is not None else None
    stored: Iterable[ir.Value | None] = [value] if maker is None else maker.inputs[:1]
    return not any(map(facts.is_constant, stored))


def _is(node: ir.Node) -> str:
    return f"{node.op_type} {node.name!r}"
