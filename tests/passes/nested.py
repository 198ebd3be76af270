"""Models with nested graphs and functions, and the promises that every exact pass has to keep."""

from collections import Counter

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxopt.config import OptimizeConfig
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.testing import random_feeds, run
from tests.passes.graphs import info

BOOL = TensorProto.BOOL
INT64 = TensorProto.INT64

X = np.array([-1, 2, -3], np.float32)
K = np.array([4, 5, 6], np.float32)
CONDITION = info("c", [], BOOL)
EITHER = [{"x": X, "c": np.array(flag)} for flag in (True, False)]


def initializers(proto):
    return [tensor.name for tensor in proto.graph.initializer]


def graph(nodes, outputs, inputs=(), constants=None, shape=(3,)):
    """Make a nested graph; outputs are names, or infos where the shape differs."""
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in (constants or {}).items()]
    infos = [info(o, shape) if isinstance(o, str) else o for o in outputs]
    return helper.make_graph(nodes, "nested", list(inputs), infos, tensors)


def model(nodes, inputs, outputs, constants=None, functions=(), domains=(), opset=17):
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in (constants or {}).items()]
    infos = [info(o, [3]) if isinstance(o, str) else o for o in outputs]
    graph_proto = helper.make_graph(
        nodes, "g", [info(i, [3]) if isinstance(i, str) else i for i in inputs], infos, tensors
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(
        graph_proto, opset_imports=imports, ir_version=8, functions=list(functions)
    )


def branch(condition, output, then_branch, else_branch):
    outputs = [output] if isinstance(output, str) else output
    return helper.make_node(
        "If", [condition], outputs, name="if_" + outputs[0], then_branch=then_branch,
        else_branch=else_branch,
    )  # fmt: skip


def loop(inputs, outputs, nodes, carried, scans=(), shape=(3,)):
    """Make a Loop; `carried` maps the name of each carried value inside to that of the next."""
    body = helper.make_graph(
        [*nodes, helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [info("i", [], INT64), info("go", [], BOOL), *(info(name, shape) for name in carried)],
        [info("on", [], BOOL), *(info(name, shape) for name in carried.values()),
         *(info(name, shape) for name in scans)],
    )  # fmt: skip
    return helper.make_node("Loop", inputs, outputs, body=body, name="loop")


def scan(inputs, outputs, nodes, carried, slices, scans, **attributes):
    body = helper.make_graph(
        nodes, "body", [*(info(n, [2]) for n in carried), *(info(n, [2]) for n in slices)],
        [*(info(n, [2]) for n in carried.values()), *(info(n, [2]) for n in scans)],
    )  # fmt: skip
    return helper.make_node(
        "Scan", inputs, outputs, body=body, num_scan_inputs=len(slices), name="scan", **attributes
    )


def values(proto):
    """Collect the names of all values of the main graph: node outputs and initializers."""
    names = [t.name for t in proto.graph.initializer]
    return names + [o for n in proto.graph.node for o in n.output]


def signature(proto):
    return [v.SerializeToString() for v in (*proto.graph.input, *proto.graph.output)]


def assert_exact(proto, *passes, feeds=None, check=True):
    """Run passes; assert validity, signature, equal results and rest; return result and count."""
    # onnx_ir keeps the tensors of the proto, and renames them there.
    loaded = ir.serde.deserialize_model(onnx.ModelProto.FromString(proto.SerializeToString()))
    editor = Editor(loaded)
    done = Counter()
    for module in passes:
        done += module.run(editor, OptimizeConfig())
    result = ir.serde.serialize_model(loaded)
    if check:
        onnx.checker.check_model(result, full_check=True)
    assert signature(result) == signature(proto)
    for given in feeds or [random_feeds(proto)]:
        pairs = zip(run(proto, given), run(result, given), strict=True)
        for want, got in pairs:
            assert want.dtype == got.dtype
            np.testing.assert_array_equal(got, want)
    for module in passes:
        assert not module.run(editor, OptimizeConfig()), f"{module.NAME} found more"
    return result, done
