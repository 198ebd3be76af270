import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.graph import io, spill
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.mapped import MappedTensor
from onnxopt.graph.spill import Spill

RNG = np.random.default_rng(0)
LARGE = (200, 300)  # float32: 240,000 bytes


def tensor(array, **options):
    return ir.Tensor(array, name="w", **options)


@pytest.mark.parametrize(
    "array",
    [
        RNG.normal(size=LARGE).astype(np.float32),
        RNG.normal(size=LARGE).astype(ml_dtypes.bfloat16),
        RNG.normal(size=(300, 200)).T,
        RNG.integers(-8, 8, (500, 500)).astype(ml_dtypes.int4),
    ],
    ids=["float32", "bfloat16", "transposed", "int4"],
)
def test_what_is_beyond_the_allowance_goes_to_a_file_and_stays_what_it_is(array, tmp_path):
    kept = Spill(tmp_path, allowance=0).keep(tensor(array, doc_string="why"))
    assert isinstance(kept, MappedTensor)
    assert (kept.name, kept.doc_string, kept.nbytes) == ("w", "why", tensor(array).nbytes)
    assert kept.numpy().dtype == array.dtype
    assert kept.numpy().tobytes() == array.tobytes()
    assert list(tmp_path.iterdir()) == []


def test_what_is_within_the_allowance_and_what_is_small_stays_in_memory(tmp_path):
    kept = Spill(tmp_path, allowance=300_000)
    first, second = (tensor(np.zeros(LARGE, np.float32)) for _ in range(2))
    small = tensor(np.zeros(10, np.float32))
    assert kept.keep(first) is first
    assert isinstance(kept.keep(second), MappedTensor)
    assert kept.keep(small) is small
    assert kept.spilled == 240_000


def test_strings_and_tensors_that_lie_in_a_file_stay_as_they_are(tmp_path):
    kept = Spill(tmp_path, allowance=0)
    mapped = kept.keep(tensor(np.zeros(LARGE, np.float32)))
    texts = ir.StringTensor(np.array([b"x" * 100_000, b""], object))
    assert kept.keep(mapped) is mapped
    assert kept.keep(texts) is texts


def test_several_files_are_made_where_one_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(spill, "_SEGMENT", 300_000)
    arrays = [RNG.normal(size=LARGE).astype(np.float32) for _ in range(3)]
    arrays.append(RNG.normal(size=(400, 300)).astype(np.float32))  # more than a whole segment
    kept = Spill(tmp_path, allowance=0)
    held = [kept.keep(tensor(array)) for array in arrays]
    assert len({id(one.file) for one in held}) == 4
    for one, array in zip(held, arrays, strict=True):
        assert np.array_equal(one.numpy(), array)


def test_a_folder_that_takes_nothing_costs_memory_not_the_model(tmp_path):
    large = tensor(np.zeros(LARGE, np.float32))
    assert Spill(tmp_path / "missing", allowance=0).keep(large) is large


def test_a_model_is_saved_from_what_was_spilled(tmp_path):
    array = RNG.normal(size=LARGE).astype(np.float32)
    inputs, outputs = (helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in "xy")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    weights = [numpy_helper.from_array(np.zeros(LARGE, np.float32), "w")]
    graph = helper.make_graph(nodes, "g", [inputs], [outputs], weights)
    model = io.from_proto(helper.make_model(graph, ir_version=8))
    held = Spill(tmp_path, allowance=0).keep(tensor(array))
    model.graph.initializers["w"].const_value = held
    for external in (False, True):
        io.save(model, tmp_path / "model.onnx", external=external)
        again = io.load(tmp_path / "model.onnx").graph.initializers["w"].const_value
        assert np.array_equal(again.numpy(), array)
