"""Which node took how long, from a trace as onnxruntime writes it."""

import json

import pytest

from onnxopt.profiling.trace import read_runs


def node(name, op, ts, dur, **arguments):
    arguments = {"op_name": op, "provider": "CPUExecutionProvider", "node_index": "0", **arguments}
    return {"cat": "Node", "ph": "X", "name": f"{name}_kernel_time", "ts": ts, "dur": dur,
            "args": arguments}  # fmt: skip


def run(ts, dur):
    return {"cat": "Session", "ph": "X", "name": "model_run", "ts": ts, "dur": dur, "args": {}}


@pytest.fixture
def read(tmp_path):
    def write_and_read(*events):
        path = tmp_path / "trace.json"
        path.write_text("[\n" + ",\n".join(json.dumps(event) for event in events) + "\n]\n")
        return read_runs(path)

    return write_and_read


def times(run):
    return {(key.within, key.name): [call.us for call in calls] for key, calls in run.calls.items()}


def test_nodes_belong_to_the_run_that_spans_them(read):
    first, second = read(
        run(0, 100), node("a", "Relu", 10, 20), node("b", "Relu", 40, 50),
        node("a", "Relu", 210, 30), node("b", "Relu", 250, 40), run(200, 100),
    )  # fmt: skip
    assert (first.us, times(first)) == (100, {((), "a"): [20], ((), "b"): [50]})
    assert (second.us, times(second)) == (100, {((), "a"): [30], ((), "b"): [40]})


def test_a_node_that_holds_graphs_keeps_what_is_left_by_those_inside(read):
    (only,) = read(
        node("a", "Relu", 0, 10),
        node("b", "Relu", 12, 10),
        node("in1", "Conv", 40, 100),
        node("in2", "Relu", 142, 8),
        node("if", "If", 30, 150),
        node("c", "Relu", 182, 10),
        run(0, 200),
    )
    assert times(only) == {
        ((), "a"): [10],
        ((), "b"): [10],
        ((), "if"): [150 - 100 - 8 - 2 * 2],  # of two nodes inside, and two µs to write each
        (("if",), "in1"): [100],
        (("if",), "in2"): [8],
        ((), "c"): [10],
    }


def test_a_body_that_runs_often_is_one_node_with_many_calls(read):
    inner = [node("x", "Add", 10 + 10 * i, 8) for i in range(5)]
    (only,) = read(*inner, node("loop", "Loop", 5, 60), run(0, 70))
    assert times(only)[("loop",), "x"] == [8] * 5
    assert times(only)[(), "loop"] == [60 - 5 * (8 + 2)]


def test_shapes_and_bytes_are_read(read):
    told = node(
        "c", "Conv", 5, 9, activation_size="400", parameter_size="36", output_size="144",
        input_type_shape=[{"float": [1, 1, 10, 10]}, {"float": [1, 1, 3, 3]}],
        output_type_shape=[{"float": [1, 1, 6, 6]}],
    )  # fmt: skip
    (only,) = read(told, node("bare", "Conv", 20, 9), run(0, 50))
    (call,), (bare,) = only.calls.values()
    assert call.inputs == ((1, 1, 10, 10), (1, 1, 3, 3))
    assert call.outputs == ((1, 1, 6, 6),)
    assert (call.read, call.written) == (436, 144)
    assert (bare.inputs, bare.read, bare.written) == ((), 0, 0)


def test_a_trace_that_was_cut_off_gives_its_complete_runs(read):
    runs = read(node("a", "Relu", 1, 5), run(0, 10), node("a", "Relu", 21, 5))
    assert len(runs) == 1
    assert read() == []


def test_kernels_of_a_device_are_left_out(read):
    kernel = {"cat": "Kernel", "ph": "X", "name": "sgemm_kernel_time", "ts": 3, "dur": 90,
              "args": {"op_name": "MatMul"}}  # fmt: skip
    (only,) = read(node("a", "MatMul", 1, 5), kernel, run(0, 10))
    assert times(only) == {((), "a"): [5]}
