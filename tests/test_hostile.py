"""What a hostile tester found: gates that could be passed without proving anything, and more."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnxopt
from onnxopt.cli.main import run
from onnxopt.errors import OnnxOptError
from onnxopt.graph import io
from tests.passes.graphs import info, model_of, node


def double(weight=2.0):
    nodes = [node("Mul", ["x", "w"], "y")]
    return model_of(nodes, [info("x", ["N", 4])], [info("y", ["N", 4])], {"w": np.float32(weight)})


@pytest.fixture
def two(tmp_path):
    """Two models that do not compute the same."""
    for name, weight in (("a", 2.0), ("b", 3.0)):
        onnx.save(double(weight), tmp_path / f"{name}.onnx")
    return tmp_path


def command(*args):
    return run([str(arg) for arg in args])


@pytest.mark.parametrize("option", ["--rtol", "--atol", "--min-sqnr"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_limit_that_is_no_number_switches_no_gate_off(two, option, value):
    assert command("compare", two / "a.onnx", two / "b.onnx", option, value, "-q") == 2


def test_nothing_to_compare_is_not_verified(two):
    for name, x in (("none", np.zeros((0, 4))), ("nan", np.full((2, 4), np.nan))):
        samples = [{"x": x.astype(np.float32)}]
        report = onnxopt.compare(two / "a.onnx", two / "b.onnx", data=samples)
        assert not report.verification.verified, name
        assert not report
    with pytest.raises(OnnxOptError, match="no samples"):
        onnxopt.compare(two / "a.onnx", two / "b.onnx", data=[])


def test_models_that_differ_are_told_apart(two):
    assert command("compare", two / "a.onnx", two / "b.onnx", "-q") == 1


def test_data_function_that_exits_is_an_error(two):
    (two / "f.py").write_text("import sys\n\ndef leave():\n    sys.exit()\n")
    arguments = ["optimize", two / "a.onnx", "--data", f"{two}/f.py:leave", "--no-measure"]
    assert command(*arguments) == 2
    assert not (two / "a.opt.onnx").exists()


def test_endless_data_is_cut_off(two):
    (two / "f.py").write_text(
        "import numpy as np\n\ndef endless():\n"
        "    while True:\n        yield {'x': np.ones((1, 4), np.float32)}\n"
    )
    arguments = ["compare", two / "a.onnx", two / "a.onnx", "--data", f"{two}/f.py:endless", "-q"]
    assert command(*arguments) == 0


@pytest.mark.parametrize("name", ["nope", "TensorrtExecutionProvider", ""])
def test_provider_that_is_not_there_is_an_error(two, name):
    assert command("inspect", two / "a.onnx", "--provider", name) == 2
    assert command("benchmark", two / "a.onnx", "--provider", name, "--seconds", "1") == 2


@pytest.mark.parametrize("fix", ["N=0", "N=99999999999999999999", "M=1"])
def test_size_that_cannot_be_is_an_error(two, fix):
    assert command("optimize", two / "a.onnx", "--fix", fix, "--no-measure") == 2
    assert command("optimize", two / "a.onnx", "--fix", "N=2", "--fix", "N=3") == 2


def test_nodes_of_one_name_are_told_apart():
    nodes = [node("Relu", ["x"], "a"), node("Neg", ["a"], "b"), node("Abs", ["b"], "y")]
    for each in nodes:
        each.name = "same"
    model = io.from_proto(model_of(nodes, [info("x", [2])], [info("y", [2])]))
    assert [n.name for n in model.graph] == ["same", "same_1", "same_2"]


def test_branch_with_too_few_outputs_is_refused():
    empty = helper.make_graph([], "t", [], [])
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=empty, else_branch=empty)]
    model = model_of(nodes, [info("c", [], TensorProto.BOOL)], [info("y", [2])])
    with pytest.raises(OnnxOptError, match="has 0 outputs instead of 1"):
        io.from_proto(model)


def test_model_in_memory_has_no_path():
    report = onnxopt.optimize(double(), measure=False)
    assert report.input.path is None
    assert json.dumps(report.to_dict())


@pytest.mark.parametrize("model", [None, b"bytes", 3])
def test_what_is_no_model_is_an_error(model):
    with pytest.raises(OnnxOptError, match="is no model"):
        onnxopt.optimize(model)


def test_one_name_and_one_feed_will_do():
    feed = {"x": np.ones((2, 4), np.float32)}
    assert onnxopt.optimize(double(), only="fold", data=feed, measure=False).verification.feeds == 1
    with pytest.raises(OnnxOptError, match="wants float32"):
        onnxopt.optimize(double(), data=[{"x": np.ones((2, 5), np.float32)}], measure=False)
    with pytest.raises(OnnxOptError, match="no kind of samples"):
        onnxopt.optimize(double(), data=42, measure=False)


def test_api_verb_survives_the_package_that_does_the_work():
    script = (
        "import onnxopt, onnxopt.benchmarking.measure; "
        "assert callable(onnxopt.benchmark) and callable(onnxopt.inspect)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
