"""The measured call gives the same results with copies and without."""

from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxopt.errors import DataError
from onnxopt.graph import io
from onnxopt.runtime.feeding.feeds import make_feeds
from onnxopt.runtime.sessions.binding import bind, prepare
from onnxopt.runtime.sessions.engine import open_engine
from onnxopt.runtime.sessions.ortvalues import from_ort_value
from onnxopt.runtime.sessions.session import open_session, run

MODELS = sorted((Path(__file__).parents[2] / "models").glob("*.onnx"))


def run_bound(session, feed, times=2):
    binding = bind(session, feed)
    for _ in range(times):
        session.run_with_iobinding(binding)
    return [from_ort_value(value) for value in binding.get_outputs()]


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_real_models_give_the_same_bound_as_copied(path):
    session = open_session(path, threads=1)
    feed = make_feeds(io.load(path), runs=open_engine(path).run, count=1)[0]
    for bound, copied in zip(run_bound(session, feed), run(session, feed), strict=True):
        np.testing.assert_array_equal(bound, copied)


def test_shapes_that_only_the_run_tells_are_found(build):
    model = build(
        [helper.make_node("NonZero", ["x"], ["y"])],
        [("x", TensorProto.FLOAT, ["n"])],
        [("y", TensorProto.INT64, [1, "k"])],
    )
    session = open_session(model.SerializeToString())
    for numbers in ([0, 1, 2], [0, 0, 0], [1, 1, 1, 1]):
        (found,) = run_bound(session, {"x": np.array(numbers, np.float32)})
        assert found.tolist() == [np.flatnonzero(numbers).tolist()]


def test_outputs_stay_where_they_are_as_cuda_graphs_want_it(save, dense):
    session = open_session(save(dense))
    binding = bind(session, {"x": np.ones((2, 8), np.float32)})
    addresses = set()
    for _ in range(3):
        session.run_with_iobinding(binding)
        addresses.add(binding.get_outputs()[0].data_ptr())
    assert len(addresses) == 1


@pytest.mark.parametrize("shape", [(), (5,)])
@pytest.mark.parametrize(
    ("code", "dtype"),
    [
        (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
        (TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn),
        (TensorProto.INT4, ml_dtypes.int4),
    ],
)
def test_types_that_numpy_lacks_are_bound(build, code, dtype, shape):
    values = np.full(shape, -3, np.float32)
    there, back = (
        build(
            [helper.make_node("Cast", ["x"], ["y"], to=to)],
            [("x", from_, shape)],
            [("y", to, shape)],
            opset=21,
        )
        for from_, to in ((TensorProto.FLOAT, code), (code, TensorProto.FLOAT))
    )
    (narrow,) = run_bound(open_session(there.SerializeToString()), {"x": values})
    assert (narrow.dtype, narrow.shape) == (dtype, shape)
    (wide,) = run_bound(open_session(back.SerializeToString()), {"x": narrow})
    np.testing.assert_array_equal(wide, values)


def test_arrays_that_are_not_contiguous_are_bound(save, dense):
    session = open_session(save(dense))
    feed = {"x": np.arange(24, dtype=np.float32).reshape(8, 3).T}
    np.testing.assert_array_equal(run_bound(session, feed)[0], run(session, feed)[0])


@pytest.mark.parametrize("io_", ["copied", "bound"])
def test_prepared_calls_run_the_model(save, dense, io_):
    call = prepare(open_session(save(dense)), {"x": np.ones((1, 8), np.float32)}, io=io_)
    call()
    call()


@pytest.mark.parametrize(
    ("kind", "op"),
    [
        (helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, [2])), "Identity"),
        (helper.make_tensor_type_proto(TensorProto.STRING, [2]), "Identity"),
        (helper.make_optional_type_proto(helper.make_tensor_type_proto(1, [2])), "Identity"),
    ],
    ids=["sequence", "strings", "optional"],
)
def test_what_is_no_tensor_of_numbers_is_refused_in_one_line(build, kind, op):
    model = build([helper.make_node(op, ["x"], ["y"])], [("x", kind, None)], [("y", kind, None)])
    session = open_session(model.SerializeToString())
    with pytest.raises(DataError, match="only tensors of numbers can be bound") as caught:
        prepare(session, {}, io="bound")
    assert "'x'" in caught.value.message
    assert caught.value.hint


def test_an_input_that_is_not_there_is_refused(save, dense):
    with pytest.raises(DataError, match="'nope' cannot be bound"):
        bind(open_session(save(dense)), {"nope": np.ones((1, 8), np.float32)})


class FakeBinding:
    def __init__(self):
        self.outputs = {}

    def bind_ortvalue_input(self, name, value):
        pass

    def synchronize_inputs(self):
        pass

    def bind_output(self, name, device, number):
        self.outputs[name] = (device, number)


@pytest.mark.parametrize(
    ("memory", "device"),
    [
        (("Cuda", 1), ("cuda", 1)),
        (("CudaPinned", 0), ("cpu", 0)),
        (("Cpu", 0), ("cpu", 0)),
        (("DML", 0), ("dml", 0)),
        (("OpenVINO_GPU", 0), ("cpu", 0)),
    ],
)
def test_outputs_are_bound_to_the_device_that_makes_them(memory, device):
    name, number = memory
    session = fake_session(
        get_output_memory_infos=lambda: [SimpleNamespace(name=name, device_id=number)]
    )
    assert bind(session, {"x": np.ones(1, np.float32)}).outputs == {"y": device}


@pytest.mark.parametrize(
    ("provider", "device"), [("tensorrt", "cuda"), ("cuda", "cuda"), ("cpu", "cpu")]
)
def test_an_onnxruntime_that_does_not_tell_gets_the_providers_device(provider, device):
    binding = bind(fake_session(), {"x": np.ones(1, np.float32)}, provider=provider)
    assert binding.outputs == {"y": (device, 0)}


def fake_session(**more):
    put = {name: [SimpleNamespace(name=name, type="tensor(float)")] for name in "xy"}
    return SimpleNamespace(
        get_inputs=lambda: put["x"], get_outputs=lambda: put["y"], io_binding=FakeBinding, **more
    )
