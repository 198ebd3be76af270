"""Running a model with whatever can run it."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxopt.errors import ProviderError
from onnxopt.runtime.sessions import engine
from onnxopt.runtime.sessions.engine import NothingRunsError, open_engine, run_once
from onnxopt.runtime.sessions.session import RunError, SessionError

FLOAT = TensorProto.FLOAT
X = np.array([1, 4], np.float32)


def _one(build, op, domain="", type_=FLOAT, **attributes):
    return build(
        [helper.make_node(op, ["x"], ["y"], domain=domain, name="only", **attributes)],
        [("x", type_, ["n"])],
        [("y", type_, None)],
        extra_domains=[domain] if domain else [],
    )


def test_a_small_model_is_computed_once(build):
    (out,) = run_once(_one(build, "Sqrt"), {"x": X})
    assert out.tolist() == [1, 2]


def test_serialized_models_are_taken_too(build):
    (out,) = run_once(_one(build, "Sqrt").SerializeToString(), {"x": X})
    assert out.tolist() == [1, 2]


def test_without_onnxruntime_the_reference_computes(build, monkeypatch):
    def missing(*_, **__):
        raise ProviderError("onnxruntime is not installed")

    monkeypatch.setattr(engine, "open_session", missing)
    (out,) = run_once(_one(build, "Sqrt"), {"x": X})
    assert out.tolist() == [1, 2]
    assert open_engine(_one(build, "Sqrt").SerializeToString()).name == "onnx.reference"


def test_a_type_without_a_kernel_goes_to_the_reference(build):
    model = _one(build, "Acosh", type_=TensorProto.DOUBLE)
    loaded = open_engine(model.SerializeToString())
    assert loaded.name == "onnx.reference"
    assert loaded.outputs == ("y",)
    (out,) = loaded.run({"x": np.array([1.0])})
    assert out.tolist() == [0]


def test_what_neither_knows_is_said_of_both(build):
    with pytest.raises(NothingRunsError) as caught:
        open_engine(_one(build, "Frobnicate", "acme").SerializeToString())
    assert "onnxruntime cannot run" in caught.value.message
    assert "onnx.reference" in caught.value.message
    with pytest.raises(NothingRunsError):
        run_once(_one(build, "Frobnicate", "acme"), {"x": X})


def test_a_broken_model_does_not_go_to_the_reference():
    with pytest.raises(SessionError):
        open_engine(b"\x08\x08\xff\xff\xff")


def test_a_run_that_fails_in_the_reference_is_an_error_of_the_run(build):
    model = build(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", FLOAT, ["n"])],
        [("y", FLOAT, None)],
        [("w", np.zeros((3, 3), np.float32))],
    )
    loaded = open_engine(model.SerializeToString(), only="onnx.reference")
    with pytest.raises(RunError, match=r"onnx\.reference stopped"):
        loaded.run({"x": X})
