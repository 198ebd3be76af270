"""What a node has to read so that it computes only a part of its output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.rule import Builder
from onnxopt.rules.unread.part import Part


@dataclass(frozen=True, kw_only=True)
class Needs:
    """The inputs of a node that computes a part of its output; the node is otherwise the same.

    `inputs` has the part that is read of each, None where it is read whole. `attributes` and
    `constants` (an array by the index of the input) say what else changes; inputs in `dropped` go.
    """

    inputs: tuple[Part | None, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    constants: dict[int, Any] = field(default_factory=dict)
    dropped: frozenset[int] = frozenset()


Reader = Callable[[Builder, ir.Node, Part], Needs | None]
"""Says what a part of a node's first output needs; None where it is not known, or all it reads."""


def first(node: ir.Node, part: Part) -> Needs:
    """Return the needs of a node that reads a part of its first input and the others whole."""
    return Needs(inputs=(part, *(None,) * (len(node.inputs) - 1)))
