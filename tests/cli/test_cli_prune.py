import dataclasses
import inspect
import json
from pathlib import Path

import pytest

from onnxopt.cli.output import beside
from onnxopt.errors import OnnxOptError
from onnxopt.prune_config import PruneConfig

DEFAULTS = {
    "target": "portable", "structure": "channel", "sparsity": None, "threshold": None,
    "target_latency": None, "target_macs": None, "importance": "auto", "scope": "global",
    "protect": (), "refit": True, "solver": "exact", "ridge": None, "teach": False,
    "learn": 0, "multiple": None, "mask": None, "mask_out": None, "min_sqnr": None,
    "max_slowdown": None, "metric": None, "max_drop": None, "samples": None,
    "max_memory": None, "random_data": False, "measure": True, "threads": None, "anyway": False,
}  # fmt: skip


def asked(api):
    """Return the arguments and options of the one call, without what shows progress."""
    ((verb, args, given),) = api.calls
    assert verb == "prune"
    assert callable(given.pop("progress"))
    return args, given


def test_the_result_goes_beside_the_model():
    assert beside("a.b/net.v2.onnx", "pruned") == "a.b/net.v2.pruned.onnx"


def test_prune_by_default_decides_by_itself(onnxopt_, api):
    status, out, err = onnxopt_("prune", "m.onnx", "--sparsity", "0.5", "--calibration", "data")
    assert (status, err) == (0, "")
    assert "wrote m.onnx" in out
    args, given = asked(api)
    assert args == ("m.onnx", "m.pruned.onnx")
    assert given == DEFAULTS | {"sparsity": 0.5, "calibration": "data"}


def test_prune_hands_every_option_on(onnxopt_, api, tmp_path):
    (tmp_path / "eval.py").write_text("")
    options = (
        "--threshold 0.02 --structure channel --calibration d.npz -o out.onnx --target cpu"
        " --importance wanda --scope layer --protect /head,/stem --protect fc --multiple 16"
        " --solver adam --ridge 0.1 --teach --learn 3 --min-sqnr 12 --max-slowdown 5%"
        " --metric eval.py:top1 --max-drop 0.5 --samples 100 --max-memory 512M --threads 2"
        " --no-measure --anyway -v"
    )
    status, _, err = onnxopt_("prune", "m.onnx", *options.split())
    assert (status, err) == (0, "")
    args, given = asked(api)
    assert args == ("m.onnx", "out.onnx")
    assert given == DEFAULTS | {
        "threshold": 0.02, "calibration": "d.npz", "target": "cpu", "importance": "wanda",
        "scope": "layer", "protect": ("/head", "/stem", "fc"), "multiple": 16, "solver": "adam",
        "ridge": 0.1, "teach": True, "learn": 3, "min_sqnr": 12.0, "max_slowdown": 0.05,
        "metric": "eval.py:top1", "max_drop": 0.5, "samples": 100, "max_memory": 512_000_000,
        "threads": 2, "measure": False, "anyway": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "share"), [("0.7", 0.7), ("0.7x", 0.7), ("0.7×", 0.7), ("70%", 0.7), ("70 %", 0.7)]
)
@pytest.mark.parametrize("option", ["--target-latency", "--target-macs"])
def test_budgets_are_read_as_people_write_them(onnxopt_, api, option, text, share):
    onnxopt_("prune", "m.onnx", "--random-data", option, text)
    assert asked(api)[1][option.removeprefix("--").replace("-", "_")] == pytest.approx(share)


@pytest.mark.parametrize(
    "options",
    [
        "--structure element --sparsity 0.9 --importance l1 --no-refit",
        "--structure element --sparsity 90% --no-refit",
        "--structure 2:4 --importance l2 --no-refit",
        "--structure 2:4 --sparsity 0.5 --no-refit",
        "--structure channel --sparsity 0 --importance batchnorm --no-refit",
        "--structure channel --threshold 0.1 --importance random --no-refit",
    ],
)
def test_magnitude_without_a_refit_needs_no_samples(onnxopt_, api, options):
    assert onnxopt_("prune", "m.onnx", *options.split())[0] == 0
    assert asked(api)[1]["calibration"] is None


def test_masks_are_written_in_place_of_a_model(onnxopt_, api):
    api.gives["prune"] = api.prune_report("masked")
    options = "--sparsity 0.5 --random-data --mask-out masks.npz"
    status, out, err = onnxopt_("prune", "m.onnx", *options.split())
    assert (status, err) == (0, "")
    assert "the model is left as it is" in out
    args, given = asked(api)
    assert args == ("m.onnx", None)
    assert given["mask_out"] == "masks.npz"


def test_masks_are_taken_in_place_of_an_amount(onnxopt_, api):
    Path("masks.npz").touch()
    assert onnxopt_("prune", "m.onnx", "--random-data", "--mask", "masks.npz")[0] == 0
    assert asked(api)[1]["mask"] == "masks.npz"


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ("--random-data", "nothing says how much is to go", "--target-latency 0.7"),
        ("--random-data --sparsity 1", "not in the range 0<=x<1", "--help"),
        ("--random-data --sparsity -0.1", "not in the range 0<=x<1", "--help"),
        ("--random-data --sparsity half", "is not a valid", "--help"),
        ("--random-data --sparsity nan", "no finite number", "--help"),
        ("--random-data --target-macs 0", "not in the range 0<x<1", "--help"),
        ("--random-data --target-latency 1.5x", "not in the range", "--help"),
        ("--random-data --sparsity 0.5 --threshold 1", "exclude each other", "one of them"),
        ("--random-data --target-macs 0.5 --mask m", "exclude each other", "one of them"),
        ("--random-data --structure 2:4 --sparsity 0.6", "two of every four", "leave --sparsity"),
        ("--random-data --structure 2:4 --threshold 1", "two of every four", "leave --threshold"),
        ("--random-data --structure element --target-macs 0.5", "no work away", "channel"),
        ("--random-data --structure rank --sparsity 0.5 --mask-out k", "no masks", "channels"),
        ("--random-data --structure block --sparsity 0.1 --importance batchnorm", "of channels",
         "another --importance"),
        ("--random-data --sparsity 0.5 --no-refit --teach", "without a refit", "--no-refit"),
        ("--random-data --sparsity 0.5 --no-refit --solver adam", "without a refit", "--solver"),
        ("--sparsity 0.5", "refitting what is left needs samples", "--no-refit"),
        ("--sparsity 0.5 --no-refit --importance obs", "--importance obs needs", "--calibration"),
        ("--sparsity 0.5 --no-refit --structure block", "--structure block needs", "--calibration"),
        ("--sparsity 0.5 --no-refit --structure rank", "--structure rank needs", "--calibration"),
        ("--target-macs 0.5 --no-refit", "--target-macs needs samples", "--calibration"),
        ("--sparsity 0.5 --no-refit --min-sqnr 9", "--min-sqnr needs samples", "--calibration"),
        ("--sparsity 0.5 --calibration d --random-data", "not both", "--help"),
        ("--random-data --sparsity 0.5 --max-drop 1", "--max-drop needs --metric", "--help"),
        ("--random-data --sparsity 0.5 --metric top1", "not file.py:function", "eval.py:accuracy"),
        ("--random-data --sparsity 0.5 --structure rows", "'rows' is not one of", "--help"),
        ("--random-data --sparsity 0.5 --importance taylor", "'taylor' is not one of", "--help"),
        ("--random-data --sparsity 0.5 --target gpu", "unknown target 'gpu'", "cpu"),
        ("--random-data --mask masks.npz", "no file masks.npz", "path of a file"),
        ("--random-data --mask a --mask-out b", "only be copied", "--mask or --mask-out"),
        ("--random-data --sparsity 0.5 --mask-out a.npz -o b", "no model", "--help"),
        ("--random-data --sparsity 0.5 --mask-out m.onnx", "would replace the model", "another"),
        ("--random-data --sparsity 0.5 --mask-out no/a.npz", "no directory no", "mkdir"),
        ("--sparsity 0.5 --calibration a.npz --mask-out a.npz", "replace the samples", "another"),
        ("--random-data --sparsity 0.5 --json m.onnx", "would replace the model", "another name"),
        ("--random-data --sparsity 0.5 --html nowhere/r.html", "no directory nowhere", "mkdir"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_before_any_work(onnxopt_, api, options, message, hint):
    status, out, err = onnxopt_("prune", "m.onnx", *options.split())
    first, second = err.splitlines()
    assert (status, out, api.calls) == (2, "", [])
    assert message in first
    assert hint in second


def test_a_failed_gate_is_status_1_and_said_even_when_quiet(onnxopt_, api):
    why = "SQNR on held-out samples: 11.4 dB of 20 dB"
    api.gives["prune"] = api.prune_report("refused", why)
    options = ("prune", "m.onnx", "--sparsity", "0.5", "--random-data")
    status, out, err = onnxopt_(*options)
    assert (status, err) == (1, "")
    assert f"NOT PRUNED: {why}; nothing written" in out
    assert onnxopt_(*options, "-q") == (1, "", f"failed: {why}\n")


def test_reports_go_where_they_were_asked_for(onnxopt_, api):
    places = [f"--{name}=r.{name}" for name in ("json", "markdown", "html", "csv")]
    options = ("prune", "m.onnx", "--sparsity", "0.5", "--random-data")
    status, out, _ = onnxopt_(*options, *places)
    assert status == 0
    assert "wrote" in out
    assert json.loads(Path("r.json").read_text())["schema"] == "onnxopt.prune/1"
    assert Path("r.markdown").read_text().startswith("### ✅")
    assert Path("r.html").read_text().startswith("<!DOCTYPE html>")
    assert Path("r.csv").read_text().startswith("name,unit,before,after")
    status, out, err = onnxopt_(*options, "--json", "-")
    assert (status, err, json.loads(out)["structure"]) == (0, "", "channel")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"structure": "row"}, "unknown structure 'row'"),
        ({"importance": "taylor"}, "unknown importance 'taylor'"),
        ({"solver": "sgd"}, "unknown solver 'sgd'"),
        ({"scope": "model"}, "unknown scope 'model'"),
        ({"sparsity": 1.0}, "sparsity 1 is not in"),
        ({"sparsity": float("nan")}, "sparsity nan is not in"),
        ({"target_latency": 0.0}, "target_latency 0 is not between"),
        ({"sparsity": 0.5, "target_macs": 0.5}, "exclude each other"),
        ({"max_drop": 0.1}, "drop of nothing"),
    ],
)
def test_the_python_api_refuses_the_same(given, message):
    with pytest.raises(OnnxOptError, match=message):
        PruneConfig(**given)


def test_python_and_the_command_line_know_the_same_options():
    from onnxopt.api import prune

    options = {
        name: each.default
        for name, each in inspect.signature(prune).parameters.items()
        if name not in ("model", "output", "calibration", "progress")
    }
    assert options == DEFAULTS
    config = {each.name for each in dataclasses.fields(PruneConfig)}
    assert config - set(options) == {"seed"}


def test_blocks_may_go_as_long_as_the_error_allows():
    PruneConfig(structure="block", min_sqnr=12.0).check(samples=True)
    with pytest.raises(OnnxOptError, match="nothing says"):
        PruneConfig(structure="channel", min_sqnr=12.0).check(samples=True)


def test_zeros_do_not_shrink_a_model():
    assert [PruneConfig(structure=name).shrinks for name in ("channel", "block", "rank")] == [
        True, True, True,
    ]  # fmt: skip
    assert not PruneConfig(structure="element").shrinks
    assert not PruneConfig(structure="2:4").shrinks
