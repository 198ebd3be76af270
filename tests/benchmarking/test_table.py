"""A table of measurements on a machine that is drawn: what stands in its rows, and why."""

import math

import pytest

from onnxopt.benchmarking import measure, rows, table
from onnxopt.benchmarking.plan import Plan
from onnxopt.errors import ProviderError
from onnxopt.runtime.execution.providers import PROVIDERS

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def benchmark(models, *, progress=None, watch=None, **options):
    plan = Plan.of(**{"threads": (1,), "max_time": 0, **options})
    return measure.benchmark(models, plan, progress=progress, watch=watch)


@pytest.fixture
def usable(monkeypatch):
    """Let every provider be usable, and its log say nothing."""
    for module, name in (
        (table, "check_usable"),
        (table, "find_provider"),
        (rows, "find_provider"),
    ):
        monkeypatch.setattr(module, name, PROVIDERS.__getitem__)
    monkeypatch.setattr(table, "options_for", lambda provider, **_: {"of": provider})
    monkeypatch.setattr("onnxopt.benchmarking.alone.log_of", lambda *_, **__: "")


def nodes(*providers):
    return {"assignments": [[f"n{i}", "Conv", name] for i, name in enumerate(providers)]}


@pytest.mark.parametrize(
    ("taken", "executed", "placement", "fallback"),
    [
        ([CUDA] * 3, "cuda", {CUDA: 3}, ""),
        ([CUDA, CPU], "cuda", {CUDA: 1, CPU: 1}, "1 of 2 nodes"),
        ([CPU, CPU, CPU, CUDA], "cuda", {CPU: 3, CUDA: 1}, "3 of 4 nodes"),
        ([CPU] * 2, "cpu", {CPU: 2}, "none of 2 nodes"),
        ([], "", {}, ""),
    ],
)
def test_a_row_is_called_by_a_provider_only_if_that_took_nodes(
    quick, loading, usable, save, taken, executed, placement, fallback
):
    loading(**nodes(*taken))
    (row,) = benchmark([save("a.onnx")], providers=("cuda",)).results
    assert (row.provider, row.executed, row.placement) == ("cuda", executed, placement)
    assert row.fallback.startswith(fallback)
    assert bool(row.fallback) == bool(fallback)
    assert [each.kind for each in row.warnings if each.kind == "fell back"] == (
        ["fell back"] if fallback else []
    )
    assert row.error is None


def test_strict_makes_a_fall_back_an_error_and_measures_the_rest(quick, loading, usable, save):
    whole, part = str(save("whole.onnx")), str(save("part.onnx", hidden=17))
    loading(by_path={part: nodes(CUDA, CPU)}, **nodes(CUDA, CUDA))
    report = benchmark([whole, part], providers=("cuda",), strict=True)
    assert not report
    assert [row.error is None for row in report.results] == [True, False]
    assert report.results[1].error.startswith("--strict: 1 of 2 nodes")
    assert report.results[1].placement == {CUDA: 1, CPU: 1}
    assert report.results[0].sessions == 4
    assert report.differences == ()


def test_a_provider_that_cannot_be_used_is_a_row_with_the_fix(quick, save, monkeypatch):
    def check(name):
        if name == "cuda":
            raise ProviderError("provider 'cuda' cannot be used: no driver", "run: install it")
        return PROVIDERS[name]

    monkeypatch.setattr(table, "check_usable", check)
    report = benchmark([save("a.onnx")], providers=("cuda", "cpu"))
    bad, good = report.results
    assert bad.error == "provider 'cuda' cannot be used: no driver. run: install it"
    assert (bad.executed, bad.placement, bad.sessions, len(bad.processes)) == ("", {}, 0, 0)
    assert math.isnan(bad.median_ms)
    assert good.error is None


def test_where_no_provider_can_be_used_nothing_is_run(quick, save, monkeypatch):
    def check(name):
        raise ProviderError("provider 'cuda' cannot be used: no driver")

    monkeypatch.setattr(table, "check_usable", check)
    report = benchmark([save("a.onnx")] * 2, providers=("cuda",), aa=True)
    assert [row.error is None for row in report.results] == [False] * 3
    assert quick.plans == []
    assert report.warnings == () or report.complete


def test_a_model_that_fails_while_it_is_loaded_leaves_the_others(quick, loading, save):
    good, bad = str(save("good.onnx")), str(save("bad.onnx", hidden=17))
    loading(by_path={bad: {"event": "failed", "message": "crashed the process with SIGSEGV"}})
    report = benchmark([good, bad, good])
    assert [row.error for row in report.results] == [None, "crashed the process with SIGSEGV", None]
    assert len(report.differences) == 1


def test_a_model_that_fails_later_is_a_row_with_its_samples(quick, save):
    paths = [str(save(f"{name}.onnx", hidden)) for name, hidden in (("a", 8), ("b", 9), ("c", 10))]
    seen = []

    def watch(report):
        seen.append([row.error for row in report.results])
        key = next(each.key for each in quick.plans[0] if each.path == paths[1])
        quick.fails[key] = 3

    report = benchmark(paths, watch=watch, max_time=5, precision=0.001)
    assert [row.error for row in report.results] == [None, "stopped", None]
    assert seen[2] == [None, None, None]
    assert seen[3] == [None, "stopped", None]
    bad = report.results[1]
    assert [len(each["sessions"]) for each in bad.processes][:3] == [2, 2, 2]
    assert report.results[0].sessions == report.results[2].sessions > bad.sessions
    assert [each.candidate for each in report.differences] == [paths[2]]


def test_the_control_is_a_row_and_a_difference_of_its_own(quick, save):
    one, two = str(save("a.onnx")), str(save("b.onnx", hidden=17))
    report = benchmark([one, two], aa=True)
    assert [(row.model, row.control) for row in report.results] == [
        (one, False),
        (two, False),
        (one, True),
    ]
    assert [(each.candidate, each.control) for each in report.differences] == [
        (two, False),
        (one, True),
    ]
    assert {each.comparisons for each in report.differences} == {2}
    assert "control" not in {each.kind for each in report.warnings}


def test_a_control_that_differs_is_warned_of(quick, save, monkeypatch):
    one = str(save("a.onnx"))
    quick.session = quick.process = quick.common = 0.001
    real = quick.one

    def slower(candidate, level):
        return real(candidate, level + 0.1 * candidate.key.startswith("1 "))

    monkeypatch.setattr(quick, "one", slower)
    report = benchmark([one], aa=True, max_time=20)
    (difference,) = report.differences
    assert (difference.control, difference.verdict) == (True, "slower")
    (caution,) = [each for each in report.warnings if each.kind == "control"]
    assert caution.message.startswith("a.onnx against itself: 1.1")
    assert "do not trust" in caution.advice


def test_the_best_setting_does_not_count_the_control(quick, save):
    report = benchmark([save("a.onnx")], batches=(1, 4), aa=True)
    assert {each.metric for each in report.best} == {"latency", "throughput"}
    assert {each.setting.batch for each in report.best if each.metric == "throughput"} == {4}


def test_models_that_have_other_inputs_are_told_apart_and_not_compared(quick, feeding, save):
    one, two = str(save("a.onnx")), str(save("b.onnx", hidden=17))
    feeding(others={two})
    report = benchmark([one, two])
    assert report.differences == ()
    assert report.results[1].warnings[0].kind == "not compared"
    assert [row.error for row in report.results] == [None, None]


def test_where_the_first_model_has_no_inputs_the_others_are_not_blamed(quick, feeding, save):
    one, two = str(save("a.onnx")), str(save("b.onnx", hidden=17))
    feeding(errors={one})
    report = benchmark([one, two])
    assert [row.error for row in report.results] == ["input 'x' cannot be guessed", None]
    assert "not compared" not in {each.kind for each in report.results[1].warnings}


def test_traffic_needs_no_loading_of_its_own(quick, loading, save):
    seen = loading()
    benchmark([save("a.onnx")], callers=(1, 2), rates=(None, 50.0))
    assert {(each.setting.callers, each.setting.rate) for each in seen} == {(1, None)}


def test_throughput_is_what_competing_callers_are_compared_by(quick, save):
    quick.wall_ns = 50_000_000
    report = benchmark([save("a.onnx")] * 2, callers=(2,))
    row = report.results[0]
    assert row.throughput == pytest.approx(20 / 0.05)
    assert "throughput" in row.intervals
    assert report.differences[0].ratio == pytest.approx(1)
    assert row.processes[0]["sessions"][0]["wall_ns"] == 50_000_000


def test_requests_that_come_too_fast_are_told_of(quick, save):
    quick.wall_ns = 50_000_000
    (row,) = benchmark([save("a.onnx")], rates=(500.0,)).results
    (caution,) = [each for each in row.warnings if each.kind == "overloaded"]
    assert "4 of 4 sessions" in caution.message


def test_reports_along_the_way_are_not_complete_and_the_last_is(quick, save):
    seen = []
    report = benchmark([save("a.onnx")], watch=seen.append)
    assert [each.complete for each in seen] == [False, False]
    assert [[len(each.results[0].processes)] for each in seen] == [[2], [2]]  # the same samples
    assert report.complete
    assert all(not row.warnings for each in seen for row in each.results)


def test_numbers_lie_within_their_intervals(quick, save):
    report = benchmark([save("a.onnx")], batches=(None, 8), max_time=20)
    for row in report.results:
        assert {"median_ms", "throughput", "p90_ms"} <= set(row.intervals)
        for name, (low, high) in row.intervals.items():
            assert low <= getattr(row, name) <= high
        assert row.throughput == pytest.approx((row.batch or 1) * 1e3 / row.median_ms)
    assert all(each.low <= each.ratio <= each.high for each in report.differences)
