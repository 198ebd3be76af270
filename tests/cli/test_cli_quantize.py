import json
from pathlib import Path

import pytest

from onnxopt.cli.output import beside
from onnxopt.config import METHODS, REPAIRS, ROUNDINGS, QuantizeConfig
from onnxopt.errors import OnnxOptError
from onnxopt.quantizing.weights import rounding

DEFAULTS = {
    "target": "cpu", "method": "auto", "rounding": "descent", "isa": "auto", "format": "qdq",
    "max_memory": None, "min_sqnr": None, "max_slowdown": None, "fastest": False, "metric": None,
    "max_drop": None, "samples": None, "statistics": None, "save_statistics": None,
    "random_data": False, "only": (), "skip": (), "without": (), "measure": True, "threads": None,
    "anyway": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "output"),
    [("net.onnx", "net.int8.onnx"), ("a.b/net.v2.onnx", "a.b/net.v2.int8.onnx")],
)
def test_the_result_goes_beside_the_model(model, output):
    assert beside(model, "int8") == output


def test_quantize_by_default_decides_by_itself(onnxopt_, api):
    status, out, err = onnxopt_("quantize", "m.onnx", "--calibration", "data")
    verb, args, given = api.calls[0]
    assert (status, err) == (0, "")
    assert "wrote m.onnx" in out
    assert callable(given.pop("progress"))
    assert (verb, args) == ("quantize", ("m.onnx", "data", "m.int8.onnx"))
    assert given == DEFAULTS


def test_quantize_hands_every_option_on(onnxopt_, api, tmp_path):
    (tmp_path / "eval.py").write_text("")
    options = (
        "--calibration d.npz -o out.onnx --target tensorrt --method entropy --isa avx2"
        " --format qoperator --max-memory 512M --min-sqnr 20 --max-slowdown 5% --fastest"
        " --metric eval.py:top1 --max-drop 0.5 --samples 100 --statistics s --save-statistics t"
        " --only Conv,/head --skip Add --skip a,b --no-repair splitting,bias --threads 2"
        " --rounding adaround --no-measure --anyway -v"
    )
    status, _, err = onnxopt_("quantize", "m.onnx", *options.split())
    assert (status, err) == (0, "")
    _, args, given = api.calls[0]
    given.pop("progress")
    assert args == ("m.onnx", "d.npz", "out.onnx")
    assert given == {
        "target": "tensorrt", "method": "entropy", "rounding": "adaround", "isa": "avx2",
        "format": "qoperator", "max_memory": 512_000_000, "min_sqnr": 20.0, "max_slowdown": 0.05,
        "fastest": True, "metric": "eval.py:top1", "max_drop": 0.5, "samples": 100,
        "statistics": "s", "save_statistics": "t", "random_data": False,
        "only": ("Conv", "/head"), "skip": ("Add", "a", "b"),
        "without": ("splitting", "bias"), "measure": False, "threads": 2, "anyway": True,
    }  # fmt: skip


def test_every_repair_can_be_left_out_at_once(onnxopt_, api):
    onnxopt_("quantize", "m.onnx", "--random-data", "--no-repair", "all")
    assert api.calls[0][2]["without"] == REPAIRS
    assert api.calls[0][1] == ("m.onnx", None, "m.int8.onnx")


@pytest.mark.parametrize(
    ("text", "size"),
    [("1G", 10**9), ("512m", 512 * 10**6), ("1.5GiB", 3 * 2**29), ("2000", 2000), ("64 kB", 64000),
     ("100b", 100), ("3 MiB", 3 * 2**20)],
)  # fmt: skip
def test_sizes_are_read_as_reports_write_them(onnxopt_, api, text, size):
    onnxopt_("quantize", "m.onnx", "--random-data", "--max-memory", text)
    assert api.calls[0][2]["max_memory"] == size


def test_help_tells_ranges_only_where_there_are_ends(onnxopt_):
    out = onnxopt_("quantize", "--help")[1]
    assert "None" not in out
    assert "[x>=0]" in out


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ("", "int8 needs samples", "--calibration PATH"),
        ("--calibration d --random-data", "not both", "--help"),
        ("--random-data --max-memory 1X", "'1X' is no size", "--help"),
        ("--random-data --max-memory 0", "0 is not in the range", "--help"),
        ("--random-data --max-memory -1G", "'-1G' is no size", "--help"),
        ("--random-data --max-drop 1", "--max-drop needs --metric", "--help"),
        ("--random-data --metric top1", "is not file.py:function", "eval.py:accuracy"),
        ("--random-data --metric eval.py:top1", "there is no file eval.py", "path"),
        ("--random-data --method kl", "'kl' is not one of", "--help"),
        ("--random-data --isa sse", "'sse' is not one of", "--help"),
        ("--random-data --rounding up", "'up' is not one of", "--help"),
        ("--random-data --no-repair gptq", "'gptq' is not one of", "--help"),
        ("--random-data --target gpu", "unknown target 'gpu'", "cpu"),
        ("--random-data --min-sqnr nan", "no finite number", "--help"),
        ("--random-data --json m.onnx", "would replace the model", "another name"),
        ("--calibration d.npz --json d.npz", "would replace the samples", "another name"),
        ("--random-data --html nowhere/r.html", "no directory nowhere", "mkdir"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_work(onnxopt_, api, options, message, hint):
    status, out, err = onnxopt_("quantize", "m.onnx", *options.split())
    first, second = err.splitlines()
    assert (status, out, api.calls) == (2, "", [])
    assert message in first
    assert hint in second


def test_no_int8_model_is_status_1_and_said_even_when_quiet(onnxopt_, api):
    why = "no int8 model is both right and faster"
    api.gives["quantize"] = api.quantize_report("refused", why)
    status, out, err = onnxopt_("quantize", "m.onnx", "--random-data")
    assert (status, err) == (1, "")
    assert f"NOT QUANTIZED: {why}; nothing written" in out
    assert onnxopt_("quantize", "m.onnx", "--random-data", "-q") == (1, "", f"failed: {why}\n")


def test_a_quantized_model_passes_with_status_0(onnxopt_, api):
    api.gives["quantize"] = api.quantize_report("untouched", "it is int8 already")
    status, out, _ = onnxopt_("quantize", "m.onnx", "--random-data")
    assert status == 0
    assert "left untouched: it is int8 already" in out


def test_reports_go_where_they_were_asked_for(onnxopt_, api):
    places = [f"--{name}=r.{name}" for name in ("json", "markdown", "html", "csv")]
    status, out, _ = onnxopt_("quantize", "m.onnx", "--random-data", *places)
    assert status == 0
    assert "wrote" in out
    assert json.loads(Path("r.json").read_text())["schema"] == "onnxopt.quantize/1"
    assert Path("r.markdown").read_text().startswith("### ✅")
    assert Path("r.html").read_text().startswith("<!DOCTYPE html>")
    assert Path("r.csv").read_text().startswith("name,op,became")
    status, out, err = onnxopt_("quantize", "m.onnx", "--random-data", "--json", "-")
    assert (status, err, json.loads(out)["target"]) == (0, "", "cpu")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "kl"}, "unknown method 'kl'"),
        ({"rounding": "descend"}, "unknown rounding 'descend'"),
        ({"rounding": "gptq", "without": ("rounding",)}, "nothing for gptq to do"),
        ({"isa": "avx"}, "unknown isa 'avx'"),
        ({"format": "qlinear"}, "unknown format 'qlinear'"),
        ({"without": ("roundin",)}, "unknown repair 'roundin'"),
        ({"max_drop": 0.1}, "drop of nothing"),
    ],
)
def test_the_python_api_refuses_the_same(given, message):
    with pytest.raises(OnnxOptError, match=message):
        QuantizeConfig(**given)


def test_a_name_or_an_operator_is_allowed_or_not():
    config = QuantizeConfig(only=("Conv",), skip=("/head",))
    assert config.allows("/a", "Conv")
    assert not config.allows("/a", "Add")
    assert not config.allows("/head", "Conv")
    assert QuantizeConfig().allows("/head", "Conv")
    assert not QuantizeConfig(without=("bias",)).repairs("bias")
    assert "auto" in METHODS


def test_every_rounding_there_is_can_be_asked_for():
    assert set(ROUNDINGS) == set(rounding.METHODS)
    assert QuantizeConfig().rounding == ROUNDINGS[0]
