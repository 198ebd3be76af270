"""Tables about trust count what was measured, and show nothing that was not."""

import pytest
import tables
import trust_rows


def compared(verdict, ratio=1.0, low=0.97, high=1.03, **more):
    return {"verdict": verdict, "ratio": ratio, "low": low, "high": high, "seconds": 15.0, **more}


def welch(p):
    verdict = "different" if p < 0.05 else "no difference"
    return {"verdict": verdict, "ratio": 1.1, "p": p, "seconds": 2.0}


RESULTS = {
    "experiments": {
        "false-alarms": {
            "rows": {
                "one 0": compared("no difference", 1.02),
                "one 1": compared("slower", 0.95, 0.92, 0.98),
                "two 0": compared("no difference", 0.99),
                "two 1": {"error": "broke"},
            }
        },
        "usual": {
            "rows": {
                "one 0 one after the other": welch(0.001),
                "one 0 in turns": welch(0.5),
                "two 0 one after the other": welch(0.01),
            }
        },
        "slower-5": {
            "rows": {
                "MatMul 0": compared("slower", 1 / 1.05, expected="slower"),
                "MatMul 1": compared("faster", 1.05, expected="faster"),
                "MatMul 2": compared("faster", 1.02, expected="slower"),
                "Conv 0": compared("no difference", 1.0, expected="slower"),
            }
        },
        "constructed": {
            "rows": {
                "MatMul 0": {"ms": [[2.0, 2.1, 2.2], [4.0, 4.2, 4.4]]},
                "MatMul 1": {"ms": [[2.0, 2.1, 2.2]]},
            }
        },
        "agreement": {
            "rows": {
                "one 0": {
                    "plain_ms": [1.0, 2.0, 3.0],
                    "benchmark_ms": [2.2, 2.2],
                    "benchmark_median_ms": 2.1,
                    "benchmark_sessions": 40,
                },
                "one 1": {
                    "plain_ms": [2.0],
                    "benchmark_ms": [2.0, 9.0],
                    "benchmark_median_ms": 2.3,
                    "benchmark_sessions": 50,
                },
            }
        },
        "overhead": {
            "settings": {"runs": 1000},
            "rows": {
                "0": {"beside_ns": 150.0, "inside_ns": 80.0, "sample_ns": 4500.0},
                "1": {"beside_ns": 250.0, "inside_ns": 80.0, "sample_ns": 4500.0},
            },
        },
        "memory": {
            "rows": {
                "few": {
                    "samples": 1000,
                    "sessions": 30,
                    "peak_rss_bytes": 60_000_000,
                    "report_bytes": 9_000,
                    "seconds": 2.0,
                },
                "many": {
                    "samples": 10_000_000,
                    "sessions": 333_333,
                    "peak_rss_bytes": 95_500_000,
                    "report_bytes": 90_000_000,
                    "seconds": 80.0,
                },
            }
        },
    }
}
MADE = (
    trust_rows.alarms,
    trust_rows.alarms_by_model,
    trust_rows.found,
    trust_rows.agreement,
    trust_rows.overhead,
    trust_rows.memory,
)


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_what_was_not_measured_is_not_shown(make):
    nothing = {"experiments": {name: {"rows": {}} for name in RESULTS["experiments"]}}
    failed = {
        "experiments": {
            name: {"rows": {"a 0": {"error": "broke"}}} for name in RESULTS["experiments"]
        }
    }
    for results in ({}, nothing, failed):
        assert make(results) == (["not measured"], [])


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_rows_are_as_wide_as_their_head(make):
    head, rows = make(RESULTS)
    assert rows
    assert all(len(row) == len(head) for row in rows)


def test_false_alarms_are_counted_and_what_failed_is_not():
    _, rows = trust_rows.alarms(RESULTS)
    assert [row[:3] for row in rows] == [
        ["onnxopt benchmark", "3 (1 failed)", "1"],
        ["usual, one after the other", "2", "2"],
        ["usual, in turns", "1", "0"],
    ]
    assert rows[0][3] == "33% (1%–91%)"
    assert rows[0][4:] == ["2.0%", "5.1%", "±3.0%", "2", "15.0"]
    assert rows[1][6:] == ["–", "–", "2.0"]


def test_models_are_counted_one_by_one():
    _, rows = trust_rows.alarms_by_model(RESULTS)
    assert rows == [
        ["one", "1 of 2", "1 of 1", "0 of 1", "1.020 0.950"],
        ["two", "0 of 1", "1 of 1", "–", "0.990"],
    ]


def test_found_is_the_right_verdict_on_either_side():
    _, rows = trust_rows.found(RESULTS)
    assert [row[:5] for row in rows] == [
        ["21 : 20", "MatMul", "3", "2", "1"],
        ["21 : 20", "Conv", "1", "0", "0"],
        ["21 : 20", "**all**", "4", "2", "1"],
    ]
    assert rows[0][8:] == ["2.00", "+5.0% (+5.0% to +5.0%)"]
    assert rows[1][8:] == ["not measured", "not measured"]
    assert [row[5] for row in rows] == ["+5.0%", "+0.0%", "+2.5%"]


def test_agreement_takes_equally_many_sessions_of_both():
    _, ((*row,),) = trust_rows.agreement(RESULTS)
    assert row == ["one", "3", "2.000", "2.200", "+10.0%", "2.200", "90"]


def test_costs():
    _, ((*row,),) = trust_rows.overhead(RESULTS)
    assert row == ["2 × 1000", "4.50", "0.20", "0.08", "0.28", "0.33"]
    _, rows = trust_rows.memory(RESULTS)
    assert rows[0] == ["1,000", "30", "60.0", "+0.0", "0.0", "2"]
    assert rows[1] == ["10,000,000", "333,333", "95.5", "+35.5", "90.0", "80"]


def test_the_page_is_made_of_the_results():
    page = tables.FOLDER / "trust.md"
    assert page in tables.PAGES
    assert tables.fill(page.read_text(encoding="utf-8")) == page.read_text(encoding="utf-8")
