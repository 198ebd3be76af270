"""Processes that measure: what they tell, and what becomes of those that crash or hang."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from onnxopt.benchmarking import processes
from onnxopt.benchmarking.child.feedfile import save_feed
from onnxopt.benchmarking.contest import Block, Contest
from onnxopt.benchmarking.processes import Candidate, measure_alone, measure_turns
from onnxopt.benchmarking.statistics.samples import Samples
from onnxopt.report import Setting


@pytest.fixture
def candidate(tmp_path):
    """Give the function that makes a candidate fed with x[1, 8]."""
    feed = tmp_path / "feed.npz"
    save_feed(feed, {"x": np.ones((1, 8), np.float32)})

    def make(path, key="a"):
        return Candidate(key=key, path=str(path), feed=str(feed), setting=Setting())

    return make


def test_a_process_with_one_model_tells_of_loading_and_memory(save, candidate):
    ready, event = measure_alone(candidate(save("a.onnx")), timeout=60)
    assert ready == {"event": "ready"}
    assert [taker for _, _, taker in event["assignments"]] == ["CPUExecutionProvider"] * 2
    assert event["load_ns"] > 0
    assert event["first_ns"] > 0
    assert 10e6 < event["peak_rss_bytes"] < 1e9


def test_models_take_turns_there_and_back(save, candidate):
    pair = [candidate(save("a.onnx"), "a"), candidate(save("b.onnx"), "b")]
    events = list(measure_turns(pair, seconds=0, seed=1, timeout=60))
    keys = [event["key"] for event in events[1:]]
    assert keys in (["a", "b", "b", "a"], ["b", "a", "a", "b"])
    assert all(3 <= len(event["times_ns"]) <= 30 for event in events[1:])


def test_nothing_but_onnxruntime_and_numpy_is_loaded():
    code = "import sys, onnxopt.benchmarking.child.worker; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"onnx", "onnx_ir", "rich", "click"} & set(loaded)


def test_a_model_that_does_not_load_leaves_the_others_alone(tmp_path, save, candidate):
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x08\xff")
    pair = [candidate(save("a.onnx"), "good"), candidate(tmp_path / "broken.onnx", "bad")]
    block = Block(candidates=pair, samples={"good": Samples(), "bad": Samples()})
    contest = Contest(blocks=[block], precision=0.01, max_time=0)
    contest.run()
    assert list(contest.failed) == ["bad"]
    assert "cannot load" in contest.failed["bad"]
    assert [len(process) for process in block.samples["good"].levels] == [2, 2]


def test_a_model_that_hangs_is_stopped(tmp_path, candidate):
    pipe = tmp_path / "pipe.onnx"
    os.mkfifo(pipe)
    _, event = measure_turns([candidate(pipe)], seconds=0, seed=0, timeout=1.5)
    assert event["event"] == "failed"
    assert event["key"] == "a"
    assert "no answer for 1.5 s" in event["message"]


def test_a_feed_that_the_model_refuses_is_a_failure(save, candidate):
    _, event = measure_turns(
        [candidate(save("a.onnx", input_name="z"))], seconds=0, seed=0, timeout=60
    )
    assert event["event"] == "failed"
    assert "onnxruntime stopped" in event["message"]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "out of memory?"),
        ("import sys; sys.exit('last words')", "code 1: last words"),
        ("import sys; sys.exit(3)", "code 3: it said nothing"),
        ("[][0]", "code 1: IndexError: list index out of range"),
        ("import os; os.write(2, b'\\xff bytes'); os._exit(4)", "code 4: \ufffd bytes"),
    ],
)
def test_a_process_that_dies_says_how(save, candidate, monkeypatch, code, told):
    begun = 'print(\'{"event": "begin", "key": "a"}\', flush=True); '

    def start(module, errors):
        return subprocess.Popen(
            [sys.executable, "-c", begun + code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )

    monkeypatch.setattr(processes, "_start", start)
    (event,) = measure_turns([candidate(save("a.onnx"))], seconds=0, seed=0, timeout=60)
    assert event["key"] == "a"
    assert told in event["message"]


def test_what_libraries_print_is_no_event(save, candidate, monkeypatch):
    code = 'print("hello"); print(\'{"event": "end"}\')'

    def start(module, errors):
        return subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )

    monkeypatch.setattr(processes, "_start", start)
    assert list(measure_turns([candidate(save("a.onnx"))], seconds=0, seed=0, timeout=60)) == []


def test_onnxruntime_is_there_before_a_model_is_loaded():
    code = """
import sys, onnxopt.benchmarking.child.worker as worker
worker.receive = lambda: {"alone": False, "candidates": [], "seconds": 0, "seed": 0}
worker.run_turns = lambda *_: None
worker.tell = lambda event: print(event, "onnxruntime" in sys.modules)
worker.main()
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[0] == "ready True"


def test_what_is_printed_without_an_end_swallows_no_event(save, candidate, monkeypatch, tmp_path):
    noise = "import os; os.write(1, b'\\xff no end')"
    (tmp_path / "sitecustomize.py").write_text(f"import atexit\n{noise}\natexit.register(print, 1)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    begun, *events = measure_turns([candidate(save("a.onnx"))], seconds=0, seed=0, timeout=60)
    assert begun == {"event": "ready"}
    assert [event["event"] for event in events] == ["session"] * 2


def test_a_worker_ends_with_its_parent(tmp_path, candidate):
    pipe = tmp_path / "pipe.onnx"
    os.mkfifo(pipe)
    code = """
import os, sys
from onnxopt.benchmarking import processes
from onnxopt.report import Setting
path, feed = sys.argv[1:]
start = processes._start
def started(*given):
    child = start(*given)
    print(child.pid, flush=True)
    return child
processes._start = started
alone = processes.Candidate(key="a", path=path, feed=feed, setting=Setting())
for event in processes.measure_alone(alone, timeout=60):
    os.kill(os.getpid(), 9)
"""
    program = [sys.executable, "-c", code, str(pipe), candidate(pipe).feed]
    child = int(subprocess.run(program, capture_output=True, text=True, check=False).stdout)
    deadline = time.monotonic() + 20
    while is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_time_that_passes_while_all_is_stopped_is_no_silence(save, candidate, tmp_path):
    code = """
import os, sys
from onnxopt.benchmarking import processes
from onnxopt.report import Setting
path, feed = sys.argv[1:]
alone = processes.Candidate(key="a", path=path, feed=feed, setting=Setting())
print("begun", flush=True)
print(*(event["event"] for event in processes.measure_alone(alone, timeout=2)))
"""
    path = save("a.onnx")
    program = [sys.executable, "-c", code, str(path), candidate(path).feed]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as group:
        assert group.stdout is not None
        group.stdout.readline()
        time.sleep(0.2)
        os.killpg(group.pid, signal.SIGSTOP)
        time.sleep(3)
        os.killpg(group.pid, signal.SIGCONT)
        assert group.stdout.read() == "ready alone\n"
