"""Carries what onnx_ir cannot hold past it: taken out before a model is built, put back on saving.

onnx_ir refuses or drops map and opaque types, sparse tensors, strings that are no text, training
information, and an output's own description where the output is an input too. None of that is
ours to lose. A node with an attribute of that kind becomes an operator of the domain `onnxopt.kept`
that nobody knows, with its own words in a tensor of bytes; so does a sparse initializer. Types wait
in the metadata of their graph. Dropped for good are only descriptions in `value_info` that say
nothing (of inputs, outputs and initializers, which describe themselves, and of names that are not
there) and bytes in documentation that are no text.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence
from typing import Any

import onnx

from onnxopt.errors import ModelError
from onnxopt.graph._onnx_ir import ir

TYPES = "onnxopt.types"
KEY = "onnxopt.kept"

_TRAINING = "onnxopt.training"
_SPARSE = "SparseInitializer"
_ELEMENTS = frozenset(int(kind) for kind in ir.DataType)
_Kind = onnx.AttributeProto
_IR_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
_GRAPHS = (_Kind.GRAPH, _Kind.GRAPHS)
_TYPES = (_Kind.TYPE_PROTO, _Kind.TYPE_PROTOS)
_SPARSES = (_Kind.SPARSE_TENSOR, _Kind.SPARSE_TENSORS)
_EASY = frozenset((_Kind.INT, _Kind.FLOAT, _Kind.STRING, _Kind.INTS, _Kind.FLOATS, _Kind.TENSOR))
# IR versions before 3 did not write an attribute's type: the field that is set tells it.
_FIELDS = {
    "f": _Kind.FLOAT, "i": _Kind.INT, "s": _Kind.STRING, "t": _Kind.TENSOR, "g": _Kind.GRAPH,
    "sparse_tensor": _Kind.SPARSE_TENSOR, "tp": _Kind.TYPE_PROTO, "floats": _Kind.FLOATS,
    "ints": _Kind.INTS, "strings": _Kind.STRINGS, "tensors": _Kind.TENSORS,
    "graphs": _Kind.GRAPHS, "sparse_tensors": _Kind.SPARSE_TENSORS,
    "type_protos": _Kind.TYPE_PROTOS,
}  # fmt: skip


def take_out(model: onnx.ModelProto) -> bool:
    """Change the proto so that onnx_ir can hold all of it; tell whether anything was taken out."""
    importers: tuple[Any, ...] = (model, *model.functions)
    for importer in importers:
        for entry in importer.opset_import:
            # onnx_ir gives nodes of the domain `ai.onnx` the domain "": the import has to follow.
            if entry.domain == "ai.onnx":
                entry.domain = ""
    _mend_text(model)
    taken = _take_from_graph(model.graph)
    for function in model.functions:
        _mend_text(function)
        left = onnx.GraphProto(value_info=_take_infos(function.value_info))
        taken |= _take_from_nodes(function.node) | _leave(function, KEY, left)
    training = onnx.ModelProto(training_info=model.training_info)
    model.ClearField("training_info")
    return taken | _leave(model, _TRAINING, training)


def settle(model: ir.Model) -> None:
    """Move what `take_out` left in metadata that is saved to metadata that is not."""
    if _TRAINING in model.metadata_props:
        model.graph.meta[_TRAINING] = model.metadata_props.pop(_TRAINING)
    for outer in (model.graph, *(function.graph for function in model.functions.values())):
        for graph in (outer, *outer.subgraphs()):
            if KEY in graph.metadata_props:
                graph.meta[KEY] = graph.metadata_props.pop(KEY)


def types(model: ir.Model) -> dict[str, bytes]:
    """Return the serialized TypeProto of each value of the main graph whose type was taken out."""
    kept = _kept(model.graph)
    infos = (*kept.input, *kept.output, *kept.value_info)
    return {i.name: i.type.SerializeToString() for i in infos if i.type.WhichOneof("value")}


def put_back(proto: onnx.ModelProto, model: ir.Model) -> None:
    """Undo `take_out` in the proto that onnx_ir made of the model, which may have changed since."""
    _put_into_graph(proto.graph, model.graph)
    for function in proto.functions:
        graph = model.functions[function.domain, function.name, function.overload].graph
        _put_into_nodes(function.node, graph)
        _put_infos(function, _kept(graph))
    text = model.graph.meta.get(_TRAINING)
    if text is not None:
        left = onnx.ModelProto.FromString(text.encode("latin-1"))
        names = {tensor.name for tensor in proto.graph.initializer}
        # What trains a weight that is folded away means nothing any more.
        if all(_trains(info, names) for info in left.training_info):
            proto.training_info.extend(left.training_info)


def node_to_proto(node: ir.Node, proto: onnx.NodeProto) -> None:
    """Write a node, with what its graphs hold, into an empty proto: nothing is left out."""
    ir.serde.serialize_node_into(proto, node)
    _put_into_nodes([proto], [node])


def _leave(holder: Any, key: str, left: Any) -> bool:
    """Put a message into the metadata of a proto, where deserialization carries it on."""
    if not left.ByteSize():
        return False
    holder.metadata_props.add(key=key, value=left.SerializeToString().decode("latin-1"))
    return True


def _kept(graph: ir.Graph) -> onnx.GraphProto:
    kept = onnx.GraphProto()
    kept.ParseFromString(graph.meta.get(KEY, "").encode("latin-1"))
    return kept


def _mend_text(holder: Any) -> None:
    """Make the documentation readable: PyTorch writes file paths in whatever coding they have."""
    text = holder.doc_string
    if type(text) is bytes:  # what protobuf gives for a string that is not UTF-8
        holder.doc_string = text.decode(errors="replace")


def _take_from_graph(graph: onnx.GraphProto) -> bool:
    _mend_text(graph)
    left = onnx.GraphProto(value_info=_take_infos(graph.value_info))
    inputs = {info.name: info for info in graph.input}
    for info in graph.output:
        twin = inputs.get(info.name)
        if twin is not None and twin != info:
            # onnx_ir has one value for both, and would describe the input as the output is.
            left.output.append(info)
            info.CopyFrom(twin)
    for infos, kept in ((graph.input, left.input), (graph.output, left.output)):
        for info in infos:
            if info.HasField("type") and not _is_readable(info.type):
                kept.append(info)
                info.ClearField("type")
    for sparse in reversed(graph.sparse_initializer):
        node = onnx.NodeProto(op_type=_SPARSE, output=[sparse.values.name])
        node.attribute.add(name="value", type=_Kind.SPARSE_TENSOR).sparse_tensor.CopyFrom(sparse)
        graph.node.insert(0, node)
    graph.ClearField("sparse_initializer")
    return _take_from_nodes(graph.node) | _leave(graph, KEY, left)


def _take_infos(infos: MutableSequence[onnx.ValueInfoProto]) -> list[onnx.ValueInfoProto]:
    """Remove the descriptions whose type onnx_ir cannot read, and return them."""
    found = [
        index
        for index, info in enumerate(infos)
        if info.HasField("type") and not _is_readable(info.type)
    ]
    return [infos.pop(index) for index in reversed(found)][::-1]


def _is_readable(kind: onnx.TypeProto) -> bool:
    which = kind.WhichOneof("value")
    if which == "tensor_type" or which == "sparse_tensor_type":
        tensor = getattr(kind, which)
        return tensor.HasField("elem_type") and tensor.elem_type in _ELEMENTS
    if which == "sequence_type" or which == "optional_type":
        element = getattr(kind, which).elem_type
        return _is_readable(element)
    return False


def _take_from_nodes(nodes: Iterable[onnx.NodeProto]) -> bool:
    taken = False
    for node in nodes:
        _mend_text(node)
        strange = []
        for index, attribute in enumerate(node.attribute):
            kind = attribute.type
            if kind in _EASY:
                continue
            if kind == _Kind.UNDEFINED:
                kind = attribute.type = _kind_of(node, attribute)
            if kind in _GRAPHS:
                for graph in (attribute.g, *attribute.graphs):
                    taken |= _take_from_graph(graph)
            elif _is_strange(attribute):
                strange.append(index)
        if strange:
            taken = True
            _disguise(node, strange)
    return taken


def _kind_of(node: onnx.NodeProto, attribute: onnx.AttributeProto) -> Any:
    if attribute.ref_attr_name:
        return _Kind.UNDEFINED
    kinds = [_FIELDS[field.name] for field, _ in attribute.ListFields() if field.name in _FIELDS]
    if len(kinds) != 1:
        raise ModelError(
            f"attribute {attribute.name!r} of {node.op_type} node {node.name!r} has no type",
            "export the model again with a newer exporter",
        )
    return kinds[0]


def _is_strange(attribute: onnx.AttributeProto) -> bool:
    """Tell whether onnx_ir would refuse the attribute."""
    if attribute.ref_attr_name:
        return False
    if attribute.type == _Kind.STRINGS:
        return any(not _is_text(string) for string in attribute.strings)
    if attribute.type in _TYPES:
        alone = (attribute.tp,) if attribute.HasField("tp") else ()
        return not all(map(_is_readable, (*alone, *attribute.type_protos)))
    return attribute.type in _SPARSES


def _is_text(string: bytes) -> bool:
    try:
        string.decode()
    except UnicodeDecodeError:
        return False
    return True


def _disguise(node: onnx.NodeProto, strange: list[int]) -> None:
    """Make the node one of a foreign operator that carries its own words as bytes."""
    words = onnx.NodeProto(domain=node.domain, op_type=node.op_type)
    words.attribute.extend(node.attribute[index] for index in strange)
    for index in reversed(strange):
        del node.attribute[index]
    text = words.SerializeToString()
    held = node.attribute.add(name=KEY, type=_Kind.TENSOR).t
    held.MergeFrom(onnx.TensorProto(data_type=onnx.TensorProto.UINT8, dims=[len(text)]))
    held.raw_data = text
    node.domain = KEY


def _put_into_graph(proto: onnx.GraphProto, graph: ir.Graph) -> None:
    _drop_initializer_infos(proto)
    sparse = _put_into_nodes(proto.node, graph)
    for index in sparse:
        node = proto.node[index]
        node.attribute[0].sparse_tensor.values.name = node.output[0]
        proto.sparse_initializer.append(node.attribute[0].sparse_tensor)
    for index in reversed(sparse):
        del proto.node[index]
    kept = _kept(graph)
    inputs = {info.name: info for info in proto.input}
    for info in kept.input:
        if info.name in inputs and not inputs[info.name].HasField("type"):
            inputs[info.name].type.CopyFrom(info.type)
    described = {info.name: info for info in kept.output}
    for info in proto.output:
        was = described.get(info.name)
        if was is not None and (info.name in inputs or not info.HasField("type")):
            info.CopyFrom(was)
    _put_infos(proto, kept)


def _put_infos(proto: onnx.GraphProto | onnx.FunctionProto, kept: onnx.GraphProto) -> None:
    if kept.value_info:
        there = {info.name for info in proto.value_info}
        made = {name for node in proto.node for name in node.output}
        proto.value_info.extend(
            info for info in kept.value_info if info.name in made and info.name not in there
        )


def _drop_initializer_infos(graph: onnx.GraphProto) -> None:
    """Remove the descriptions that onnx_ir writes, first of all, for every initializer."""
    names = {tensor.name for tensor in graph.initializer}
    telling = []
    count = 0
    for info in graph.value_info:
        if info.name not in names:
            break
        count += 1
        if info.doc_string or info.metadata_props:
            telling.append(info)
    if count:
        telling = [onnx.ValueInfoProto.FromString(info.SerializeToString()) for info in telling]
        del graph.value_info[:count]
        graph.value_info.extend(telling)


def _put_into_nodes(protos: Iterable[onnx.NodeProto], nodes: Iterable[ir.Node]) -> list[int]:
    """Restore the nodes; return the indices of those that stand for sparse initializers."""
    sparse = []
    for index, (proto, node) in enumerate(zip(protos, nodes, strict=True)):
        missing = len(node.outputs) - len(proto.output)
        if missing:
            # onnx_ir drops unnamed outputs at the end: the share of a Split would become another.
            proto.output.extend([""] * missing)
        for name, attribute in node.attributes.items():
            if attribute.type in _IR_GRAPHS and not attribute.is_ref():
                held = next(held for held in proto.attribute if held.name == name)
                alone = attribute.type == ir.AttributeType.GRAPH
                inner = (
                    ((held.g, attribute.value),)
                    if alone
                    else zip(held.graphs, attribute.value, strict=True)
                )
                for graph_proto, graph in inner:
                    _put_into_graph(graph_proto, graph)
        if proto.domain == KEY:
            _reveal(proto)
            if proto.domain == KEY:
                sparse.append(index)
    return sparse


def _reveal(node: onnx.NodeProto) -> None:
    """Undo `_disguise`."""
    index = next(index for index, a in enumerate(node.attribute) if a.name == KEY)
    words = onnx.NodeProto.FromString(node.attribute[index].t.raw_data)
    del node.attribute[index]
    node.attribute.extend(words.attribute)
    if node.op_type != _SPARSE:
        node.domain = words.domain


def _trains(info: onnx.TrainingInfoProto, initializers: set[str]) -> bool:
    """Tell whether all that is bound is still there, in the graph or in the training algorithm."""
    own = {tensor.name for tensor in info.algorithm.initializer}
    bound = (*info.initialization_binding, *info.update_binding)
    return all(binding.key in own or binding.key in initializers for binding in bound)
