"""`optimize --prune … --quantize …`: one command, judged from end to end by the model as given."""

import collections
import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxopt
from onnxopt import chain, task
from onnxopt.cli.main import run
from onnxopt.errors import OnnxOptError
from onnxopt.graph import io
from onnxopt.judging.samples import Samples
from onnxopt.report import Caution, Difference
from onnxopt.rewrite.pattern import op, var
from onnxopt.rewrite.rule import rule
from tests.quantizing.repair.nets import normal
from tests.quantizing.small import pictures
from tests.render.int8_reports import make_quantized
from tests.render.pruned_reports import make_pruned
from tests.test_prune_task import feeds, noise, signature, wide

TRAINED = Path(__file__).parents[1] / "bench" / "trained" / "fashion_residual.onnx"
QUICK = {"calibration": feeds(), "measure": False, "target": "cpu"}


@pytest.fixture
def model(tmp_path):
    onnx.save(wide(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def samples(tmp_path):
    np.savez(tmp_path / "samples.npz", x=np.concatenate([feed["x"] for feed in feeds()]))
    return str(tmp_path / "samples.npz")


def difference(ratio):
    return Difference(
        baseline="a", candidate="b", provider="cpu", ratio=ratio, low=ratio * 0.99,
        high=ratio * 1.01, verdict="faster" if ratio > 1 else "slower",
    )  # fmt: skip


def operators(path):
    return collections.Counter(node.op_type for node in onnx.load(path).graph.node)


def sqnr(report):
    return report.verification.outputs[0].sqnr_db


def test_one_command_does_it_all(model, samples, tmp_path, capsys):
    out, told = tmp_path / "out.onnx", tmp_path / "r.json"
    options = ["--target", "cpu", "--prune", "0.3", "--quantize", "--calibration", samples]
    before = set(tmp_path.iterdir())
    status = run(["optimize", str(model), "-o", str(out), *options, "--no-measure",
                  "--json", str(told), "--html", str(tmp_path / "r.html")])  # fmt: skip
    shown = capsys.readouterr().out
    assert status == 0
    assert set(tmp_path.iterdir()) - before == {out, told, tmp_path / "r.html"}
    onnx.checker.check_model(onnx.load(out), full_check=True)
    assert signature(out) == signature(model)
    assert operators(out)["QuantizeLinear"] >= 5
    report = json.loads(told.read_text())
    assert report["schema"] == "onnxopt.optimize/1"
    assert (report["written"], report["output"]["path"]) == (True, str(out))
    assert report["verification"]["passed"]
    pruned, quantized = report["pruned"], report["quantized"]
    assert (pruned["status"], quantized["status"]) == ("pruned", "quantized")
    assert pruned["output"]["path"] is None
    assert pruned["output"]["macs"] < pruned["input"]["macs"]
    assert pruned["input"] == quantized["input"] == report["input"]
    assert quantized["output"] == report["output"]
    for text in ("verified: 1 output the same", "What went: channels", "wrote"):
        assert text in shown


def test_every_step_is_judged_by_the_model_that_was_given(model, tmp_path):
    out = tmp_path / "out.onnx"
    report = onnxopt.optimize(model, out, prune=0.3, quantize=True, **QUICK)
    held = list(Samples(feeds).held())
    lost = noise(model, out, held)
    assert sqnr(report.quantized) == pytest.approx(-10 * np.log10(lost), abs=0.1)
    assert sqnr(report.quantized) < sqnr(report.pruned) + 1
    # What int8 alone does is small beside what pruning did, and is told of the pruned model.
    alone = [each.sqnr_before_db for each in report.quantized.repairs]
    assert min(alone) > sqnr(report.pruned) + 3
    assert report.quantized.score is None
    assert report.model is report.quantized.model


def test_each_can_be_had_without_the_other(model, tmp_path):
    one, other = tmp_path / "one.onnx", tmp_path / "other.onnx"
    report = onnxopt.optimize(model, one, prune=0.3, **QUICK)
    assert report
    assert (report.quantized, report.pruned.written) == (None, True)
    assert report.output == report.pruned.output
    assert operators(one)["QuantizeLinear"] == 0
    report = onnxopt.optimize(model, other, quantize=True, **QUICK)
    assert report
    assert (report.pruned, report.quantized.written) == (None, True)
    assert sqnr(report.quantized) > 20


def test_without_either_nothing_is_different(model, tmp_path):
    report = onnxopt.optimize(model, tmp_path / "o.onnx", measure=False)
    assert (report.pruned, report.quantized, report.chain()) == (None, None, ())
    assert report.written


def test_a_floor_that_is_missed_ends_it_with_nothing_written(model, samples, tmp_path, capsys):
    out, told = tmp_path / "out.onnx", tmp_path / "r.json"
    options = ["--target", "cpu", "--no-measure", "--prune", "0.3", "--quantize", "-q"]
    options += ["--calibration", samples, "--min-sqnr", "60", "--json", str(told)]
    assert run(["optimize", str(model), "-o", str(out), *options]) == 1
    shown, err = capsys.readouterr()
    assert (shown, err[:37]) == ("", "failed: SQNR on held-out samples: 28.")
    report = json.loads(told.read_text())
    assert (report["written"], report["pruned"]["status"]) == (False, "refused")
    assert report["quantized"] is None
    assert report["output"]["macs"] == report["input"]["macs"]
    assert not out.exists()
    assert not list(tmp_path.glob(".onnxopt-*"))


@pytest.mark.parametrize(("scores", "reached"), [([1, 0.5], "pruned"), ([1, 0.95, 0.5], "int8")])
def test_a_metric_that_falls_too_far_ends_it(model, tmp_path, capsys, scores, reached):
    """The model that was given is asked once, and both drops are told against it."""
    left = list(scores)

    def falling(predict):
        predict(feeds(1)[0])
        return left.pop(0) if len(left) > 1 else left[0]

    out = tmp_path / "o.onnx"
    report = onnxopt.optimize(
        model, out, prune=0.3, quantize=True, metric=falling, max_drop=0.1, **QUICK
    )
    assert not report
    assert not report.written
    assert not out.exists()
    assert report.pruned.score.float_score == 1
    if reached == "pruned":
        assert report.quantized is None
    else:
        assert report.pruned
        assert "none keeps a score of 0.9" in report.quantized.reason


def test_what_is_not_faster_than_the_model_ends_it(model, tmp_path, monkeypatch):
    asked = []

    def ab(self, path, feeds):
        asked.append(self.teacher)
        return difference(0.9)

    monkeypatch.setattr(task.Task, "ab", ab)
    options = {**QUICK, "measure": True}
    report = onnxopt.optimize(model, tmp_path / "o.onnx", prune=0.3, quantize=True, **options)
    assert not report
    assert (report.pruned.status, report.pruned.difference.ratio) == ("refused", 0.9)
    assert (report.quantized, asked) == (None, [model])
    assert not (tmp_path / "o.onnx").exists()


def test_int8_that_gains_little_is_told_beside_what_pruning_gained():
    pruned = dataclasses.replace(make_pruned(), difference=difference(1.3))
    little, other = (Caution(kind=kind, message="a") for kind in ("little gained", "few samples"))
    report = dataclasses.replace(make_quantized(), warnings=(little, other))
    found, same = chain.told_of(report, pruned)
    assert found.message == "not by int8: pruning alone makes the model 1.30× faster (1.29–1.31)"
    assert same == other


@rule(op.Relu(var("x")))
def forget_relu(new, x):
    """Computes something else."""
    return new.Identity(x)


def test_a_rule_that_was_found_wrong_is_left_out_of_what_follows(model, with_rules):
    with_rules(forget_relu)
    report = onnxopt.optimize(model, prune=0.3, quantize=True, **QUICK)
    assert report
    assert "forget_relu" in report.dropped
    steps = (*report.pruned.steps, *report.quantized.steps)
    assert not any("forget_relu" in step.done for step in steps)
    assert sqnr(report.quantized) > 20


def test_dimensions_stay_fixed(model, tmp_path):
    out = tmp_path / "o.onnx"
    assert onnxopt.optimize(model, out, prune=0.3, fix={"N": 1}, **QUICK)
    (image,) = onnx.load(out).graph.input
    assert image.type.tensor_type.shape.dim[0].dim_value == 1


def test_a_quantized_model_is_only_optimized_or_refused(tmp_path):
    onnx.save(io.to_proto(pictures()), tmp_path / "cnn.onnx")
    int8, out = tmp_path / "int8.onnx", tmp_path / "o.onnx"
    onnxopt.quantize(tmp_path / "cnn.onnx", feeds(), int8, measure=False, without=["rounding"])
    report = onnxopt.optimize(int8, out, quantize=True, **QUICK)
    assert report
    assert report.written
    assert (report.quantized.status, report.quantized.written) == ("untouched", True)
    assert signature(out) == signature(int8)
    with pytest.raises(OnnxOptError, match="quantized already"):
        onnxopt.optimize(int8, out, prune=0.3, **QUICK)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("nowhere.npz", "nowhere.npz does not exist"),
        ([{"y": normal(1, 3, 12, 12)}], "'y'"),
        ([{"x": normal(1, 4, 12, 12)}], "'x'"),
    ],
)
def test_samples_that_do_not_fit_are_refused_before_any_work(model, monkeypatch, data, message):
    monkeypatch.setattr("onnxopt.prove.Prover.prove", lambda _: pytest.fail("work was done"))
    with pytest.raises(OnnxOptError, match=message):
        onnxopt.optimize(model, prune=0.3, calibration=data, measure=False)


def test_nothing_that_can_go_is_bad_input(tmp_path, samples, capsys):
    onnx.save(io.to_proto(pictures()), tmp_path / "m.onnx")
    options = ["--prune", "0.3", "--calibration", samples, "--no-measure"]
    assert run(["optimize", str(tmp_path / "m.onnx"), *options]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: nothing goes")
    assert second.endswith("--multiple 1 (an option of onnxopt prune)")
    assert not (tmp_path / "m.opt.onnx").exists()


def test_random_data_are_said_in_both(model):
    options = {**QUICK, "calibration": None, "random_data": True}
    report = onnxopt.optimize(model, prune=0.3, quantize=True, **options)
    assert report.pruned.calibration.random
    assert report.quantized.calibration.random


def test_int8_has_not_to_make_up_for_what_pruning_lost(tmp_path):
    """By itself it is refused below 20 dB: here, too, no more than that is what it may add."""
    out = tmp_path / "o.onnx"
    given = [{"image": np.abs(normal(1, 1, 28, 28, seed=n)) * 0.3} for n in range(16)]
    report = onnxopt.optimize(
        TRAINED, out, target="cpu", prune=0.6, quantize=True, calibration=given, measure=False
    )
    assert report
    assert sqnr(report.pruned) < 19
    assert sqnr(report.quantized) > sqnr(report.pruned) - 2
    assert report.output.macs < 0.5 * report.input.macs
    assert report.output.file_bytes < 0.2 * report.input.file_bytes
    assert signature(out) == signature(TRAINED)
