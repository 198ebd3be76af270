"""Each target has a placement of its own, or says why it has none."""

import pytest

from onnxopt.errors import OnnxOptError
from onnxopt.graph import io
from onnxopt.quantizing.insert.qdq import insert
from onnxopt.quantizing.placement.table import placement_for
from tests.quantizing.small import outputs, pictures, samples, solved, sqnr, tokens


@pytest.mark.parametrize("target", ["cpu", "portable", "tensorrt"])
def test_a_placement_says_whose_it_is(target):
    assert placement_for(target, pictures()).target == target


def test_cuda_is_refused_with_a_way_out():
    with pytest.raises(OnnxOptError, match="no int8 kernels") as caught:
        placement_for("cuda", pictures())
    assert "tensorrt" in caught.value.hint


def test_portable_leaves_rare_kernels_out_and_says_so():
    placement = placement_for("portable", tokens())
    assert "Softmax" not in {unit.op for unit in placement.units}
    assert placement.left["n6"] == "few runtimes have Softmax in int8"
    assert "Softmax" in {unit.op for unit in placement_for("cpu", tokens()).units}


def test_a_portable_model_is_made_of_standard_operators():
    model = pictures()
    feeds = samples(model)
    wanted = outputs(model, feeds)
    insert(model, solved(model, placement_for("portable", model)))
    proto = io.to_proto(model)
    assert {node.domain for node in proto.graph.node} == {""}
    assert sqnr(wanted, outputs(model, feeds)) > 25
    assert sqnr(wanted, outputs(model, feeds, optimize="none")) > 25
