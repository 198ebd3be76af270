"""Forms are judged by what onnxruntime runs, and no tool takes another down."""

import json
import os
import signal
import sys

import board
import click
import forked
import pytest
import reasons
import run_peer
import score
import scoreboard
import tables
import verdicts
from patterns import FORMS
from patterns.graph import Graph

MARK = {"passed": True, "reason": ""}


def cell(default, extended=None, ops=1, edges="", **more):
    runs = {"all": {"Relu": default}, "extended": {"Relu": extended or default}}
    told = {"error": None, "done": None, "verification": MARK, "runs": runs}
    return told | {"ops": {"Relu": ops}, "edges": edges} | more


def cells(own, peer=None, original=None):
    found = {"original": original or cell(4), verdicts.OWN: own}
    return found if peer is None else found | {"onnxsim": peer}


def test_fewer_nodes_than_every_peer_is_ahead_and_as_few_is_level():
    assert verdicts.verdict(cells(cell(1), cell(2))) == "ahead"
    assert verdicts.verdict(cells(cell(2), cell(2))) == "level"
    assert verdicts.verdict(cells(cell(4))) == "level"


def test_more_nodes_at_either_level_is_behind():
    assert verdicts.verdict(cells(cell(3), cell(2))) == "behind"
    assert verdicts.verdict(cells(cell(1, extended=3), cell(2))) == "behind"
    assert verdicts.verdict(cells(cell(5))) == "behind"


def test_more_nodes_in_less_time_is_faster():
    measured = {"onnxsim": {"verdict": "faster"}, "original": {"verdict": "slower"}}
    assert verdicts.verdict(cells(cell(3, latency=measured), cell(2))) == "faster"
    measured = {"original": {"verdict": "faster"}}
    assert verdicts.verdict(cells(cell(5, latency=measured))) == "faster"


def test_a_wrong_peer_is_no_rival():
    wrong = cell(1, verification={"passed": False, "reason": "differs"})
    assert verdicts.verdict(cells(cell(2), wrong)) == "ahead"
    assert verdicts.best_peer(cells(cell(2), wrong)) is None
    assert verdicts.best_peer(cells(cell(2), {"error": "it crashed", "done": None})) is None


def test_slower_wrong_and_failed_are_told():
    slower = {"original": {"verdict": "slower", "ratio": 0.5}}
    assert verdicts.verdict(cells(cell(1, latency=slower))) == "slower"
    wrong = {"passed": False, "reason": "differs"}
    assert verdicts.verdict(cells(cell(1, verification=wrong))) == "wrong"
    assert verdicts.verdict(cells({"error": "it crashed", "done": None})) == "failed"


def test_best_peer_leaves_fewer_nodes_than_there_are_without_any():
    assert verdicts.best_peer(cells(cell(1), cell(2))) == "onnxsim"
    assert verdicts.best_peer(cells(cell(1), cell(4))) is None


def test_untouched_means_the_same_operators():
    found = cells(cell(1, ops=1), cell(4, ops=4), original=cell(4, ops=4))
    assert verdicts.untouched_by_peers(found)
    assert verdicts.touched(found, verdicts.OWN)
    assert not verdicts.untouched_by_peers(found | {"onnxslim": cell(4, ops=3)})
    turned = cell(4, ops=4, edges="otherwise")
    assert not verdicts.untouched_by_peers(found | {"onnxslim": turned})


def test_rows_hold_what_was_found():
    found = cells(cell(1, extended=2, done={"fuse": 2, "dead": 1}), cell(2))
    results = {"tools": {verdicts.OWN: {}}, "models": {"small": found}}
    _, (row,) = board.forms(results)
    assert row[:6] == ["small", "1", "4", "2 onnxsim", "1 (2)", "–"]
    assert row[-2:] == ["ahead", "fuse×2, dead"]
    _, rows = board.summary(results)
    assert ["forms", "1"] in rows
    assert board.stays(results)[1] == [["small", "no reason is known"]]
    assert board.more_nodes(results)[1] == []


def test_each_form_that_stays_has_its_reason():
    results = tables.read("scoreboard")
    assert set(results["models"]) == set(FORMS)
    assert set(board.untouched(results)) <= set(reasons.STAYS)


def test_pages_hold_the_tables_of_the_results():
    page = tables.FOLDER / "scoreboard.md"
    assert tables.fill(page.read_text(encoding="utf-8")) == page.read_text(encoding="utf-8")


def test_names_are_checked():
    assert scoreboard.pick("b, a", ["a", "b"], "form") == ["b", "a"]
    with pytest.raises(click.UsageError, match="no form is called 'c'"):
        scoreboard.pick("c", ["a", "b"], "form")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_fork_tells_its_value_its_error_or_its_end():
    assert forked.forked(lambda: {"a": 1}, timeout=60) == ({"a": 1}, None)
    assert forked.forked(lambda: int("x"), timeout=60)[1].startswith("ValueError: invalid literal")
    assert forked.forked(die, timeout=60) == (None, "SIGKILL")
    assert forked.forked(sys.exit, timeout=60) == (None, "SystemExit")
    assert forked.forked(lambda: os._exit(3), timeout=60) == (None, "exit code 3")


def test_a_model_that_takes_the_tool_down_stops_no_other(tmp_path, monkeypatch, capfd):
    def run(model, output):
        if model == "bad":
            die()

    monkeypatch.setitem(run_peer.PEERS, "onnxopt", run)
    jobs = tmp_path / "jobs.json"
    jobs.write_text(json.dumps([["bad", "1"], ["good", "2"]]))
    run_peer.run_many("onnxopt", str(jobs))
    lines = [json.loads(line) for line in capfd.readouterr().out.split("\n") if line]
    assert lines == [
        {"output": "1", "error": "SIGKILL", "done": None},
        {"output": "2", "error": None, "done": None},
    ]


def test_edges_tell_an_order_from_another():
    one, other = Graph("one", 17), Graph("other", 17)
    first = one.model((one.Relu(one.Neg(one.input("x", 4))),))
    turned = other.model((other.Neg(other.Relu(other.input("x", 4))),))
    assert score.operators(first) == score.operators(turned)
    assert score.edges(first) != score.edges(turned)


def test_onnxruntime_says_what_it_runs(tmp_path):
    path = tmp_path / "form.onnx"
    path.write_bytes(FORMS["conv_bn_relu"].make().SerializeToString())
    assert score.what_runs(path, "extended") == {"com.microsoft.FusedConv": 1}
    assert score.operators(FORMS["conv_bn_relu"].make()) == {
        "BatchNormalization": 1,
        "Conv": 1,
        "Relu": 1,
    }
