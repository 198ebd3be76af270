"""Comparing with an earlier report: only where something can be concluded, and what it is."""

import json

import pytest

from onnxopt.benchmarking import measure
from onnxopt.benchmarking.plan import Plan
from onnxopt.errors import OnnxOptError
from onnxopt.render.json import chunks

LONG = {"max_time": 30, "precision": 0.02}


def benchmark(models, *, against=None, anyway=False, **options):
    plan = Plan.of(**{"threads": (1,), "max_time": 0, **options})
    return measure.benchmark(models, plan, against=against, anyway=anyway)


def plain(report):
    return json.loads("".join(chunks(report)))


@pytest.fixture
def model(save):
    return str(save("a.onnx"))


def test_a_model_is_compared_with_its_own_row(quick, model, save):
    other = str(save("b.onnx", hidden=17))
    quick.faster = {other: 3.0}
    earlier = plain(benchmark([model, other], batches=(1, 4), **LONG))
    quick.faster = {model: 2.0, other: 3.0}
    report = benchmark([model, other], batches=(4, 1), against=earlier, **LONG)
    assert [(each.candidate, each.setting.batch) for each in report.against] == [
        (model, 4),
        (other, 4),
        (model, 1),
        (other, 1),
    ]
    for each in report.against:
        expected = 2 if each.candidate == model else 1
        assert each.ratio == pytest.approx(expected, rel=0.15)
        assert each.verdict == ("faster" if expected == 2 else "no difference")
        assert each.baseline == f"{each.candidate} (the earlier report)"
        assert each.comparisons == 4
    assert report.baseline == "the earlier report"


def test_the_earlier_report_is_called_by_its_file(quick, model, tmp_path):
    place = tmp_path / "yesterday.json"
    place.write_text("".join(chunks(benchmark([model]))), encoding="utf-8")
    report = benchmark([model], against=place)
    assert report.baseline == "yesterday.json"
    assert report.against[0].baseline == f"{model} (yesterday.json)"


def test_a_single_model_may_be_called_otherwise(quick, model, save):
    earlier = plain(benchmark([model]))
    report = benchmark([save("new name.onnx", hidden=17)], against=earlier)
    assert report.against[0].baseline.startswith(model)


def test_of_several_models_the_one_of_the_same_file_name_is_taken(quick, model, save, tmp_path):
    earlier = plain(benchmark([model, save("b.onnx", hidden=17)]))
    for row in earlier["results"]:
        row["model"] = "elsewhere/" + row["model"].rsplit("/", 1)[1]
    report = benchmark([model], against=earlier)
    assert report.against[0].baseline.startswith("elsewhere/a.onnx")
    with pytest.raises(OnnxOptError, match=r"no model c\.onnx, only a\.onnx, b\.onnx"):
        benchmark([save("c.onnx")], against=earlier)


def test_of_two_models_of_one_name_the_path_decides_or_nothing(quick, model, save):
    earlier = plain(benchmark([model, save("b.onnx", hidden=17)]))
    earlier["results"][1]["model"] = "elsewhere/a.onnx"
    assert benchmark([model], against=earlier).against[0].baseline.startswith(model)
    earlier["results"][0]["model"] = "here/a.onnx"
    with pytest.raises(OnnxOptError, match=r"several models called a\.onnx"):
        benchmark([model], against=earlier)


def test_the_control_is_no_partner_and_has_none(quick, model):
    earlier = plain(benchmark([model], aa=True))
    assert [each["control"] for each in earlier["results"]] == [False, True]
    assert len(benchmark([model], aa=True, against=earlier).against) == 1


def changed(report, where, **values):
    for row in [report["environment"]] if where == "environment" else report["results"]:
        row.update(values)
    return report


@pytest.mark.parametrize(
    ("where", "values", "told"),
    [
        ("environment", {"processor": "Z80"}, r"another processor \(Z80, now "),
        ("environment", {"usable_cores": 512}, "another usable cores"),
        ("environment", {"onnxruntime": "1.2.3"}, r"another onnxruntime \(1\.2\.3, now "),
        ("results", {"executed": "cuda"}, r"other provider \(cuda, now cpu\)"),
        ("results", {"feeds": {"x": "float32[9,8]"}}, "other inputs"),
        ("results", {"options": {"use_tf32": "0"}}, "other provider options"),
    ],
)
def test_what_differs_is_named_and_refused_before_anything_is_measured(
    quick, model, where, values, told
):
    earlier = changed(plain(benchmark([model])), where, **values)
    begun = len(quick.plans)
    with pytest.raises(OnnxOptError, match=told) as caught:
        benchmark([model], against=earlier)
    assert "--against-anyway" in caught.value.hint
    assert len(quick.plans) == begun
    assert len(benchmark([model], against=earlier, anyway=True).against) == 1


def test_folders_of_engines_are_no_option_that_differs(quick, model):
    earlier = plain(benchmark([model]))
    changed(earlier, "results", options={"trt_engine_cache_path": "/somewhere"})
    assert benchmark([model], against=earlier).against


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"threads": (2,)}, "threads 2"),
        ({"batches": (4,)}, "batch 4"),
        ({"callers": (3,)}, "callers 3"),
        ({"rates": (9.0,)}, "rate 9"),
        ({"io": ("bound",)}, "io bound"),
    ],
)
def test_a_setting_that_was_not_measured_is_named_before_anything_is(quick, model, options, told):
    earlier = plain(benchmark([model]))
    begun = len(quick.plans)
    with pytest.raises(OnnxOptError, match=rf"no row of a\.onnx with provider cpu, .*{told}"):
        benchmark([model], against=earlier, **options)
    assert len(quick.plans) == begun


def test_other_threads_are_compared_only_if_that_is_asked_for(quick, model):
    earlier = plain(benchmark([model], threads=(2,)))
    with pytest.raises(OnnxOptError, match="threads 1"):
        benchmark([model], against=earlier)
    assert len(benchmark([model], against=earlier, anyway=True).against) == 1
    several = plain(benchmark([model], threads=(2, 3)))
    with pytest.raises(OnnxOptError, match="threads 1"):
        benchmark([model], against=several, anyway=True)


def test_a_row_that_failed_then_is_told_and_not_compared(quick, model, save):
    other = str(save("b.onnx", hidden=17))
    earlier = plain(benchmark([model, other]))
    earlier["results"][1].update(error="crashed", processes=[])
    report = benchmark([model, other], against=earlier)
    assert [each.candidate for each in report.against] == [model]
    (caution,) = [each for each in report.warnings if each.kind == "not compared"]
    assert "b.onnx could not be measured" in caution.message
    assert "crashed" in caution.message


def test_a_row_that_fails_now_is_not_compared(quick, loading, model, save):
    other = str(save("b.onnx", hidden=17))
    earlier = plain(benchmark([model, other]))
    loading(by_path={other: {"event": "failed", "message": "crashed"}})
    report = benchmark([model, other], against=earlier)
    assert [each.candidate for each in report.against] == [model]
    assert not report


def test_a_report_without_samples_is_no_baseline(quick, model):
    earlier = changed(plain(benchmark([model])), "results", processes=[])
    with pytest.raises(OnnxOptError, match="no samples"):
        benchmark([model], against=earlier)


def test_throughput_is_compared_where_callers_compete(quick, model):
    quick.wall_ns = 50_000_000
    earlier = plain(benchmark([model], callers=(2,), max_time=10))
    quick.wall_ns = 25_000_000
    report = benchmark([model], callers=(2,), against=earlier, max_time=10)
    assert report.against[0].ratio == pytest.approx(2)
    assert report.against[0].verdict == "faster"


@pytest.mark.parametrize(("speed", "status"), [(1.0, 0), (1 / 1.5, 1), (1.5, 0), (1 / 1.04, 0)])
def test_the_command_fails_only_when_the_interval_says_so(
    quick, model, tmp_path, capsys, speed, status
):
    from onnxopt.cli.main import run

    def call(*more):
        return run(["benchmark", model, "--threads", "1", "--quiet", *more])

    yesterday = str(tmp_path / "yesterday.json")
    assert call("--max-time", "20", "--json", yesterday) == 0
    quick.faster = {model: speed}
    today = ["--max-time", "20", "--against", yesterday, "--max-slowdown", "5%"]
    assert call(*today) == status
    told = capsys.readouterr().err
    assert ("is more than 5 % slower: 1." in told) == (status == 1)
