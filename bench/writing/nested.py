"""If and Loop, whose bodies are graphs of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from writing.writer import BOOL, FLOAT, INT, Value, Writer

Statement = Callable[[Writer], Value]


def branch(w: Writer, statements: Sequence[Statement]) -> Value:
    """Write an If whose branches compute something of one shape from the same value."""
    x = w.pick()
    test = _condition(w, x)
    graphs = [_branch(w.nested(), x, statements) for _ in range(2)]
    return w.node("If", [test], FLOAT, x.shape, then_branch=graphs[0], else_branch=graphs[1])


def _condition(w: Writer, x: Value) -> Value:
    how = w.shared.choose(4)
    if how == 0:
        return w.input("flag")
    if how == 1:
        return w.const(w.chance(), BOOL)
    if how == 2:
        sizes = w.node("Shape", [x], INT, (x.rank,))
        rank = w.node("Size", [sizes], INT, ())
        return w.node("Equal", [rank, w.const(w.among([x.rank, 7]), INT, fixed=True)], BOOL, ())
    return w.node("Greater", [w.input("count"), w.const(1, INT)], BOOL, ())


def _branch(w: Writer, x: Value, statements: Sequence[Statement]) -> object:
    _fill(w, statements)
    return w.graph([_alike(w, x)])


def _fill(w: Writer, statements: Sequence[Statement]) -> None:
    for _ in range(w.integer(1, 3)):
        w.among(statements)(w)


def _alike(w: Writer, x: Value) -> Value:
    """Return a value of this graph that is shaped like another."""
    found = [value for value in w.own[::-1] if value.shape == x.shape and value.kind == FLOAT]
    if found and w.chance():
        return w.among(found)
    return w.float(w.among(["Neg", "Relu", "Identity", "Tanh"]), x)


def loop(w: Writer, statements: Sequence[Statement]) -> Value:
    """Write a Loop over one carried value or two; sometimes it hands out a row each turn."""
    carried = [w.pick() for _ in range(w.integer(1, 2))]
    trips = _trips(w)
    body = w.nested()
    turn = Value(w.name("turn"), INT, ())
    going = Value(w.name("going"), BOOL, ())
    inside = [Value(w.name("carried"), FLOAT, value.shape) for value in carried]
    body.visible += inside
    if w.chance():
        body.visible.append(turn)
    _fill(body, statements)
    handed = [_alike(body, value) for value in inside]
    goes_on = body.node("Identity", [going], BOOL, ())
    rows = [body.float("Abs", handed[0])] if w.chance() else []
    graph = body.graph([goes_on, *handed, *rows], [turn, going, *inside])
    made = [(FLOAT, value.shape) for value in carried]
    made += [(FLOAT, (w.name("rows"), *row.shape)) for row in rows if row.rank < 5]
    if len(made) < len(carried) + len(rows):
        graph.output.pop()
    go = None if w.chance() else w.const(True, BOOL)
    outputs = w.outputs("Loop", [trips, go, *carried], made, body=graph)
    if len(outputs) > len(carried):
        w.visible.remove(outputs[-1])
    return outputs[0]


def _trips(w: Writer) -> Value:
    how = w.shared.choose(4)
    if how == 0:
        return w.input("count")
    return w.const((0, 3, 1)[how - 1], INT)


def scan(w: Writer, statements: Sequence[Statement]) -> Value:
    """Write a Scan over the first axis of a value."""
    x = w.pick(fits=lambda v: v.rank > 1)
    body = w.nested()
    total = Value(w.name("total"), FLOAT, x.shape[1:])
    row = Value(w.name("row"), FLOAT, x.shape[1:])
    body.visible += [total, row]
    _fill(body, statements)
    grown = body.float("Add", total, _alike(body, row), like=total)
    out = body.float("Tanh", grown)
    graph = body.graph([grown, out], [total, row], ranked=True)
    start = w.axes("ReduceSum", x, [0], FLOAT, x.shape[1:], keepdims=0)
    made = [(FLOAT, x.shape[1:]), (FLOAT, x.shape)]
    inputs = [start, x]
    attributes = {"num_scan_inputs": 1}
    if w.chance(3):
        attributes |= {"scan_input_directions": [1], "scan_output_directions": [1]}
    return w.outputs("Scan", inputs, made, body=graph, **attributes)[1]
