"""Samples on disk: all of them are there, and the memory that they take is not."""

import errno
import json
import math
import tracemalloc

import numpy as np
import pytest

from onnxopt.benchmarking.statistics.samples import Samples, Store, restored
from onnxopt.errors import OutputError
from onnxopt.render.json import chunks


def drawn(seed=0, processes=3, *, per_request=False, wall=False):
    rng = np.random.default_rng(seed)
    samples = Samples(per_request=per_request)
    for process in range(processes):
        samples.begin_process()
        for _ in range(process):
            times = rng.integers(1_000, 2_000, rng.integers(1, 9)).tolist()
            samples.add(times, 700 * len(times) if wall else None)
    return samples


def test_as_a_sequence_it_is_what_a_report_has():
    samples = Samples()
    samples.begin_process()
    samples.add([3, 1, 2])
    samples.add([7])
    samples.begin_process()
    assert list(samples[0]["sessions"]) == [{"times_ns": [3, 1, 2]}, {"times_ns": [7]}]
    assert [len(process["sessions"]) for process in samples] == [2, 0]
    assert samples[-1] == samples[1:][0] or len(samples[-1]["sessions"]) == 0
    assert list(samples[0]["sessions"][:1]) == [{"times_ns": [3, 1, 2]}]
    with pytest.raises(IndexError):
        samples[2]
    with pytest.raises(IndexError):
        samples[0]["sessions"][2]
    assert [list(levels) for levels in samples.levels] == [[2, 7], []]
    assert (samples.runs, samples.sessions, len(samples)) == (4, 2, 2)


def test_what_is_read_does_not_disturb_what_is_written():
    samples = Samples()
    samples.begin_process()
    for number in range(5):
        samples.add([number] * 3)
        assert samples[0]["sessions"][0]["times_ns"] == [0] * 3
    assert [each["times_ns"][0] for each in samples[0]["sessions"]] == [0, 1, 2, 3, 4]


def test_where_callers_compete_the_level_is_the_time_of_a_request():
    samples = Samples(per_request=True)
    samples.begin_process()
    samples.add([100, 300, 200, 400], 500)
    assert list(samples.levels[0]) == [125]
    assert samples[0]["sessions"][0] == {"times_ns": [100, 300, 200, 400], "wall_ns": 500}
    latencies = Samples()
    latencies.begin_process()
    latencies.add([100, 300, 200], 500)
    assert list(latencies.levels[0]) == [200]


def test_a_session_without_runs_is_none():
    samples = Samples()
    samples.begin_process()
    samples.add([])
    assert samples.sessions == 0


def test_the_variance_inside_sessions_is_that_of_logarithms():
    samples = Samples()
    assert math.isnan(samples.variance_within)
    samples.begin_process()
    samples.add([100, 110])
    assert math.isnan(samples.variance_within)
    for _ in range(2):
        samples.add([100, 110, 121])
    assert samples.variance_within == pytest.approx(np.log(1.1) ** 2, rel=1e-6)


@pytest.mark.parametrize("wall", [False, True])
def test_written_as_json_and_read_again_they_are_the_same(wall):
    samples = drawn(1, 5, per_request=wall, wall=wall)
    text = "".join(chunks({"processes": samples}))
    again = restored(json.loads(text)["processes"], per_request=wall)
    assert "".join(chunks({"processes": again})) == text
    assert again.levels == samples.levels
    assert again.walls == samples.walls
    assert again.runs == samples.runs
    assert again.variance_within == pytest.approx(samples.variance_within)
    assert [h.counts.tolist() for h in again.histograms] == [
        h.counts.tolist() for h in samples.histograms
    ]


def test_two_million_runs_take_little_memory_to_keep_and_to_write():
    rng = np.random.default_rng(2)
    session = (1e6 * np.exp(rng.normal(0, 0.1, 5_000))).astype(np.int64).tolist()
    tracemalloc.start()
    samples = Samples()
    for _ in range(4):
        samples.begin_process()
        for _ in range(100):
            samples.add(session)
    written = sum(map(len, chunks(samples[1])))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert samples.runs == 2_000_000
    assert written > 3.5e6
    assert peak < 20e6


def filled(store=None):
    samples = Samples(store=store)
    samples.begin_process()
    samples.add([5, 7, 9])
    samples.add([8, 8], wall_ns=20)
    samples.begin_process()
    return samples


def plain(samples):
    return [{"sessions": [dict(session) for session in process["sessions"]]} for process in samples]


def test_samples_of_many_rows_share_a_file():
    store = Store()
    one, two = filled(store), filled(store)
    one.add([1])
    two.add([2])
    assert [each["sessions"][0]["times_ns"] for each in (one[1], two[1])] == [[1], [2]]
    assert one[0]["sessions"][0]["times_ns"] == two[0]["sessions"][0]["times_ns"] == [5, 7, 9]
    assert plain(restored(plain(one), store=store)) == plain(one)


def test_a_full_disk_is_told_and_what_was_kept_is_still_there(monkeypatch):
    samples = filled()
    whole = samples._store._file

    class Full:
        room = 12

        def write(self, data):
            written = whole.write(data[: self.room])
            Full.room -= written
            if not written:
                raise OSError(errno.ENOSPC, "No space left on device")
            return written

        def __getattr__(self, name):
            return getattr(whole, name)

    monkeypatch.setattr(samples._store, "_file", Full())
    with pytest.raises(OutputError, match=r"cannot keep samples in .*: No space left on device"):
        samples.add([1, 2, 3])
    assert samples[0]["sessions"][0]["times_ns"] == [5, 7, 9]
    assert (samples.runs, len(samples[1]["sessions"])) == (5, 0)
