"""What the measuring process does: turns, rounds, traffic, copies; run here, without a process."""

from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest

from onnxopt.benchmarking.child import worker
from onnxopt.benchmarking.child.feedfile import save_feed
from onnxopt.benchmarking.processes import Candidate
from onnxopt.report import Setting


@pytest.fixture
def told(monkeypatch):
    events = []
    monkeypatch.setattr(worker, "tell", lambda **event: events.append(event))
    monkeypatch.setattr(worker, "_DRIVEN_SECONDS", 0.03)
    return events


@pytest.fixture
def candidate(tmp_path, save):
    """Give the function that makes a candidate of x[2, 8]."""
    feed = tmp_path / "feed.npz"
    save_feed(feed, {"x": np.ones((2, 8), np.float32)})
    path = str(save("a.onnx"))

    def make(key="a", *, setting=None, **more):
        setting = setting or Setting()
        return Candidate(**{"key": key, "path": path, "feed": str(feed), **more}, setting=setting)

    return make


@pytest.fixture
def unmeasured(told, monkeypatch):
    """Let sessions be opened by nobody, so that only their order is seen."""
    monkeypatch.setattr(worker, "_session", lambda candidate, rng: {"times_ns": [1]})
    monkeypatch.setattr(worker.gc, "collect", lambda: 0)
    return told


def play(*candidates, seconds=60.0, seed=0):
    worker.run_turns([asdict(each) for each in candidates], seconds, seed)


def keys(events, kind="session"):
    return [event["key"] for event in events if event["event"] == kind]


@pytest.mark.parametrize(
    "setting",
    [
        Setting(callers=3),
        Setting(rate=200.0),
        Setting(rate=200.0, callers=2),
        Setting(callers=2, io="bound"),
        Setting(rate=200.0, io="bound"),
    ],
    ids=str,
)
def test_a_session_is_driven_by_callers_or_by_requests(told, candidate, setting):
    play(candidate(setting=setting))
    for event in told[1::2]:
        assert min(event["times_ns"]) > 0
        assert event["wall_ns"] > 0
        assert event["overloaded"] is False
        assert event["load_ns"] > 0
        assert event["warm_ns"] > 0
    assert keys(told) == ["a", "a"]


def test_a_session_without_traffic_has_runs_alone(told, candidate):
    play(candidate(setting=Setting(io="bound"), runs=4))
    event = told[1]
    assert len(event["times_ns"]) == 4
    assert "wall_ns" not in event


def test_requests_that_no_session_could_serve_are_told_of(told, candidate):
    play(candidate(setting=Setting(rate=900_000.0)))
    assert all(event["overloaded"] for event in told[1::2])


def test_arrivals_are_drawn_anew_for_each_session(told, candidate, monkeypatch):
    seeds, real = [], worker.traffic.open_loop

    def open_loop(call_factory, *, seed, **more):
        seeds.append(seed)
        return real(call_factory, seed=seed, **more)

    monkeypatch.setattr(worker.traffic, "open_loop", open_loop)
    play(candidate(setting=Setting(rate=100.0)))
    play(candidate(setting=Setting(rate=100.0)))
    assert len(seeds) == 4
    assert len(set(seeds)) == 2
    assert seeds[:2] == seeds[2:]


def test_each_round_goes_there_and_back_in_an_order_of_its_own(unmeasured, candidate):
    names = "abcd"
    play(*(candidate(name, rounds=6) for name in names))
    rounds = [keys(unmeasured)[start : start + 8] for start in range(0, 48, 8)]
    for each in rounds:
        assert sorted(each[:4]) == list(names)
        assert each[4:] == each[3::-1]
    assert len({tuple(each) for each in rounds}) > 1


def test_blocks_take_turns_apart_and_have_rounds_of_their_own(unmeasured, candidate):
    play(
        candidate("a", block="1", rounds=3),
        candidate("b", block="1", rounds=3),
        candidate("c", block="2", rounds=1),
    )
    assert Counter(keys(unmeasured)) == {"a": 6, "b": 6, "c": 2}
    found = "".join(keys(unmeasured))
    assert "cc" in found
    assert set(found.replace("cc", "")) == {"a", "b"}


def test_no_round_is_begun_that_would_not_fit(unmeasured, candidate):
    play(candidate(rounds=8), seconds=0)
    assert keys(unmeasured) == ["a", "a"]


def test_the_order_follows_from_the_seed(unmeasured, candidate):
    found = []
    for seed in (1, 1, 2, 3, 4):
        unmeasured.clear()
        play(*(candidate(name, rounds=2) for name in "abc"), seed=seed)
        found.append("".join(keys(unmeasured)))
    assert found[0] == found[1]
    assert len(set(found)) > 1


def test_who_is_to_blame_is_said_before_each_session(unmeasured, candidate):
    play(candidate("a"), candidate("b"))
    assert [event["event"] for event in unmeasured] == ["begin", "session"] * 4
    assert keys(unmeasured, "begin") == keys(unmeasured)


def test_a_candidate_that_fails_has_no_further_turn(told, candidate, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x08\xff")
    bad = replace(candidate("bad"), path=str(tmp_path / "broken.onnx"), rounds=3)
    play(candidate("good", rounds=3), bad)
    assert keys(told, "failed") == ["bad"]
    assert keys(told) == ["good"] * 6


def test_inputs_that_cannot_be_bound_are_a_failure_of_that_candidate(told, candidate, tmp_path):
    save_feed(tmp_path / "other.npz", {"y": np.ones(3, np.float32)})
    play(replace(candidate(setting=Setting(io="bound")), feed=str(tmp_path / "other.npz")))
    assert keys(told, "failed") == ["a"]
    assert keys(told) == []


def test_a_model_alone_tells_what_it_takes(told, candidate, monkeypatch):
    read = iter([100.0, 130.0])
    monkeypatch.setattr(worker, "energy_joules", lambda provider: next(read))
    monkeypatch.setattr(worker, "device_bytes", lambda process, provider: 5_000)
    monkeypatch.setattr(worker, "_ENERGY_NS", 1_000_000)
    worker.run_alone(asdict(candidate()))
    (event,) = told
    assert 0 < event["joules_per_run"] <= 30
    assert event["device_bytes"] == 5_000
    assert event["first_ns"] > 0
    assert {taker for _, _, taker in event["assignments"]} == {"CPUExecutionProvider"}


def test_where_no_counter_is_there_no_energy_is_told(told, candidate, monkeypatch):
    monkeypatch.setattr(worker, "energy_joules", lambda provider: None)
    worker.run_alone(asdict(candidate()))
    assert told[0]["joules_per_run"] is None


def test_a_slow_model_is_not_run_again_and_again_alone(monkeypatch):
    monkeypatch.setattr(worker, "_SOLO_NS", 0)
    calls = []
    worker._run_some(lambda: calls.append(1))
    assert len(calls) == 1
    monkeypatch.setattr(worker, "_SOLO_NS", 10**12)
    worker._run_some(lambda: calls.append(1))
    assert len(calls) == 6
