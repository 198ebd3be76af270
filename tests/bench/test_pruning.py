"""The comparison of pruners asks for what there is, and goes on where it stopped."""

import json

import data_store
import pruning
import pruning_coverage as coverage
import pruning_judge
import pruning_memory
import pruning_plan as plan
import pytest
import quantization
import record
from process import Run

from onnxopt.cli.prune import command
from onnxopt.prune_config import PruneConfig


def option(words, name):
    return words[words.index(name) + 1]


def test_own_commands_ask_for_what_the_command_takes(tmp_path):
    for trial in plan.TRIALS.values():
        for candidate in trial.chosen():
            if candidate.maker == plan.OWN:
                told = plan.command(trial, candidate, "0", tmp_path / "model.onnx")
                asked = command.make_context("prune", told[4:]).params
                asked |= {"refit": not asked["no_refit"], "measure": not asked["no_measure"]}
                fields = (PruneConfig.__dataclass_fields__.keys() & asked) - {"target"}
                config = PruneConfig(**{name: asked[name] for name in fields})
                config.check(samples=asked["calibration"] is not None)


def test_the_random_control_is_in_every_trial():
    for trial in plan.TRIALS.values():
        alone = trial.name == "efficientnet_lite0 latency 0.8"
        assert alone or plan.RANDOM[1] in trial.candidates, trial.name
        assert alone or not trial.samples or plan.RANDOM[0] in trial.candidates


def test_peers_have_recipes():
    text = (plan.FOLDER / "pruning_peer.py").read_text(encoding="utf-8")
    peers = [c for c in plan.CANDIDATES.values() if c.maker != plan.OWN]
    assert all(f'"{candidate.recipe}":' in text for candidate in peers)


def test_tasks_are_judged_by_exams_that_there_are():
    for task in plan.TASKS.values():
        assert not task.exam or task.exam in pruning_judge.EXAMS


def test_models_of_candidates_do_not_overwrite_each_other():
    found = [
        plan.output_of(trial, candidate, "0")
        for trial in plan.TRIALS.values()
        for candidate in trial.chosen()
    ]
    assert len(set(found)) == len(found)
    assert not any(":" in path.name for place in found for path in (place, *place.parents))


def test_parts_and_trials_choose():
    assert [t.name for t in pruning.wanted((), (), quick=True)] == list(plan.QUICK)
    assert {t.part for t in pruning.wanted(("zeros",), (), quick=False)} == {"zeros"}
    assert len(pruning.wanted((), (), quick=False)) == len(plan.TRIALS)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Replace pruning, judging and measuring by what notes that it was asked."""
    asked = []
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(plan, "WORK", tmp_path / "work")
    monkeypatch.setattr(data_store, "splits", lambda _: ["0", "1"])
    monkeypatch.setattr(plan, "output_of", lambda *told: tmp_path / told[2] / "model.onnx")

    def run(command, *_):
        asked.append("prune")
        place = tmp_path / option(command, "--calibration").rsplit("/", 2)[-2] / "model.onnx"
        place.write_bytes(b"model")
        parts = [{"name": "a", "unit": "channels", "before": 8, "after": 4, "nodes": ["n"]}]
        report = {"status": "pruned", "parts": parts, "front": [], "frozen": [1, 2]}
        place.with_name("report.json").write_text(json.dumps(report))
        return Run(seconds=1.0, cpu_seconds=1.0, peak_rss_bytes=1, error=None)

    def ask(command, _):
        script = command[0].rpartition("/")[2]
        asked.append(script)
        if script == "quantization_speed.py":
            return {"ratio": 1.2, "low": 1.1, "high": 1.3, "verdict": "faster"}
        return {"macs": 0.5, "scores": {"other": {"samples": 3, "agreement": 0.9}}}

    monkeypatch.setattr(pruning, "run", run)
    monkeypatch.setattr(quantization, "ask", ask)
    return asked


def compare(name="efficientnet_lite0 0.7", who="onnxopt", again=False):
    session = pruning.Session(seconds=1, quick=False, again=again)
    session.compare(plan.TRIALS[name], plan.CANDIDATES[who], pruning.STEPS)
    return session


def test_what_was_recorded_is_not_done_again(tmp_path, runs):
    for _ in range(2):
        compare()
    judged = ["prune", "pruning_judge.py"]
    assert runs == [*judged, *judged, "quantization_speed.py"]
    content = json.loads((tmp_path / "results" / "pruning.json").read_text())
    cell = content["trials"]["efficientnet_lite0 0.7"]["onnxopt"]
    assert cell["scores"]["native"]["1"]["other"]["agreement"] == 0.9
    assert cell["judged"]["0"] == {"macs": 0.5}
    assert cell["made"]["0"]["parts"][0]["after"] == 4
    assert cell["made"]["0"]["frozen"] == 2
    compare(again=True)
    assert len(runs) == 10


def test_candidates_that_are_not_tried_everywhere_do_one_split(runs):
    compare(who="onnxopt l2")
    assert runs.count("prune") == 1


def test_what_failed_is_not_judged(tmp_path, monkeypatch, runs):
    def run(_, log, *__):
        log.write_text("error: nothing here can be taken out\nhint: see --verbose\n")
        return Run(seconds=1.0, cpu_seconds=1.0, peak_rss_bytes=1, error="hint: see --verbose")

    monkeypatch.setattr(pruning, "run", run)
    session = compare()
    assert runs == []
    made = session.results["trials"]["efficientnet_lite0 0.7"]["onnxopt"]["made"]
    assert made["0"]["error"] == "error: nothing here can be taken out"


def test_the_twin_is_measured_once(tmp_path, runs, monkeypatch):
    model = tmp_path / "model.onnx"
    model.write_bytes(b"model")
    task = plan.Task(name="small", source=model)
    session = pruning.Session(seconds=1, quick=False, again=False)
    for _ in range(2):
        session.measure_twin(task)
    assert runs == ["quantization_speed.py"]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("error: Softmax keeps the only group as it is\nhint: none", coverage.REFUSED),
        ("failed: Softmax keeps all units of it; nothing could go", coverage.REFUSED),
        ("error: there is nothing to prune in it\nhint: none", coverage.REFUSED),
        ("error: it cannot be done\nhint: none", coverage.VAGUE),
        ("Traceback (most recent call last):\nKeyError: 'x'", coverage.CRASHED),
        ("error: KeyError: 'Conv'\nhint: this is a fault of onnxopt; report it", coverage.CRASHED),
        ("", coverage.CRASHED),
        (
            "error: onnxruntime cannot load m: onnxruntime::Softmax::Locale::Locale(x)",
            coverage.REFUSED,
        ),
        ("error: pruning needs operator set 13: operator set 6 is older than 11", coverage.VAGUE),
    ],
)
def test_a_refusal_names_what_froze(said, status):
    found = coverage.refusal(said, "exit code 2", {"Softmax", "Conv"})
    assert found["status"] == status


def test_models_that_were_covered_are_not_covered_again(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "WORK", tmp_path)
    monkeypatch.setattr(plan, "trained", lambda: [("small", tmp_path / "small.onnx")])
    monkeypatch.setattr(coverage, "shipped", list)
    monkeypatch.setattr(coverage, "prune", lambda *_: {"status": coverage.PRUNED})
    verdicts, lines = {}, []
    for _ in range(2):
        coverage.cover(verdicts, lines.append, most=None)
    assert verdicts == {"trained small": {"status": coverage.PRUNED}}
    assert len(lines) == 1


def test_memory_is_measured_where_the_model_is(tmp_path, monkeypatch):
    model = tmp_path / "model.onnx"
    model.write_bytes(b"model")
    monkeypatch.setattr(plan, "WORK", tmp_path / "work")
    monkeypatch.setattr(pruning_memory, "samples_of", lambda *_: tmp_path)
    models = {"here": (model, "data"), "not here": (tmp_path / "none", "data")}
    monkeypatch.setattr(pruning_memory, "MODELS", models)
    done = Run(seconds=2.0, cpu_seconds=1.0, peak_rss_bytes=5, error=None)
    monkeypatch.setattr(pruning_memory, "run", lambda *_: done)
    cells = {}
    pruning_memory.measure(cells, lambda _: None)
    assert list(cells) == ["here"]
    assert (cells["here"]["peak_rss_bytes"], cells["here"]["file_bytes"]) == (5, 5)
