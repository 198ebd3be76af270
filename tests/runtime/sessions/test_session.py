"""Opening and running onnxruntime sessions."""

import sys

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxopt.errors import ProviderError
from onnxopt.runtime.sessions.session import (
    RunError,
    SessionError,
    assignments,
    import_onnxruntime,
    open_session,
    placement,
    run,
)


def test_a_session_tells_who_took_the_nodes(save, dense):
    session = open_session(save(dense), optimize="none")
    assert placement(session) == {"CPUExecutionProvider": 3}
    assert {op for _, op, _ in assignments(session)} == {"MatMul", "Relu"}


def test_outputs_come_in_the_order_of_the_names_asked_for(save, build):
    model = build(
        [helper.make_node("Neg", ["x"], ["n"]), helper.make_node("Abs", ["x"], ["a"])],
        [("x", TensorProto.FLOAT, [2])],
        [("n", TensorProto.FLOAT, [2]), ("a", TensorProto.FLOAT, [2])],
    )
    session = open_session(save(model))
    feed = {"x": np.array([-1, 2], np.float32)}
    assert [out.tolist() for out in run(session, feed)] == [[1, -2], [1, 2]]
    assert [out.tolist() for out in run(session, feed, ["a", "n"])] == [[1, 2], [1, -2]]


@pytest.mark.parametrize("content", [b"", b"this is text", b"\x08\x08garbage\xff\xff"])
def test_a_broken_file_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(SessionError) as caught:
        open_session(path)
    assert "broken.onnx" in caught.value.message
    assert "ONNXRuntimeError" not in caught.value.message
    assert not caught.value.unsupported


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(SessionError):
        open_session(tmp_path / "none.onnx")


def test_an_unknown_operator_is_told_from_a_broken_model(build):
    model = build(
        [helper.make_node("Frobnicate", ["x"], ["y"], domain="acme")],
        [("x", TensorProto.FLOAT, [2])],
        [("y", TensorProto.FLOAT, [2])],
        extra_domains=["acme"],
    )
    with pytest.raises(SessionError) as caught:
        open_session(model.SerializeToString())
    assert caught.value.unsupported
    assert "Frobnicate" in caught.value.message


def test_a_run_that_stops_names_the_node(save, build):
    model = build(
        [helper.make_node("Reshape", ["x", "shape"], ["y"], name="fold_it")],
        [("x", TensorProto.FLOAT, ["n"])],
        [("y", TensorProto.FLOAT, [2, 2])],
        [("shape", np.array([2, 2], np.int64))],
    )
    session = open_session(save(model))
    with pytest.raises(RunError, match="fold_it"):
        run(session, {"x": np.zeros(5, np.float32)})


@pytest.mark.parametrize(
    ("code", "dtype", "numbers"),
    [
        (TensorProto.BFLOAT16, ml_dtypes.bfloat16, [1, -2, 3, 0, 7]),
        (TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn, [1, -2, 3, 0, 7]),
        (TensorProto.INT4, ml_dtypes.int4, [1, -2, 3, -8, 7]),
        (TensorProto.UINT4, ml_dtypes.uint4, [1, 2, 3, 0, 15]),
    ],
)
def test_types_that_numpy_lacks_pass_through(build, code, dtype, numbers):
    values = np.array(numbers, np.float32)
    there = build(
        [helper.make_node("Cast", ["x"], ["y"], to=code)],
        [("x", TensorProto.FLOAT, [5])],
        [("y", code, [5])],
        opset=21,
    )
    back = build(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)],
        [("x", code, [5])],
        [("y", TensorProto.FLOAT, [5])],
        opset=21,
    )
    (narrow,) = run(open_session(there.SerializeToString()), {"x": values})
    assert narrow.dtype == dtype
    assert narrow.astype(np.float32).tolist() == values.tolist()
    (wide,) = run(open_session(back.SerializeToString()), {"x": narrow})
    assert wide.tolist() == values.tolist()


def _save_with_data(model, folder):
    folder.mkdir()
    path = folder / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    return path


def test_external_data_are_found_in_the_models_folder(tmp_path, dense, monkeypatch):
    path = _save_with_data(dense, tmp_path / "model")
    monkeypatch.chdir("/")
    (out,) = run(open_session(path), {"x": np.ones((1, 8), np.float32)})
    assert out.shape == (1, 4)


def test_a_hugging_face_snapshot_of_links_loads(tmp_path, dense):
    path = _save_with_data(dense, tmp_path / "blobs")
    snapshot = tmp_path / "snapshots" / "revision"
    snapshot.mkdir(parents=True)
    for file, blob in ((path, "a1"), (path.with_suffix(".onnx_data"), "b2")):
        file.rename(tmp_path / "blobs" / blob)
        (snapshot / file.name).symlink_to(f"../../blobs/{blob}")
    assert run(open_session(snapshot / "model.onnx"), {"x": np.ones((1, 8), np.float32)})


def test_a_lone_link_to_a_model_finds_its_data(tmp_path, dense):
    path = _save_with_data(dense, tmp_path / "model")
    link = tmp_path / "link.onnx"
    link.symlink_to(path)
    assert run(open_session(link), {"x": np.ones((1, 8), np.float32)})


def test_without_onnxruntime_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ProviderError, match="onnxopt\\[cpu\\]"):
        import_onnxruntime()


def test_runs_leave_a_trace_where_one_is_asked_for(save, dense, tmp_path):
    session = open_session(save(dense), trace=tmp_path / "trace")
    run(session, {"x": np.ones([1, 8], np.float32)})
    (left,) = tmp_path.glob("trace_*.json")
    assert session.end_profiling() == str(left)
    assert "model_run" in left.read_text()
