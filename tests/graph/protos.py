"""Builds small protos, and compares two by what they mean."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 21


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, **attributes)


def info(name, shape=(None,), kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(nodes, inputs, outputs, initializers=(), *, opset=OPSET, **graph_fields):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers), **graph_fields)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def weights(name, shape=(32, 32), seed=0):
    array = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return numpy_helper.from_array(array, name)


def chain(count=3, shape=(32, 32)):
    """Return a model of MatMuls, each with a weight of its own, and one small constant."""
    names = ["x", *(f"t{i}" for i in range(count))]
    nodes = [node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(count)]
    nodes.append(node("Add", [names[-1], "b"], ["y"], name="last"))
    held = [weights(f"w{i}", shape, seed=i) for i in range(count)]
    held.append(numpy_helper.from_array(np.float32([1.5]), "b"))
    return model_of(nodes, [info("x", ["n", 32])], [info("y", ["n", 32])], held)


def same(one, other):
    """Assert that two protos say the same, in whatever order and with whatever left unsaid."""
    assert plain(one) == plain(other)


def plain(message):
    """Turn a proto into dicts and lists; what means nothing is left out."""
    found = {}
    for field, value in message.ListFields():
        if field.message_type is not None:
            found[field.name] = [plain(v) for v in value] if field.is_repeated else plain(value)
        elif field.is_repeated:
            found[field.name] = [_number(v) for v in value]
        elif value or field.containing_oneof or field.name in ("elem_type", "raw_data"):
            found[field.name] = _number(value)
    _sort(found, "metadata_props", "key")
    _sort(found, "attribute", "name")
    _sort(found, "value_info", "name")
    _sort(found, "quantization_annotation", "tensor_name")
    if isinstance(message, onnx.GraphProto):
        _drop_redundant_infos(found)
    if isinstance(message, TensorProto):
        found.pop("external_data", None)
        found.pop("data_location", None)
    if found.get("domain") == "ai.onnx":
        del found["domain"]
    return found


def _number(value):
    return repr(value) if isinstance(value, float) else value  # nan is like nan


def _sort(found, field, key):
    if field in found and all(isinstance(entry, dict) for entry in found[field]):
        found[field].sort(key=lambda entry: str(entry.get(key)))


def _drop_redundant_infos(graph):
    """Leave out descriptions of what describes itself, and of what is not there."""
    described = {
        v.get("name") for f in ("input", "output", "initializer") for v in graph.get(f, ())
    }
    made = {name for one in graph.get("node", ()) for name in one.get("output", ())}
    infos = [v for v in graph.pop("value_info", ()) if v["name"] in made - described]
    if infos:
        graph["value_info"] = infos
