"""What is measured, in which order, what is left out for it, and what the report says."""

import math
from dataclasses import replace

import numpy as np
import onnx
import pytest

import onnxopt
from onnxopt import accept, prove
from onnxopt.accept import Group
from onnxopt.config import find_target
from onnxopt.errors import ProviderError
from onnxopt.report import Difference
from onnxopt.rewrite.pattern import op, var
from onnxopt.rewrite.rule import rule
from tests.rules.graphs import Graph


@pytest.fixture
def model(tmp_path):
    """Return a model with something to do for the norms, the activations, a layout, a pass."""
    g = Graph(20)
    x = y = g.input("x", "N", 64, 64)
    y = g.Transpose(g.Transpose(y, perm=[0, 2, 1]), perm=[0, 2, 1])
    centred = g.Sub(y, g.ReduceMean(y, [-1]))
    variance = g.ReduceMean(g.Mul(centred, centred), [-1])
    y = g.Div(centred, g.Sqrt(g.Add(variance, 1e-5)))
    y = g.Mul(g.Mul(y, 0.5), g.Add(g.Erf(g.Div(y, math.sqrt(2))), 1.0))
    y = g.Mul(y, g.Add(g.const([0.5]), g.const([1.5])))
    path = tmp_path / "model.onnx"
    onnx.save(g.model(g.Add(g.Exp(y), x)), path)
    return path


NORMS, GELU = "fuse_layer_normalization", "fuse_erf_gelu"


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock: rules and passes make a model so many times slower; list what it saw."""

    def start(**slow):
        seen = []

        def takes(candidate):
            units = candidate.transformation.units() if candidate is not None else []
            return math.prod(slow.get(unit, 1.0) for unit in units) * (
                slow.get("anything", 1.0) if units else 1.0
            )

        def measure(self, candidate, *, against=None, named="original", seconds):
            seen.append((named, seconds))
            ratio = takes(against) / takes(candidate)
            return difference(ratio, named)

        monkeypatch.setattr(prove.Prover, "measure", measure)
        return seen

    return start


def difference(ratio, named="original"):
    verdict = "faster" if ratio > 1.01 else "slower" if ratio < 0.99 else "no difference"
    return Difference(
        baseline=named, candidate="result", provider="cpu", ratio=ratio, low=ratio - 0.005,
        high=ratio + 0.005, verdict=verdict, processes=5, sessions=20,
    )  # fmt: skip


def optimize(model, **options):
    return onnxopt.optimize(model, **{"target": "cpu", "verify": False, **options})


def told(report):
    return [(each.what, each.difference.verdict, each.decision) for each in report.measurements]


def test_portable_model_that_is_no_slower_is_measured_once(model, clock):
    seen = clock(**{NORMS: 0.8})
    report = optimize(model, target="portable")
    assert told(report) == [("result", "faster", "kept")]
    assert [named for named, _ in seen] == ["original"]
    assert report.difference is not None
    assert report.dropped == {}


def test_fused_operators_are_asked_about_and_the_reasons_stand_in_the_report(model, clock):
    clock(**{NORMS: 0.8})
    report = optimize(model)
    assert told(report)[0] == ("result", "faster", "kept")
    assert sorted(told(report)[1:]) == [
        ("activations", "no difference", "kept"), ("norms", "faster", "kept"),
    ]  # fmt: skip
    norms = next(each for each in report.measurements if each.what == "norms")
    assert norms.units == (NORMS,)
    assert norms.difference.baseline == "result without norms"
    assert norms.predicted > 1
    assert report.to_dict()["measurements"][0]["difference"]["baseline"] == "original"


def test_fused_operator_that_costs_time_is_left_out_though_the_whole_is_faster(model, clock):
    seen = clock(**{NORMS: 0.5, GELU: 1.2})
    report = optimize(model, verify=True)
    assert report.verification.passed
    assert told(report)[0] == ("result", "faster", "left out in part")
    assert [each for each in told(report) if each[0] == "activations"] == [
        ("activations", "slower", "left out")
    ] * 2
    times = [seconds for named, seconds in seen if named == "result without activations"]
    assert times[1] == 2 * times[0]
    assert list(report.dropped) == [GELU]
    assert "1.20× slower" in report.dropped[GELU]
    assert told(report)[-1] == ("result", "faster", "kept")
    assert report.output.ops["Erf"] == 1
    assert report


def test_one_alarm_alone_leaves_nothing_out(model, clock, monkeypatch):
    seen = clock()
    true = prove.Prover.measure

    def alarming(self, candidate, *, against=None, named="original", seconds):
        found = true(self, candidate, against=against, named=named, seconds=seconds)
        first = named not in [name for name, _ in seen[:-1]]
        return difference(0.9, named) if first else found

    monkeypatch.setattr(prove.Prover, "measure", alarming)
    report = optimize(model)
    assert report.dropped == {}
    assert {decision for _, _, decision in told(report)} == {"kept"}
    assert [what for what, _, _ in told(report)].count("result") == 2


def test_whatever_makes_the_model_slower_is_found(model, clock):
    units = prove.Prover(model, prove.OptimizeConfig()).make().transformation.units()
    assert {NORMS, GELU} < set(units)
    for slow in units:
        clock(**{slow: 1.3})
        report = optimize(model, target="portable")
        assert list(report.dropped) == [slow]
        assert report.difference.verdict == "no difference"
        assert report


def test_model_that_cannot_be_made_faster_is_handed_back(model, clock, tmp_path):
    clock(anything=1.2)
    report = optimize(model, output=tmp_path / "out.onnx")
    assert report.difference is None
    assert report.output.ops == report.input.ops
    assert report.written
    assert report
    assert set(report.dropped) >= set(report.measurements[0].units)
    assert told(report)[0] == ("result", "slower", "left out")


@rule(op.Exp(var("x")))
def respell_exp(new, x):
    """Exp becomes a power."""
    return new.Pow(np.float32(np.e), x)


def test_only_the_guilty_rule_of_a_group_is_left_out(model, clock, with_rules, monkeypatch):
    with_rules(respell_exp)
    rooms = {**accept.rules.rooms(), "respell_exp": "activations"}
    monkeypatch.setattr(accept.rules, "rooms", lambda: rooms)
    clock(respell_exp=1.5)
    report = optimize(model, target="portable")
    assert list(report.dropped) == ["respell_exp"]
    assert ("activations", "slower", "left out in part") in told(report)
    assert (GELU, "no difference", "kept") in told(report)


def test_doubtful_rule_is_asked_about_by_itself(model, clock, with_rules):
    doubtful = replace(respell_exp, unsure=frozenset({"cpu"}))
    with_rules(doubtful)
    clock(respell_exp=1.2, **{NORMS: 0.5})
    assert list(optimize(model).dropped) == ["respell_exp"]
    clock(respell_exp=0.9)
    report = optimize(model)
    assert report.dropped == {}
    assert ("respell_exp", "faster", "kept") in told(report)
    assert optimize(model, measure=False).done().get("respell_exp") is None


def test_without_a_measurement_the_table_decides(model, clock, with_rules, monkeypatch):
    doubtful = replace(respell_exp, unsure=frozenset({"cpu"}))
    with_rules(doubtful)

    def fail(self, *args, **options):
        raise ProviderError("it crashed", "leave it out")

    clock()
    monkeypatch.setattr(prove.Prover, "measure", fail)
    report = optimize(model, verify=True)
    assert list(report.dropped) == ["respell_exp"]
    assert report.difference is None
    assert any("not measured: it crashed" in text for text in report.warnings)
    assert report.verification.passed


def test_provider_that_cannot_run_here_is_said_and_the_table_decides(
    model, clock, with_rules, monkeypatch
):
    from onnxopt.runtime.execution import providers

    def missing(name):
        raise ProviderError(f"provider {name!r} cannot be used: no driver", "install one")

    seen = clock()
    with_rules(replace(respell_exp, unsure=frozenset({"cuda"})))
    monkeypatch.setattr(providers, "check_usable", missing)
    report = optimize(model, target="cuda")
    assert "respell_exp" not in report.done()
    assert (report.difference, report.measurements, seen) == (None, (), [])
    assert any(text.startswith("not measured: provider 'cuda'") for text in report.warnings)
    assert report


def test_result_that_would_be_wrong_without_it_keeps_what_costs_time(model, clock, monkeypatch):
    clock(**{NORMS: 0.5, GELU: 1.2})
    judge = prove.Prover.judge

    def strict(self, candidate):
        found = judge(self, candidate)
        return replace(found, passed=GELU in candidate.transformation.units())

    monkeypatch.setattr(prove.Prover, "judge", strict)
    report = optimize(model, verify=True)
    assert report.dropped == {}
    assert ("activations", "slower", "kept") in told(report)
    assert report


def test_group_that_is_the_whole_is_not_asked_about_again(model, clock):
    clock(**{NORMS: 0.8})
    assert told(optimize(model, only=(NORMS,))) == [("result", "faster", "kept")]
    clock(**{NORMS: 1.2})
    report = optimize(model, only=(NORMS,))
    assert told(report) == [("result", "slower", "left out")] * 2
    assert report.difference is None


def test_nothing_is_asked_when_the_time_is_up(model, clock, monkeypatch):
    clock(**{GELU: 1.2, NORMS: 0.5})
    monkeypatch.setattr(accept.Acceptance, "time_for", lambda self, seconds: False)
    assert told(optimize(model)) == [("result", "faster", "kept")]


def test_groups_are_asked_about_in_the_order_of_suspicion():
    def group(stake, promise):
        return Group(name="g", units=("u",), stake=stake, promise=promise)

    loses, risky, sure = group(0.1, -0.01), group(0.2, 0.02), group(0.1, 0.4)
    idle, enlarging = group(0.0, 0.0), group(0.0, -0.1)
    order = sorted([sure, idle, risky, enlarging, loses], key=lambda each: each.margin)
    assert order == [enlarging, loses, risky, sure, idle]


def test_rules_are_grouped_by_folder_and_the_doubtful_by_themselves(with_rules):
    cpu = find_target("cpu")
    units = ["fold", GELU, "fuse_softplus", NORMS, "respell_exp"]
    with_rules(replace(respell_exp, unsure=frozenset({"cpu"})))
    groups = accept.grouped(units, cpu)
    assert {group.name: group.units for group in groups} == {
        "fold": ("fold",), "activations": (GELU, "fuse_softplus"), "norms": (NORMS,),
        "respell_exp": ("respell_exp",),
    }  # fmt: skip
    assert "fuse_erf_gelu_for_onnxruntime" in groups[1].others
    assert accept.doubtful(units, cpu) == {"respell_exp"}
    assert accept.doubtful(units, find_target("cuda")) == set()


def test_from_end_to_end(model):
    config = prove.OptimizeConfig(target=find_target("cpu"), measure_seconds=1.0)
    proof = prove.Prover(model, config).prove()
    assert proof.verification.passed
    assert proof.measurements[0].what == "result"
    assert proof.measurements[0].difference.sessions >= 4
    assert proof.difference is not None or not proof.candidate.transformation.steps
