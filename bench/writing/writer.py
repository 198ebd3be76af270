"""Writes a random graph node by node and knows of every value of what type and shape it is.

Whoever writes gives the choices: `choose(n)` returns a number below n. Hypothesis can shrink them,
so the plainest option of any list stands first. A dimension is a size or the name of one that only
the caller of the model knows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dim = int | str
Shape = tuple[Dim, ...]
T = TypeVar("T")

FLOAT, INT, BOOL = "float", "int", "bool"
LARGEST = 4096  # elements of a value, with every named dimension at its largest
LARGEST_NAMED = 5
MOST_DIMS = 5

INPUTS: dict[str, tuple[str, Shape]] = {
    "tokens": (FLOAT, ("N", "S", 8)),
    "table": (FLOAT, (3, 8)),
    "image": (FLOAT, ("N", 4, 6, 6)),
    "still": (FLOAT, (1, 4, 6, 6)),
    "ids": (INT, ("N", "S")),
    "mask": (BOOL, ("N", "S")),
    "flag": (BOOL, ()),
    "count": (INT, ()),
}
"""The inputs that a model may have: kind and shape."""


@dataclass(frozen=True)
class Value:
    """A value of the graph: its name, whether it holds floats, integers or truth, its shape."""

    name: str
    kind: str
    shape: Shape

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def static(self) -> bool:
        return all(isinstance(dim, int) for dim in self.shape)


def count(shape: Shape) -> int:
    """Return the elements of a shape whose named dimensions are at their largest."""
    return math.prod(dim if isinstance(dim, int) else LARGEST_NAMED for dim in shape)


@dataclass
class Shared:
    """What a graph and those nested in it have in common."""

    choose: Callable[[int], int]
    opset: int
    dtype: Any
    rng: np.random.Generator
    numbers: Iterator[int] = field(default_factory=itertools.count)
    inputs: dict[str, Value] = field(default_factory=dict)
    overridable: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)


class Writer:
    """Writes one graph."""

    def __init__(self, shared: Shared, visible: Sequence[Value] = (), depth: int = 0) -> None:
        self.shared = shared
        self.opset = shared.opset
        self.rng = shared.rng
        self.depth = depth
        self.visible = list(visible)
        self.own: list[Value] = []
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray[Any, Any]] = {}

    def nested(self) -> Writer:
        """Return a writer of a graph that sees what this one has written so far."""
        return Writer(self.shared, self.visible, self.depth + 1)

    # choices

    def integer(self, low: int, high: int) -> int:
        return low + self.shared.choose(high - low + 1)

    def among(self, options: Sequence[T]) -> T:
        return options[self.shared.choose(len(options))]

    def chance(self, one_in: int = 2) -> bool:
        return self.shared.choose(one_in) == one_in - 1

    def order(self, options: Sequence[T]) -> list[T]:
        """Return the options in an order that is chosen."""
        left, chosen = list(options), []
        while left:
            chosen.append(left.pop(self.shared.choose(len(left))))
        return chosen

    # values

    def name(self, base: str) -> str:
        return f"{base}_{next(self.shared.numbers)}"

    def input(self, name: str) -> Value:
        """Return an input of the model, which has it from now on."""
        kind, shape = INPUTS[name]
        return self.shared.inputs.setdefault(name, Value(name, kind, shape))

    def pick(
        self,
        kind: str = FLOAT,
        fits: Callable[[Value], bool] = lambda _: True,
        default: str = "tokens",
    ) -> Value:
        """Choose a value that is there, the last ones first, or take an input."""
        found = [value for value in self.visible[::-1] if value.kind == kind and fits(value)][:6]
        found.append(self.input(default))
        return self.among(found)

    def type_of(self, kind: str) -> Any:
        return {FLOAT: self.shared.dtype, INT: np.int64, BOOL: np.bool_}[kind]

    def const(self, content: Any, kind: str = FLOAT, *, fixed: bool = False) -> Value:
        """Write a constant: an initializer, a Constant node or a default that callers override.

        What decides about a shape or must stay in bounds has to be `fixed`.
        """
        array = np.asarray(content, self.type_of(kind))
        value = Value(self.name("c"), kind, array.shape)
        how = self.shared.choose(12)
        if how == 11 and not fixed:
            self.shared.overridable[value.name] = array
        elif how in (9, 10):
            tensor = numpy_helper.from_array(array, value.name)
            self.nodes.append(helper.make_node("Constant", [], [value.name], value=tensor))
        else:
            self.constants[value.name] = array
        return value

    def weight(self, *shape: int) -> Value:
        """Write a random constant that keeps what is multiplied by it at its size."""
        size = math.prod(shape[1:]) if len(shape) > 2 else shape[0]
        return self.const(self.rng.standard_normal(shape) / math.sqrt(size))

    def number(self) -> Value:
        """Write one number as a constant: of rank 0 or 1, and often a neutral one."""
        number = self.among([0.5, 1.0, 0.0, -1.0, 2.0, 3.7])
        return self.const(np.full((1,) if self.chance(4) else (), number))

    def ints(self, *numbers: int) -> Value:
        return self.const(list(numbers), INT, fixed=True)

    # nodes

    def node(
        self,
        op_type: str,
        inputs: Sequence[Value | None],
        kind: str,
        shape: Shape,
        **attributes: Any,
    ) -> Value:
        """Write a node of one output and let later ones read it."""
        return self.outputs(op_type, inputs, [(kind, shape)], **attributes)[0]

    def outputs(
        self,
        op_type: str,
        inputs: Sequence[Value | None],
        made: Sequence[tuple[str, Shape]],
        **attributes: Any,
    ) -> list[Value]:
        """Write a node of several outputs."""
        values = [Value(self.name(op_type.lower()), kind, shape) for kind, shape in made]
        names = ["" if value is None else value.name for value in inputs]
        label = self.name(f"node_{op_type}")
        self.nodes.append(
            helper.make_node(op_type, names, [v.name for v in values], name=label, **attributes)
        )
        self.visible += values
        self.own += values
        return values

    def float(
        self, op_type: str, *inputs: Value | None, like: Value | None = None, **attributes: Any
    ) -> Value:
        """Write a node whose result has the shape of its first input, or of `like`."""
        first = like or next(value for value in inputs if value is not None)
        return self.node(op_type, inputs, FLOAT, first.shape, **attributes)

    def axes(
        self,
        op_type: str,
        value: Value,
        axes: Sequence[int],
        kind: str,
        shape: Shape,
        **attributes: Any,
    ) -> Value:
        """Write a node that takes its axes as an attribute or as an input, as the opset wants."""
        since = 13 if op_type in ("Squeeze", "Unsqueeze", "ReduceSum") else 18
        if self.opset >= since:
            return self.node(op_type, [value, self.ints(*axes)], kind, shape, **attributes)
        return self.node(op_type, [value], kind, shape, axes=list(axes), **attributes)

    # graphs

    def info(self, value: Value, shape: Sequence[Dim] | None) -> onnx.ValueInfoProto:
        kind = {
            FLOAT: helper.np_dtype_to_tensor_dtype(np.dtype(self.shared.dtype)),
            INT: TensorProto.INT64,
            BOOL: TensorProto.BOOL,
        }[value.kind]
        return helper.make_tensor_value_info(value.name, kind, shape)

    def tensors(self) -> list[onnx.TensorProto]:
        return [numpy_helper.from_array(array, name) for name, array in self.constants.items()]

    def graph(
        self, outputs: Sequence[Value], inputs: Sequence[Value] = (), *, ranked: bool = False
    ) -> onnx.GraphProto:
        """Finish a nested graph; shapes are stated where they are sizes, or at least ranks."""

        def info(value: Value, *, stated: bool) -> onnx.ValueInfoProto:
            if value.static and stated:
                return self.info(value, value.shape)
            return self.info(value, [None] * value.rank if ranked else None)

        ins = [info(value, stated=True) for value in inputs]
        outs = [info(value, stated=ranked or self.chance()) for value in outputs]
        return helper.make_graph(self.nodes, self.name("graph"), ins, outs, self.tensors())

    def model(self, outputs: Sequence[Value]) -> onnx.ModelProto:
        """Finish the model; the shapes of outputs are stated or not."""
        overridable = self.shared.overridable
        ins = [self.info(v, v.shape) for v in self.shared.inputs.values()]
        ins += [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in overridable.items()
        ]
        outs = [self.info(v, self.declared(v.shape)) for v in outputs]
        tensors = self.tensors()
        tensors += [numpy_helper.from_array(array, name) for name, array in overridable.items()]
        graph = helper.make_graph(self.nodes, "generated", ins, outs, tensors)
        imports = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=imports, ir_version=8)

    def declared(self, shape: Shape) -> list[Dim | None]:
        """Return a shape as an output states it: with its sizes and names, or only its rank."""
        vague = self.chance(4)
        known = (isinstance(dim, int) or dim in ("N", "S") for dim in shape)
        return [dim if told and not vague else None for dim, told in zip(shape, known, strict=True)]
