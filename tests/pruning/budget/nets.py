"""Small nets with their groups written by hand, and the plainest way to take units out."""

import numpy as np
import onnx
from onnx import numpy_helper

from onnxopt.graph import io
from onnxopt.graph.edges import Edge
from onnxopt.passes import shapes
from onnxopt.pruning.plan import Group, Groups, Slice


def built(text, constants):
    """Return the proto of a parsed graph; `constants` are arrays or shapes of random weights."""
    proto = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, held in constants.items():
        array = held if isinstance(held, np.ndarray) else rng.normal(size=held).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    for node in proto.graph.node:
        node.name = f"{node.output[0]}_node"
    return proto


def loaded(proto):
    model = io.from_proto(proto)
    shapes.infer(model)
    return model


def group(name, size, slices, tensors, kind="channels"):
    """Make a group from {(node, place): (axis, units, role)} and {tensor: (axis, units)}."""
    return Group(
        name=name,
        size=size,
        kind=kind,
        slices=tuple(
            Slice(edge=Edge(f"{node}_node", place), axis=axis, units=np.asarray(units), role=role)
            for (node, place, axis), (units, role) in slices.items()
        ),
        tensors={tensor: (axis, np.asarray(units)) for tensor, (axis, units) in tensors.items()},
    )


def cut(proto, groups, kept):
    """Return the model with all but the first units of groups really gone."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    held = {each.name: numpy_helper.to_array(each) for each in made.graph.initializer}
    nodes = {node.name: node for node in made.graph.node}
    stays = {}
    for each in groups:
        for part in each.slices:
            key = nodes[part.edge.node].input[part.edge.place], part.axis
            stay = part.units < kept.get(each.name, each.size)
            stays[key] = stays.get(key, True) & stay
    for (name, axis), stay in stays.items():
        held[name] = np.compress(stay, held[name], axis)
    del made.graph.initializer[:]
    made.graph.initializer.extend(numpy_helper.from_array(held[name], name) for name in held)
    for node in made.graph.node:
        for attribute in node.attribute:
            if attribute.name == "group" and attribute.i > 1:
                attribute.i = held[node.input[1]].shape[0]
            if attribute.name == "hidden_size":
                attribute.i = held[node.input[2]].shape[2]
    return loaded(made)


def conv_net():
    """Convs that widen, go depthwise and narrow, a Concat of two groups, Flatten into a Gemm."""
    proto = built(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[1, 3, 16, 16] x) => (float[1, 10] y) {
            a = Conv<pads = [1, 1, 1, 1]>(x, w0, b0)
            r = Relu(a)
            d = Conv<pads = [1, 1, 1, 1], group = 16>(r, w1)
            p = Conv(d, w2)
            q = Conv<strides = [2, 2], kernel_shape = [1, 1]>(p, w3)
            s = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(p)
            c = Concat<axis = 1>(q, s)
            f = Flatten(c)
            y = Gemm(f, w4, b4)
        }""",
        {
            "w0": (16, 3, 3, 3), "b0": (16,), "w1": (16, 1, 3, 3), "w2": (8, 16, 1, 1),
            "w3": (12, 8, 1, 1), "w4": (20 * 64, 10), "b4": (10,),
        },
    )  # fmt: skip
    wide, narrow, last = np.arange(16), np.arange(8), np.arange(12)
    both = np.concatenate([last, np.full(8, -1)])
    rest = np.concatenate([np.full(12, -1), narrow])
    groups = Groups(
        groups=(
            group(
                "a", 16,
                {
                    ("a", 1, 0): (wide, "writes"), ("a", 2, 0): (wide, "writes"),
                    ("d", 1, 0): (wide, "follows"), ("p", 1, 1): (wide, "reads"),
                },
                {"a": (1, wide), "r": (1, wide), "d": (1, wide)},
            ),
            group(
                "p", 8,
                {
                    ("p", 1, 0): (narrow, "writes"), ("q", 1, 1): (narrow, "reads"),
                    ("y", 1, 0): (np.repeat(rest, 64), "reads"),
                },
                {
                    "p": (1, narrow), "s": (1, narrow), "c": (1, rest),
                    "f": (1, np.repeat(rest, 64)),
                },
            ),
            group(
                "q", 12,
                {("q", 1, 0): (last, "writes"), ("y", 1, 0): (np.repeat(both, 64), "reads")},
                {"q": (1, last), "c": (1, both), "f": (1, np.repeat(both, 64))},
            ),
        )
    )  # fmt: skip
    return proto, groups


def attention_net():
    """One attention block of 4 heads of 8, and a small MLP behind it."""
    proto = built(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[1, 12, 32] x) => (float[1, 12, 32] y) {
            q = MatMul(x, wq)
            k = MatMul(x, wk)
            v = MatMul(x, wv)
            q4 = Reshape(q, split)
            k4 = Reshape(k, split)
            v4 = Reshape(v, split)
            qt = Transpose<perm = [0, 2, 1, 3]>(q4)
            kt = Transpose<perm = [0, 2, 3, 1]>(k4)
            vt = Transpose<perm = [0, 2, 1, 3]>(v4)
            s = MatMul(qt, kt)
            a = Softmax(s)
            o4 = MatMul(a, vt)
            ot = Transpose<perm = [0, 2, 1, 3]>(o4)
            o = Reshape(ot, join)
            h = MatMul(o, wo)
            m = MatMul(h, w1)
            g = Relu(m)
            y = MatMul(g, w2)
        }""",
        {
            "wq": (32, 32), "wk": (32, 32), "wv": (32, 32), "wo": (32, 32),
            "w1": (32, 48), "w2": (48, 32),
            "split": np.array([0, 0, -1, 8]), "join": np.array([0, 0, -1]),
        },
    )  # fmt: skip
    heads, places, neurons = np.arange(4), np.repeat(np.arange(4), 8), np.arange(48)
    groups = Groups(
        groups=(
            group(
                "q", 4,
                {
                    **{(name, 1, 1): (places, "writes") for name in "qkv"},
                    ("h", 1, 0): (places, "reads"),
                },
                {
                    **dict.fromkeys("qkvo", (2, places)),
                    **dict.fromkeys(("q4", "k4", "v4", "ot"), (2, heads)),
                    **dict.fromkeys(("qt", "kt", "vt", "s", "a", "o4"), (1, heads)),
                },
                kind="heads",
            ),
            group(
                "m", 48,
                {("m", 1, 1): (neurons, "writes"), ("y", 1, 0): (neurons, "reads")},
                {"m": (2, neurons), "g": (2, neurons)},
            ),
        )
    )  # fmt: skip
    return proto, groups


def recurrent_net():
    """An LSTM whose state is read by a product."""
    proto = built(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[9, 1, 6] x) => (float[9, 1, 1, 5] y) {
            h = LSTM<hidden_size = 16>(x, w, r)
            y = MatMul(h, v)
        }""",
        {"w": (1, 64, 6), "r": (1, 64, 16), "v": (16, 5)},
    )
    state = np.arange(16)
    gates = np.tile(state, 4)
    groups = Groups(
        groups=(
            group(
                "h", 16,
                {
                    ("h", 1, 1): (gates, "writes"), ("h", 2, 1): (gates, "writes"),
                    ("h", 2, 2): (state, "reads"), ("y", 1, 0): (state, "reads"),
                },
                {"h": (3, state)},
                kind="state",
            ),
        )
    )  # fmt: skip
    return proto, groups


NETS = {"conv": conv_net, "attention": attention_net, "recurrent": recurrent_net}
