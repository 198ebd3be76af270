"""`onnxopt benchmark` in hostile hands: clear words, the right exit status, and nothing is lost."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.benchmarking import contest, table
from onnxopt.cli.main import run

# What python finds first in every process: models that crash or hang, and prints that nobody wants.
HOSTILE = """
import os, signal, sys, time
print("noise without an end", end="")
import onnxruntime
class Session(onnxruntime.InferenceSession):
    def __init__(self, path, *rest, **options):
        self.path, self.runs = str(path), 0
        super().__init__(path, *rest, **options)
    def run(self, *given, **options):
        self.runs += 1
        print("more noise", flush=True)
        if "crash" in self.path and self.runs > 9:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "hang" in self.path and self.runs > 9:
            time.sleep(60)
        return super().run(*given, **options)
onnxruntime.InferenceSession = Session
"""


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Write models x[N, 8] to y by their name, here; those called `data` keep weights beside."""
    monkeypatch.chdir(tmp_path)

    def write(name="m.onnx", dims=("N", 8)):
        weights = np.full((8, 4), len(name), np.float32)
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [dims[0], 4])],
            [numpy_helper.from_array(weights, "w")],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        if "data" in name:
            onnx.save(made, name, save_as_external_data=True, location="w.bin", size_threshold=0)
        else:
            onnx.save(made, name)
        return name

    return write


@pytest.fixture
def cli(capsys, monkeypatch):
    monkeypatch.setattr(table, "TIMES", 1)

    def call(*args):
        status = run(["benchmark", *args])
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ("--batch 0", "0 is not in the range", "--help"),
        ("--batch 1,,2", "'' is not a valid", "--help"),
        ("--batch nan", "'nan' is not a valid", "--help"),
        ("--batch 99999999999999999999", "a batch of 99999999999999999999", "1 to 2,147,483,647"),
        ("--threads 5000", "5000 threads", "1 to 1,024"),
        ("--callers 100000", "100000 callers", "1 to 1,024"),
        ("--rate nan", "no finite number", "--help"),
        ("--rate 1e300", "1e+300 requests a second", "0.001 to 1,000,000"),
        ("--rate 1e-9", "1e-09 requests a second", "0.001 to 1,000,000"),
        ("--precision 100", "100.0 is not in the range", "--help"),
        ("--max-time 1x", "'1x' is no duration", "--help"),
        ("--timeout 0", "0.0 is not in the range", "--help"),
        ("--batch " + ",".join(map(str, range(1, 1200))), "1199 settings are too many", "fewer"),
        ("--provider warp", "unknown provider 'warp'", "known are"),
        ("--provider-option cpu.warp=9", "no option 'warp'", "no options"),
        ("--provider-option cuda.x=1", "options are given for cuda", "--provider cuda"),
        ("--max-slowdown 3%", "needs two models, or --against", "--help"),
        ("--fix Q=3", "no dimension 'Q'", "N"),
        ("--data nowhere.npz", "nowhere.npz does not exist", "give an .npz"),
        ("--data nowhere.py:feeds", "nowhere.py does not exist", "give an .npz"),
        ("--data m.onnx", "m.onnx is no kind of samples", "give an .npz"),
        ("--resume", "--resume needs --json", "--help"),
        ("--resume --json nowhere.json", "no report nowhere.json", "leave out --resume"),
        ("--json r.json --csv ./r.json", "--json and --csv both go to ./r.json", "another place"),
        ("--json w.bin", "w.bin holds data", "another name"),
        ("--csv s.npz --data s.npz", "would replace the samples s.npz", "another name"),
        ("--json ./b.json --against b.json", "would replace the baseline b.json", "another name"),
        (f"--html {'x' * 300}", "File name too long", "another place"),
        ("--markdown /proc/r.md", "cannot write /proc/r.md", "another place"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_measured(
    model, cli, monkeypatch, options, message, hint
):
    monkeypatch.setattr(contest, "measure_turns", None)
    model("data.onnx")
    Path("b.json").write_text("{}")
    Path("s.npz").write_bytes(b"")
    before = {path: path.read_bytes() for path in Path().iterdir()}
    status, out, err = cli(model("m.onnx"), *options.split())
    first, second = err.splitlines()
    assert (status, out) == (2, "")
    assert first.startswith("error: ")
    assert message in first
    assert second.startswith("hint: ")
    assert hint in second
    before[Path("m.onnx")] = Path("m.onnx").read_bytes()
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


REPORT = {
    "schema": "onnxopt.benchmark/1",
    "environment": {},
    "plan": {},
    "results": [
        {
            "model": "m.onnx", "sha256": "0", "provider": "cpu", "batch": None, "threads": 1,
            "callers": 1, "rate": None, "io": "copied", "executed": "cpu", "feeds": {},
            "options": {}, "error": None, "processes": [{"sessions": [{"times_ns": [5]}]}],
        }
    ],
}  # fmt: skip


def damaged(**changes):
    return json.dumps({**REPORT, **changes})


def row(**changes):
    return damaged(results=[{**REPORT["results"][0], **changes}])


@pytest.mark.parametrize("option", ["--against r.json", "--resume --json r.json"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "is no report"),
        ('{"schema": "onnxopt.optimize/1"}', "is no report"),
        ('{"schema": "onnxopt.benchmark/2"}', "is no report"),
        ('{"schema": "onnxopt.benchmark/1"}', "is damaged"),
        (damaged(plan=[]), "is damaged"),
        (damaged(results=[{}]), "is damaged"),
        (row(sha256=None), "is damaged"),
        (row(batch=[]), "is damaged"),
        (row(processes=[{}]), "is damaged"),
        *(
            (row(processes=[{"sessions": [{"times_ns": times}]}]), "is damaged")
            for times in (None, "fast", [1.5], [-1], [10**40], ["1"])
        ),
    ],
)
def test_what_is_no_report_is_named(model, cli, option, text, message):
    path = model()
    Path("r.json").write_text(text)
    status, out, err = cli(path, *option.split())
    assert (status, out) == (2, "")
    assert f"error: r.json {message}" in err
    assert Path("r.json").read_text() == text


def test_another_run_is_not_resumed(model, cli):
    one = model("one.onnx")
    assert cli(one, "--max-time", "0", "-q", "--json", "r.json") == (0, "", "")
    kept = Path("r.json").read_bytes()
    two = model("two.onnx", dims=("N", 8, 8))
    for args, message in [
        ([two], "one.onnx has changed since it was measured, or is none of the models now"),
        ([one, two], "two.onnx is not in the report"),
        ([one, "--threads", "1"], "made with other threads ([null], now [1])"),
    ]:
        status, _, err = cli(*args, "--resume", "--json", "r.json")
        assert status == 2
        assert message in err
    assert Path("r.json").read_bytes() == kept


def test_models_that_crash_or_hang_cost_only_themselves(model, cli, monkeypatch, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(HOSTILE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    models = [model("crash.onnx"), model("will_hang.onnx"), model("fine.onnx")]
    options = ("--max-time", "0", "--timeout", "4", "--json", "r.json")
    status, out, err = cli(*models, *options, "--csv", "-")
    assert status == 1
    assert "crash.onnx: crashed the process with SIGSEGV" in err
    assert "hang.onnx: gave no answer for 4 s and was stopped; --timeout gives it longer" in err
    rows = {each["model"]: each for each in csv.DictReader(io.StringIO(out))}
    assert float(rows["fine.onnx"]["median_ms"]) > 0
    assert rows["crash.onnx"]["median_ms"] == rows["will_hang.onnx"]["median_ms"] == ""

    monkeypatch.delenv("PYTHONPATH")  # whatever was wrong has been mended
    assert cli(*models, *options, "--resume", "-q") == (0, "", "")
    results = json.loads(Path("r.json").read_text())["results"]
    times = [[len(process["sessions"]) for process in each["processes"]] for each in results]
    assert len({len(sessions) for sessions in times}) == 1
    assert all(sum(map(bool, sessions)) >= 2 for sessions in times)


def fed(key, *times):
    return {"event": "session", "key": key, "times_ns": [*times], "load_ns": 1, "warm_ns": 1}


def test_an_interrupted_run_shows_and_keeps_what_was_measured(model, cli, monkeypatch):
    def turns(candidates, **_):
        yield {"event": "ready"}
        yield fed(candidates[0].key, 5_000_000)
        yield fed(candidates[0].key, 7_000_000)
        raise KeyboardInterrupt

    monkeypatch.setattr(contest, "measure_turns", turns)
    status, out, err = cli(model(), "--json", "r.json")
    assert (status, err) == (130, "interrupted\n")
    assert "6.00" in out
    assert "not finished: --resume goes on with what --json kept" in out
    report = json.loads(Path("r.json").read_text())
    assert report["complete"] is False
    sessions = report["results"][0]["processes"][0]["sessions"]
    assert [session["times_ns"] for session in sessions] == [[5_000_000], [7_000_000]]


def test_a_full_disk_keeps_nothing_from_the_screen(onnxopt_, api):
    for name in ("json", "csv", "markdown"):
        others = [f"--{each}={each}" for each in ("json", "csv", "markdown") if each != name]
        status, out, err = onnxopt_("benchmark", "a.onnx", f"--{name}", "/dev/full", *others)
        assert status == 2
        assert "error: cannot write /dev/full: No space left on device" in err
        assert "a.onnx" in out
        assert all(Path(option.partition("=")[2]).stat().st_size for option in others)


@pytest.mark.parametrize(
    ("place", "status", "said"),
    [(">&-", 0, b""), ("2>&- >/dev/null", 0, b""), (">/dev/full", 2, b"No space left on device")],
)
def test_a_screen_that_takes_nothing_is_no_fault(place, status, said):
    command = f"{sys.executable} -m onnxopt rules {place}"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    assert done.returncode == status
    assert said in done.stderr
    assert b"internal" not in done.stderr
    assert b"Exception" not in done.stderr


def test_sizes_that_contradict_each_other_or_the_memory_fail_their_row_only(model, cli):
    path = model()
    status, out, err = cli(path, "--batch", "4", "--fix", "N=3")
    assert (status, "dimension 'N' is 3 by --fix, and the batch is 4" in out) == (1, True)
    assert "comparisons hold" not in out + err
    status, out, _ = cli(path, "--batch", "1000000000,2", "--max-time", "0")
    assert status == 1
    assert "not enough memory for inputs of this size" in out
    assert "all 1 node on CPUExecutionProvider" in out


def test_a_name_that_is_no_utf8_is_told(model, cli):
    name = os.fsdecode(b"\xff.onnx")
    Path(name).write_bytes(Path(model()).read_bytes())
    status, _, err = cli(name, "-q", "--max-time", "0")
    assert status == 1
    assert "onnxruntime opens no path that is no UTF-8. rename it" in err
