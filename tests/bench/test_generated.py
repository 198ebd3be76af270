"""Random graphs before and after optimizing; a failure is shrunk to the smallest that fails."""

import json

import generated
import hypothesis
import numpy as np
import onnx
import pytest
import writing
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnxopt.testing import operators, run

EASY = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@EASY
@given(generated.chosen(), st.sampled_from(generated.TARGETS))
def test_no_graph_computes_something_else_after_optimizing(model, target):
    status, why, _ = generated.judge(model, target)
    assert status != generated.DIFFERENT, why


def drawn(seed):
    choices = np.random.default_rng(seed)
    return writing.write(lambda n: int(choices.integers(n)), most=18)


def test_graphs_are_valid_varied_and_mostly_run():
    found, runnable = set(), 0
    for seed in range(60):
        model = drawn(seed)
        onnx.checker.check_model(model)
        found |= set(operators(model))
        feeds = [writing.feeds(model, number) for number in (0, 1)]
        try:
            outputs = [run(model, feed) for feed in feeds]
        except Exception:  # noqa: BLE001 - onnxruntime's exceptions have no common base
            continue
        runnable += 1
        for declared, first, second in zip(model.graph.output, *outputs, strict=True):
            assert len(declared.type.tensor_type.shape.dim) == first.ndim == second.ndim
    assert runnable > 50
    assert len(found) > 50
    assert {"If", "Loop", "Scan", "MatMul", "Conv", "Softmax", "Slice", "Gather"} <= found


def test_the_same_seed_writes_the_same_graphs():
    first, again = (
        [model.SerializeToString(deterministic=True) for model in generated.graphs(7, 20)]
        for _ in range(2)
    )
    assert first == again
    assert len(set(first)) == 20


def test_a_result_that_differs_is_told(monkeypatch):
    model = writing.write(lambda _: 0)
    assert generated.judge(model, "cpu")[0] == "equal"

    def wrong(model, *_):
        result = onnx.ModelProto.FromString(model.SerializeToString())
        name = result.graph.output[0].name
        maker = next(node for node in result.graph.node if name in node.output)
        index = list(maker.output).index(name)
        maker.output[index] = "right"
        result.graph.node.append(onnx.helper.make_node("Neg", ["right"], [name]))
        return result, []

    monkeypatch.setattr(generated, "optimized", wrong)
    assert generated.judge(model, "cpu")[0] == generated.DIFFERENT
    monkeypatch.setattr(generated, "optimized", lambda *_: 1 / 0)
    status, why, _ = generated.judge(model, "cpu")
    assert (status, why) == (generated.DIFFERENT, "ZeroDivisionError: division by zero")


def test_a_failure_is_shrunk_to_a_small_graph():
    found = hypothesis.find(
        generated.chosen(),
        lambda model: "Concat" in operators(model),
        settings=settings(EASY, max_examples=200),
    )
    assert len(found.graph.node) < 10


@pytest.mark.parametrize(("status", "code"), [("equal", 0), ("different", 1)])
def test_the_command_counts_graphs_that_run_and_lists_differences(
    monkeypatch, tmp_path, status, code
):
    def verdicts(job):
        common = {"seed": job[0], "target": "cpu", "why": "", "done": {"fold": 2}, "nodes": 3}
        states = [status, "equal", "not runnable"]
        return [{**common, "index": i, "status": state} for i, state in enumerate(states)]

    monkeypatch.setattr(
        generated.workers, "spread", lambda _, jobs, __: ((job, verdicts(job)) for job in jobs)
    )
    monkeypatch.setattr(generated.record, "RESULTS", tmp_path)
    told = CliRunner().invoke(generated.main, ["--graphs", "150"])
    assert told.exit_code == code
    written = json.loads((tmp_path / "generated.json").read_text())
    assert written["graphs"] == 4
    assert written["fired"] == {"fold": 12}
    assert len(written["differences"]) == 2 * code
