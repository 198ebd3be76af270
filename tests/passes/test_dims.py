import pytest

from onnxopt.errors import OnnxOptError
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.passes import dims
from tests.passes.graphs import info, model_of, node


@pytest.fixture
def model():
    nodes = [node("Relu", ["x"], "y"), node("Relu", ["z"], "w")]
    inputs = [info("x", ["batch", "time", 3]), info("z", [None, 3])]
    outputs = [info("y", ["batch", "time", 3]), info("w", [None, 3])]
    return ir.serde.deserialize_model(model_of(nodes, inputs, outputs))


def test_name_is_fixed_everywhere(model):
    dims.fix(model, {"batch": 2})
    assert facts.shape(model.graph.inputs[0]) == (2, "time", 3)
    assert facts.shape(model.graph.outputs[0]) == (2, "time", 3)


def test_axis_of_an_input_fixes_its_name_or_only_itself(model):
    dims.fix(model, {"x:1": 7, "z:0": 5})
    assert facts.shape(model.graph.inputs[0]) == ("batch", 7, 3)
    assert facts.shape(model.graph.outputs[0]) == ("batch", 7, 3)
    assert facts.shape(model.graph.inputs[1]) == (5, 3)


@pytest.mark.parametrize(
    ("fix", "message"),
    [
        ({"bacth": 1}, "did you mean batch"),
        ({"x:2": 4}, "is 3, not 4"),
        ({"x:5": 4}, "has no axis 5"),
        ({"x:0": 4, "x:-3": 5}, "two sizes"),
    ],
)
def test_what_contradicts_the_model_is_refused(model, fix, message):
    with pytest.raises(OnnxOptError, match=message):
        dims.fix(model, fix)
