"""Tables come from the results and stand between their markers."""

import json

import pytest
import tables

CELL = {
    "error": None,
    "median_seconds": 1.5,
    "peak_rss_bytes": 100_000_000,
    "file_bytes": 2_000_000,
    "nodes": 5,
    "constant_nodes": 2,
    "signature": [],
    "verification": {"passed": True, "reason": ""},
}
RESULTS = {
    "tools": {
        "onnxopt cpu": {"packages": {"onnxopt": "1.0"}},
        "onnxruntime.transformers": {"packages": {"onnxruntime": "2.0"}},
    },
    "models": {
        "small": {
            "original": CELL | {"nodes": 10},
            "onnxopt cpu": CELL
            | {"latency": {"ratio": 1.25, "low": 1.2, "high": 1.3, "verdict": "faster"}},
            "onnxruntime.transformers": {"error": "it | broke"},
        }
    },
}


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "optimizers.json").write_text(json.dumps(RESULTS))


def rows(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.split("\n")]


def test_summary_has_a_row_for_each_tool():
    assert rows(tables.optimizers())[2:] == [
        ["onnxopt cpu 1.0", "1 of 1", "1 of 1", "50%", "1.5", "100", "1 / 0 / 0"],
        ["onnxruntime.transformers 2.0", "0 of 1", "0 of 1", "–", "0.0", "0", "–"],
    ]


def test_tables_have_a_row_for_each_model():
    assert rows(tables.nodes())[2:] == [["small", "10 (2)", "5 (2)", "failed"]]
    assert rows(tables.seconds())[2:] == [["small", "1.50", "failed"]]
    assert rows(tables.memory())[2:] == [["small", "100", "failed"]]
    assert rows(tables.size())[2:] == [["small", "2.00", "2.00", "failed"]]
    assert rows(tables.latency())[2:] == [["small", "–", "**1.25 (1.20–1.30)**", "–"]]


def test_faults_keep_the_table_whole():
    assert rows(tables.faults())[2:] == [
        ["onnxruntime.transformers", "small", "`failed: it / broke`"]
    ]


def test_only_what_stands_between_markers_changes():
    page = "before\n<!-- bench:nodes -->\nold\n<!-- bench:end -->\nafter\n"
    filled = tables.fill(page)
    assert filled.startswith("before\n<!-- bench:nodes -->\n")
    assert filled.endswith("<!-- bench:end -->\nafter\n")
    assert "old" not in filled
    assert tables.fill(filled) == filled


def test_tables_without_results_are_empty(tmp_path):
    (tmp_path / "results" / "optimizers.json").unlink()
    assert all(len(rows(make())) == 2 for make in tables.TABLES.values())


def test_cases_and_random_graphs(tmp_path):
    statuses = ("equal", "unchanged", "taken back", "as the original", "not runnable", "failed")
    cell = dict(zip(statuses, (5, 3, 1, 0, 0, 0), strict=True))
    why = "node test_a cpu: fault | of others", "node test_a portable: fault | of others"
    conformance = {"counts": {"node cpu": cell}, "exceptions": {"taken back": list(why)}}
    (tmp_path / "results" / "conformance.json").write_text(json.dumps(conformance))
    assert rows(tables.conformance())[2:] == [["node cpu", "9", "5", "3", "1", "0", "0", "0"]]
    assert rows(tables.conformance_exceptions())[2:] == [
        ["node test_a", "cpu, portable", "taken back", "fault / of others"]
    ]
    counts = {"equal": 8, "within the original's noise": 1, "not finite": 0, "different": 0}
    graphs = {"graphs": 9, "nodes": 70, "counts": counts, "fired": {"fold": 3}, "seconds": 4.2}
    (tmp_path / "results" / "generated.json").write_text(json.dumps(graphs))
    assert rows(tables.generated())[2:] == [["9", "70", "8", "1", "0", "0", "1", "4"]]
