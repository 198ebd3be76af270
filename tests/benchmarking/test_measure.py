"""A table of measurements, and one question about two models."""

import json

import numpy as np
import pytest

from onnxopt.benchmarking import alone, measure, table
from onnxopt.benchmarking.measure import MeasureError, ab
from onnxopt.benchmarking.plan import Plan
from onnxopt.benchmarking.processes import Candidate
from onnxopt.errors import ModelError, ProviderError
from onnxopt.report import Setting


def benchmark(models, *, progress=None, watch=None, resume=None, **options):
    plan = Plan.of(**{"threads": (1,), "max_time": 0, **options})
    return measure.benchmark(models, plan, progress=progress, watch=watch, resume=resume)


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch):
    monkeypatch.setattr(table, "TIMES", 1)


def test_a_table_has_a_row_for_each_model_and_setting(save):
    report = benchmark([save("a.onnx"), save("b.onnx")], batches=(None, 3))
    assert report
    assert [(row.batch, row.threads) for row in report.results] == [(None, 1)] * 2 + [(3, 1)] * 2
    for row in report.results:
        assert row.placement == {"CPUExecutionProvider": 2}
        assert row.feeds == {"x": f"float32[{row.batch or 1},8]"}
        assert 0 < row.median_ms <= row.p99_ms
        assert row.throughput == pytest.approx((row.batch or 1) * 1000 / row.median_ms)
        assert row.load_ms > 0
        assert row.peak_rss_bytes > 10e6
        assert len(row.sha256) == 64
        assert [len(process["sessions"]) for process in row.processes] == [2, 2]
    assert [each.sessions for each in report.differences] == [4, 4]
    assert {each.candidate.rsplit("/", 1)[1] for each in report.differences} == {"b.onnx"}


def test_a_report_is_plain_json_without_a_host_name(save):
    report = benchmark([save("a.onnx")])
    text = json.dumps(report.to_dict())
    assert json.loads(text)["schema"] == "onnxopt.benchmark/1"
    assert report.environment["usable_cores"] >= 1
    assert "node" not in report.environment


def test_the_same_file_twice_is_two_rows_and_a_comparison(save):
    path = save("a.onnx")
    report = benchmark([path, path])
    assert len(report.results) == 2
    assert len(report.differences) == 1


def test_models_with_other_inputs_are_measured_but_not_compared(save):
    report = benchmark([save("a.onnx"), save("z.onnx", input_name="z")])
    assert [row.error for row in report.results] == [None, None]
    assert report.differences == ()
    assert "not compared" in str(report.results[1].warnings[0])


def test_a_provider_that_is_not_there_is_a_row_that_says_so(save):
    report = benchmark([save("a.onnx")], providers=("cpu", "nonsense"))
    assert not report
    assert [row.error is None for row in report.results] == [True, False]
    assert "nonsense" in report.results[1].error


def test_a_model_that_fails_is_a_row_that_says_so(save, monkeypatch):
    """The model's file goes bad after it was read: the processes cannot load it."""
    good, bad = save("good.onnx"), save("bad.onnx")
    real = table.feeds_for

    def spoil(*arguments, **named):
        bad.write_bytes(b"\x08\x08\xff")
        return real(*arguments, **named)

    monkeypatch.setattr(table, "feeds_for", spoil)
    report = benchmark([good, bad])
    assert report.results[0].error is None
    assert report.results[0].median_ms > 0
    assert "bad.onnx" in report.results[1].error
    assert report.differences == ()


def test_a_file_that_is_no_model_is_an_error(tmp_path):
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ModelError):
        benchmark([tmp_path / "text.onnx"])


def test_samples_of_the_user_are_fed_and_joined_to_a_batch(save, tmp_path):
    np.savez(tmp_path / "samples.npz", x=np.ones((5, 8), np.float32))
    report = benchmark([save("a.onnx")], batches=(1, 4, 9), data=tmp_path / "samples.npz")
    assert [row.feeds.get("x") for row in report.results] == [
        "float32[1,8]",
        "float32[4,8]",
        None,
    ]
    assert "5 samples" in report.results[2].error


def test_progress_goes_from_nothing_to_everything(save):
    seen = []
    benchmark(
        [save("a.onnx")],
        batches=(1, 2),
        progress=lambda what, fraction: seen.append((what, fraction)),
    )
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert seen[0][0] == "making inputs"


def test_two_models_are_compared_on_a_feed_of_ones_own_or_of_the_callers(save):
    one, two = save("a.onnx"), save("b.onnx", hidden=64)
    found = ab(one, two, seconds=0, threads=1)
    assert (found.baseline, found.candidate) == (str(one), str(two))
    assert found.processes == 2
    assert found.low <= found.ratio <= found.high
    feed = {"x": np.ones((2, 8), np.float32)}
    assert ab(one, two, seconds=0, feeds=[feed]).sessions == 4


def test_what_cannot_be_measured_is_an_error(save, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x08\xff")
    with pytest.raises(MeasureError, match="cannot load"):
        ab(save("a.onnx"), tmp_path / "broken.onnx", seconds=0)
    with pytest.raises(ProviderError, match="nonsense"):
        ab(save("a.onnx"), save("b.onnx"), provider="nonsense", seconds=0)


@pytest.mark.parametrize(
    ("seconds", "builds", "processes"), [(1, False, 3), (30, False, 1), (30, True, 2)]
)
def test_what_takes_long_to_load_is_loaded_less_often(monkeypatch, seconds, builds, processes):
    clock = iter(range(0, 1000, seconds))
    monkeypatch.setattr(alone.time, "perf_counter", lambda: next(clock))
    event = {
        "event": "alone", "load_ns": 1, "first_ns": 1, "assignments": [], "peak_rss_bytes": 1,
        "device_bytes": None, "joules_per_run": None,
    }  # fmt: skip
    started = []

    def measure_alone(candidate, *, timeout):
        started.append(candidate)
        yield event

    monkeypatch.setattr(alone, "measure_alone", measure_alone)
    candidate = Candidate(key="a", path="a", feed="", setting=Setting())
    alone.observe(candidate, times=3, builds=builds, timeout=1)
    assert len(started) == processes
