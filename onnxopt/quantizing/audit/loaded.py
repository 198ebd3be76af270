"""Looks for each pair in the graph that onnxruntime makes of a model when it loads it.

Tensors of integers keep their names when onnxruntime fuses: QLinearConv reads and writes the
outputs of the QuantizeLinear nodes that were there. So whoever writes and reads a tensor of that
name tells what became of the pair.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from onnxopt.graph import facts, io
from onnxopt.graph._onnx_ir import ir
from onnxopt.quantizing.audit.pairs import DEQUANTIZE, QUANTIZE, Constant, Pair, find, read
from onnxopt.quantizing.detect import computes_with_integers
from onnxopt.report.quantization import Audit, AuditEntry
from onnxopt.runtime.sessions.optimized import optimized
from onnxopt.runtime.sessions.session import import_onnxruntime

_MOVING = {
    "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather",
    "Expand", "Tile", "DepthToSpace", "SpaceToDepth", "Identity",
}  # fmt: skip
_QGEMM_INPUTS = 9
"""With a scale and a zero point of what it writes; without them it writes float."""


def audit(model: Path | bytes) -> Audit:
    """Return the audit of a model that onnxruntime's CPU provider loads."""
    pairs, constants = find(read(model))
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as name:
        folder = Path(name)
        if isinstance(model, bytes):
            path = folder / "model.onnx"
            path.write_bytes(model)
        else:
            path = model
        made = Made(io.load(optimized(path, folder)))
        entries = [*map(made.pair, pairs), *map(made.constant, constants)]
    fused = sum(bool(entry.kernel) for entry in entries)
    return Audit(
        engine=f"onnxruntime {import_onnxruntime().__version__} (CPUExecutionProvider)",
        kernels=dict(made.kernels.most_common()),
        fused=fused,
        left_over=len(entries) - fused,
        faults=sum(entry.fault for entry in entries),
        entries=tuple(entries),
    )


class Made:
    """The graph that onnxruntime runs: which of its nodes compute with integers."""

    def __init__(self, model: ir.Model) -> None:
        self.values: dict[str, ir.Value] = {}
        self.nodes: dict[str, ir.Node] = {}
        self.kernels: Counter[str] = Counter()
        self._integers: set[int] = set()
        self._kernel_of: dict[int, str] = {}
        for graph in facts.graphs_within(model.graph):
            self.values.update(graph.initializers)
            for node in graph:
                self._look(node)

    def _look(self, node: ir.Node) -> None:
        self.nodes[node.name or ""] = node
        self.values.update((value.name or "", value) for value in node.outputs)
        if node.op_type == DEQUANTIZE:
            return
        computes = computes_with_integers(node)
        reads = any(value is not None and id(value) in self._integers for value in node.inputs)
        moves = reads and not computes
        if moves or computes:
            kernel = node.op_type if computes else f"{node.op_type} (8 bits)"
            self._kernel_of[id(node)] = kernel
            self.kernels[kernel] += 1
        if node.op_type == QUANTIZE or moves or (computes and _writes_integers(node)):
            self._integers.update(map(id, node.outputs))

    def pair(self, pair: Pair) -> AuditEntry:
        """Say what became of a pair."""
        value = self._integers_of(pair)
        if value is None:
            return _entry(pair, kernel="none", reason="onnxruntime took it away as a whole")
        writer = value.producer()
        readers = _readers(value)
        written = "" if writer is None else self._kernel_of.get(id(writer), "")
        kernel = _text(written, self._kernels_among(readers))
        if not kernel:
            return _entry(pair, reason=_why_left(pair), fault=True)
        if not written and self._only_moved(readers):
            why = "nothing computes with the integers: they are moved and made float again"
            return _entry(pair, kernel=kernel, reason=why, fault=True)
        if again := next((node for node in readers if _is_requantized(node)), None):
            why = f"its integers become other integers at {again.name!r}, through float"
            return _entry(pair, kernel=kernel, reason=why, fault=True)
        return _entry(pair, kernel=kernel, reason=_border(writer, written, readers))

    def _integers_of(self, pair: Pair) -> ir.Value | None:
        """Find the integers of a pair; where int8 became uint8 they have a new name."""
        if pair.integers in self.values:
            return self.values[pair.integers]
        quantizer = self.nodes.get(pair.node.name or "")
        if quantizer is not None and quantizer.op_type == QUANTIZE:
            return quantizer.outputs[0]
        for node in pair.dequantizers:
            left = self.values.get(node.outputs[0].name or "")
            maker = None if left is None else left.producer()
            if maker is not None and maker.op_type == DEQUANTIZE:
                return maker.inputs[0]
        return None

    def constant(self, constant: Constant) -> AuditEntry:
        """Say what became of integers that are stored in the model."""
        kernel, reason, fault = "none", "", False
        value = self.values.get(constant.integers)
        if value is None:
            reason = "onnxruntime stores it in another form, which was not followed"
        elif any(node.op_type == DEQUANTIZE for node in _readers(value)):
            who = ", ".join(f"{_is(node)} ({_what_stops(node)})" for node in constant.readers())
            kernel, reason, fault = "", f"dequantized at each run for {who}", True
        else:
            kernel = _text("", self._kernels_among(_readers(value))) or "none"
        name = constant.node.name or ""
        return AuditEntry(
            node=name, tensor=constant.integers, kernel=kernel, reason=reason, fault=fault
        )

    def _kernels_among(self, nodes: Iterable[ir.Node]) -> list[str]:
        return [self._kernel_of[id(node)] for node in nodes if id(node) in self._kernel_of]

    def _only_moved(self, readers: Iterable[ir.Node]) -> bool:
        """Tell whether integers go through nothing but moves until they are float again."""
        for node in readers:
            if node.op_type == DEQUANTIZE:
                continue
            if node.op_type not in _MOVING or any(v.is_graph_output() for v in node.outputs):
                return False
            if not all(self._only_moved(_readers(value)) for value in node.outputs):
                return False
        return True


def _writes_integers(node: ir.Node) -> bool:
    """Tell whether a kernel writes integers; the others write float or sums of 32 bits."""
    if node.op_type == "QGemm":
        return len(node.inputs) == _QGEMM_INPUTS
    return node.op_type.startswith("QLinear")


def _entry(pair: Pair, *, kernel: str = "", reason: str = "", fault: bool = False) -> AuditEntry:
    name = pair.node.name or ""
    return AuditEntry(node=name, tensor=pair.tensor, kernel=kernel, reason=reason, fault=fault)


def _readers(value: ir.Value) -> list[ir.Node]:
    return [use.node for use in facts.uses(value)]


def _text(written: str, kernels: Iterable[str]) -> str:
    """Return who writes integers and who reads them: `QLinearConv → QLinearAdd, QLinearConv`."""
    return " → ".join(filter(None, [written, ", ".join(sorted(set(kernels)))]))


def _is_requantized(node: ir.Node) -> bool:
    """Tell whether a DequantizeLinear is there for a QuantizeLinear."""
    return node.op_type == DEQUANTIZE and any(
        reader.op_type == QUANTIZE for reader in _readers(node.outputs[0])
    )


def _border(writer: ir.Node | None, written: str, readers: Iterable[ir.Node]) -> str:
    """Say which conversion of a pair is left because float begins or ends there."""
    parts = []
    if not written and writer is not None and writer.op_type == QUANTIZE:
        source = writer.inputs[0]
        maker = source.producer() if source is not None else None
        parts.append("the caller gives float" if maker is None else f"{_is(maker)} writes float")
    ends = [node.outputs[0] for node in readers if node.op_type == DEQUANTIZE]
    takers = {_is(reader) for value in ends for reader in _readers(value)}
    parts += [f"{taker} reads float" for taker in sorted(takers)]
    if any(value.is_graph_output() for value in ends):
        parts.append("the caller takes float")
    return "; ".join(parts)


def _is(node: ir.Node) -> str:
    return f"{node.op_type} {node.name!r}"


def _why_left(pair: Pair) -> str:
    parts = [f"{_is(node)} runs in float: {_what_stops(node)}" for node in pair.readers()]
    maker = pair.node.inputs[0].producer() if pair.node.inputs[0] is not None else None
    if maker is not None:
        parts.append(f"{_is(maker)} writes float")
    return "; ".join(parts) or "nobody reads it"


def _what_stops(node: ir.Node) -> str:
    """Say what keeps onnxruntime from running a node of the written model in int8."""
    if node.op_type == QUANTIZE:
        return "it is quantized twice"
    floats = list(_float_inputs(node))
    if floats:
        return f"its input {floats[0]!r} is float"
    readers = _readers(node.outputs[0]) if node.outputs else []
    if node.outputs and (node.outputs[0].is_graph_output() or not readers):
        return "what it computes is not quantized"
    clamps = [reader for reader in readers if reader.op_type in ("Relu", "Clip")]
    if clamps:
        return f"{clamps[0].op_type} {clamps[0].name!r} stands between it and the pair"
    if any(reader.op_type != QUANTIZE for reader in readers):
        return "what it computes is not quantized"
    return "onnxruntime has no int8 kernel for it, or not with these scales"


def _float_inputs(node: ir.Node) -> Iterator[str]:
    for value in node.inputs:
        if value is None or not facts.is_float(value):
            continue
        maker = value.producer()
        if maker is None or maker.op_type != DEQUANTIZE:
            yield value.name or ""
