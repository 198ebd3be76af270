"""What a written model asks for: its Q/DQ pairs and its integer constants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from onnxopt.graph import facts, io
from onnxopt.graph._onnx_ir import ir

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A QuantizeLinear, the tensor that it reads, and all DequantizeLinear that read it."""

    node: ir.Node
    tensor: str
    integers: str
    dequantizers: tuple[ir.Node, ...]

    def readers(self) -> Iterator[ir.Node]:
        """Yield the nodes that read what the pair makes, each once."""
        found = [reader for node in self.dequantizers for reader in readers_of(node)]
        yield from dict.fromkeys(found)


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A DequantizeLinear of integers that are stored in the model."""

    node: ir.Node
    integers: str

    def readers(self) -> Iterator[ir.Node]:
        """Yield the nodes that read the numbers which the integers stand for."""
        yield from readers_of(self.node)


def readers_of(node: ir.Node) -> Iterator[ir.Node]:
    """Yield who reads the first output of a node."""
    yield from (use.node for use in facts.uses(node.outputs[0]))


def read(model: Path | bytes) -> ir.Model:
    """Return a model from its file or its bytes."""
    if isinstance(model, bytes):
        return io.from_proto(onnx.load_model_from_string(model))
    return io.load(model)


def find(model: ir.Model) -> tuple[list[Pair], list[Constant]]:
    """Return the pairs and the integer constants of a model, nested graphs included."""
    pairs, constants = [], []
    for graph in facts.graphs_within(model.graph):
        for node in graph:
            if node.op_type == DEQUANTIZE and facts.is_constant(node.inputs[0]):
                constants.append(Constant(node=node, integers=_name(node.inputs[0])))
            if node.op_type != QUANTIZE:
                continue
            dequantizers = tuple(each for each in readers_of(node) if each.op_type == DEQUANTIZE)
            if dequantizers:
                made = _name(node.outputs[0])
                tensor = _name(node.inputs[0])
                pairs.append(
                    Pair(node=node, tensor=tensor, integers=made, dequantizers=dequantizers)
                )
    return pairs, constants


def _name(value: ir.Value | None) -> str:
    return "" if value is None else value.name or ""
