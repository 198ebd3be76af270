"""Whether two models compute the same: what passes, what fails, and what cannot be told."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.graph._onnx_ir import ir
from onnxopt.runtime.comparing import compare
from onnxopt.runtime.comparing.compare import Reference, verify
from onnxopt.runtime.sessions.session import RunError, SessionError

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def _feeds(count=2):
    rng = np.random.default_rng(0)
    return [{"x": rng.standard_normal((2, 8)).astype(np.float32)} for _ in range(count)]


def _scaled(model, factor):
    """Return a model whose first weight is multiplied by `factor`."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    weight = numpy_helper.to_array(other.graph.initializer[0])
    scaled = numpy_helper.from_array((weight * factor).astype(weight.dtype), "w")
    other.graph.initializer[0].CopyFrom(scaled)
    return other.SerializeToString()


def test_a_model_equals_itself(save, dense):
    found = verify(save(dense), dense.SerializeToString(), _feeds())
    assert found.passed
    assert found.verified
    assert found.feeds == 2
    assert [output.name for output in found.outputs] == ["y"]
    assert found.engine == "onnxruntime"


def test_rounding_passes_and_a_wrong_weight_does_not(save, dense):
    reference = Reference.of(save(dense), _feeds())
    assert reference.judge(_scaled(dense, 1 + 1e-6)).passed
    wrong = reference.judge(_scaled(dense, 1.01))
    assert not wrong.passed
    assert wrong.verified
    assert "output 'y' differs by" in wrong.reason
    assert "feed 0" in wrong.reason
    assert wrong.outputs[0].max_rel == pytest.approx(0.01, rel=0.1)


def test_limits_of_the_user_decide(save, dense):
    reference = Reference.of(save(dense), _feeds())
    candidate = _scaled(dense, 1.01)
    assert reference.judge(candidate, rtol=0.1, atol=0.1).passed
    assert reference.judge(candidate, min_sqnr=35).passed
    assert not reference.judge(candidate, min_sqnr=60).passed
    assert not reference.judge(_scaled(dense, 1 + 1e-5), rtol=1e-9, atol=0).passed


def test_feeds_are_invented_and_run_in_one_go(save, dense):
    path = save(dense)
    reference = Reference.invent(path, ir.load(path), count=2, fix={"batch": 3})
    assert [feed["x"].shape for feed in reference.feeds] == [(3, 8), (3, 8)]
    assert reference.judge(path).passed


def test_a_candidate_that_does_not_load_or_run_has_not_passed(save, dense, build):
    reference = Reference.of(save(dense), _feeds())
    broken = reference.judge(b"\x08\x08\xff\xff")
    assert not broken.passed
    assert "does not load" in broken.reason
    renamed = build(
        [helper.make_node("MatMul", ["z", "w"], ["y"])],
        [("z", FLOAT, ["batch", 8])],
        [("y", FLOAT, None)],
        [("w", np.zeros((8, 4), np.float32))],
    )
    found = reference.judge(renamed.SerializeToString())
    assert not found.passed
    assert "does not run on feed 0" in found.reason


def test_another_number_of_outputs_has_not_passed(save, dense):
    reference = Reference.of(save(dense), _feeds())
    dense.graph.output.add().CopyFrom(helper.make_tensor_value_info("h", FLOAT, None))
    found = reference.judge(dense.SerializeToString())
    assert not found.passed
    assert "2 outputs instead of 1" in found.reason


def test_outputs_are_matched_by_name(save, build):
    def model(order):
        return build(
            [helper.make_node("Neg", ["x"], ["n"]), helper.make_node("Abs", ["x"], ["a"])],
            [("x", FLOAT, [2, 8])],
            [(name, FLOAT, [2, 8]) for name in order],
        )

    reference = Reference.of(save(model("na")), _feeds())
    assert reference.judge(model("an").SerializeToString()).passed


def test_an_output_that_differs_from_itself_is_not_judged_but_told_of(save, build):
    model = build(
        [
            helper.make_node("RandomUniformLike", ["x"], ["random"]),
            helper.make_node("Neg", ["x"], ["n"]),
        ],
        [("x", FLOAT, [2, 8])],
        [("random", FLOAT, [2, 8]), ("n", FLOAT, [2, 8])],
    )
    found = verify(save(model), model.SerializeToString(), _feeds())
    assert found.passed
    assert [output.passed for output in found.outputs] == [True, True]
    assert "not deterministic" in found.outputs[0].reason
    assert not found.outputs[1].reason


def test_what_nothing_can_run_is_not_verified_and_says_so(save, build):
    model = build(
        [helper.make_node("Frobnicate", ["x"], ["y"], domain="acme")],
        [("x", FLOAT, [2])],
        [("y", FLOAT, [2])],
        extra_domains=["acme"],
    )
    path = save(model)
    reference = Reference.invent(path, ir.load(path))
    found = reference.judge(path)
    assert not found.verified
    assert found.passed
    assert found.reason.startswith("NOT VERIFIED")
    assert "Frobnicate" in found.reason


def test_what_only_the_reference_evaluator_runs_is_compared_there(save, build):
    def model(offset):
        return build(
            [helper.make_node("Acosh", ["x"], ["h"]), helper.make_node("Add", ["h", "c"], ["y"])],
            [("x", TensorProto.DOUBLE, [2])],
            [("y", TensorProto.DOUBLE, [2])],
            [("c", np.array([offset], np.float64))],
        )

    reference = Reference.of(save(model(1)), [{"x": np.array([2.0, 3.0])}])
    assert reference.judge(model(1).SerializeToString()).engine == "onnx.reference"
    assert reference.judge(model(1).SerializeToString()).passed
    assert not reference.judge(model(1.1).SerializeToString()).passed


def test_a_broken_original_and_feeds_that_it_refuses_are_errors(tmp_path, save, dense):
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x08\xff")
    with pytest.raises(SessionError):
        Reference.of(tmp_path / "broken.onnx", _feeds())
    with pytest.raises(RunError):
        Reference.of(save(dense), [{"x": np.zeros((2, 9), np.float32)}])


def test_steps_that_the_last_bit_of_an_input_flips_are_the_references_own(save, build):
    """Rounding to integers: half of the inputs lie on the edge between two."""

    def model(nudge):
        return build(
            [
                helper.make_node("Mul", ["x", "c"], ["h"]),
                helper.make_node("Round", ["h"], ["y"]),
            ],
            [("x", FLOAT, [64])],
            [("y", FLOAT, [64])],
            [("c", np.array([nudge], np.float32))],
        )

    edges = np.nextafter(np.arange(64, dtype=np.float32) + np.float32(0.5), np.float32(0))
    reference = Reference.of(save(model(1)), [{"x": edges}])
    found = reference.judge(model(np.nextafter(np.float32(1), np.float32(2))).SerializeToString())
    assert found.passed
    assert not reference.judge(model(8).SerializeToString()).passed


def test_outputs_lost_in_noise_are_told_of(save, dense, monkeypatch):
    monkeypatch.setattr(compare, "NOISE_FACTOR", 1e9)
    reference = Reference.of(save(dense), _feeds())
    reference._noise = [compare.Slack(absolute=1e-6)]
    reference._warn_of_weak_outputs()
    assert "--data" in reference.judge(dense.SerializeToString()).reason


def test_outputs_that_are_decisions_only_are_told_of(save, build):
    model = build(
        [helper.make_node("ArgMax", ["x"], ["y"], axis=1)],
        [("x", FLOAT, [2, 8])],
        [("y", INT64, None)],
    )
    found = verify(save(model), model.SerializeToString(), _feeds())
    assert found.passed
    assert "change a decision" in found.reason
