from onnxopt.rules.activations import softplus
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

RULES = [softplus.fuse_softplus, softplus.fuse_mish]


def plain(g, x):
    return g.Log(g.Add(g.Exp(x), 1.0))


def test_softplus():
    for opset in (7, 17):
        g = Graph(opset)
        assert_rewrites(
            RULES, g.model(plain(g, g.input("x", 3, 4))), becomes=["Softplus"], target="cuda"
        )


def test_softplus_that_does_not_overflow():
    for relu in (True, False):
        g = Graph(17)
        x = g.input("x", 3, 4)
        positive = g.Relu(x) if relu else g.Max(x, 0.0)
        tail = g.Log(g.Add(g.Exp(g.Neg(g.Abs(x))), 1.0))
        assert_rewrites(RULES, g.model(g.Add(positive, tail)), becomes=["Softplus"], target="cuda")


def test_mish():
    for opset, expected in ((18, ["Mish"]), (17, ["Softplus", "Tanh", "Mul"])):
        g = Graph(opset)
        x = g.input("x", 3, 4)
        model = g.model(g.Mul(g.Tanh(plain(g, x)), x))
        assert_rewrites(RULES, model, becomes=expected, target="cuda")


def test_softplus_is_slow_on_a_cpu():
    g = Graph(17)
    model = g.model(plain(g, g.input("x", 3, 4)))
    for target in ("portable", "cpu"):
        assert_untouched(RULES, model, target=target)


def test_other_expressions():
    g = Graph(18)
    x, y = g.input("x", 3, 4), g.input("y", 3, 4)
    assert_untouched(RULES, g.model(g.Mul(y, g.Tanh(g.Softplus(x)))))
    g = Graph(18)
    assert_untouched(RULES, g.model(g.Log(g.Add(g.Exp(g.input("x", 3, 4)), 1.001))))
