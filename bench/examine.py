"""Examines what a tool made of a model: `examine.py ORIGINAL RESULT TYPICAL`, prints JSON.

Nodes and signature are read from the ONNX file itself, not through onnxopt's graph floor, so that
onnxopt is judged by the same plain reading as its peers. The outputs are compared by
`onnxopt.runtime.comparing.compare`, with onnxruntime's optimizations off and on, on one typical
input of the manifest's shapes and on three invented ones. TYPICAL is `{"shapes": …, "values": …}`.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

if TYPE_CHECKING:
    from onnxopt.runtime.comparing.compare import Reference
    from onnxopt.runtime.feeding.inputs import Input


def examine(original: Path, result: Path, typical: dict[str, Any]) -> dict[str, Any]:
    """Return size, nodes, differences of the signature, and whether the outputs are the same."""
    before, after = (onnx.load(path, load_external_data=False) for path in (original, result))
    found = list(nodes(after))
    domains = Counter(node.domain for node in found if node.domain not in {"", "ai.onnx"})
    return {
        "file_bytes": size(result),
        "nodes": len(found),
        "constant_nodes": sum(node.op_type == "Constant" for node in found),
        "domains": dict(domains),
        "signature": differences(before, after),
        "verification": verify(original, result, typical),
    }


def nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield every node: of the main graph, of graphs within nodes, of functions."""
    yield from _within(model.graph.node)
    for function in model.functions:
        yield from _within(function.node)


def _within(found: Any) -> Iterator[onnx.NodeProto]:
    for node in found:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _within(graph.node)


def size(path: Path) -> int:
    """Return the bytes of the model with all external data that it names."""
    model = onnx.load(path, load_external_data=False)
    named = {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return path.stat().st_size + sum((path.parent / name).stat().st_size for name in named)


def differences(before: onnx.ModelProto, after: onnx.ModelProto) -> list[str]:
    """Say what callers of the model would notice: names, order, types, shapes."""
    found = []
    for side, one, two in (
        ("inputs", _callers_inputs(before), _callers_inputs(after)),
        ("outputs", before.graph.output, after.graph.output),
    ):
        names, others = [value.name for value in one], [value.name for value in two]
        if names != others:
            found.append(f"{side} {names} became {others}")
            continue
        for was, became in zip(one, two, strict=True):
            if _kind(was) != _kind(became):
                found.append(f"{side} {was.name}: {_kind(was)} became {_kind(became)}")
    return found


def _callers_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    held = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in held]


def _kind(value: onnx.ValueInfoProto) -> str:
    """Write a type as `float[batch,3,?]`; what says nothing (0, -1, `?`) is `?`."""
    if value.type.WhichOneof("value") != "tensor_type":
        return str(value.type.WhichOneof("value"))
    tensor = value.type.tensor_type
    name = onnx.helper.tensor_dtype_to_string(tensor.elem_type).rpartition(".")[2].lower()
    if not tensor.HasField("shape"):
        return name
    dims = (
        dim.dim_param or (dim.dim_value if dim.dim_value > 0 else "?") for dim in tensor.shape.dim
    )
    return f"{name}[{','.join(str(dim) for dim in dims)}]"


def verify(original: Path, result: Path, typical: dict[str, Any]) -> dict[str, Any]:
    """Run both and compare; `passed` is false where the result does not load or run."""
    return judge(references(original, typical), result)


def references(original: Path, typical: dict[str, Any]) -> tuple[Reference, ...]:
    """Run the original on one typical input and on invented ones."""
    from onnxopt.graph._onnx_ir import ir
    from onnxopt.runtime.comparing.compare import Reference
    from onnxopt.runtime.feeding.feeds import model_inputs

    model = ir.load(original)
    return (
        Reference.of(original, [typical_feed(model_inputs(model), typical)]),
        Reference.invent(original, model),
    )


def judge(references: tuple[Reference, ...], result: Path) -> dict[str, Any]:
    """Run the result on the inputs of the references; say whether the outputs are the same."""
    found = [reference.judge(result) for reference in references]
    outputs = [output for comparison in found for output in comparison.outputs]
    return {
        "passed": all(comparison.passed and comparison.verified for comparison in found),
        "reason": next((comparison.reason for comparison in found if comparison.reason), ""),
        "max_abs": max((output.max_abs for output in outputs), default=None),
        "noise_floor": max(comparison.noise_floor for comparison in found),
    }


def typical_feed(inputs: tuple[Input, ...], typical: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return an input of typical shape: the value that is given, else noise, else ones."""
    rng = np.random.default_rng(0)
    feed = {}
    for spec in inputs:
        shape = typical["shapes"].get(spec.name) or [
            d if isinstance(d, int) else 1 for d in spec.dims or ()
        ]
        if spec.name in typical["values"]:
            array = np.full(shape, typical["values"][spec.name])
        elif spec.dtype is not None and spec.dtype.kind == "f":
            array = rng.standard_normal(shape)
        else:
            array = np.ones(shape)
        feed[spec.name] = array.astype(spec.dtype)
    return feed


if __name__ == "__main__":
    print(json.dumps(examine(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))))
