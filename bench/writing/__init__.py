"""Writes random graphs of everything that the rules and passes look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx

from writing import idioms, layers, layout, nested, plain, rearranged
from writing.writer import FLOAT, INPUTS, LARGEST_NAMED, Shared, Value, Writer

OPSETS = (17, 13, 20, 21, 18, 11, 15, 23)
STATEMENTS: tuple[Callable[[Writer], Value], ...] = (
    *(plain.unary, plain.binary, plain.again, plain.gelu, plain.compare, plain.integers),
    *(layout.transpose, layout.reshape, layout.cut, layout.split, layout.concat, layout.gather),
    *(layout.pad, layout.reduce, layout.softmax, layout.expand, layout.scan_or_choose),
    *(layers.linear, layers.conv, layers.pool, layers.norm, layers.residual, layers.attention),
    *(layers.recurrent, layers.quantized, layers.dropout),
    *(idioms.activation, idioms.softmax, idioms.layout, idioms.convolutions, idioms.gated),
    *(idioms.instance_norm, rearranged.channels, rearranged.rotary, rearranged.turned_gemm),
)
INNER = (plain.unary, plain.binary, plain.again, plain.gelu, layout.reshape, layout.transpose,
         layers.linear, layers.norm, idioms.activation, idioms.layout)  # fmt: skip
MOST = 9


def write(choose: Callable[[int], int], most: int = MOST) -> onnx.ModelProto:
    """Write a model; `choose(n)` gives a number below n for every choice there is."""
    seed = choose(1000)
    dtype = np.float32 if choose(10) < 9 else (np.float64, np.float16)[choose(2)]
    shared = Shared(
        choose=choose, opset=OPSETS[choose(len(OPSETS))], dtype=dtype,
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    writer = Writer(shared)
    if choose(3) == 2:
        writer.visible.append(writer.input(("image", "still", "table")[choose(3)]))
    for _ in range(most):
        _statement(writer)
        if choose(most) == 0:
            break
    return writer.model(_results(writer))


def _statement(w: Writer) -> Value:
    """Write one statement; nested graphs are the rarer ones."""
    kind = w.shared.choose(len(STATEMENTS) + 3)
    if kind < len(STATEMENTS):
        return STATEMENTS[kind](w)
    return (nested.branch, nested.loop, nested.scan)[kind - len(STATEMENTS)](w, _inner(w))


def _inner(w: Writer) -> Sequence[Callable[[Writer], Value]]:
    """Return what may stand in a nested graph; one level deeper there is another If or Loop."""
    if w.depth:
        return INNER
    return (*INNER, lambda v: nested.branch(v, INNER), lambda v: nested.loop(v, INNER))


def _results(w: Writer) -> list[Value]:
    """Choose the outputs of a model: the last value and perhaps others, none of them twice."""
    made = [
        value for value in w.own[::-1] if value in w.visible and value.kind not in ("small", "wide")
    ]
    if not made:
        return [w.float("Neg", w.pick())]
    others = [w.among(made) for _ in range(w.shared.choose(3))]
    return list(dict.fromkeys([made[0], *others]))


def feeds(model: onnx.ModelProto, seed: int) -> dict[str, np.ndarray]:
    """Draw inputs; named dimensions and the values of flags and counts depend on the seed."""
    rng = np.random.default_rng(seed)
    sizes = {"N": (2, 1)[seed % 2], "S": (3, LARGEST_NAMED)[seed % 2]}
    defaults = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    found = {}
    for value in model.graph.input:
        if value.name in defaults:
            if seed % 2:
                found[value.name] = _other(defaults[value.name], rng)
            continue
        kind, shape = INPUTS[value.name]
        dims = [sizes.get(dim, dim) for dim in shape]
        if kind == FLOAT:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            found[value.name] = np.asarray(rng.standard_normal(dims), dtype)
        else:
            dtype = np.int64 if kind == "int" else np.bool_
            found[value.name] = np.asarray(rng.integers(0, 4 if kind == "int" else 2, dims), dtype)
    return found


def _other(default: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return what a caller may put in the place of a default."""
    if default.dtype.kind == "f":
        return np.asarray(default * rng.uniform(0.5, 1.5, default.shape), default.dtype)
    return default if default.dtype.kind != "b" else np.asarray(~default)
