import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxopt.errors import ModelError
from onnxopt.graph import io
from onnxopt.graph._onnx_ir import ir
from onnxopt.quantizing.calibration import reduce
from onnxopt.quantizing.calibration.expose import (
    Wanted,
    constant,
    expose_ranges,
    expose_sizes,
    expose_values,
    sources,
)
from onnxopt.runtime.sessions.session import open_session, run
from tests.passes.graphs import info, model_of, node
from tests.quantizing.calibration.exposing import INNER, computed, convolutional, loaded, naive

FEED = {"x": np.random.default_rng(1).standard_normal((2, 3, 20, 31)).astype(np.float32)}
VALUES = Wanted(histogram=True)


def test_tensors_leave_under_their_names_and_the_original_stays():
    proto = convolutional()
    model = loaded(proto)
    before = ir.serde.serialize_model(model).SerializeToString()
    exposed = expose_values(model, dict.fromkeys(("d", "b"), VALUES))
    assert exposed.outputs == ("d", "b")
    expected = naive(proto, ["d", "b"], FEED, "none")
    found = computed(exposed, FEED)
    for name in exposed.outputs:
        np.testing.assert_array_equal(found[name], expected[name])
    assert ir.serde.serialize_model(model).SerializeToString() == before


def test_what_lies_behind_the_last_wanted_tensor_is_not_computed():
    exposed = expose_values(loaded(convolutional()), {"b": VALUES})
    assert [n.op_type for n in exposed.model.graph] == ["Conv", "Relu"]
    assert set(exposed.model.graph.initializers) == {"w1"}
    assert [value.name for value in exposed.model.graph.inputs] == ["x"]


def test_a_tensor_of_which_nothing_is_known_can_be_exposed():
    proto = convolutional()
    del proto.graph.value_info[:]
    model = ir.serde.deserialize_model(proto)
    exposed = expose_values(model, {"a": VALUES})
    assert computed(exposed, FEED)["a"].shape == (2, 8, 20, 31)


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 21])
@pytest.mark.parametrize("dims", [["n", 3, "h", "w"], [2, 3, 20, 31]])
def test_ranges_are_those_of_the_values(opset, dims):
    proto = convolutional(opset, dims)
    exposed = expose_ranges(loaded(proto), INNER)
    found = computed(exposed, FEED)[exposed.outputs[0]].reshape(-1, reduce.ROWS)
    for (low, high, total, count), array in zip(
        found, naive(proto, INNER, FEED, "none").values(), strict=True
    ):
        assert (low, high, count) == (array.min(), array.max(), array.size)
        assert np.isfinite(total)


def test_a_sum_tells_of_nan_that_minima_and_maxima_overlook():
    bad = {"x": np.ones((1, 3, 64, 64), np.float32)}
    bad["x"][0, 1, 30, 30] = np.nan
    exposed = expose_ranges(loaded(convolutional(dims=[1, 3, 64, 64])), ["a"])
    low, high, total, _ = computed(exposed, bad)[exposed.outputs[0]]
    assert np.isfinite([low, high]).all()
    assert np.isnan(total)


def test_sizes_are_counted():
    exposed = expose_sizes(loaded(convolutional()), INNER)
    found = computed(exposed, FEED)[exposed.outputs[0]]
    assert found.tolist() == [array.size for array in naive(convolutional(), INNER, FEED).values()]


def test_an_empty_tensor_has_the_range_of_nothing():
    proto = model_of(
        [node("Neg", ["x"], "y"), node("Relu", ["y"], "z")],
        [info("x", ["n", 4])],
        [info("z", None)],
    )
    exposed = expose_ranges(loaded(proto), ["y", "z"])
    found = computed(exposed, {"x": np.zeros((0, 4), np.float32)})[exposed.outputs[0]]
    assert found.tolist() == [np.inf, -np.inf, 0, 0] * 2


def test_each_tensor_is_found_where_it_is():
    nodes = [
        helper.make_node("Constant", [], ["k"], value_float=2.0),
        node("Mul", ["x", "k"], "a"),
        node("Add", ["a", "w"], "b"),
        node("Add", ["b", "over"], "c"),
        node("Cast", ["c"], "half", to=TensorProto.FLOAT16),
        node("Cast", ["half"], "y", to=TensorProto.FLOAT),
    ]
    weights = {"w": np.ones(3, np.float32), "over": np.ones(3, np.float32)}
    model = loaded(model_of(nodes, [info("x", [3]), info("over", [3])], [info("y", [3])], weights))
    names = ("y", "half", "b", "a", "w", "k", "over", "x")
    wanted = {**dict.fromkeys(names, Wanted()), "a": Wanted(axis=0), "b": VALUES}
    assert sources(model, wanted) == {
        "x": "input", "over": "input", "w": "constant", "k": "constant",
        "a": "values", "b": "values", "half": "values", "y": "range",
    }  # fmt: skip
    assert list(sources(model, wanted))[-4:] == ["a", "b", "half", "y"]
    assert constant(model, "k") == 2
    assert constant(model, "over").tolist() == [1, 1, 1]


def test_no_tensor_of_the_model_is_refused_by_name():
    model = loaded(convolutional())
    with pytest.raises(ModelError, match="no tensor 'nowhere'"):
        sources(model, {"nowhere": Wanted()})
    texts = model_of(
        [node("Identity", ["x"], "y")], [info("x", [1], TensorProto.STRING)],
        [info("y", [1], TensorProto.STRING)],
    )  # fmt: skip
    with pytest.raises(ModelError, match="'y' is no tensor of numbers"):
        sources(loaded(texts), {"y": Wanted()})


def test_external_data_keep_working(tmp_path):
    onnx.save_model(
        convolutional(), tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0
    )
    exposed = expose_values(io.load(tmp_path / "m.onnx"), {"c": VALUES})
    (tmp_path / "there").mkdir()
    io.save(exposed.model, tmp_path / "there" / "exposed.onnx", external=True)
    session = open_session(tmp_path / "there" / "exposed.onnx")
    assert run(session, FEED)[0].shape == (2, 8, 20, 31)
