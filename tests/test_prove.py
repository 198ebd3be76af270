"""Bisection, rollback, and the promise that a wrong model is never written."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

import onnxopt
from onnxopt import prove
from onnxopt.config import find_target
from onnxopt.errors import DataError
from onnxopt.rewrite.pattern import op, var
from onnxopt.rewrite.rule import rule
from onnxopt.runtime.machine import memory
from tests.passes.graphs import info, model_of, node


@given(count=st.integers(1, 20), data=st.data())
def test_halving_finds_the_one_that_breaks_it(count, data):
    units = [f"u{i}" for i in range(count)]
    guilty = data.draw(st.sampled_from(units))
    found = prove.find_guilty(units, frozenset(), lambda without: guilty in without)
    assert found == guilty


def test_nobody_is_guilty_when_nothing_helps():
    assert prove.find_guilty(["a", "b"], frozenset(), lambda _: False) is None


@rule(op.Exp(var("x")))
def replace_exp_wrongly(new, x):
    """Exp becomes something that is almost right: the kind of fault that must not get out."""
    return new.Exp(new.Mul(x, np.float32(1.001)))


@rule(op.Tanh(var("x")))
def crash_on_tanh(new, x):
    """Raises."""
    raise RuntimeError("a fault")


@pytest.fixture
def model(tmp_path):
    nodes = [
        node("Identity", ["x"], "a"),
        node("Exp", ["a"], "b"),
        node("Tanh", ["b"], "c"),
        node("Transpose", ["c"], "d", perm=[1, 0]),
        node("Transpose", ["d"], "e", perm=[1, 0]),
        node("Add", ["e", "x"], "y"),
    ]
    path = tmp_path / "model.onnx"
    onnx.save(model_of(nodes, [info("x", ["N", 4])], [info("y", ["N", 4])]), path)
    return path


def wrong_once(new, x):
    if new.root.metadata_props.get("seen"):
        return None
    made = new.Exp(new.Mul(x, np.float32(1.001)))
    made.producer().metadata_props["seen"] = "yes"
    return made


WRONG = replace(replace_exp_wrongly, build=wrong_once)


def test_wrong_rule_is_found_dropped_and_named_and_the_rest_is_kept(model, with_rules, tmp_path):
    with_rules(WRONG)
    output = tmp_path / "out.onnx"
    report = onnxopt.optimize(model, output, measure=False)
    assert report
    assert report.verification.passed
    assert list(report.dropped) == ["replace_exp_wrongly"]
    assert [s.status for s in report.steps if s.name == "replace_exp_wrongly"] == ["rolled back"]
    assert "Transpose" not in report.output.ops
    assert onnxopt.compare(model, output)


def test_rule_that_crashes_costs_only_itself(model, with_rules, tmp_path):
    with_rules(crash_on_tanh)
    report = onnxopt.optimize(model, tmp_path / "out.onnx", measure=False)
    assert report.dropped == {"crash_on_tanh": "RuntimeError: a fault"}
    assert "Transpose" not in report.output.ops


def test_pass_that_crashes_is_left_out(model, monkeypatch, tmp_path):
    from onnxopt.passes import share

    def crash(editor, config):
        raise ValueError("a fault")

    monkeypatch.setattr(share, "run", crash)
    report = onnxopt.optimize(model, tmp_path / "out.onnx", measure=False)
    assert "crashed with ValueError" in report.dropped["share"]
    assert report.verification.passed


def respell_exp(new, x):
    return new.Pow(np.float32(np.e), x)


RESPELLS = replace(replace_exp_wrongly, build=respell_exp, name="respell_exp")


def test_doubtful_rule_is_used_only_where_it_is_measured_or_asked_for(model, with_rules):
    with_rules(replace(RESPELLS, unsure=frozenset({"cpu"})))

    def respelled(target, **options):
        config = prove.OptimizeConfig(target=find_target(target), **options)
        return "respell_exp" in prove.Prover(model, config).make().transformation.units()

    assert respelled("cpu")
    assert not respelled("cpu", measure=False)
    assert respelled("cpu", measure=False, only=("respell_exp",))
    assert respelled("cuda", measure=False)


def crash_with(operator):
    """Stand in for an onnxruntime that dies on an operator."""

    def crash_on_loading(path):
        ops = {n.op_type for n in onnx.load(path).graph.node}
        return "onnxruntime crashes (SIGSEGV)" if operator in ops else ""

    return crash_on_loading


def test_candidate_that_crashes_onnxruntime_is_mended(model, with_rules, monkeypatch, tmp_path):
    from onnxopt.runtime.sessions import crash

    with_rules(RESPELLS)
    monkeypatch.setattr(crash, "crash_on_loading", crash_with("Pow"))
    report = onnxopt.optimize(model, tmp_path / "out.onnx", measure=False)
    assert report
    assert "respell_exp" in report.dropped
    assert "SIGSEGV" in report.dropped["respell_exp"]


def test_original_that_crashes_onnxruntime_is_not_verified(model, monkeypatch, tmp_path):
    from onnxopt.runtime.sessions import crash

    monkeypatch.setattr(crash, "crash_on_loading", crash_with("Exp"))
    report = onnxopt.optimize(model, tmp_path / "out.onnx")
    assert not report.verification.verified
    assert "SIGSEGV" in report.verification.reason


def test_crash_is_told_from_an_exception(model, monkeypatch, tmp_path):
    from onnxopt.runtime.sessions import crash

    assert crash.crash_on_loading(model) == ""
    assert crash.crash_on_loading(tmp_path / "missing.onnx") == ""
    monkeypatch.setattr(crash, "_LOAD", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert "SIGSEGV" in crash.crash_on_loading(model)


def test_a_model_that_does_not_fit_into_memory_is_neither_verified_nor_measured(
    model, tmp_path, monkeypatch
):
    monkeypatch.setattr(memory, "available_bytes", lambda: 10)
    output = tmp_path / "out.onnx"
    report = onnxopt.optimize(model, output)
    assert report.verification is not None
    assert not report.verification.verified
    assert "memory to run the model, and 10 B are free" in report.verification.reason
    assert any(told.startswith("not measured: onnxruntime needs") for told in report.warnings)
    assert output.exists()


def test_what_is_large_and_temporary_lies_beside_the_output(model, tmp_path, monkeypatch):
    monkeypatch.setattr(prove, "_LARGE", 0)
    written = []
    real = prove.io.save
    monkeypatch.setattr(prove.io, "save", lambda m, path: (written.append(path), real(m, path)))
    (tmp_path / "there").mkdir()
    onnxopt.optimize(model, tmp_path / "there" / "out.onnx", measure=False)
    assert all(path.is_relative_to(tmp_path / "there") for path in written)
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["out.onnx"]


def refuse(new, x):
    new.refuse("in doubt")


WANTS_18 = replace(replace_exp_wrongly, build=refuse, name="wants_18", since=18)


def test_operator_set_is_raised_only_where_that_gains(model, with_rules):
    with_rules(WANTS_18)
    prover = prove.Prover(model, prove.OptimizeConfig())
    assert prove.transform(prover.load().model, prover.config).raised_in_vain
    made = prover.make()
    assert "opset" not in made.transformation.units()
    assert made.model.opset_imports[""] == 17


def test_operator_set_is_raised_only_where_that_is_verified(model, with_rules, monkeypatch):
    from onnxopt.runtime.sessions import crash

    with_rules(replace(RESPELLS, since=18))
    assert onnxopt.optimize(model, measure=False).output.opset[""] == 18
    monkeypatch.setattr(crash, "crash_on_loading", crash_with("Exp"))
    report = onnxopt.optimize(model, measure=False)
    assert not report.verification.verified
    assert report.output.opset[""] == 17
    assert "opset" in report.dropped


def exp_in_float64(new, x):
    return new.Cast(new.Softplus(new.Cast(x, to=TensorProto.DOUBLE)), to=TensorProto.FLOAT)


def test_model_that_cannot_be_verified_still_loads(model, with_rules, monkeypatch, tmp_path):
    with_rules(replace(WRONG, build=exp_in_float64, name="compute_in_float64"))

    def nothing_runs(self):
        raise DataError("no inputs were found that the model runs with", "give samples")

    monkeypatch.setattr(prove.Prover, "_invent", nothing_runs)
    report = onnxopt.optimize(model, tmp_path / "out.onnx", measure=False)
    assert not report.verification.verified
    assert list(report.dropped) == ["compute_in_float64"]
    assert "no longer loads" in report.dropped["compute_in_float64"]
    assert "Transpose" not in report.output.ops
