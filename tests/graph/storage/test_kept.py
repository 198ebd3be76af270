import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.errors import ModelError
from onnxopt.graph import io
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.storage import kept
from tests.graph.protos import chain, info, model_of, node, plain, same

MAP = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(1, []))
FLOATS = helper.make_tensor_type_proto(TensorProto.FLOAT, [None])


def there_and_back(proto):
    model = io.from_proto(proto)
    same(io.to_proto(model.clone()), proto)
    return model


def small(*nodes, inputs=None, outputs=None, **fields):
    return model_of(
        list(nodes), inputs or [info("x")], outputs or [info("y")], **fields
    )  # fmt: skip


def sparse(name=""):
    values = numpy_helper.from_array(np.float32([3, 4]), name)
    return helper.make_sparse_tensor(values, numpy_helper.from_array(np.int64([1, 5])), [8])


@pytest.mark.parametrize("wrap", [lambda t: t, helper.make_sequence_type_proto])
def test_map_types_of_inputs_outputs_and_values_come_back(wrap):
    kind = wrap(MAP)
    proto = small(
        helper.make_node("Made", ["m"], ["y"], domain="ml.x"),
        helper.make_node("Inner", ["m"], ["t"], domain="ml.x"),
        inputs=[helper.make_value_info("m", kind)],
        outputs=[helper.make_value_info("y", kind, doc_string="scores")],
        value_info=[helper.make_value_info("t", kind)],
    )
    model = there_and_back(proto)
    assert model.graph.inputs[0].type is None
    stored = kind.SerializeToString()
    assert model.meta["onnxopt.types"] == {"m": stored, "y": stored, "t": stored}


def test_a_value_that_is_gone_takes_its_type_along():
    proto = small(
        node("Relu", ["x"], ["y"]),
        helper.make_node("Inner", ["x"], ["t"], domain="ml.x"),
        value_info=[helper.make_value_info("t", MAP)],
    )
    model = io.from_proto(proto)
    model.graph.remove(model.graph[1], safe=True)
    assert not io.to_proto(model).graph.value_info


@pytest.mark.parametrize(
    "kind",
    [
        onnx.TypeProto(opaque_type=onnx.TypeProto.Opaque(domain="d", name="n")),
        onnx.TypeProto(tensor_type=onnx.TypeProto.Tensor(shape=onnx.TensorShapeProto())),
        onnx.TypeProto(tensor_type=onnx.TypeProto.Tensor(elem_type=99)),
        onnx.TypeProto(sequence_type=onnx.TypeProto.Sequence()),
        onnx.TypeProto(denotation="IMAGE"),
        helper.make_optional_type_proto(helper.make_sequence_type_proto(FLOATS)),
        helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [3, "n"]),
    ],
)
def test_types_of_every_kind_come_back(kind):
    if kind.WhichOneof("value") is None:
        proto = small(
            helper.make_node("A", ["x"], ["t"], domain="d"),
            helper.make_node("B", ["t"], ["y"], domain="d"),
            value_info=[onnx.ValueInfoProto(name="t", type=kind)],
        )
    else:
        proto = small(
            helper.make_node("A", ["x"], ["y"], domain="d"),
            inputs=[helper.make_value_info("x", kind)],
        )
    there_and_back(proto)


def test_an_output_that_is_an_input_does_not_describe_the_input():
    proto = small(
        node("Relu", ["x"], ["y"]), inputs=[info("x", ["n", 3])],
        outputs=[info("y", ["n", 3]), info("x", ["m", 3])],
    )  # fmt: skip
    model = there_and_back(proto)
    assert model.graph.inputs[0].shape == ir.Shape(["n", 3])


@pytest.mark.parametrize(
    "attribute",
    [
        {"words": [b"\xff\xfe", b"text"]},
        {"held": sparse()},
        {"held": [sparse(), sparse()]},
        {"kind": MAP},
        {"kinds": [FLOATS, MAP]},
        {"kinds": [FLOATS, FLOATS], "word": b"\xff", "f": 1.5, "fs": [1.0], "s": ["a", "ä"]},
    ],
)
def test_attributes_of_every_kind_come_back(attribute):
    made = helper.make_node("Odd", ["x"], ["y"], name="odd", domain="d", axis=3)
    for name, value in attribute.items():
        made.attribute.append(helper.make_attribute(name, value))
    there_and_back(small(made, doc_string="why"))


def test_a_sparse_constant_comes_back_and_nobody_takes_it_for_a_constant():
    made = node("Constant", [], ["s"], sparse_value=sparse())
    proto = small(made, node("Add", ["x", "s"], ["y"]))
    model = there_and_back(proto)
    assert model.graph[0].domain == kept.KEY


def test_sparse_initializers_come_back_in_order_even_renamed():
    proto = small(node("Sum", ["x", "s", "t"], ["y"]))
    proto.graph.sparse_initializer.extend([sparse("s"), sparse("t")])
    model = there_and_back(proto)
    model.graph[0].outputs[0].name = "renamed"
    again = io.to_proto(model).graph
    assert [held.values.name for held in again.sparse_initializer] == ["renamed", "t"]
    assert list(again.node[0].input) == ["x", "renamed", "t"]


def test_a_sparse_initializer_that_is_an_input_is_refused():
    proto = small(node("Add", ["x", "s"], ["y"]), inputs=[info("x"), info("s")])
    proto.graph.sparse_initializer.append(sparse("s"))
    with pytest.raises(ModelError, match="'s' is defined twice"):
        io.from_proto(proto)


def test_what_is_odd_in_nested_graphs_and_functions_comes_back():
    odd = helper.make_node("Odd", ["x"], ["o"], domain="d", words=[b"\xff"])
    branch = helper.make_graph(
        [odd, node("Identity", ["o"], ["b"])], "branch", [], [info("b")],
        value_info=[helper.make_value_info("o", MAP)],
    )  # fmt: skip
    branch.sparse_initializer.append(sparse("s"))
    choice = node("If", ["p"], ["y"], then_branch=branch, else_branch=branch)
    flag = info("p", [], TensorProto.BOOL)
    proto = small(choice, inputs=[info("x"), flag])
    body = helper.make_function("local", "F", ["x"], ["o"], [odd], [helper.make_opsetid("", 21)])
    body.value_info.append(helper.make_value_info("o", MAP))
    body.attribute.append("needed")
    body.attribute_proto.append(helper.make_attribute("given", 3))
    proto.functions.append(body)
    there_and_back(proto)


def test_outputs_without_a_name_at_the_end_stay():
    # Split gives each output an equal share: with one output less the shares are others.
    there_and_back(small(node("Split", ["x"], ["y", "", ""], axis=0)))


def test_documentation_in_another_coding_becomes_readable():
    made = node("Relu", ["x"], ["y"])
    made.doc_string = "??"
    data = small(made).SerializeToString().replace(b"??", b"\xc4\xe3")
    model = io.from_proto(onnx.ModelProto.FromString(data))
    assert io.to_proto(model).graph.node[0].doc_string == "\ufffd\ufffd"


def test_an_attribute_of_the_first_models_gets_its_type():
    proto = small(node("LeakyRelu", ["x"], ["y"], alpha=0.5))
    proto.graph.node[0].attribute[0].ClearField("type")
    model = io.from_proto(proto)
    assert model.graph[0].attributes.get_float("alpha") == 0.5
    proto.graph.node[0].attribute[0].ClearField("f")
    with pytest.raises(ModelError, match="'alpha' of LeakyRelu node '' has no type"):
        io.from_proto(proto)


def test_the_two_names_of_the_standard_domain_are_one():
    proto = small(helper.make_node("Relu", ["x"], ["y"], domain="ai.onnx"))
    proto.opset_import[0].domain = "ai.onnx"
    model = there_and_back(proto)
    assert model.opset_imports == {"": 21}


def trained():
    proto = chain(1)
    training = proto.training_info.add()
    training.algorithm.name = "step"
    training.algorithm.initializer.append(numpy_helper.from_array(np.float32(0), "rate"))
    for key in ("w0", "rate"):
        training.update_binding.add(key=key, value=f"{key}_new")
    return proto


def test_training_information_comes_back():
    assert plain(trained())["training_info"]
    there_and_back(trained())


def test_training_of_a_weight_that_is_gone_is_dropped():
    model = io.from_proto(trained())
    weight = model.graph.initializers["w0"]
    weight.name = "folded"
    assert not io.to_proto(model).training_info


def test_quantization_annotations_devices_and_metadata_come_back():
    proto = chain()
    note = proto.graph.quantization_annotation.add(tensor_name="t0")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="b")
    proto.ir_version = 11
    proto.configuration.add(name="two", num_devices=2, device=["a", "b"])
    placed = proto.graph.node[0].device_configurations.add(configuration_id="two")
    placed.sharding_spec.add(tensor_name="t0", device=[0, 1])
    for holder in (proto, proto.graph, proto.graph.node[0], proto.graph.input[0]):
        holder.metadata_props.add(key="k", value="v")
        holder.doc_string = "doc"
    proto.graph.input[0].type.denotation = "IMAGE"
    proto.graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    proto.producer_name, proto.producer_version, proto.model_version = "p", "1", 7
    there_and_back(proto)


def test_no_description_is_made_up_for_initializers():
    assert not io.to_proto(io.from_proto(chain())).graph.value_info


def test_a_described_initializer_keeps_its_documentation():
    proto = chain()
    proto.graph.value_info.append(info("w0", [32, 32]))
    proto.graph.value_info[0].doc_string = "the first"
    again = io.to_proto(io.from_proto(proto))
    assert [value.doc_string for value in again.graph.value_info] == ["the first"]
