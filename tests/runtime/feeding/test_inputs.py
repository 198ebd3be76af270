"""What a model wants to be fed, and how the graph uses it."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxopt.graph._onnx_ir import ir
from onnxopt.runtime.feeding.inputs import model_inputs, size_of, symbols
from onnxopt.runtime.feeding.roles import find_role
from onnxopt.runtime.feeding.sizes import kinds_of

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def _roles(model):
    read = ir.serde.deserialize_model(model)
    return {value.name: find_role(read, value) for value in read.graph.inputs}


def _inputs(model):
    return model_inputs(ir.serde.deserialize_model(model))


def test_all_ways_to_say_unknown_become_names_of_their_own(build):
    model = build(
        [helper.make_node("Abs", ["x"], ["y"])],
        [("x", FLOAT, [None, 0, "?", -1])],
        [("y", FLOAT, None)],
    )
    (x,) = _inputs(model)
    assert x.dims == ("x:0", "x:1", "x:2", "x:3")
    assert x.describe() == "float32[0,1,2,3]"


def test_an_input_with_an_initializer_is_not_required(build):
    model = build(
        [helper.make_node("Add", ["x", "b"], ["y"])],
        [("x", FLOAT, [2]), ("b", FLOAT, [2])],
        [("y", FLOAT, [2])],
        [("b", np.ones(2, np.float32))],
    )
    assert [spec.required for spec in _inputs(model)] == [True, False]


def test_sequences_are_told_from_tensors(build):
    type_ = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, ["n"]))
    model = build(
        [helper.make_node("SequenceLength", ["s"], ["y"])], [("s", type_, None)], [("y", INT64, [])]
    )
    (spec,) = _inputs(model)
    assert (spec.kind, spec.dims, spec.describe()) == ("sequence", ("n",), "sequence(float32[n])")


@pytest.mark.parametrize(
    ("dim", "names", "size"),
    [
        (7, (), 7),
        ("batch", ("batch",), 2),
        ("past + length", ("past", "length"), 13),
        ("2*length", ("length",), 16),
        ("past // 2", ("past",), 2),
        ("p2o.Dynamic.0", ("p2o.Dynamic.0",), 3),
    ],
)
def test_dimensions_may_be_expressions(dim, names, size):
    sizes = {"batch": 2, "past": 5, "length": 8, "p2o.Dynamic.0": 3}
    assert symbols(dim) == names
    assert size_of(dim, sizes) == size


def test_dimensions_get_a_kind_from_name_and_place(build):
    shapes = {
        "image": ["N", 3, "H", "W"],
        "nhwc": ["N", "rows", "columns", 3],
        "ids": ["batch", "sequence_length"],
        "sound": ["b", "samples"],
        "state": [2, "layers_b", 128],
        "cache": ["batch", 12, "past_length", 64],
    }
    types = {"ids": INT64}
    model = build(
        [helper.make_node("Identity", ["ids"], ["y"])],
        [(name, types.get(name, FLOAT), shape) for name, shape in shapes.items()],
        [("y", INT64, None)],
    )
    assert kinds_of(_inputs(model)) == {
        "N": "batch",
        "H": "height",
        "W": "width",
        "rows": "height",
        "columns": "width",
        "batch": "batch",
        "sequence_length": "sequence",
        "b": "batch",
        "samples": "signal",
        "layers_b": "batch",
        "past_length": "past",
    }


def test_indices_are_bounded_by_the_table_they_look_into(build):
    model = build(
        [
            helper.make_node("Unsqueeze", ["ids", "axis"], ["u"]),
            helper.make_node("Cast", ["u"], ["c"], to=INT64),
            helper.make_node("Gather", ["table", "c"], ["y"], axis=1),
        ],
        [("ids", TensorProto.INT32, ["n"])],
        [("y", FLOAT, None)],
        [("axis", np.array([0])), ("table", np.zeros((3, 50), np.float32))],
    )
    assert _roles(model)["ids"].below == 50


def test_a_one_hot_by_comparison_bounds_too(build):
    model = build(
        [helper.make_node("Equal", ["ids", "classes"], ["y"])],
        [("ids", INT64, ["n", 1])],
        [("y", BOOL, None)],
        [("classes", np.arange(257))],
    )
    assert _roles(model)["ids"].below == 257


def test_constants_that_an_input_is_compared_with_are_known_inside_branches_too(build):
    branch = helper.make_graph(
        [
            helper.make_node("Equal", ["rate", "wanted"], ["same"]),
            helper.make_node("Cast", ["same"], ["z"], to=FLOAT),
        ],
        "branch",
        [],
        [helper.make_tensor_value_info("z", FLOAT, [])],
    )
    model = build(
        [helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch)],
        [("rate", INT64, []), ("flag", BOOL, [])],
        [("y", FLOAT, [])],
        [("wanted", np.array(16000))],
    )
    assert _roles(model)["rate"].equals == (16000,)


def test_what_is_subtracted_from_one_is_a_mask(build):
    model = build(
        [
            helper.make_node("Cast", ["m"], ["f"], to=FLOAT),
            helper.make_node("Sub", ["one", "f"], ["y"]),
        ],
        [("m", INT64, ["batch", "length"])],
        [("y", FLOAT, None)],
        [("one", np.array(1, np.float32))],
    )
    assert _roles(model)["m"].mask


def test_uses_inside_functions_count(build):
    function = helper.make_function(
        "acme",
        "Embed",
        ["table", "ids"],
        ["out"],
        [helper.make_node("TopK", ["table", "ids"], ["out", "_"])],
        [helper.make_opsetid("", 17)],
    )
    model = build(
        [helper.make_node("Embed", ["table", "k"], ["y"], domain="acme")],
        [("k", INT64, [1])],
        [("y", FLOAT, None)],
        [("table", np.zeros(9, np.float32))],
        extra_domains=["acme"],
        functions=[function],
    )
    assert _roles(model)["k"].count
