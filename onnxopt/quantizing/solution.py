"""What quantization decided, in numbers: all that has to be written into a model."""

from __future__ import annotations

from dataclasses import dataclass, field

from onnxopt.arrays import Array
from onnxopt.graph.edges import Edge
from onnxopt.quantizing.placement.plan import Placement
from onnxopt.quantizing.spec import QParams


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedWeight:
    """Integers in the shape of the weight, and what they stand for."""

    integers: Array
    params: QParams


@dataclass(kw_only=True)
class Solution:
    """A chosen placement with its numbers.

    `activations` are by tensor, `weights` by edge and `biases` by unit; a bias is float32,
    corrected, of the shape [channels], and may belong to a unit that had none. That of a MatMul is
    what is to be added to the constant that an Add behind it adds.
    """

    placement: Placement
    activations: dict[str, QParams] = field(default_factory=dict)
    weights: dict[Edge, QuantizedWeight] = field(default_factory=dict)
    biases: dict[str, Array] = field(default_factory=dict)
