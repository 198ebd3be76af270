"""Experiments have the jobs that were announced, and go on where they stopped."""

import json
import subprocess
import sys

import click.testing
import pytest
import trust
import trust_lanes
import trust_loops
import trust_models
import trust_own
import trust_plan
import trust_worker

NAMES = [f"model{number}" for number in range(20)]
BY_NAME = {experiment.name: experiment for experiment in trust_plan.EXPERIMENTS}


def jobs_of(name):
    experiment = BY_NAME[name]
    return experiment.jobs(experiment.settings, NAMES)


def test_every_experiment_belongs_to_a_part_and_has_distinct_keys():
    assert {name for names in trust_plan.PARTS.values() for name in names} == set(BY_NAME)
    for name in BY_NAME:
        keys = [job.key for job in jobs_of(name)]
        assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", ["false-alarms", "slower-5", "slower-10"])
def test_there_are_a_hundred_comparisons_each_with_a_seed_of_its_own(name):
    jobs = jobs_of(name)
    assert [job.told["seed"] for job in jobs] == list(range(100))
    assert all(job.arguments["seed"] == job.told["seed"] for job in jobs)


def test_the_usual_way_gets_the_same_pairs():
    pairs = [(job.arguments["reference"], job.arguments["candidate"]) for job in jobs_of("usual")]
    own = [(j.arguments["reference"], j.arguments["candidate"]) for j in jobs_of("false-alarms")]
    assert sorted(pairs) == sorted(own * 2)


@pytest.mark.parametrize(("name", "blocks"), [("slower-5", 21), ("slower-10", 22)])
def test_the_longer_chain_is_expected_to_lose_on_either_side(name, blocks):
    for job in jobs_of(name):
        slower = job.arguments["candidate" if job.told["expected"] == "slower" else "reference"]
        assert slower.endswith(f"_{blocks}.onnx")
    assert {job.told["expected"] for job in jobs_of(name)} == {"slower", "faster"}


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Let jobs come to something without being done, and results go into a folder."""
    done = []

    def spread(jobs, lanes):
        for job in jobs:
            done.append(job.key)
            failing = job.key == "model1 0" and done.count(job.key) == 1
            row = {"ratio": 1.0, "low": 0.9, "high": 1.1, "verdict": "no difference", "seconds": 1}
            yield job, {"error": "broke"} if failing else row

    monkeypatch.setattr(trust_lanes, "spread", spread)
    monkeypatch.setattr(trust_lanes, "cores", lambda count: list(range(count)))
    monkeypatch.setattr(trust_plan, "prepare", lambda names: None)
    monkeypatch.setattr(trust_plan, "model_names", lambda: NAMES[:3])
    monkeypatch.setattr(trust.record, "RESULTS", tmp_path)
    return done, tmp_path / "trust.json"


def run(*arguments):
    result = click.testing.CliRunner().invoke(trust.main, ["--only", "false-alarms", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_it_goes_on_where_it_stopped_and_tries_again_what_failed(recorded):
    done, path = recorded
    run("--most", "2")
    assert done == ["model0 0", "model1 0"]
    run()
    assert done[2:] == [job.key for job in jobs_of_three()][1:]
    rows = json.loads(path.read_text())["experiments"]["false-alarms"]["rows"]
    assert list(rows) == [job.key for job in jobs_of_three()]
    assert not any("error" in row for row in rows.values())
    run()
    assert len(done) == 16


def jobs_of_three():
    return trust_plan.false_alarms(BY_NAME["false-alarms"].settings, NAMES[:3])


def test_other_settings_or_another_machine_start_anew(recorded):
    _, path = recorded
    run()
    assert "other settings" in run("--lanes", "1", "--most", "1")
    results = json.loads(path.read_text())
    assert len(results["experiments"]["false-alarms"]["rows"]) == 1
    results["environment"]["processor"] = "another"
    path.write_text(json.dumps(results))
    assert "another machine" in run("--most", "1")


def test_a_quick_run_records_nothing(recorded, tmp_path, monkeypatch):
    _, path = recorded
    monkeypatch.setattr(trust_plan, "WORK", tmp_path)
    run("--quick")
    assert not path.exists()
    assert (tmp_path / "quick.json").exists()


def test_sessions_are_taken_from_all_processes_alike():
    assert trust_own.evenly([[1, 2, 3], [4], [5, 6]], 5) == [1, 4, 5, 2, 6]
    assert trust_own.evenly([[1], [2]], 5) == [1, 2]
    assert trust_own.evenly([], 5) == []
    processes = [{"sessions": [{"times_ns": [1_000_000, 3_000_000, 2_000_000]}]}, {"sessions": []}]
    assert trust_own.session_medians(processes) == [[2.0], []]


@pytest.mark.parametrize(
    ("seconds", "runs"), [(0.001, 100), (0.09, 100), (0.2, 40), (5.0, trust_loops.FEWEST_RUNS)]
)
def test_slow_models_get_fewer_runs(seconds, runs):
    assert trust_loops.affordable([seconds] * 3) == runs


def test_the_loops_that_people_write(tmp_path, monkeypatch):
    monkeypatch.setattr(trust_models, "KINDS", {"MatMul": trust_models.KINDS["MatMul"]})
    trust_models.write_chains(tmp_path, (1, 2))
    paths = [str(trust_models.path_of(tmp_path, "MatMul", blocks)) for blocks in (1, 2)]
    feed = str(trust_models.feed_of(tmp_path, "MatMul"))
    for interleaved in (False, True):
        found = trust_loops.usual(*paths, feed, interleaved=interleaved)
        assert found["runs"] == 100
        assert found["ratio"] > 0
        assert found["verdict"] == ("different" if found["p"] < 0.05 else "no difference")
    assert trust_loops.plain(paths[0], feed)["ms"] > 0
    rounds = trust_loops.side_by_side(paths, feed, 0.01)["ms"]
    assert rounds
    assert all(len(times) == 2 and min(times) > 0 for times in rounds)


def test_the_worker_that_invents_speaks_as_the_real_one(monkeypatch):
    plan = {"alone": False, "candidates": [{"key": "a"}], "seed": 3}
    told = events(plan)
    assert [event["event"] for event in told] == ["ready", *["begin", "session"] * 3, "end"]
    sessions = [event for event in told if event["event"] == "session"]
    assert all(event["key"] == "a" and len(event["times_ns"]) == 5 for event in sessions)
    told = events(plan | {"alone": True})
    assert [event["event"] for event in told] == ["ready", "begin", "alone", "end"]


def events(plan):
    child = subprocess.run(
        [sys.executable, trust_worker.__file__],
        input=json.dumps(plan),
        env={"TRUST_RUNS": "5", "TRUST_SESSIONS": "3"},
        capture_output=True,
        check=True,
        text=True,
    )
    return [json.loads(line) for line in child.stdout.splitlines()]
