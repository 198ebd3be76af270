"""Rows of a report: numbers from samples, and the best of several settings."""

import math

import pytest

from onnxopt.benchmarking.alone import Alone
from onnxopt.benchmarking.child.feeding import Fed
from onnxopt.benchmarking.plan import Plan
from onnxopt.benchmarking.rows import Row, Subject, best_of
from onnxopt.benchmarking.statistics.samples import restored
from onnxopt.report import BenchmarkResult, Setting

PLAN = Plan(threads=(1,))


def row_of(processes, *, setting=None, alone=None, **more):
    setting = setting or Setting()
    samples = restored(
        [{"sessions": sessions} for sessions in processes],
        per_request=setting.metric == "throughput",
    )
    made = Row(
        subject=Subject(index=0, path="m.onnx", sha256="0"),
        setting=setting,
        alone=alone or Alone(load_ms=1.0, first_run_ms=1.0),
        samples=samples,
        **more,
    )
    return made.result(PLAN, final=True)


def runs(*times_ns, wall_ns=None):
    return {"times_ns": list(times_ns), "wall_ns": wall_ns}


def test_latency_is_the_median_of_sessions_that_are_medians_of_runs():
    row = row_of([[runs(1e6, 9e6, 2e6), runs(4e6)], [runs(3e6, 3e6)]])
    assert row.median_ms == 3
    assert row.throughput == pytest.approx(1000 / 3)
    assert (row.sessions, row.runs, len(row.processes)) == (3, 6, 2)
    low, high = row.intervals["median_ms"]
    assert low <= 3 <= high


def test_batches_are_counted_in():
    row = row_of([[runs(2e6)], [runs(2e6)]], setting=Setting(batch=8))
    assert row.throughput == pytest.approx(8 * 500)


def test_callers_that_compete_have_the_throughput_of_all_and_the_latency_of_each():
    sessions = [runs(*[2_000_000] * 100, wall_ns=100_000_000)]
    row = row_of([sessions, sessions], setting=Setting(callers=2, batch=4))
    assert row.throughput == pytest.approx(4 * 1000)
    assert row.median_ms == pytest.approx(2, rel=1e-3)


def test_at_a_rate_throughput_is_what_was_served():
    sessions = [runs(1e6, 5e6, wall_ns=10_000_000), runs(1e6, wall_ns=20_000_000)]
    row = row_of([sessions], setting=Setting(rate=100.0))
    assert row.throughput == pytest.approx(3 / 0.03)
    assert "throughput" not in row.intervals


def test_of_one_process_no_interval_is_told():
    assert "median_ms" not in row_of([[runs(1e6)]]).intervals


def test_a_row_without_samples_has_no_numbers():
    row = row_of([[]])
    assert math.isnan(row.median_ms)
    assert math.isnan(row.throughput)
    assert (row.intervals, row.sessions, list(row.processes)) == ({}, 0, [])


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"error": "one"}, "one"),
        ({"fed": Fed(error="two")}, "two"),
        ({"alone": Alone(error="three")}, "three"),
    ],
)
def test_a_row_that_failed_says_why_and_warns_of_nothing(more, error):
    row = row_of([[runs(5)]], overloaded=1, **more)
    assert row.error == error
    assert row.warnings == ()


def test_what_speaks_against_a_row_is_said_of_the_final_one_only():
    row = Row(
        subject=Subject(index=0, path="m.onnx", sha256="0"),
        setting=Setting(rate=5.0),
        samples=restored([{"sessions": [runs(500, wall_ns=10**9)]}]),
        half_width=0.3,
        overloaded=1,
    )
    kinds = [each.kind for each in row.result(PLAN, final=True).warnings]
    assert kinds == ["overloaded", "too short"]
    assert row.result(PLAN, final=False).warnings == ()


def result(median_ms, low, high, *, model="m.onnx", error=None, control=False, **setting):
    made = Setting(**setting)
    size = made.batch or 1
    return BenchmarkResult(
        model=model,
        sha256="",
        provider=made.provider,
        placement={},
        batch=made.batch,
        threads=made.threads,
        callers=made.callers,
        rate=made.rate,
        io=made.io,
        load_ms=1.0,
        first_run_ms=1.0,
        processes=(),
        median_ms=median_ms,
        p90_ms=1.0,
        p99_ms=1.0,
        throughput=size * 1000 / median_ms,
        peak_rss_bytes=1,
        intervals={
            "median_ms": (low, high),
            "throughput": (size * 1000 / high, size * 1000 / low),
        },
        error=error,
        control=control,
    )


def by_metric(found):
    return {each.metric: each for each in found}


def test_the_best_has_the_least_latency_and_the_most_throughput():
    found = by_metric(best_of([result(1.0, 0.9, 1.1), result(2.0, 1.9, 2.1, batch=8)]))
    assert found["latency"].setting == Setting()
    assert found["latency"].value == 1
    assert found["throughput"].setting == Setting(batch=8)
    assert found["throughput"].value == 4000
    assert found["latency"].tied == found["throughput"].tied == ()


def test_what_reaches_the_best_is_tied():
    found = by_metric(
        best_of(
            [
                result(1.0, 0.9, 1.2, threads=1),
                result(1.3, 1.15, 1.4, threads=2),
                result(1.5, 1.3, 1.6, threads=3),
            ]
        )
    )
    assert found["latency"].tied == (Setting(threads=2),)
    assert found["throughput"].tied == (Setting(threads=2),)


def test_the_best_is_told_for_each_model_of_several_settings():
    found = best_of(
        [
            result(1.0, 0.9, 1.1, model="a", threads=1),
            result(2.0, 1.9, 2.1, model="a", threads=2),
            result(1.0, 0.9, 1.1, model="b", threads=1),
            result(9.0, 8.0, 9.5, model="b", threads=2, error="crashed"),
            result(0.1, 0.1, 0.1, model="a", threads=4, control=True),
        ]
    )
    assert {each.model for each in found} == {"a"}
    assert {each.setting.threads for each in found} == {1}


def test_a_model_in_one_setting_has_no_best():
    assert best_of([result(1.0, 0.9, 1.1), result(1.1, 1.0, 1.2)]) == ()


def test_rates_have_no_most_throughput():
    found = best_of([result(1.0, 0.9, 1.1, rate=5.0), result(2.0, 1.9, 2.1, rate=9.0)])
    assert [each.metric for each in found] == ["latency"]
