import json
import os
import stat
import threading
from pathlib import Path

import pytest

from onnxopt.errors import OutputError
from onnxopt.render import files
from onnxopt.render import json as as_json


def test_json_begins_with_its_schema_and_holds_every_sample(optimized, benchmarked):
    assert next(iter(json.loads(as_json.text(optimized.to_dict())).items())) == (
        "schema",
        "onnxopt.optimize/1",
    )
    report = json.loads(as_json.text(benchmarked.to_dict()))
    assert report["results"][0]["processes"][0]["sessions"][0]["times_ns"] == [8123000, 8201000]


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
