import dataclasses
import itertools
import json
import os
import stat
import threading
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest

from onnxopt.errors import OutputError
from onnxopt.render import files
from onnxopt.render import json as as_json
from onnxopt.report import plain


def test_json_begins_with_its_schema_and_holds_every_sample(optimized, benchmarked):
    assert next(iter(json.loads(as_json.text(optimized.to_dict())).items())) == (
        "schema",
        "onnxopt.optimize/1",
    )
    report = json.loads(as_json.text(benchmarked.to_dict()))
    assert report["results"][0]["processes"][0]["sessions"][0]["times_ns"] == [8123000, 8201000]


def test_pieces_of_json_are_the_whole(optimized, failed, compared, inspected, benchmarked, swept):
    for report in (optimized, failed, compared, inspected, benchmarked, swept):
        for given in (report, report.to_dict()):
            text = "".join(as_json.chunks(given))
            assert json.loads(text) == report.to_dict()
            assert text.startswith('{\n  "schema": "onnxopt.')
            assert text.endswith("}\n")


def test_pieces_keep_to_the_rules_of_reports():
    given = {
        "nan": [1.0, float("nan"), float("-inf")],
        "mixed": [1, "a", None, {"b": (2, 3)}],
        "bools": [True, False],
        "empty": [{}, [], ()],
        3: {"name": '层"\n'},
    }
    text = "".join(as_json.chunks(given))
    assert json.loads(text) == plain(given)
    assert '"nan": [1.0, null, null]' in text
    without = {key: value for key, value in plain(given).items() if key in {"empty", "3"}}
    assert "".join(as_json.chunks(without)) == as_json.text(without)


class Lazy(Sequence):
    """Gives numbers as if it read them from disk; how often it was iterated is counted."""

    def __init__(self, count):
        self.count, self.iterated = count, 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        raise AssertionError("one by one would take for ever")

    def __iter__(self):
        self.iterated += 1
        return itertools.repeat(8_123_000, self.count)


def test_millions_of_samples_go_to_the_file_without_being_held(tmp_path, benchmarked):
    samples = Lazy(1_000_000)
    row = dataclasses.replace(
        benchmarked.results[0], processes=({"sessions": [{"times_ns": samples}]},)
    )
    report = dataclasses.replace(benchmarked, results=(row,))
    tracemalloc.start()
    try:
        files.write(as_json.chunks(report), str(tmp_path / "r.json"))
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
    assert samples.iterated == 1
    read = json.loads((tmp_path / "r.json").read_text())
    times = read["results"][0]["processes"][0]["sessions"][0]["times_ns"]
    assert (len(times), set(times)) == (1_000_000, {8_123_000})


def test_pieces_that_end_in_an_error_leave_the_old_file(tmp_path):
    def pieces():
        yield "new"
        raise ValueError

    path = tmp_path / "r.json"
    path.write_text("old")
    with pytest.raises(ValueError):
        files.write(pieces(), str(path))
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["r.json"]


def test_pieces_go_to_standard_output(capfdbinary):
    files.write(iter(["a", "×\n"]), "-")
    assert capfdbinary.readouterr().out == "a×\n".encode()


def test_names_outside_unicode_give_valid_json(tmp_path):
    path = tmp_path / "r.json"
    files.write(as_json.text({"name": "层/\udc80"}), str(path))
    assert json.loads(path.read_bytes()) == {"name": "层/\udc80"}
    assert "层".encode() in path.read_bytes()


def test_a_file_is_replaced_whole_and_keeps_its_place_behind_a_link(tmp_path):
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_text("old")
    link.symlink_to(real)
    files.write("new", str(link))
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert stat.S_IMODE(real.stat().st_mode) & 0o400
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.json", "real.json"]


def test_what_cannot_be_written_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "r.json"
    path.write_text("old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        files.write("new", str(path))
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["r.json"]


def test_a_pipe_is_written_into(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got = []
    reader = threading.Thread(target=lambda: got.append(Path(pipe).read_text()))
    reader.start()
    files.write("text", str(pipe))
    reader.join(10)
    assert got == ["text"]
    assert pipe.is_fifo()


def test_dash_is_standard_output(capfdbinary):
    files.write("×\n", "-")
    assert capfdbinary.readouterr().out == "×\n".encode()
