import json
import shlex
from pathlib import Path

import pytest

from onnxopt import pipeline, rules
from onnxopt.cli.benchmark import failure
from onnxopt.cli.main import COMMANDS, onnxopt
from onnxopt.cli.optimize import default_output

NOT_CHAINED = {
    "prune": None, "learn": 0, "quantize": False, "calibration": None, "random_data": False,
    "min_sqnr": None, "metric": None, "max_drop": None,
}  # fmt: skip
CLI_PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


@pytest.mark.parametrize(
    ("model", "output"),
    [
        ("net.onnx", "net.opt.onnx"),
        ("a/b.c/net.v2.onnx", "a/b.c/net.v2.opt.onnx"),
        ("a.b/net", "a.b/net.opt"),
    ],
)
def test_the_result_goes_beside_the_model(model, output):
    assert default_output(model) == output


def test_optimize_hands_every_option_on(onnxopt_, api):
    options = (
        "-o out.onnx --target cuda --fix batch=1 --fix ids:1=128 --opset 18 "
        "--only fold,fuse_erf_gelu --skip fold --data d.npz --no-verify --no-measure --check -v"
    )
    status, _, err = onnxopt_("optimize", "m.onnx", *options.split())
    (verb, args, given) = api.calls[0]
    assert (status, err, verb, args) == (0, "", "optimize", ("m.onnx", "out.onnx"))
    assert callable(given.pop("progress"))
    assert given == {
        "target": "cuda",
        "fix": {"batch": 1, "ids:1": 128},
        "opset": 18,
        "only": ("fold", "fuse_erf_gelu"),
        "skip": ("fold",),
        "verify": False,
        "measure": False,
        "data": "d.npz",
        "check": True,
        "trace": True,
        **NOT_CHAINED,
    }


def test_optimize_by_default_proves_and_measures(onnxopt_, api):
    onnxopt_("optimize", "m.onnx")
    _, args, given = api.calls[0]
    given.pop("progress")
    assert args == ("m.onnx", "m.opt.onnx")
    assert given == {
        "target": "portable", "fix": None, "opset": None, "only": (), "skip": (), "verify": True,
        "measure": True, "data": None, "check": False, "trace": False, **NOT_CHAINED,
    }  # fmt: skip


def test_a_failed_gate_is_status_1_and_said_even_when_quiet(onnxopt_, api):
    api.gives["optimize"] = api.failed_report
    status, out, err = onnxopt_("optimize", "m.onnx")
    assert (status, err) == (1, "")
    assert "OUTPUTS DIFFER" in out
    status, out, err = onnxopt_("optimize", "m.onnx", "-q")
    assert (status, out) == (1, "")
    assert err.startswith("failed: OUTPUTS DIFFER: 1 of 1 output")


def test_json_on_standard_output_stands_alone(onnxopt_, api):
    for command in (["optimize", "m"], ["inspect", "m"], ["compare", "a", "b"], ["benchmark", "a"]):
        status, out, err = onnxopt_(*command, "--json", "-")
        report = json.loads(out)
        assert (status, err) == (0, "")
        assert next(iter(report)) == "schema"
        assert report["schema"] == f"onnxopt.{command[0]}/1"


def test_rules_lists_passes_then_rules(onnxopt_):
    report = json.loads(onnxopt_("rules", "--json", "-")[1])
    assert report["schema"] == "onnxopt.rules/1"
    by_name = {entry["name"]: entry for entry in report["rules"]}
    assert list(by_name) == [*pipeline.pass_names(), *rules.names()]
    assert by_name["fold"]["kind"] == "pass"
    assert by_name[rules.names()[0]]["kind"] == "rule"
    assert all(entry["summary"] for entry in report["rules"])
    assert rules.names()[-1] in onnxopt_("rules")[1]


def test_providers_are_shown_with_the_fix(onnxopt_, monkeypatch):
    from onnxopt.runtime.execution import providers

    statuses = (
        providers.ProviderStatus(name="cpu", ort_name="CPUExecutionProvider", usable=True),
        providers.ProviderStatus(
            name="cuda", ort_name="CUDAExecutionProvider", usable=False, reason="no driver",
            fix="run: apt install driver", details={"wheel": "onnxruntime 1.23"},
        ),
    )  # fmt: skip
    monkeypatch.setattr(providers, "survey", lambda: statuses)
    status, out, _ = onnxopt_("providers")
    assert status == 0
    assert "no driver" in out
    assert "run: apt install driver" in out
    assert "1.23" not in out
    assert "1.23" in onnxopt_("providers", "-v")[1]
    report = json.loads(onnxopt_("providers", "--json", "-")[1])
    assert report["providers"][1]["details"] == {"wheel": "onnxruntime 1.23"}


def test_reports_go_to_files_beside_the_screen(onnxopt_, api):
    status, out, _ = onnxopt_("optimize", "m.onnx", "--json", "r.json", "--markdown", "r.md")
    assert status == 0
    assert "Operators" in out
    assert json.loads(Path("r.json").read_text())["schema"] == "onnxopt.optimize/1"
    assert Path("r.md").read_text().startswith("### ")
    assert sorted(path.name for path in Path().iterdir()) == ["r.json", "r.md"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--json", "nowhere/r.json"], "no directory nowhere"),
        (["--json", "."], "is a directory"),
        (["--json", "m.onnx"], "would replace the model"),
        (["--markdown", "./m.opt.onnx"], "would replace the model"),
        (["--json", "-", "--markdown", "-"], "both go to -"),
    ],
)
def test_reports_that_cannot_be_written_are_refused_before_any_work(onnxopt_, api, args, message):
    status, _, err = onnxopt_("optimize", "m.onnx", *args)
    assert (status, api.calls) == (2, [])
    assert message in err


def test_inspect_asks_for_the_providers_named(onnxopt_, api):
    onnxopt_("inspect", "m.onnx", "--provider", "cpu", "--provider", "cuda", "--nodes")
    onnxopt_("inspect", "m.onnx")
    assert [given for _, _, given in api.calls] == [
        {"providers": ("cpu", "cuda"), "costs": False, "fix": {}},
        {"providers": ("cpu",), "costs": False, "fix": {}},
    ]


def test_inspect_hands_sizes_on(onnxopt_, api):
    onnxopt_("inspect", "m.onnx", "--costs", "--fix", "batch=2", "--fix", "ids:1=128")
    (_, _, given), *_ = api.calls
    assert given == {"providers": ("cpu",), "costs": True, "fix": {"batch": 2, "ids:1": 128}}


def test_compare_hands_tolerances_on(onnxopt_, api):
    onnxopt_("compare", "a", "b", "--rtol", "0.1", "--atol", "1e-5", "--min-sqnr", "30")
    assert api.calls == [
        ("compare", ("a", "b"), {"data": None, "rtol": 0.1, "atol": 1e-5, "min_sqnr": 30.0})
    ]


def test_benchmark_hands_every_option_on(onnxopt_, api):
    options = (
        "--provider cuda --batch 1,8 --threads 2 --threads 4,2 --callers 1,3 --rate 5.5 --io bound"
        " --provider-option cuda.device_id=1 --fix n=3 --precision 1.5% --max-time 2m --timeout 9"
        " --aa --strict --profile --against old.json --against-anyway"
    )
    onnxopt_("benchmark", "a.onnx", "b.onnx", *options.split())
    onnxopt_("benchmark", "a.onnx")
    verb, args, given = api.calls[0]
    assert callable(given.pop("progress"))
    assert callable(given.pop("watch"))
    assert (verb, args) == ("benchmark", (["a.onnx", "b.onnx"],))
    assert given == {
        "providers": ("cuda",), "batches": (1, 8), "threads": (2, 4), "callers": (1, 3),
        "rates": (5.5,), "io": ("bound",), "provider_options": {"cuda": {"device_id": "1"}},
        "fix": {"n": 3}, "precision": 0.015, "max_time": 120.0, "timeout": 9.0, "aa": True,
        "strict": True, "profile": True, "against": "old.json", "against_anyway": True,
        "resume": None,
    }  # fmt: skip
    assert not {"batches", "threads", "rates", "data"} & set(api.calls[1][2])


@pytest.mark.parametrize(
    ("ratio", "allowed", "status"),
    [(0.90, 5, 1), (0.96, 5, 0), (0.95, 5, 0), (0.90, None, 0), (1.2, 0, 0)],
)
def test_slower_than_allowed_fails_only_for_certain(onnxopt_, api, ratio, allowed, status):
    api.gives["benchmark"] = api.benchmark_report(ratio)
    limit = [] if allowed is None else ["--max-slowdown", str(allowed)]
    got, _, err = onnxopt_("benchmark", "a.onnx", "b.onnx", *limit)
    assert got == status
    assert err.startswith("failed: b.onnx is more than 5 % slower") == bool(status)


def test_a_model_that_could_not_be_run_fails_a_benchmark(onnxopt_, api):
    api.gives["benchmark"] = api.benchmark_report(error="no kernel")
    assert onnxopt_("benchmark", "a.onnx")[0] == 1
    assert failure(api.gives["benchmark"], None) == "a.onnx: no kernel"


def test_the_page_names_every_command_and_its_examples_parse():
    page = CLI_PAGE.read_text()
    context = onnxopt.make_context("onnxopt", [], resilient_parsing=True)
    for name in COMMANDS:
        assert f"`onnxopt {name}" in page
    examples = [line[2:] for line in page.splitlines() if line.startswith("$ onnxopt ")]
    assert len(examples) > 10
    for example in examples:
        _, name, *args = shlex.split(example.partition("|")[0], comments=True)
        onnxopt.get_command(context, name).make_context(name, args)
