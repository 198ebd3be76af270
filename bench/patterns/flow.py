"""Forms with repeated computation and with control flow."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from patterns.graph import IMAGE, Graph, form


@form(*IMAGE)
def cse_dup_branch(g: Graph, x: str) -> str:
    """The same computed twice."""
    return g.Add(g.Exp(g.Relu(x)), g.Exp(g.Relu(x)))


@form(*IMAGE)
def dropout_identity(g: Graph, x: str) -> str:
    """Dropout as inference sees it."""
    return g.Identity(g.Dropout(x))


def _float(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def _branch(name: str, nodes: list[Any], output: str, held: tuple[Any, ...] = ()) -> Any:
    return helper.make_graph(nodes, name, [], [_float(output)], held)


@form(*IMAGE)
def if_const_cond(g: Graph, x: str) -> str:
    """An If whose condition is known."""
    relu = _branch("then", [helper.make_node("Relu", [x], ["then_out"])], "then_out")
    sigmoid = _branch("else", [helper.make_node("Sigmoid", [x], ["else_out"])], "else_out")
    return g.If(np.array(True), then_branch=relu, else_branch=sigmoid)


@form(*IMAGE)
def fold_inside_if_dyn(g: Graph, x: str) -> str:
    """Constants to fold within both branches of an If."""

    def branch(name: str, op_type: str) -> Any:
        nodes = [
            helper.make_node("Mul", ["k1", "k2"], [f"{name}_product"]),
            helper.make_node("Add", [x, f"{name}_product"], [f"{name}_sum"]),
            helper.make_node(op_type, [f"{name}_sum"], [f"{name}_out"]),
        ]
        held = tuple(
            numpy_helper.from_array(np.full((1, 8, 1, 1), number, np.float32), key)
            for key, number in (("k1", 2), ("k2", 3))
        )
        return _branch(name, nodes, f"{name}_out", held)

    condition = g.input("c", dtype=TensorProto.BOOL)
    return g.If(condition, then_branch=branch("t", "Relu"), else_branch=branch("e", "Sigmoid"))


@form(*IMAGE)
def loop_const_trip(g: Graph, x: str) -> str:
    """A Loop that is known to run once."""
    nodes = [
        helper.make_node("Identity", ["going"], ["goes_on"]),
        helper.make_node("Relu", ["v"], ["v2"]),
    ]
    flags = [helper.make_tensor_value_info(n, TensorProto.BOOL, []) for n in ("going", "goes_on")]
    carried = [helper.make_tensor_value_info(n, TensorProto.FLOAT, IMAGE) for n in ("v", "v2")]
    trip = helper.make_tensor_value_info("trip", TensorProto.INT64, [])
    given, made = [trip, flags[0], carried[0]], [flags[1], carried[1]]
    body = helper.make_graph(nodes, "body", given, made)
    g.makes = IMAGE
    return g.Loop(np.int64(1), np.array(True), x, body=body)
