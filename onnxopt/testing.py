"""Tests for people who add rules: a rule is tried on hostile variations of an example by itself.

    def test_fuse_erf_gelu():
        assert_rewrites(gelu.fuse_erf_gelu, erf_gelu_model(), becomes=["Gelu"])

`assert_rewrites` applies one rule (or several) to a model that the test made and holds the result
against the original in onnxruntime with its optimizations off. Then it does the same to variations:
each inner value also an output; each read twice; each constant overridable by the caller; each
constant a Constant node; a slightly wrong constant; operands mirrored; products and sums regrouped;
the graph inside the branch of an If; a free batch dimension; half precision. In each the outputs
must agree, the signature must stay and a second run must change nothing; where the meaning of the
expression stays the same, the rule also has to fire.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxopt.config import find_target
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.rewrite.engine import Outcome, rewrite
from onnxopt.rewrite.pattern import COMMUTATIVE
from onnxopt.rewrite.rule import Rule

Feeds = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, kw_only=True)
class Variation:
    """A variation of an example: the rule must keep it right, and where `fires`, rewrite it."""

    name: str
    model: onnx.ModelProto
    fires: bool
    half: bool = False


def assert_rewrites(
    rules: Rule | Sequence[Rule],
    model: onnx.ModelProto,
    *,
    becomes: Sequence[str] | None = None,
    target: str = "portable",
    feeds: Feeds | None = None,
    without: Sequence[str] = (),
    loses: Sequence[str] = (),
) -> onnx.ModelProto:
    """Assert that rules rewrite a model, rightly, in it and in its hostile variations.

    `becomes` are the operators expected afterwards, in any order. `feeds` replace the random
    inputs (needed where inputs are bounded, such as indices). `without` names variations that make
    no sense for the rule, `loses` those in which it may rightly not fire ('wrong constant' and the
    like never have to). Returns the rewritten model. Raises AssertionError naming the variation.
    """
    chosen = (rules,) if isinstance(rules, Rule) else tuple(rules)
    result = _check("example", model, chosen, target, feeds, fires=True)
    if becomes is not None:
        found = Counter(node.op_type for node in _all_nodes(result.graph))
        assert found == Counter(becomes), f"became {dict(found)}, expected {sorted(becomes)}"
    for variation in variations(model, feeds):
        if variation.name.split(":")[0] in without:
            continue
        fires = variation.fires and variation.name.split(":")[0] not in loses
        _check(
            variation.name,
            variation.model,
            chosen,
            target,
            feeds,
            fires=fires,
            half=variation.half,
        )
    return result


def assert_untouched(
    rules: Rule | Sequence[Rule], model: onnx.ModelProto, *, target: str = "portable"
) -> None:
    """Assert that rules leave a model alone."""
    chosen = (rules,) if isinstance(rules, Rule) else tuple(rules)
    _, outcome = apply_rules(model, chosen, target)
    assert not outcome.done, f"rewritten: {dict(outcome.done)}"


def apply_rules(
    model: onnx.ModelProto, rules: Sequence[Rule], target: str = "portable"
) -> tuple[onnx.ModelProto, Outcome]:
    """Apply rules to a copy of a model with inferred shapes; return it and what was done."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    loaded = ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(copy, data_prop=True))
    editor = Editor(loaded)
    outcome = rewrite(editor, rules, find_target(target))
    return ir.serde.serialize_model(loaded), outcome


def run(
    model: onnx.ModelProto, feeds: Mapping[str, np.ndarray[Any, Any]]
) -> list[np.ndarray[Any, Any]]:
    """Run a model in onnxruntime with its graph optimizations off."""
    from onnxopt.runtime.sessions.session import open_session

    session = open_session(model.SerializeToString(), optimize="none", threads=1)
    return [np.asarray(output) for output in session.run(None, dict(feeds))]


def random_feeds(model: onnx.ModelProto, seed: int = 0) -> Feeds:
    """Draw inputs by shape and type: free dimensions are 2, floats normal, integers 0 and 1."""
    generator = np.random.default_rng(seed)
    defaults = {tensor.name: tensor for tensor in model.graph.initializer}
    feeds: Feeds = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        dims = [dim.dim_value or 2 for dim in kind.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if value.name in defaults:
            array = numpy_helper.to_array(defaults[value.name])
            noise = generator.uniform(0.5, 1.5, array.shape)
            floating = np.issubdtype(array.dtype, np.floating)
            feeds[value.name] = (array * noise).astype(array.dtype) if floating else array
        elif np.issubdtype(dtype, np.integer) or dtype == np.bool_:
            feeds[value.name] = generator.integers(0, 2, dims).astype(dtype)
        else:
            feeds[value.name] = generator.standard_normal(dims).astype(dtype)
    return feeds


def variations(model: onnx.ModelProto, feeds: Feeds | None = None) -> Iterator[Variation]:
    """Yield the hostile variations of a model; those that shape or run badly are left out."""
    yield from _exposed(model)
    yield from _constants_varied(model)
    yield Variation(name="mirrored", model=_mirrored(model), fires=True)
    if (regrouped := _regrouped(model)) is not None:
        yield Variation(name="regrouped", model=regrouped, fires=True)
    yield Variation(name="inside if", model=_inside_if(model), fires=True)
    if feeds is None:
        yield Variation(name="free batch", model=_free_batch(model), fires=False)
    if (half := _half(model)) is not None and feeds is None:
        yield Variation(name="half precision", model=half, fires=True, half=True)


def _check(
    name: str,
    model: onnx.ModelProto,
    rules: Sequence[Rule],
    target: str,
    feeds: Feeds | None,
    *,
    fires: bool,
    half: bool = False,
) -> onnx.ModelProto:
    given = dict(feeds or random_feeds(model))
    if any(value.name == "condition" for value in model.graph.input):
        given["condition"] = np.array(True)
    try:
        expected = run(model, given)
    except Exception:  # noqa: BLE001 - onnxruntime's exceptions have no common base
        assert name != "example", "the example itself does not run in onnxruntime"
        return model
    result, outcome = apply_rules(model, rules, target)
    assert not outcome.crashed, f"{name}: {outcome.crashed}"
    if fires:
        assert outcome.done, f"{name}: no rule fired; refusals: {outcome.refused}"
    for side in ("input", "output"):
        before, after = getattr(model.graph, side), getattr(result.graph, side)
        assert [v.name for v in before] == [v.name for v in after], f"{name}: {side}s changed"
        types = zip(before, after, strict=True)
        assert all(
            b.type.tensor_type.elem_type in (0, a.type.tensor_type.elem_type) for b, a in types
        )
    onnx.checker.check_model(result, full_check=target == "portable")
    _assert_close(name, expected, run(result, given), half=half)
    _, again = apply_rules(result, rules, target)
    assert not again.done, f"{name}: a second run still finds {dict(again.done)}"
    return result


def _assert_close(name: str, expected: Sequence[Any], found: Sequence[Any], *, half: bool) -> None:
    for want, got in zip(expected, found, strict=True):
        assert want.dtype == got.dtype, f"{name}: {got.dtype} instead of {want.dtype}"
        assert want.shape == got.shape, f"{name}: shape {got.shape} instead of {want.shape}"
        if not np.issubdtype(want.dtype, np.floating):
            np.testing.assert_array_equal(got, want, err_msg=name)
            continue
        finite = want[np.isfinite(want)]
        largest = float(np.max(np.abs(finite), initial=0))
        factor = 500 if half else 1
        np.testing.assert_allclose(
            got.astype(np.float64),
            want.astype(np.float64),
            rtol=1e-4 * (factor / 10 if half else 1),
            atol=1e-5 * max(largest, 1e-3) * factor,
            err_msg=name,
        )


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attr in node.attribute:
            if attr.type == onnx.AttributeProto.GRAPH:
                yield from _all_nodes(attr.g)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _exposed(model: onnx.ModelProto) -> Iterator[Variation]:
    """Make each inner value an output, and let each be read once more."""
    outputs = {value.name for value in model.graph.output}
    for node in model.graph.node:
        for value in node.output:
            if not value or value in outputs or node.op_type == "Constant":
                continue
            seen = _copy(model)
            seen.graph.output.append(onnx.ValueInfoProto(name=value))
            yield Variation(name=f"also an output: {value}", model=_typed(seen), fires=False)
            read = _copy(model)
            read.graph.node.append(helper.make_node("Identity", [value], [f"{value}_twice"]))
            read.graph.output.append(onnx.ValueInfoProto(name=f"{value}_twice"))
            yield Variation(name=f"read twice: {value}", model=_typed(read), fires=False)


def _typed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give new outputs their inferred types."""
    inferred = onnx.shape_inference.infer_shapes(model)
    known = {value.name: value for value in [*inferred.graph.value_info, *inferred.graph.output]}
    for value in model.graph.output:
        if not value.HasField("type") and value.name in known:
            value.CopyFrom(known[value.name])
    return model


def _constants_varied(model: onnx.ModelProto) -> Iterator[Variation]:
    inputs = {value.name for value in model.graph.input}
    nodes = _copy(model)
    del nodes.graph.initializer[:]
    for index, tensor in enumerate(model.graph.initializer):
        if tensor.name in inputs:
            nodes.graph.initializer.append(tensor)
            continue
        made = helper.make_node("Constant", [], [tensor.name], value=tensor)
        nodes.graph.node.insert(0, made)
        overridable = _copy(model)
        overridable.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
        yield Variation(name=f"overridable: {tensor.name}", model=overridable, fires=False)
        array = numpy_helper.to_array(tensor)
        if np.issubdtype(array.dtype, np.floating):
            wrong = _copy(model)
            changed = (array * 1.1 + 0.01).astype(array.dtype)
            wrong.graph.initializer[index].CopyFrom(numpy_helper.from_array(changed, tensor.name))
            yield Variation(name=f"wrong constant: {tensor.name}", model=wrong, fires=False)
    yield Variation(name="constant nodes", model=nodes, fires=True)


def _mirrored(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = _copy(model)
    for node in copy.graph.node:
        if node.op_type in COMMUTATIVE and len(node.input) == 2:
            node.input[:] = list(node.input)[::-1]
    return copy


def _regrouped(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """Turn (a·b)·c into a·(b·c) wherever the inner product has one reader."""
    copy = _copy(model)
    made = {out: node for node in copy.graph.node for out in node.output}
    reads = Counter(name for node in copy.graph.node for name in node.input)
    outputs = {value.name for value in copy.graph.output}
    changed = False
    for node in copy.graph.node:
        inner = made.get(node.input[0]) if node.input else None
        if node.op_type not in ("Mul", "Add") or inner is None or inner.op_type != node.op_type:
            continue
        if reads[inner.output[0]] == 1 and inner.output[0] not in outputs:
            a, b, c = inner.input[0], inner.input[1], node.input[1]
            inner.input[:], node.input[:] = [b, c], [a, inner.output[0]]
            changed = True
    if not changed:
        return None
    del copy.graph.value_info[:]
    sorted_model = ir.serde.deserialize_model(copy)
    sorted_model.graph.sort()
    return ir.serde.serialize_model(sorted_model)


def _inside_if(model: onnx.ModelProto) -> onnx.ModelProto:
    """Put the whole graph into the branch of an If; what it reads is captured from outside."""
    inner = _copy(model).graph
    branch = helper.make_graph(inner.node, "then", [], inner.output, inner.initializer)
    other = helper.make_graph(inner.node, "else", [], inner.output, inner.initializer)
    for graph in (branch, other):
        for value in graph.output:
            value.type.Clear()
            known = [v for v in inner.output if v.name == value.name]
            value.type.CopyFrom(known[0].type)
    _rename(other, "else_")
    names = [f"{value.name}_if" for value in inner.output]
    node = helper.make_node("If", ["condition"], names, then_branch=branch, else_branch=other)
    outputs = []
    for value, name in zip(inner.output, names, strict=True):
        copied = onnx.ValueInfoProto()
        copied.CopyFrom(value)
        copied.name = name
        outputs.append(copied)
    condition = helper.make_tensor_value_info("condition", TensorProto.BOOL, [])
    graph = helper.make_graph([node], "outer", [*inner.input, condition], outputs)
    return helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version or 8
    )


def _rename(graph: onnx.GraphProto, prefix: str) -> None:
    own = {name for node in graph.node for name in node.output if name}
    own |= {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        node.input[:] = [prefix + name if name in own else name for name in node.input]
        node.output[:] = [prefix + name if name in own else name for name in node.output]
    for tensor in graph.initializer:
        tensor.name = prefix + tensor.name
    for value in graph.output:
        value.name = prefix + value.name if value.name in own else value.name


def _free_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = _copy(model)
    for value in (*copy.graph.input, *copy.graph.output):
        dims = value.type.tensor_type.shape.dim
        if len(dims) > 1:
            dims[0].dim_param = "N"
    del copy.graph.value_info[:]
    return copy


def _half(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """Turn single precision into half precision throughout."""
    copy = _copy(model)
    del copy.graph.value_info[:]
    if any(node.op_type == "Cast" or node.domain for node in _all_nodes(copy.graph)):
        return None
    tensors = list(copy.graph.initializer)
    tensors += [a.t for node in copy.graph.node for a in node.attribute if a.HasField("t")]
    for tensor in tensors:
        if tensor.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for value in (*copy.graph.input, *copy.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return copy


def operators(model: onnx.ModelProto) -> Counter[str]:
    """Count the operators of a model, nested graphs included."""
    return Counter(node.op_type for node in _all_nodes(model.graph))
