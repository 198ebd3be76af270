"""Tables about pruning show what was measured, and a goal is held or not by the same numbers."""

import pruning_goals as goals
import pruning_plan as plan
import pruning_rows as rows
import pytest

SPEED = {"ratio": 1.25, "low": 1.2, "high": 1.3, "verdict": "faster"}
COPY = {"ratio": 1.0, "low": 0.98, "high": 1.02, "verdict": "no difference"}


def cell(scores, *, macs=0.7, error=None, speed=SPEED, after=50, unit="channels", patterns=None):
    part = {"name": "a", "unit": unit, "before": 100, "after": after, "lost_db": 12.0}
    made = {"error": error, "median_seconds": 30.0, "peak_rss_bytes": 4e8, "parts": [part]}
    judged = {"macs": macs, "parameters": 0.6, "signature": [], "shapes": []}
    return {
        "made": {"0": made},
        "judged": {} if error else {"0": judged},
        "scores": {} if error else {"native": {"0": {"other": {"samples": 100} | scores}}},
        "speed": {} if error or speed is None else {"native": speed},
        "patterns": patterns or {},
    }


def accuracy(found):
    return {"accuracy": found, "accuracy_fp32": 0.93, "agreement": 0.9, "sqnr_db": 9.0}


def layers(alone, placed, otherwise=0):
    return {"exact": 5, "whole": 1, "otherwise": otherwise, "alone_db": alone, "placed_db": placed}


FRONT = [
    {"name": "whole", "macs": 1.0, "parameters": 1.0, "sqnr_db": None, "predicted": None,
     "difference": None, "chosen": False},
    {"name": "0.7", "macs": 0.7, "parameters": 0.8, "sqnr_db": 8.8, "predicted": 0.75,
     "difference": SPEED, "chosen": True},
]  # fmt: skip
OWN = cell({"agreement": 0.72, "sqnr_db": 8.7})
OWN["made"]["0"]["front"] = FRONT
RESULTS = {
    "trials": {
        "fashion_cnn 0.5": {
            "onnxopt": cell(accuracy(0.925)),
            "onnxopt random": cell(accuracy(0.9)),
        },
        "fashion_cnn 0.25": {"onnxopt": cell(accuracy(0.92), after=75)},
        **{f"fashion_cnn {s:g}": {"onnxopt": cell(accuracy(0.9))} for s in (0.125, 0.375)},
        "efficientnet_lite0 0.7": {
            "onnxopt": OWN,
            "onnxopt random": cell({"agreement": 0.5, "sqnr_db": 5.0}),
            "onnxsim l2": cell({"agreement": 0.08, "sqnr_db": -1.0}),
            "onnxsim wanda": cell({}, error="no | kernel"),
        },
        "vit_script 0.5": {
            "onnxopt l2 without refit": cell({}, macs=0.5, unit="heads"),
            "onnxsim l2": cell({}, error="it left every weight as it was"),
        },
        "minilm_l6 ready 2:4": {
            "onnxopt": cell({"cosine": 0.9}, patterns=layers(15, 12)),
            "onnxopt l2 without refit": cell({"cosine": 0.8}, patterns=layers(10, 10)),
        },
    },
    "twins": {"efficientnet_lite0": COPY},
    "coverage": {
        "light a": {"status": "pruned"},
        "light b": {"status": "refused", "why": "Softmax keeps 'one' | all"},
        "light c": {"status": "refused", "why": "Softmax keeps 'two' | all"},
        "trained d": {"status": "crashed", "why": "KeyError"},
    },
    "memory": {
        "resnet50": {
            "error": None, "median_seconds": 90.0, "peak_rss_bytes": 8e8, "file_bytes": 9.4e7,
            "samples": 256,
        }
    },
}  # fmt: skip


def row(table, name, at=0):
    return next(row for row in table[1] if row[at] == name)


def test_scores_stand_beside_what_is_left_and_what_is_gained():
    header, found = table = rows.compared(RESULTS, "efficientnet_lite0 0.7")
    assert {len(line) for line in (header, *found)} == {len(header)}
    assert row(table, "onnxopt") == [
        *("onnxopt", "0.720", "8.7", "–", "–", "0.70", "0.60", "**1.25 (1.20–1.30)**")
    ]
    assert row(table, "A/A")[-1] == "1.00 (0.98–1.02)"
    assert row(table, "onnxsim wanda")[1] == "failed: no / kernel"


def test_the_curve_starts_with_the_whole_model():
    header, found = rows.curve(RESULTS, "fashion_cnn")
    assert {len(line) for line in (header, *found)} == {len(plan.CURVE) + 2}
    assert found[0] == [*("onnxopt", "93.00%", "90.00%", "92.00%", "90.00%", "92.50%", "–", "–")]


def test_the_front_says_what_was_chosen():
    table = rows.front(RESULTS, "efficientnet_lite0 0.7")
    assert row(table, "0.7 (chosen)")[1:] == ["0.70", "0.80", "8.8", "0.75", "1.25"]
    assert row(table, "whole")[3:] == ["–", "–", "–"]


def test_exports_tell_units_and_time_by_macs():
    header, found = table = rows.structure(RESULTS)
    assert {len(line) for line in (header, *found)} == {len(header)}
    assert row(table, "vit_script 0.5")[2:7] == ["50 of 100 heads", "right", "0.50", "0.80", "1.60"]


def test_reasons_of_many_models_are_told_once():
    assert row(rows.covered(RESULTS), "light")[1:] == ["3", "1", "2", "0", "0", "0"]
    assert rows.reasons(RESULTS)[1][0] == ["refused", "Softmax keeps … / all", "2", "light b"]
    assert rows.reasons(RESULTS)[1][1][0] == "crashed"


def test_memory_and_costs_are_shown():
    assert rows.memory(RESULTS)[1] == [["resnet50", "94", "256", "90", "800"]]
    assert row(rows.made(RESULTS), "efficientnet_lite0 0.7")[1:] == [
        *("30, 400", "30, 400", "–", "30, 400")
    ]
    assert row(rows.patterns(RESULTS), "onnxopt", 1)[2:] == ["5", "1", "0", "15.0", "12.0"]


def test_nothing_measured_is_a_table_too():
    assert {len(make({})[1]) for make in rows.TABLES.values()} == {0}


def test_all_tables_of_the_page_are_there_and_no_other():
    page = (plan.FOLDER / "pruning.md").read_text(encoding="utf-8")
    assert {f"<!-- bench:prune_{name} -->" in page for name in rows.TABLES} == {True}
    assert page.count("<!-- bench:prune_") == len(rows.TABLES)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("fashion_cnn, 50% of the channels out: accuracy lost, points", ["≤ 1.00", "0.50", "yes"]),
        (
            "fashion_cnn, 25% of the channels out: accuracy lost, points",
            ["≤ 0.30", "1.00", "**no**"],
        ),
        ("efficientnet_lite0 0.7: MACs", ["≤ 0.700", "0.700", "yes"]),
        ("efficientnet_lite0 0.7: agreement", ["≥ 0.700", "0.720", "yes"]),
        ("efficientnet_lite0 0.7: latency", ["≤ 0.80", "0.80", "yes"]),
        ("efficientnet_lite0 0.7: agreement above that of onnxsim", ["≥ 0.000", "0.640", "yes"]),
        ("efficientnet_lite0 0.8: agreement", ["≥ 0.800", "–", "not measured"]),
        ("exports with a fault", ["≤ 0", "0", "yes"]),
        ("exports: time above the share of the MACs, at most", ["≤ 0.15", "0.60", "**no**"]),
        (
            "minilm_l6, 2:4: layers' SQNR above that of magnitude alone, fed as before, dB",
            ["≥ 3.0", "5.0", "yes"],
        ),
        (
            "minilm_l6, 2:4: layers' SQNR above that of magnitude alone, in place, dB",
            ["≥ 3.0", "2.0", "**no**"],
        ),
        ("models: crashes", ["≤ 0", "1", "**no**"]),
        ("refit over 256 samples: MB", ["≤ 1000", "800", "yes"]),
        ("A/A: models that differ", ["≤ 0", "0", "yes"]),
    ],
)
def test_goals_are_judged_by_what_was_measured(name, shown):
    assert row(goals.goals(RESULTS), name)[1:] == shown
