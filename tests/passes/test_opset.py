import numpy as np
import onnx
import pytest

from onnxopt.config import OptimizeConfig
from onnxopt.errors import OnnxOptError
from onnxopt.passes import opset, shapes
from tests.passes.graphs import apply, info, model_of, node, same


def raised(model, to):
    return apply(model, shapes, opset, config=OptimizeConfig(opset=to))[0]


def test_attributes_that_became_inputs_are_moved():
    nodes = [
        node("Unsqueeze", ["x"], "a", axes=[0]),
        node("ReduceSum", ["a"], "b", axes=[2], keepdims=1),
        node("ReduceMean", ["b"], "c", axes=[0], keepdims=0),
        node("Split", ["c"], ["d", "e"], axis=0, split=[1, 3]),
        node("Softmax", ["d"], "f", axis=1),
        node("Split", ["e"], ["g", "h", "i"], axis=0),
        node("Squeeze", ["g"], "j", axes=[0]),
        node("Concat", ["f", "h", "i"], "y", axis=0),
    ]
    model = model_of(nodes, [info("x", [4, 3])], [info("y", None), info("j", None)], opset=11)
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    for goal in (13, 17, 18, 20):
        result = raised(model, goal)
        assert result.opset_import[0].version == goal
        onnx.checker.check_model(result, full_check=True)
        same(model, result, {"x": x})


def test_operator_whose_meaning_changed_keeps_the_model_where_it_is():
    nodes = [node("Softmax", ["x"], "y", axis=1)]
    model = model_of(nodes, [info("x", [2, 3, 4])], [info("y", [2, 3, 4])], opset=12)
    with pytest.raises(OnnxOptError, match=r"'node_y' .Softmax. flattens its input"):
        raised(model, 13)


@pytest.mark.parametrize(("goal", "message"), [(99, "not known"), (12, "only raised")])
def test_impossible_goals_are_refused(goal, message):
    model = model_of([node("Relu", ["x"], "y")], [info("x", [2])], [info("y", [2])])
    with pytest.raises(OnnxOptError, match=message):
        raised(model, goal)


def test_unknown_domains_do_not_matter():
    nodes = [node("Mystery", ["x"], "y", domain="elsewhere")]
    model = model_of(nodes, [info("x", [2])], [info("y", [2])], opset=14)
    model.opset_import.append(onnx.helper.make_opsetid("elsewhere", 1))
    assert raised(model, 17).opset_import[0].version == 17
