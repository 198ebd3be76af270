"""Time outside products is summed from onnxruntime's profile, and tables show what was measured."""

import build_exports
import exports
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from export_rows import fused, latency, outside, parts
from onnx import helper
from profiled import outside as outside_ms
from profiled import profile, summed


def event(op, name, dur, *shapes):
    args = {"op_name": op, "node_index": "0", "input_type_shape": [{"float": s} for s in shapes]}
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": dur, "args": args}


def test_nodes_count_by_their_median_and_warm_runs_alone():
    slow, usual = 9000, [1000, 3000, 2000]
    events = [event("Add", "a", dur, [1], [1]) for dur in (slow, *usual)]
    found = summed([*events, event("Add", "b", 500, [1], [1])], runs=3)
    assert found["ms"] == {"Add": 2.5}
    assert found["nodes"] == {"Add": 2}


def test_only_products_of_two_batches_belong_to_attention():
    events = [
        event("MatMul", "weights", 4000, [1, 7, 24], [24, 24]),
        event("FusedMatMul", "scores", 1000, [1, 3, 7, 8], [1, 3, 8, 7]),
        event("Conv", "conv", 3000, [1, 3, 8, 8], [4, 3, 1, 1]),
    ]
    assert summed(events, runs=1)["attention_products_ms"] == 1.0


def told(products, packed=None, **ms):
    means = {"7x24x24": 0.5, "7x24x40": 9.0}
    return {
        "ms": ms,
        "attention_products_ms": products,
        "projections": means,
        "packed": packed or {},
    }


def test_attention_operator_is_outside_but_for_its_products():
    original = told(3.0, MatMul=9.0, Softmax=2.0)
    assert outside_ms(original, original) == 2.0
    assert outside_ms(told(0.0, MatMul=6.0, MultiHeadAttention=4.0), original) == 1.0
    assert outside_ms(told(2.0, MatMul=7.0, Attention=1.0, Add=0.5), original) == 0.5


def test_packed_attention_holds_three_projections_too():
    original = told(3.0, MatMul=9.0, Softmax=2.0)
    packed = told(0.0, {"7x24x24": 1}, MatMul=5.0, Attention=5.0)
    assert outside_ms(packed, original) == 0.5
    original["projections"] = {"7x24x72": 1.75, "7x24x24": 0.5}
    assert outside_ms(packed, original) == 0.25


def test_packed_attention_is_told_by_its_inputs():
    def attention(name, *shapes):
        made = event("Attention", name, 5000, *shapes)
        made["args"]["output_type_shape"] = [{"float": [1, 7, 24]}]
        return made

    events = [
        attention("packed", [1, 7, 24], [24, 72], [72]),
        attention("weights gone", [1, 7, 24], [72]),
        attention("standard", [1, 7, 24], [1, 7, 24], [1, 7, 24]),
    ]
    assert summed(events, runs=1)["packed"] == {"7x24x24": 2}


def test_a_model_is_profiled(tmp_path):
    node = [helper.make_node("MatMul", ["x", "x"], ["y"]), helper.make_node("Sin", ["y"], ["z"])]
    values = [helper.make_tensor_value_info(name, 1, [2, 3, 3]) for name in "xz"]
    graph = helper.make_graph(node, "g", values[:1], values[1:])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "m.onnx")
    np.savez(tmp_path / "feed.npz", x=np.ones((2, 3, 3), np.float32))
    found = profile(tmp_path / "m.onnx", tmp_path / "feed.npz", runs=3)
    assert found["nodes"] == {"MatMul": 1, "Sin": 1}
    assert found["attention_products_ms"] == found["ms"]["MatMul"]


RIGHT = {"error": None, "verification": {"passed": True}}
FOUND = {"ratio": 1.25, "low": 1.2, "high": 1.3, "verdict": "faster"}
RESULTS = {
    "tools": {"onnxopt cpu": {}, "onnxsim": {}},
    "models": {
        "bert_script": {
            "original": {
                "outside_ms": 4.0,
                "profile": {"ms": {"MatMul": 6.0, "Add": 4.0}, "nodes": {"MatMul": 1, "Add": 2}},
            },
            "onnxopt cpu": RIGHT
            | {
                "outside_ms": 2.0,
                "profile": {"ms": {"MultiHeadAttention": 2.0}, "nodes": {"MultiHeadAttention": 1}},
                "latency": FOUND,
            },
            "onnxsim": {"error": "broke"},
        }
    },
}


def test_tables_show_share_speed_and_what_is_fused():
    means = ["transformers, geometric mean", "–", "–", "0.50", "–"]
    assert outside(RESULTS)[1] == [["bert_script", "10.0", "4.00", "0.50", "failed"], means]
    assert latency(RESULTS)[1] == [["bert_script", "**1.25 (1.20–1.30)**", "failed"]]
    assert fused(RESULTS)[1] == [["bert_script", "0 / 0 / 3", "1 / 0 / 1", "failed"]]
    assert parts(RESULTS)[1] == [["bert_script", "Add 4.00", "MultiHeadAttention 2.00"]]


def test_wrong_results_are_not_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(exports.record, "WORK", tmp_path)
    each = next(build_exports.wanted("full"))
    cells = {"onnxsim": RIGHT | {"verification": {"passed": False}}, "onnxopt cpu": RIGHT}
    found = exports.candidates(each, ["onnxsim", "onnxopt cpu", "onnxslim"], cells)
    assert list(found) == ["original", "onnxopt cpu"]


def test_there_are_as_many_exports_as_the_pages_say():
    assert len(list(build_exports.wanted("tiny"))) == 38
    assert len(list(build_exports.wanted("full"))) == 14


@pytest.mark.parametrize("command", [exports.main, build_exports.main])
def test_unknown_model_is_a_usage_error(command):
    result = CliRunner().invoke(command, ["--models", "nonsense"])
    assert result.exit_code == 2
    assert "is called 'nonsense'" in result.output
