"""What the user can mend in `optimize`: exit status 2, what is wrong in one line, a hint in one."""

import onnx
import pytest

from onnxopt.cli.main import run
from onnxopt.rewrite.pattern import op, var
from onnxopt.rewrite.rule import rule
from tests.rules.graphs import Graph


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Return a model whose second dimension has to be 4, although its input leaves it free."""
    monkeypatch.chdir(tmp_path)
    g = Graph(17)
    ids, mask = g.input("input_ids", "batch", "sequence"), g.input("mask", 3, 4)
    y = g.Add(g.Transpose(g.Transpose(g.Tanh(ids))), g.const([1.0, 2.0, 3.0, 4.0]))
    onnx.save(g.model(g.Mul(y, g.Relu(mask))), "m.onnx")
    return "m.onnx"


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ("--fix foo=3", "no dimension 'foo'", "batch, input_ids:0, input_ids:1, sequence"),
        ("--fix bach=3", "no dimension 'bach'", "did you mean batch?"),
        ("--fix inputs_ids:1=3", "no dimension 'inputs_ids:1'", "did you mean input_ids:1"),
        ("--fix input_ids:7=3", "'input_ids' has no axis 7", "2 dimensions"),
        ("--fix input_ids:-3=3", "'input_ids' has no axis -3", "2 dimensions"),
        ("--fix mask:1=5", "axis 1 of input 'mask' is 4, not 5", "fixed in the model"),
        ("--fix batch=2 --fix input_ids:0=3", "'batch' is fixed to two sizes", "one size"),
        ("--fix batch=0", "'batch=0' is not DIM=VALUE", "--fix batch=1"),
        ("--fix batch=99999999999", "'batch' cannot be fixed to 99999999999", "1 or more"),
        ("--fix sequence=5", "does not run with --fix sequence=5", "contradicts"),
        ("--opset 99", "operator set 99 is not known", "knows up to"),
        ("--opset 5", "at operator set 17, above 5", "from 17 to"),
        ("--opset 0", "0 is not in the range", "--help"),
        ("--only fuse_erf_gelo", "no pass or rule is called 'fuse_erf_gelo'", "fuse_erf_gelu"),
        ("--skip gelu", "no pass or rule is called 'gelu'", "fuse_erf_gelu"),
        ("--only xyzzy", "no pass or rule is called 'xyzzy'", "onnxopt rules"),
        ("--target gpu", "unknown target 'gpu'", "cpu"),
    ],
)
def test_optimize_says_what_is_wrong_and_what_is_near(model, capsys, options, message, hint):
    status = run(["optimize", model, "-o", "out.onnx", "--no-measure", *options.split()])
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert (status, out) == (2, "")
    assert first.startswith("error: ")
    assert message in first
    assert second.startswith("hint: ")
    assert hint in second


def test_operator_set_that_cannot_be_reached_names_the_one_that_can(tmp_path, capsys):
    g = Graph(17)
    x = g.input("x", 1, 1, 5, 5)
    y = g.AveragePool(x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    onnx.save(g.model(y), tmp_path / "m.onnx")
    options = ["-o", str(tmp_path / "out.onnx"), "--no-measure", "--opset", "20"]
    assert run(["optimize", str(tmp_path / "m.onnx"), *options]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "cannot be raised to operator set 20: node 'AveragePool_1'" in first
    assert second == "hint: it can be raised to 18"
    assert not (tmp_path / "out.onnx").exists()


@rule(op.Tanh(var("x")))
def crash_on_tanh(new, x):
    """Raises."""
    raise ZeroDivisionError("a fault of ours")


def test_rule_that_crashes_is_named_and_the_rest_goes_on(model, with_rules, capsys):
    with_rules(crash_on_tanh)
    assert run(["optimize", model, "-o", "out.onnx", "--no-measure"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "rolled back: ZeroDivisionError: a fault of ours" in out
    assert "crash_on_tanh" in out
    assert "verified: 1 output the same" in out
    assert [node.op_type for node in onnx.load("out.onnx").graph.node].count("Transpose") == 0
