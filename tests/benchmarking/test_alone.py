"""What models that are alone in their processes tell, put together."""

import pytest

from onnxopt.benchmarking import alone
from onnxopt.benchmarking.alone import observe, without_traffic
from onnxopt.benchmarking.processes import Candidate
from onnxopt.report import Setting

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.fixture
def observed(monkeypatch):
    """Observe a model of which each process tells what is given, in turn."""

    def run(*told, provider="cpu", builds=False):
        usual = {
            "event": "alone",
            "load_ns": 2_000_000,
            "first_ns": 1_000_000,
            "assignments": [["a", "Conv", CPU]],
            "peak_rss_bytes": 10,
            "device_bytes": None,
            "joules_per_run": None,
        }
        waiting = iter(told)

        def measure_alone(candidate, *, timeout):
            yield {"event": "ready"}
            yield {**usual, **next(waiting)}

        monkeypatch.setattr(alone, "measure_alone", measure_alone)
        setting = Setting(provider=provider)
        candidate = Candidate(key="k", path="m.onnx", feed="", setting=setting)
        return observe(candidate, times=len(told), builds=builds, timeout=1)

    return run


def test_times_are_medians_and_memory_is_the_largest(observed):
    found = observed(
        {"load_ns": 9e6, "first_ns": 4e6, "peak_rss_bytes": 30, "device_bytes": 7},
        {"load_ns": 3e6, "first_ns": 2e6, "peak_rss_bytes": 50},
        {"load_ns": 4e6, "first_ns": 3e6, "peak_rss_bytes": 40, "device_bytes": 9},
    )
    assert (found.load_ms, found.first_run_ms) == (4, 3)
    assert (found.peak_rss_bytes, found.device_bytes) == (50, 9)
    assert found.build_ms is None
    assert found.joules_per_run is None


def test_what_the_first_load_took_longer_is_building_where_there_is_something_to_build(observed):
    found = observed({"load_ns": 90e6}, {"load_ns": 3e6}, {"load_ns": 5e6}, builds=True)
    assert (found.load_ms, found.build_ms) == (4, 86)
    kept = observed({"load_ns": 3e6}, {"load_ns": 4e6}, builds=True)
    assert kept.build_ms == 0
    once = observed({"load_ns": 3e6}, builds=True)
    assert (once.load_ms, once.build_ms) == (3, None)


def test_placement_has_the_most_nodes_first(observed, monkeypatch):
    monkeypatch.setattr(alone, "log_of", lambda *_, **__: "")
    taken = [["a", "Conv", CUDA], ["b", "Relu", CPU], ["c", "Relu", CPU]]
    found = observed({"assignments": taken}, provider="cuda")
    assert list(found.placement.items()) == [(CPU, 2), (CUDA, 1)]
    assert found.fallback.startswith("2 of 3 nodes did not run on cuda")


def test_the_log_is_asked_for_only_where_something_ran_elsewhere(observed, monkeypatch):
    asked = []
    monkeypatch.setattr(alone, "log_of", lambda path, **_: asked.append(path) or "")
    assert observed({}).fallback == ""
    assert asked == []
    observed({}, provider="cuda")
    assert asked == ["m.onnx"]


def test_a_model_that_fails_once_has_failed(observed):
    found = observed({}, {"event": "failed", "message": "crashed"}, {})
    assert (found.error, found.placement) == ("crashed", {})


def test_traffic_makes_no_difference_to_loading():
    busy = Setting(callers=4, rate=9.0, batch=3, io="bound")
    assert without_traffic(busy) == Setting(batch=3, io="bound")
