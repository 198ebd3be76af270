"""Going on with a run that was interrupted: with the same samples, or not at all."""

import json

import pytest

from onnxopt.benchmarking import measure, resume
from onnxopt.benchmarking.plan import Plan
from onnxopt.benchmarking.surroundings import environment
from onnxopt.errors import OnnxOptError
from onnxopt.render import files
from onnxopt.render.json import chunks

LONG = {"max_time": 6, "precision": 0.001}


def benchmark(models, *, resume=None, watch=None, **options):
    plan = Plan.of(**{"threads": (1,), "max_time": 0, **options})
    return measure.benchmark(models, plan, resume=resume, watch=watch)


def written(report, place):
    place.write_text("".join(chunks(report)), encoding="utf-8")
    return place


def samples_of(rows):
    return [
        [[session["times_ns"] for session in process["sessions"]] for process in row["processes"]]
        for row in rows
    ]


@pytest.fixture
def models(save):
    return [str(save("a.onnx")), str(save("b.onnx", hidden=17))]


def test_an_interrupted_run_leaves_a_report_with_which_it_goes_on(quick, models, tmp_path):
    place, seen = tmp_path / "run.json", []

    def watch(report):
        files.write(chunks(report), str(place))
        seen.append(json.loads(place.read_text()))
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        benchmark(models, watch=watch, **LONG)
    left = json.loads(place.read_text())
    assert [each["complete"] for each in seen] == [False] * len(seen)
    assert [len(row["processes"]) for row in left["results"]] == [3, 3]
    begun = len(quick.plans)
    report = benchmark(models, resume=place, **LONG)
    assert quick.seeds[begun:][:2] == [3, 4]
    assert report.complete
    again = json.loads("".join(chunks(report)))
    for before, after in zip(
        samples_of(left["results"]), samples_of(again["results"]), strict=True
    ):
        assert after[:3] == before
        assert len(after) == 3 + len(quick.plans) - begun > 4
    assert report.differences[0].processes == len(again["results"][0]["processes"])


def test_what_was_interrupted_within_a_process_counts_too(quick, models, monkeypatch):
    seen, real = [], quick.one

    def one(candidate, level):
        if len(quick.plans) == 3 and sum(map(len, seen[-1].results[0].processes.levels)) == 5:
            raise KeyboardInterrupt
        return real(candidate, level)

    monkeypatch.setattr(quick, "one", one)
    with pytest.raises(KeyboardInterrupt):
        benchmark(models, watch=seen.append, **LONG)
    left = json.loads("".join(chunks(seen[-1])))
    assert [sum(map(len, row)) for row in samples_of(left["results"])] >= [5, 4]
    monkeypatch.setattr(quick, "one", real)
    report = benchmark(models, resume=left, **LONG)
    assert [row.error for row in report.results] == [None, None]
    assert report.results[0].sessions > 5


def test_a_finished_report_that_is_narrow_enough_is_given_back(quick, models, tmp_path):
    report = benchmark(models, precision=0.2, max_time=1000)
    place = written(report, tmp_path / "run.json")
    begun = len(quick.plans)
    again = benchmark(models, precision=0.2, max_time=1000, resume=place)
    assert len(quick.plans) == begun
    assert again.differences == report.differences
    assert [(row.median_ms, row.intervals) for row in again.results] == [
        (row.median_ms, row.intervals) for row in report.results
    ]


def test_a_finished_report_can_be_made_more_precise(quick, models, tmp_path):
    report = benchmark(models, precision=0.2, max_time=1000)
    place = written(report, tmp_path / "run.json")
    again = benchmark(models, precision=0.04, max_time=1000, resume=place)
    assert again.differences[0].sessions > report.differences[0].sessions
    assert again.results[0].runs > report.results[0].runs


def test_one_file_given_twice_keeps_two_rows_apart(quick, models, tmp_path):
    report = benchmark([models[0]] * 2, aa=True)
    place = written(report, tmp_path / "run.json")
    before = samples_of(json.loads(place.read_text())["results"])
    again = benchmark([models[0]] * 2, aa=True, resume=place, **LONG)
    after = samples_of(json.loads("".join(chunks(again)))["results"])
    assert len(set(map(str, before))) == 3
    assert [each[:2] for each in after] == before


def test_a_candidate_that_had_failed_is_tried_again(quick, models, tmp_path):
    def fail(report):
        quick.fails[quick.plans[0][1].key] = 2

    report = benchmark(models, watch=fail, **LONG)
    assert [row.error for row in report.results] == [None, "stopped"]
    place = written(report, tmp_path / "run.json")
    many = len(report.results[0].processes)
    quick.fails.clear()
    again = benchmark(models, resume=place, **LONG)
    assert [row.error for row in again.results] == [None, None]
    levels = again.results[1].processes.levels
    assert [bool(each) for each in levels[:many]] == [True] * 2 + [False] * (many - 2)
    assert again.differences[0].processes == 2 + len(levels) - many


def test_callers_that_competed_are_read_back_with_their_time(quick, models, tmp_path):
    quick.wall_ns = 50_000_000
    place = written(benchmark(models, callers=(2,)), tmp_path / "run.json")
    again = benchmark(models, callers=(2,), resume=place)
    assert again.results[0].throughput == pytest.approx(20 / 0.05)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"batches": (2,)}, "other batches"),
        ({"threads": (2,)}, "other threads"),
        ({"callers": (2,)}, "other callers"),
        ({"rates": (5.0,)}, "other rates"),
        ({"io": ("bound",)}, "other io"),
        ({"aa": True}, "other aa"),
        ({"seed": 5}, "other seed"),
        ({"fix": {"batch": 2}}, "other fix"),
    ],
)
def test_another_plan_is_not_resumed(quick, models, options, told):
    report = json.loads("".join(chunks(benchmark(models))))
    begun = len(quick.plans)
    with pytest.raises(OnnxOptError, match=told) as caught:
        benchmark(models, resume=report, **options)
    assert "--resume" in caught.value.hint
    assert len(quick.plans) == begun


@pytest.mark.parametrize(
    "options",
    [{"precision": 0.3}, {"max_time": 1}, {"timeout": 5}, {"strict": True}],
)
def test_how_long_and_how_precise_may_change(quick, models, options):
    report = json.loads("".join(chunks(benchmark(models))))
    assert benchmark(models, resume=report, **options)


@pytest.mark.parametrize("name", ["processor", "usable_cores", "onnxruntime", "python"])
def test_another_machine_does_not_resume(quick, models, name):
    report = json.loads("".join(chunks(benchmark(models))))
    report["environment"][name] = "another"
    with pytest.raises(OnnxOptError, match=f"another {name.replace('_', ' ')}"):
        benchmark(models, resume=report)


def test_a_model_that_has_changed_is_not_resumed(quick, models, save):
    report = json.loads("".join(chunks(benchmark(models))))
    save("b.onnx", hidden=18)
    with pytest.raises(OnnxOptError, match=r"b\.onnx has changed"):
        benchmark(models, resume=report)


def test_load_and_clock_of_the_moment_are_not_another_machine():
    now = environment.snapshot(("cpu",)).described
    then = {"environment": {**now, "load": 99.0, "frequency_mhz": 1, "memory_available_bytes": 1}}
    assert resume.machine_differences(then, now) == []


def test_the_file_is_whole_at_every_moment_and_complete_at_the_end(quick, models, tmp_path):
    from onnxopt.cli.main import run

    place, seen, real = tmp_path / "run.json", [], quick.one

    def one(candidate, level):
        if place.exists():
            seen.append(json.loads(place.read_text()))
        return real(candidate, level)

    quick.one = one
    asked = ["benchmark", *models, "--threads", "1", "--max-time", "3", "--json", str(place)]
    assert run([*asked, "--quiet"]) == 0
    assert seen
    assert {each["complete"] for each in seen} == {False}
    runs = [sum(row["runs"] for row in each["results"]) for each in seen]
    assert runs == sorted(runs)
    last = json.loads(place.read_text())
    assert last["complete"]
    assert sum(row["runs"] for row in last["results"]) > runs[-1] > 0
    assert [each.name for each in tmp_path.iterdir() if each.suffix == ".tmp"] == []
    quick.one = real
    assert run([*asked, "--quiet", "--resume"]) == 0
