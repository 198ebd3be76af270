"""Models that we did not write: onnx's own backend test cases and models, with their outputs."""

import json

import cases
import conformance
import numpy as np
import pytest
import workers
from click.testing import CliRunner
from onnx import TensorProto, helper

EVERY = 8
"""Of the node cases, the quick suite runs one in so many; the long one runs all."""

OTHERS = [(kind, name) for kind in (*cases.FOLDERS, "light") for name in cases.names(kind)]


def assert_passes(kind, name, target):
    verdict = conformance.work((kind, name, target))
    assert verdict["status"] != conformance.FAILED, verdict["why"]


@pytest.mark.parametrize("name", cases.names("node")[::EVERY])
def test_node_case(name):
    assert_passes("node", name, "portable")


@pytest.mark.parametrize(("kind", "name"), [case for case in OTHERS if case[0] != "light"])
def test_model(kind, name):
    assert_passes(kind, name, "portable")


@pytest.mark.long
@pytest.mark.parametrize("target", ["portable", "cpu"])
@pytest.mark.parametrize("name", cases.names("node"))
def test_every_node_case(name, target):
    assert_passes("node", name, target)


@pytest.mark.long
@pytest.mark.parametrize(("kind", "name"), OTHERS)
def test_every_model_for_cpu(kind, name):
    assert_passes(kind, name, "cpu")


def relu_case(wanted):
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    nodes = [
        helper.make_node("Identity", ["x"], ["z"]),
        helper.make_node("Relu", ["z"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    given = np.array([-1, 2], np.float32)
    return cases.Case(name="relu", model=model, data_sets=[([given], [np.float32(wanted)])])


def test_outputs_are_held_against_those_that_are_expected():
    assert conformance.judge(relu_case([0, 2]), "cpu")["status"] == "equal"
    verdict = conformance.judge(relu_case([0, 3]), "cpu")
    assert verdict["status"] == "as the original"
    assert verdict["why"].startswith("onnxruntime gives for the original something else")


def test_a_result_that_differs_has_failed(monkeypatch):
    case = relu_case([0, 2])
    wrong = relu_case([0, 2]).model
    wrong.graph.node[1].op_type = "Neg"
    monkeypatch.setattr(conformance, "optimized", lambda *_: (wrong, 1))
    monkeypatch.setattr(conformance, "_taken_back", lambda *_: False)
    verdict = conformance.judge(case, "cpu")
    assert verdict["status"] == "failed"
    assert "other outputs" in verdict["why"]


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (np.array([1.0, np.nan]), np.array([1.0, np.nan]), True),
        (np.array([1.0]), np.array([1.01]), False),
        (np.array([1.0]), np.array([[1.0]]), False),
        ([np.array([1])], [np.array([1])], True),
        ([np.array([1])], [], False),
        (None, None, True),
        (np.array(["a"], object), np.array(["b"], object), False),
    ],
)
def test_agreement(a, b, same):
    assert cases.agree(a, b, 1e-3) == same


def test_the_command_counts_and_fails_where_a_case_fails(monkeypatch, tmp_path):
    verdicts = {"a": {"status": "equal"}, "b": {"status": "failed", "why": "it broke"}}
    monkeypatch.setattr(cases, "names", lambda _: list(verdicts))
    monkeypatch.setattr(workers, "spread", lambda _, jobs, __: ((j, verdicts[j[1]]) for j in jobs))
    monkeypatch.setattr(conformance.record, "RESULTS", tmp_path)
    told = CliRunner().invoke(conformance.main, ["--kinds", "node", "--targets", "cpu"])
    assert told.exit_code == 1
    written = json.loads((tmp_path / "conformance.json").read_text())
    assert written["counts"]["node cpu"]["failed"] == 1
    assert written["exceptions"] == {"failed": ["node b cpu: it broke"]}
