"""Jobs run in children that keep to one processor; what fails is told and the rest goes on."""

import os
import textwrap

import pytest
import trust_lanes
from trust_lanes import Job

SCRIPT = """
import json, os, sys, time
told = json.load(sys.stdin)
os.sched_setaffinity(0, {told["core"]})
if told["work"] == "fail":
    sys.exit("the reason")
time.sleep(told["arguments"]["seconds"])
print("noise")
print(json.dumps({"cores": sorted(os.sched_getaffinity(0))}))
"""


@pytest.fixture(autouse=True)
def script(tmp_path, monkeypatch):
    (tmp_path / "child.py").write_text(textwrap.dedent(SCRIPT))
    monkeypatch.setattr(trust_lanes, "FOLDER", tmp_path)


def job(key, *, work="sleep", seconds=0.0, timeout=60.0):
    arguments, told = {"seconds": seconds}, {"seed": 7}
    return Job(
        key=key, script="child.py", work=work, arguments=arguments, told=told, timeout=timeout
    )


def test_every_job_comes_back_with_the_processor_that_it_kept_to():
    lanes = trust_lanes.cores(2)
    found = {
        each.key: row for each, row in trust_lanes.spread([job(str(n)) for n in range(4)], lanes)
    }
    assert set(found) == {"0", "1", "2", "3"}
    assert all(row["cores"] == [row["core"]] and row["core"] in lanes for row in found.values())
    assert all(row["seed"] == 7 and row["seconds"] > 0 and "load" in row for row in found.values())


def test_what_fails_or_hangs_is_told():
    jobs = [job("fails", work="fail"), job("hangs", seconds=60, timeout=0.5), job("works")]
    found = {each.key: row for each, row in trust_lanes.spread(jobs, trust_lanes.cores(1))}
    assert found["fails"] == {"error": "the reason"}
    assert found["hangs"] == {"error": "stopped after 0 s"}
    assert "error" not in found["works"]


def test_there_are_no_more_lanes_than_processors():
    assert len(trust_lanes.cores(10_000)) == len(os.sched_getaffinity(0))
