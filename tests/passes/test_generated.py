"""Random graphs, with nested ones whose siblings share names, before and after all exact passes."""

import itertools

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.passes import constants, dead, inline, share
from onnxopt.testing import run
from tests.passes.graphs import CONFIG, info
from tests.passes.nested import BOOL, INT64, branch, graph, model, signature

UNARY = ("Neg", "Abs", "Tanh", "Sin", "Relu")
BINARY = ("Add", "Mul", "Sub", "Max", "Min")
POOL = tuple(np.array(numbers, np.float32) for numbers in ((1, 2, 3), (0, -0.0, 0.5)))
FLAGS = {"c": None, "yes": np.array(True), "no": np.array(False)}
TRIPS = {"n": None, "zero": np.array(0, np.int64), "two": np.array(2, np.int64)}
PASSES = (inline, constants, dead, share)


class Writer:
    """Writes one graph; names tell only the depth, so that siblings share them."""

    def __init__(self, draw, visible, depth=0, written=()):
        self.draw = draw
        self.written = list(written)
        self.visible = list(visible)
        self.depth = depth
        self.nodes = []
        self.constants = {}
        self.numbers = itertools.count()

    def name(self, prefix="v"):
        return f"{prefix}{self.depth}_{next(self.numbers)}"

    def pick(self):
        return self.draw(st.sampled_from(self.visible))

    def add(self, op_type, inputs, **attributes):
        name = self.name()
        self.nodes.append(helper.make_node(op_type, inputs, [name], **attributes))
        self.visible.append(name)
        self.written.append((op_type, inputs, attributes))

    def again(self):
        """Repeat a statement of this graph or one around it, perhaps mirrored."""
        if self.written:
            op_type, inputs, attributes = self.draw(st.sampled_from(self.written))
            mirrored = op_type in BINARY and self.draw(st.booleans())
            self.add(op_type, inputs[::-1] if mirrored else inputs, **attributes)

    def fill(self):
        """Write a few statements of random kinds."""
        kinds = ["unary", "binary", "again", "again", "again", "constant", "split", "call"]
        kinds += ["branch", "loop"] if self.depth < 2 else []
        for _ in range(self.draw(st.integers(1, 6 if self.depth else 9))):
            getattr(self, self.draw(st.sampled_from(kinds)))()
        return self

    def unary(self):
        self.add(self.draw(st.sampled_from(UNARY)), [self.pick()])

    def binary(self):
        self.add(self.draw(st.sampled_from(BINARY)), [self.pick(), self.pick()])

    def call(self):
        self.add("f", [self.pick(), self.pick()], domain="my")

    def constant(self):
        held = self.draw(st.sampled_from(POOL))
        if self.draw(st.booleans()):
            self.add("Constant", [], value=numpy_helper.from_array(held))
        else:
            name = self.name("w")
            self.constants[name] = held
            self.visible.append(name)

    def split(self):
        first, second = self.name(), self.name()
        self.nodes.append(helper.make_node("Dropout", [self.pick()], [first, second]))
        self.visible.append(first)

    def results(self, count):
        """Draw outputs of a nested graph: values of its own, each once."""
        own = [name for name in self.visible if name.startswith(f"v{self.depth}_")]
        while len(own) < count:
            self.add("Neg", [self.pick()])
            own.append(self.visible[-1])
        return self.draw(st.permutations(own))[:count]

    def nested(self, extra=()):
        return Writer(self.draw, [*self.visible, *extra], self.depth + 1, self.written).fill()

    def branch(self):
        count = self.draw(st.integers(1, 3))
        sides = [self.nested()] * 2 if self.draw(st.booleans()) else [self.nested(), self.nested()]
        graphs = []
        for side in sides:
            outputs = graphs[0].output if side in sides[: len(graphs)] else side.results(count)
            names = [getattr(value, "name", value) for value in outputs]
            graphs.append(graph(side.nodes, names, constants=side.constants))
        outputs = [self.name() for _ in range(count)]
        self.nodes.append(branch(self.draw(st.sampled_from(list(FLAGS))), outputs, *graphs))
        self.visible += outputs

    def loop(self):
        carried = [f"a{self.depth + 1}_{index}" for index in range(self.draw(st.integers(1, 3)))]
        scans = self.draw(st.integers(0, 1))
        body = self.nested(carried)
        results = body.results(len(carried) + scans)
        turn, go, on = (f"{name}{self.depth}" for name in ("turn", "go", "on"))
        body.nodes.append(helper.make_node("Identity", [go], [on]))
        inputs = [info(turn, [], INT64), info(go, [], BOOL), *(info(a, [3]) for a in carried)]
        made = graph(body.nodes, [info(on, [], BOOL), *results], inputs, body.constants)
        outputs = [self.name() for _ in carried]
        reads = [self.draw(st.sampled_from(list(TRIPS))), "", *(self.pick() for _ in carried)]
        named = outputs + [self.name("s") for _ in range(scans)]
        self.nodes.append(helper.make_node("Loop", reads, named, body=made))
        self.visible += outputs


def functions():
    body = [helper.make_node("Mul", ["a", "b"], ["v0_0"]), helper.make_node("Tanh", ["a"], ["t"]),
            helper.make_node("Add", ["v0_0", "t"], ["c"])]  # fmt: skip
    return [helper.make_function("my", "f", ["a", "b"], ["c"], body, [helper.make_opsetid("", 17)])]


@st.composite
def models(draw):
    writer = Writer(draw, ["x", "z"]).fill()
    made = [name for node in writer.nodes for name in node.output if name in writer.visible]
    if not made:
        writer.add("Neg", ["x"])
        made = writer.visible[-1:]
    outputs = draw(st.lists(st.sampled_from(made[-6:]), min_size=1, max_size=3, unique=True))
    known = {**FLAGS, **TRIPS}
    writer.constants |= {name: held for name, held in known.items() if held is not None}
    inputs = ["x", "z", info("c", [], BOOL), info("n", [], INT64)]
    return model(
        writer.nodes, inputs, outputs, writer.constants, functions=functions(), domains=["my"]
    )


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(models())
def test_nothing_changes_but_the_size(proto):
    loaded = ir.serde.deserialize_model(onnx.ModelProto.FromString(proto.SerializeToString()))
    before = facts.count_nodes(loaded)
    editor = Editor(loaded)
    for _ in range(8):
        done = [module.run(editor, CONFIG) for module in PASSES]
        if not any(done):
            break
    assert not any(done), "the passes do not come to rest"
    result = ir.serde.serialize_model(loaded)
    onnx.checker.check_model(result, full_check=True)
    assert signature(result) == signature(proto)
    calls = sum(node.op_type == "f" for node in proto.graph.node)
    assert calls or facts.count_nodes(loaded) <= before
    rng = np.random.default_rng(0)
    for flag, trips in ((True, 1), (False, 3)):
        feeds = {name: rng.standard_normal(3).astype(np.float32) for name in "xz"}
        feeds |= {"c": np.array(flag), "n": np.array(trips, np.int64)}
        for want, got in zip(run(proto, feeds), run(result, feeds), strict=True):
            np.testing.assert_array_equal(got, want)
