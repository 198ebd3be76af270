import contextlib

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from onnxopt.graph.storage import valid, wire
from tests.graph.protos import chain, info, model_of, node, same, weights

TOKEN = "token"


def skeleton_of(model):
    skeleton = wire.take_payloads(memoryview(model.SerializeToString()), TOKEN)
    return onnx.ModelProto.FromString(skeleton), skeleton


def stand_in(tensor):
    entries = {entry.key: entry.value for entry in tensor.external_data}
    token, _, field = entries["location"].partition(":")
    assert token == TOKEN
    return int(field), int(entries["offset"]), int(entries["length"])


def test_large_weights_are_taken_out_and_small_ones_stay():
    model = chain()
    data = model.SerializeToString()
    proto, skeleton = skeleton_of(model)
    assert len(skeleton) < 1500
    for taken, tensor in zip(proto.graph.initializer[:3], model.graph.initializer, strict=False):
        field, offset, length = stand_in(taken)
        assert field == wire.RAW_DATA
        assert data[offset : offset + length] == tensor.raw_data
        assert (taken.name, taken.dims, taken.data_type) == (
            tensor.name, tensor.dims, tensor.data_type,
        )  # fmt: skip
    assert proto.graph.initializer[3] == model.graph.initializer[3]


def test_a_model_without_large_weights_is_left_alone():
    data = chain(shape=(2, 2)).SerializeToString()
    assert wire.take_payloads(memoryview(data), TOKEN) == data


def nested():
    """Return a model with weights in a Constant, in both branches of an If, and in a function."""
    branch = [
        helper.make_graph(
            [node("Add", ["x", f"w_{side}"], [f"y_{side}"])], side, [], [info(f"y_{side}")],
            [weights(f"w_{side}")],
        )
        for side in ("yes", "no")
    ]  # fmt: skip
    nodes = [
        node("Constant", [], ["c"], value=weights("")),
        node("If", ["p"], ["z"], then_branch=branch[0], else_branch=branch[1]),
        helper.make_node("Shift", ["z"], ["s"], domain="local"),
        node("Add", ["s", "c"], ["y"]),
    ]
    body = [node("Constant", [], ["k"], value=weights("")), node("Add", ["a", "k"], ["b"])]
    opsets = [helper.make_opsetid("", 21)]
    function = helper.make_function("local", "Shift", ["a"], ["b"], body, opsets)
    flag = info("p", [], TensorProto.BOOL)
    model = model_of(nodes, [flag, info("x", [32, 32])], [info("y", [32, 32])])
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
    onnx.checker.check_model(model)
    return model


def test_weights_are_found_in_nested_graphs_constants_and_functions():
    _, skeleton = skeleton_of(nested())
    assert len(nested().SerializeToString()) > 4 * 4096
    assert len(skeleton) < 1500


@pytest.mark.parametrize("model", [chain(), nested()], ids=["flat", "nested"])
def test_payloads_are_put_where_their_stand_ins_are(model):
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(model)
    payloads = []
    for tensor in valid.tensors(skeleton):
        if len(tensor.raw_data) >= wire.LARGE:
            tensor.external_data.add(key="location", value=f"{TOKEN}:{len(payloads)}")
            tensor.data_location = TensorProto.EXTERNAL
            payloads.append(tensor.raw_data)
            tensor.ClearField("raw_data")
    assert len(payloads) >= 3
    pieces = wire.put_payloads(
        skeleton.SerializeToString(), TOKEN, [(wire.RAW_DATA, len(p)) for p in payloads]
    )
    whole = b"".join(payloads[p.index] if isinstance(p, wire.Payload) else p for p in pieces)
    assert wire.size_of(pieces) == len(whole)
    same(onnx.ModelProto.FromString(whole), model)


def test_packed_floats_are_taken_out_and_told_apart_from_raw_data():
    values = np.arange(1000, dtype=np.float32)
    model = model_of(
        [node("Add", ["x", "w"], ["y"])], [info("x")], [info("y")],
        [helper.make_tensor("w", TensorProto.FLOAT, [1000], values)],
    )  # fmt: skip
    data = model.SerializeToString()
    proto, _ = skeleton_of(model)
    field, offset, length = stand_in(proto.graph.initializer[0])
    assert field == wire.FLOAT_DATA
    assert data[offset : offset + length] == values.tobytes()


@pytest.mark.parametrize("what", ["int64_data", "external", "segment"])
def test_a_tensor_that_is_not_plain_stays_as_it_is(what):
    tensor = helper.make_tensor("w", TensorProto.INT64, [1000], list(range(1000)))
    if what == "external":
        tensor = numpy_helper.from_array(np.arange(1000), "w")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="elsewhere")
    elif what == "segment":
        tensor = numpy_helper.from_array(np.arange(1000), "w")
        tensor.segment.begin = 3
    model = model_of([node("Add", ["x", "w"], ["y"])], [info("x")], [info("y")], [tensor])
    data = model.SerializeToString()
    assert wire.take_payloads(memoryview(data), TOKEN) == data


@given(st.binary(max_size=60))
def test_any_bytes_are_walked_or_refused(data):
    with contextlib.suppress(wire.MalformedError):
        wire.take_payloads(data, TOKEN)


@pytest.mark.parametrize(
    "data",
    [
        b"\x3a\xff\xff\xff\xff\x0f",  # a graph that is longer than the file
        b"\x3a\x80",  # a length without an end
        b"\x08" + b"\x80" * 11,  # a number without an end
        b"\x0b",  # the beginning of a group
        b"\x02\x00",  # field 0
        b"\x3a\x05\x2a\x09ab",  # a tensor that is longer than its graph
    ],
)  # fmt: skip
def test_a_length_that_leads_out_of_its_message_is_refused(data):
    with pytest.raises(wire.MalformedError):
        wire._walk(data, 0, len(data), "model", lambda *_: None, lambda *_: True)


def test_messages_nested_beyond_what_protobuf_parses_are_refused():
    data = b"x" * 1100
    for _ in range(60):
        for field in (6, 5, 1):  # an attribute's graph, a node's attribute, a graph's node
            data = wire._key(field, 2) + wire._varint(len(data)) + data
    with pytest.raises(wire.MalformedError, match="too deeply"):
        wire.take_payloads(wire._key(7, 2) + wire._varint(len(data)) + data, TOKEN)
