"""The comparison of quantizers keeps its data apart, and goes on where it stopped."""

import json

import data_photos
import data_prose
import data_store
import numpy as np
import quantization
import quantization_plan as plan
import run_quantizer
from process import Run

from onnxopt.cli.quantize import command


def test_recipes_of_the_plan_exist():
    peers = [c for c in plan.CANDIDATES.values() if c.maker != plan.OWN]
    assert {candidate.recipe for candidate in peers} <= set(run_quantizer.RECIPES)


def test_own_commands_ask_for_options_that_there_are(tmp_path):
    known = {option for parameter in command.params for option in parameter.opts}
    for candidate in plan.CANDIDATES.values():
        if candidate.maker == plan.OWN:
            told = candidate.command(tmp_path / "a", tmp_path / "b", tmp_path / "c", "avx2")
            assert {word for word in told if word.startswith("--")} <= known


def test_each_isa_has_its_own_model_of_onnxopt_only():
    task = plan.TASKS["magika"]
    own, peer = plan.CANDIDATES["onnxopt"], plan.CANDIDATES["ort S8S8"]
    assert len({plan.output_of(task, "0", own, isa) for isa in plan.ISAS}) == len(plan.ISAS)
    assert len({plan.output_of(task, "0", peer, isa) for isa in plan.ISAS}) == 1


def test_photographs_of_calibration_are_not_judged_by():
    for split in range(data_photos.SPLITS):
        known, unknown = data_photos.halves(split)
        assert sorted(known + unknown) == list(range(len(data_photos.PHOTOGRAPHS)))
        assert data_photos.halves(split ^ 1) == (unknown, known)


def test_prose_to_calibrate_and_to_judge_by_are_of_different_packages():
    assert not set(data_prose.KNOWN) & set(data_prose.UNKNOWN)


def test_samples_come_back_as_they_were_written(tmp_path, monkeypatch):
    monkeypatch.setattr(data_store, "DATA", tmp_path)
    feeds = [{"x": np.full((1, size), size, np.float32)} for size in (3, 5)]
    data_store.write("task", "0", data_store.CALIBRATION, [(feed, None) for feed in feeds])
    data_store.write("task", "0", "other", [(feeds[0], "three")])
    found = list(data_store.feeds(data_store.folder_of("task", "0", data_store.CALIBRATION)))
    assert [feed["x"].shape for feed in found] == [(1, 3), (1, 5)]
    assert data_store.splits("task") == ["0"]
    assert data_store.parts("task", "0") == ["other"]
    assert data_store.truths(data_store.folder_of("task", "0", "other")) == ["three"]


def test_what_was_recorded_is_not_done_again(tmp_path, monkeypatch):
    runs = []
    monkeypatch.setattr(data_store, "splits", lambda _: ["0"])
    monkeypatch.setattr(plan, "output_of", lambda *_: tmp_path / "made" / "model.onnx")
    monkeypatch.setattr(
        quantization.Session, "_speed", lambda *_: runs.append("speed") or {"error": "none"}
    )

    def run(*_):
        runs.append("quantize")
        (tmp_path / "made" / "model.onnx").write_bytes(b"model")
        return Run(seconds=1.0, cpu_seconds=1.0, peak_rss_bytes=1, error=None)

    monkeypatch.setattr(quantization, "run", run)
    path = tmp_path / "results.json"
    for _ in range(2):
        results = quantization.read(path)
        session = quantization.Session(results, path, plan.ISAS, seconds=1, quick=True, again=False)
        session.compare(
            plan.TASKS["resnet50"], plan.CANDIDATES["ort S8S8"], ("quantize", "judge", "speed")
        )
    assert runs == ["quantize", "speed", "speed"]
    made = json.loads(path.read_text())["tasks"]["resnet50"]["ort S8S8"]["made"]["0"]
    assert made["error"] is None
    assert made["file_bytes"] == len(b"model")


def test_hints_are_not_what_went_wrong(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("error: no data\nhint: give some\n")
    assert quantization.why(log) == "error: no data"
