"""Tables about int8 show what was measured, and a goal is held or not by the same numbers."""

import pytest
import quantization_goals as goals
import quantization_rows as rows

SPEED = {"ratio": 1.5, "low": 1.4, "high": 1.6, "verdict": "faster"}


def cell(agreement, wrong=0, speed=SPEED, error=None):
    part = {"samples": 100, "agreement": agreement, "sure_disagreed": wrong, "sqnr_db": 20.0}
    return {
        "made": {"0": {"error": error, "median_seconds": 3.0, "peak_rss_bytes": 2e8}},
        "scores": {"avx2": {"0": {"other": part}, "1": {"other": part | {"samples": 300}}}},
        "speed": {"avx2": speed},
    }


RESULTS = {
    "tasks": {
        "efficientnet_lite0": {
            "onnxopt": cell(0.95, 1),
            "ort S8S8": cell(0.5),
            "broken": {"made": {"0": {"error": "no | kernel"}}, "scores": {}, "speed": {}},
        }
    },
    "costs": {
        "onnxopt minmax 1000": {
            "error": None,
            "calibration": {"seconds": 3},
            "peak_rss_bytes": 2e8,
        },
        "onnxopt minmax 10": {
            "error": None,
            "calibration": {"seconds": 1},
            "peak_rss_bytes": 1.9e8,
        },
        "inference 1000": {"error": None, "inference_seconds": 2.0, "peak_rss_bytes": 1e8},
    },
    "trained": {"small avx2": {"speed": SPEED | {"verdict": "slower"}, "status": "quantized"}},
}


def row(table, name):
    return next(row for row in table[1] if row[0] == name)


def test_scores_are_averaged_by_samples_and_counts_added_up():
    shown = row(rows.compared(RESULTS, "efficientnet_lite0", "avx2"), "onnxopt")
    assert shown == ["onnxopt", "0.950", "–", "20.0", "–", "2", "**1.50 (1.40–1.60)**"]


def test_what_failed_has_a_row_that_fits():
    header, found = rows.compared(RESULTS, "efficientnet_lite0", "avx2")
    assert {len(line) for line in (header, *found)} == {7}
    assert row((header, found), "broken")[1] == "failed: no / kernel"


def test_the_best_peer_is_the_best_of_those_that_are_faster():
    slow = cell(0.9, speed=SPEED | {"verdict": "no difference"})
    cells = RESULTS["tasks"]["efficientnet_lite0"] | {"ort exact": slow}
    header, found = rows.summary({"tasks": {"efficientnet_lite0": cells}}, "avx2")
    assert len(header) == len(found[0])
    assert found[0][2:6] == ["0.950", "**1.50 (1.40–1.60)**", "ort S8S8", "0.500"]
    alone = {"tasks": {"efficientnet_lite0": {"onnxopt": cell(0.95)}}}
    assert rows.summary(alone, "avx2")[1][0][4:] == ["none", "–", "–"]
    assert rows.summary({}, "avx2") == rows.NOT_MEASURED


def test_nothing_measured_is_a_table_too():
    for task in rows.COLUMNS:
        assert rows.compared({}, task, "native") == rows.NOT_MEASURED
    assert rows.costs({}) == rows.made({}) == rows.trained({}) == rows.NOT_MEASURED


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("efficientnet_lite0: agreement, other photographs", ["≥ 0.920", "0.950", "yes"]),
        ("efficientnet_lite0: sure crops not agreed on", ["≤ 0", "2", "**no**"]),
        ("efficientnet_lite0: speed", ["≥ 1.35", "1.50", "yes"]),
        ("calibration, minmax: MB that 1,000 samples take more than 10", ["≤ 50", "10", "yes"]),
        ("calibration, minmax: times plain inference, 1,000 samples", ["≤ 2.00", "1.50", "yes"]),
        ("trained models: results slower than fp32", ["≤ 0", "1", "**no**"]),
        ("minilm_l6: speed", ["≥ 1.40", "–", "not measured"]),
    ],
)
def test_goals_are_judged_by_what_was_measured(name, shown):
    assert row(goals.goals(RESULTS), name)[1:] == shown


def test_the_best_recipe_that_is_faster_than_fp32_is_what_is_compared_with():
    cells = {
        name: {
            "made": {},
            "scores": {"avx2": {"0": {"composed": {"samples": 1, "sqnr_mean_db": sqnr}}}},
            "speed": {"avx2": SPEED | {"ratio": ratio}},
        }
        for name, sqnr, ratio in (("onnxopt", 20, 1.5), ("ort a", 18, 1.1), ("ort b", 30, 0.9))
    }
    read = goals.over_best_peer("pp_ocrv4_det", "composed", "sqnr_mean_db")
    assert read({"tasks": {"pp_ocrv4_det": cells}}) == 2
