"""The forms are valid models that run."""

import onnx
import onnxruntime
import pytest
from patterns import FORMS
from patterns.graph import Graph


@pytest.mark.parametrize("name", FORMS)
def test_form_is_a_valid_model_that_loads(name):
    model = FORMS[name].make()
    onnx.checker.check_model(model)
    assert FORMS[name].about
    onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_there_are_113():
    assert len(FORMS) == 113


def test_a_form_is_the_same_at_every_making():
    assert FORMS["conv_bn"].make() == FORMS["conv_bn"].make()
    assert FORMS["layernorm_pow"].make() != FORMS["layernorm_mul"].make()


def test_operands_become_what_they_stand_for():
    g = Graph("small", 17)
    y = g.Slice(g.Mul(g.input("x", 4), 0.5), [1], [2], None, [1])
    model = g.model((y,))
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert [(array.dtype.name, array.ndim) for array in held.values()] == [
        ("float32", 0),
        ("int64", 1),
        ("int64", 1),
        ("int64", 1),
    ]
    assert model.graph.node[1].input[3] == ""
    assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_value == 1
