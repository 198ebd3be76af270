"""`optimize --prune … --quantize …`: what is handed on, what is refused, where reports go."""

import dataclasses
import json
from pathlib import Path

import pytest

from onnxopt.chain_config import ChainConfig
from onnxopt.config import OptimizeConfig, find_target
from onnxopt.errors import OnnxOptError


def chained(api, **steps):
    """Let the call return a report with these steps."""
    written = all(steps.values())
    report = dataclasses.replace(api.gives["optimize"], written=written, **steps)
    api.gives["optimize"] = report


def test_options_are_handed_on(onnxopt_, api, tmp_path):
    (tmp_path / "eval.py").write_text("")
    options = (
        "--prune 30% --quantize --calibration d.npz --min-sqnr 12 --metric eval.py:top1"
        " --max-drop 0.01 --target cpu"
    )
    status, _, err = onnxopt_("optimize", "m.onnx", *options.split())
    ((verb, args, given),) = api.calls
    assert (status, err, verb, args) == (0, "", "optimize", ("m.onnx", "m.opt.onnx"))
    wanted = {
        "prune": 0.3, "quantize": True, "calibration": "d.npz", "min_sqnr": 12.0,
        "metric": "eval.py:top1", "max_drop": 0.01, "random_data": False, "target": "cpu",
    }  # fmt: skip
    assert wanted.items() <= given.items()


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ("--prune 0.3", "need samples", "--calibration PATH"),
        ("--quantize", "need samples", "--calibration PATH"),
        ("--prune 0.3 --calibration d --random-data", "not both", "--help"),
        ("--prune 1 --random-data", "not in the range 0<=x<1", "--help"),
        ("--prune half --random-data", "is not a valid", "--help"),
        ("--calibration d", "for what is not exact", "--prune 0.3, --quantize or both"),
        ("--random-data", "for what is not exact", "--data"),
        ("--min-sqnr 20", "for what is not exact", "--prune 0.3"),
        ("--quantize --random-data --max-drop 1", "--max-drop needs --metric", "--help"),
        ("--quantize --random-data --metric top1", "not file.py:function", "eval.py:accuracy"),
        ("--quantize --random-data --metric e.py:f", "there is no file e.py", "path"),
        ("--quantize --calibration a.npz --json a.npz", "replace the samples", "another name"),
        ("--quantize --random-data --html nowhere/r.html", "no directory nowhere", "mkdir"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_work(onnxopt_, api, options, message, hint):
    status, out, err = onnxopt_("optimize", "m.onnx", *options.split())
    first, second = err.splitlines()
    assert (status, out, api.calls) == (2, "", [])
    assert message in first
    assert hint in second


def test_a_step_that_failed_is_status_1_and_said_even_when_quiet(onnxopt_, api):
    why = "SQNR on held-out samples: 11.4 dB of 20 dB"
    chained(api, pruned=api.prune_report("refused", why))
    options = ("optimize", "m.onnx", "--prune", "0.5", "--quantize", "--random-data")
    status, out, err = onnxopt_(*options)
    assert (status, err) == (1, "")
    assert "then NOT pruned" in out
    assert f"NOT PRUNED: {why}; nothing written" in out
    assert onnxopt_(*options, "-q") == (1, "", f"failed: {why}\n")


def test_reports_hold_every_step(onnxopt_, api):
    chained(api, pruned=api.prune_report(), quantized=api.quantize_report())
    places = [f"--{name}=r.{name}" for name in ("json", "markdown", "html")]
    status, out, _ = onnxopt_("optimize", "m.onnx", "--prune=0.5", "--random-data", *places)
    assert status == 0
    assert "then pruned, then made int8" in out
    report = json.loads(Path("r.json").read_text())
    assert report["pruned"]["status"] == "pruned"
    assert report["quantized"]["status"] == "quantized"
    assert Path("r.markdown").read_text().count("### ✅") == 3
    assert Path("r.html").read_text().count("<!DOCTYPE html>") == 1


def test_pruning_keeps_to_what_can_become_int8():
    exact = OptimizeConfig(target=find_target("cpu"), measure=False, seed=3)
    both = ChainConfig(prune=0.3, quantize=True, metric="e.py:f", max_drop=0.1)
    pruning, quantizing = both.pruning(exact), both.quantizing(exact)
    assert (pruning.target.name, pruning.target.domains) == ("cpu", frozenset({""}))
    assert "com.microsoft" in quantizing.target.domains
    for each in (pruning, quantizing):
        assert (each.measure, each.seed, each.max_drop) == (False, 3, 0.1)
    alone = ChainConfig(prune=0.3, learn=5)
    assert alone.pruning(exact).learn == 5
    assert alone.pruning(exact).target == exact.target
    assert alone.quantizing(exact) is None
    assert not ChainConfig()
    with pytest.raises(OnnxOptError, match="--learn is for a model that was pruned"):
        ChainConfig(quantize=True, learn=5).check(samples=True)
    with pytest.raises(OnnxOptError, match="sparsity 1 is not in"):
        ChainConfig(prune=1.0).pruning(exact)
