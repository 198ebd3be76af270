"""Elementwise statements: unary, binary, comparisons, integers, and activations."""

from __future__ import annotations

import math

import numpy as np

from writing.writer import BOOL, FLOAT, INT, LARGEST, MOST_DIMS, Shape, Value, Writer, count

UNARY = ("Relu", "Neg", "Sigmoid", "Tanh", "Abs", "Identity", "Erf", "Softplus", "LeakyRelu", "Elu")
BINARY = ("Add", "Mul", "Sub", "Max", "Min")


def broadcast(a: Shape, b: Shape) -> Shape | None:
    """Return the shape that two shapes broadcast to, or None where that is not sure."""
    rank = max(len(a), len(b))
    left = (1,) * (rank - len(a)) + a
    right = (1,) * (rank - len(b)) + b
    dims = []
    for one, other in zip(left, right, strict=True):
        if one != other and 1 not in (one, other):
            return None
        dims.append(other if one == 1 else one)
    shape = tuple(dims)
    return shape if rank <= MOST_DIMS and count(shape) <= LARGEST else None


def partner(w: Writer, x: Value) -> Value:
    """Choose what broadcasts with a value: a number, a vector, a bias per channel, or a value."""
    kind = w.shared.choose(6)
    last = x.shape[-1] if x.rank else None
    if kind in (1, 2) and isinstance(last, int):
        return w.const(w.rng.standard_normal(last))
    if kind == 3 and x.rank == 4 and isinstance(x.shape[1], int):
        return w.const(w.rng.standard_normal((x.shape[1], 1, 1)))
    if kind >= 4:
        found = [
            v
            for v in w.visible[::-1]
            if v.kind == FLOAT and broadcast(x.shape, v.shape) is not None
        ]
        if found:
            return w.among(found[:6])
    return w.number()


def unary(w: Writer) -> Value:
    """Apply an activation or an arithmetic function, bounded where it would overflow."""
    x = w.pick()
    op_type = w.among([*UNARY, "Clip", "Pow", "Sqrt", "Reciprocal", "Exp", "Log", "Cast"])
    if op_type == "Clip":
        low, high = w.among([(0.0, 6.0), (-1.0, 1.0), (0.0, None), (None, 2.0)])
        bounds = [None if bound is None else w.const(bound) for bound in (low, high)]
        return w.float("Clip", x, *(bounds if high is not None else bounds[:1]))
    if op_type == "Pow":
        return w.float("Pow", x, w.const(w.among([2.0, 1.0, 0.0])))
    if op_type == "Cast":
        to = {np.float16: 10, np.float32: 1, np.float64: 11}[w.shared.dtype]
        return w.float("Cast", x, to=to)
    if op_type == "Exp":
        return w.float("Exp", w.float("Tanh", x))
    if op_type in ("Sqrt", "Reciprocal", "Log"):
        return w.float(op_type, w.float("Add", w.float("Mul", x, x), w.const(1.0)))
    return w.float(op_type, x)


def binary(w: Writer) -> Value:
    """Combine a value with another or with a constant, from either side."""
    x = w.pick()
    y = partner(w, x)
    shape = broadcast(x.shape, y.shape)
    if shape is None:
        return w.float("Neg", x)
    op_type = w.among([*BINARY, "Div"])
    if op_type == "Div":
        y = w.const(w.among([2.0, 1.0, math.sqrt(8)]))
        return w.node("Div", [x, y], FLOAT, broadcast(x.shape, y.shape) or x.shape)
    operands = [y, x] if w.chance() else [x, y]
    if op_type == "Mul" and y.rank and y.shape != (1,):
        operands[0] = w.float("Tanh", operands[0])
    return w.node(op_type, operands, FLOAT, shape)


def again(w: Writer) -> Value:
    """Repeat a statement of this graph, perhaps mirrored."""
    known = {value.name: value for value in w.visible}
    found = [
        node for node in w.nodes[::-1]
        if len(node.output) == 1 and node.output[0] in known
        and not any(a.HasField("g") for a in node.attribute) and node.op_type != "Constant"
    ]  # fmt: skip
    if not found:
        return unary(w)
    node = w.among(found[:6])
    like = known[node.output[0]]
    made = w.node(node.op_type, [], like.kind, like.shape)
    copied = w.nodes[-1]
    names = list(node.input)
    copied.input.extend(names[::-1] if node.op_type in ("Add", "Mul") and w.chance() else names)
    copied.attribute.extend(node.attribute)
    return made


def gelu(w: Writer) -> Value:
    """Write one of the forms of GELU, SiLU or hard swish that exporters write."""
    x = w.pick()
    form = w.shared.choose(6)
    if form == 0:
        return w.float("Mul", x, w.float("Sigmoid", x))
    if form == 1:
        return w.float("Mul", w.float("Sigmoid", w.float("Mul", x, w.const(1.702))), x)
    if form == 2:
        inner = w.float("Clip", w.float("Add", x, w.const(3.0)), w.const(0.0), w.const(6.0))
        return w.float("Div", w.float("Mul", x, inner), w.const(6.0))
    if form == 3:
        cube = w.float("Pow", x, w.const(3.0))
        inner = w.float("Add", x, w.float("Mul", cube, w.const(0.044715)), like=x)
        inner = w.float("Mul", inner, w.const(math.sqrt(2 / math.pi)))
        one = w.float("Add", w.float("Tanh", inner), w.const(1.0))
        return w.float("Mul", w.float("Mul", x, w.const(0.5)), one)
    root = w.const(math.sqrt(2) if w.chance(8) is False else 1.5)
    erf = w.float("Erf", w.float("Div", x, root))
    one = w.float("Add", w.const(1.0), erf, like=x)
    if form == 4:
        return w.float("Mul", w.float("Mul", x, one), w.const(0.5))
    return w.float("Mul", w.float("Mul", w.const(0.5), x, like=x), one)


def compare(w: Writer) -> Value:
    """Compare values and select by the result."""
    x = w.pick()
    bound = w.const(w.among([0.0, 0.5, -1.0]))
    test = w.node(w.among(["Greater", "Less"]), [x, bound], BOOL, x.shape)
    how = w.shared.choose(4)
    if how == 0:
        test = w.node("Not", [test], BOOL, test.shape)
    elif how == 1:
        test = w.node(w.among(["And", "Or"]), [test, test], BOOL, test.shape)
    elif how == 2:
        return w.node("Cast", [test], FLOAT, test.shape, to=_float_number(w))
    other = partner(w, x)
    shape = broadcast(test.shape, other.shape)
    if shape is None or broadcast(shape, x.shape) is None:
        return w.float("Relu", x)
    return w.node("Where", [test, x, other], FLOAT, shape)


def _float_number(w: Writer) -> int:
    return {np.float16: 10, np.float32: 1, np.float64: 11}[w.shared.dtype]


def integers(w: Writer) -> Value:
    """Compute with integers, and bring them back to floats."""
    x = w.pick(INT, default="ids")
    number = w.const(w.among([2, 1, 0, 3]), INT)
    op_type = w.among(["Add", "Mul", "Sub", "Equal", "Less"])
    kind = BOOL if op_type in ("Equal", "Less") else INT
    made = w.node(op_type, [x, number], kind, x.shape)
    if w.chance():
        made = w.node("Cast", [made], FLOAT, made.shape, to=_float_number(w))
        return w.float("Tanh", made)
    return made
