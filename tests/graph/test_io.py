import gc
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from onnxopt.graph import io
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.mapped import MappedTensor
from tests.graph.protos import chain, info, model_of, node, same, weights

DATASETS = Path(onnxruntime.__file__).parent / "datasets"
BACKEND = Path(onnx.__file__).parent / "backend/test/data"
PUBLISHED = sorted([*DATASETS.glob("*.onnx"), *BACKEND.rglob("*.onnx")])


@pytest.mark.parametrize("folder", ["simple", "light", "pytorch-converted", "pytorch-operator"])
def test_published_models_are_saved_as_they_were_loaded(folder, tmp_path):
    models = [path for path in PUBLISHED if folder in path.parts]
    assert models
    for path in models:
        io.save(io.load(path), tmp_path / "again.onnx")
        same(onnx.load(tmp_path / "again.onnx"), onnx.load(path))


def test_a_classifier_with_maps_runs_after_saving(tmp_path):
    # onnx_ir alone cannot read it: its second output is a sequence of maps.
    path = DATASETS / "logreg_iris.onnx"
    io.save(io.load(path), tmp_path / "again.onnx")
    same(onnx.load(tmp_path / "again.onnx"), onnx.load(path))
    feed = {"float_input": np.ones((3, 2), np.float32)}
    one, other = (
        onnxruntime.InferenceSession(str(p)).run(None, feed)
        for p in (path, tmp_path / "again.onnx")
    )
    assert one[1] == other[1]


def test_large_weights_stay_in_the_file(tmp_path):
    onnx.save(chain(), tmp_path / "m.onnx")
    model = io.load(tmp_path / "m.onnx")
    held = {name: value.const_value for name, value in model.graph.initializers.items()}
    assert [type(t) is MappedTensor for t in held.values()] == [True, True, True, False]
    expected = numpy_helper.to_array(chain().graph.initializer[1])
    assert np.array_equal(held["w1"].numpy(), expected)
    assert held["w1"].file is held["w0"].file


def test_the_source_is_remembered(tmp_path):
    onnx.save(chain(), tmp_path / "m.onnx")
    (tmp_path / "link.onnx").symlink_to("m.onnx")
    for model in (loaded := io.load(tmp_path / "link.onnx"), loaded.clone()):
        source = io.source_of(model)
        assert source.path == str(tmp_path / "link.onnx")
        assert source.real_path == str(tmp_path / "m.onnx")
        assert source.file_bytes == (tmp_path / "m.onnx").stat().st_size
        assert not source.external
    assert io.source_of(io.from_proto(chain())) is None
    digest = hashlib.sha256((tmp_path / "m.onnx").read_bytes()).hexdigest()
    assert io.sha256_of(tmp_path / "m.onnx") == digest


def test_a_proto_stays_as_it_is():
    proto, twin = chain(), chain()
    model = io.from_proto(proto)
    assert proto == twin
    proto.graph.initializer[0].raw_data = bytes(4096)
    same(io.to_proto(model), twin)


def test_a_graph_that_is_not_sorted_is_sorted():
    proto = chain()
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(nodes))
    same(io.to_proto(io.from_proto(proto)), chain())


def test_a_nested_graph_may_read_what_the_outer_one_computes_later():
    branch = helper.make_graph([node("Relu", ["late"], ["b"])], "branch", [], [info("b")])
    choice = node("If", ["p"], ["y"], then_branch=branch, else_branch=branch)
    flag = info("p", [], TensorProto.BOOL)
    proto = model_of([choice, node("Neg", ["x"], ["late"])], [info("x"), flag], [info("y")])
    model = io.from_proto(proto)
    assert [made.op_type for made in model.graph] == ["Neg", "If"]
    onnx.checker.check_model(io.to_proto(model))


def test_operators_that_nobody_knows_and_weights_that_are_no_numbers_are_kept():
    odd = numpy_helper.from_array(np.float32([np.nan, np.inf, -np.inf, -0.0] * 300), "odd")
    made = helper.make_node("Unheard", ["x", "odd"], ["y"], domain="of.it")
    proto = model_of([made], [info("x")], [info("y")], [odd])
    same(io.to_proto(io.from_proto(proto)), proto)


def test_float_data_is_mapped_and_saved_as_float_data(tmp_path):
    values = np.linspace(0, 1, 1000, dtype=np.float32)
    held = helper.make_tensor("w", TensorProto.FLOAT, [1000], values)
    proto = model_of([node("Add", ["x", "w"], ["y"])], [info("x")], [info("y")], [held])
    onnx.save(proto, tmp_path / "m.onnx")
    model = io.load(tmp_path / "m.onnx")
    tensor = model.graph.initializers["w"].const_value
    assert isinstance(tensor, MappedTensor)
    assert np.array_equal(tensor.numpy(), values)
    io.save(model, tmp_path / "again.onnx")
    same(onnx.load(tmp_path / "again.onnx"), proto)


ELEMENTS = st.sampled_from(
    [kind for kind in ir.DataType if kind not in (ir.DataType.UNDEFINED, ir.DataType.STRING)]
)


@st.composite
def tensors(draw, name):
    kind = draw(ELEMENTS)
    shape = draw(st.sampled_from([[], [0], [3], [7, 5], [40, 41], [3, 0], [2000], [70000]]))
    count = int(np.prod(shape, dtype=int))
    size = -(-count * kind.bitwidth // 8)
    data = bytes(size) if kind.bitwidth == 6 else draw(st.randoms()).randbytes(size)
    tensor = onnx.TensorProto(name=name, data_type=int(kind), dims=shape, raw_data=data)
    if draw(st.booleans()):
        tensor.doc_string = "a weight"
        tensor.metadata_props.add(key="from", value="hypothesis")
    return tensor


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data(), st.integers(1, 4), st.booleans())
def test_tensors_of_every_kind_come_back(tmp_path, data, count, external):
    held = [data.draw(tensors(f"w{i}")) for i in range(count)]
    inner = data.draw(tensors(""))
    nodes = [
        node("Constant", [], ["c"], value=inner),
        helper.make_node("Use", ["x", "c", *(t.name for t in held)], ["y"], domain="d"),
    ]
    proto = model_of(nodes, [info("x")], [info("y")], held)
    onnx.save(proto, tmp_path / "m.onnx")
    model = io.load(tmp_path / "m.onnx")
    io.save(model, tmp_path / "a.onnx", external=external)
    same(onnx.load(tmp_path / "a.onnx"), proto)
    io.save(io.load(tmp_path / "a.onnx"), tmp_path / "b.onnx", external=False)
    same(onnx.load(tmp_path / "b.onnx"), proto)
    same(io.to_proto(model), proto)


def test_files_of_a_saved_model_are_listed(tmp_path):
    io.save(io.from_proto(chain()), tmp_path / "m.onnx", external=True)
    assert io.files_of(tmp_path / "m.onnx") == [tmp_path / "m.onnx", tmp_path / "m.onnx.data"]
    io.save(io.from_proto(chain()), tmp_path / "n.onnx")
    assert io.files_of(tmp_path / "n.onnx") == [tmp_path / "n.onnx"]


def test_loading_and_saving_takes_little_memory(tmp_path):
    big = [weights(f"w{i}", (1 << 10, 3 << 10), seed=i) for i in range(8)]  # 12 MiB each
    proto = model_of([node("Sum", [t.name for t in big], ["y"])], [info("x")], [info("y")], big)
    onnx.save(proto, tmp_path / "m.onnx")
    code = (
        "import resource, sys; from onnxopt.graph import io;"
        "size = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "before = size(); io.save(io.load(sys.argv[1]), sys.argv[2]); print(size() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "m.onnx", tmp_path / "out.onnx"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) << 10 < 16 << 20
    assert (tmp_path / "out.onnx").stat().st_size == (tmp_path / "m.onnx").stat().st_size


def test_the_garbage_collector_is_left_as_it_was():
    gc.disable()
    try:
        io.from_proto(chain())
        assert not gc.isenabled()
    finally:
        gc.enable()
    io.from_proto(chain())
    assert gc.isenabled()
