import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxopt.config import OptimizeConfig
from onnxopt.passes import fold, shapes
from tests.passes.graphs import apply, info, model_of, node, ops, same


def test_constant_expression_becomes_one_constant():
    nodes = [node("Exp", ["c"], "e"), node("Neg", ["e"], "n"), node("Add", ["x", "n"], "y")]
    model = model_of(nodes, [info("x", [3])], [info("y", [3])], {"c": np.ones(3, np.float32)})
    result, (_, done) = apply(model, shapes, fold)
    assert done == {"fold_constants": 2}
    assert ops(result) == ["Add"]
    same(model, result, {"x": np.arange(3, dtype=np.float32)})


def test_growth_is_limited_and_what_comes_before_is_folded_still():
    nodes = [
        node("Neg", ["c"], "n"),
        node("Expand", ["n", "shape"], "big"),
        node("Add", ["x", "big"], "y"),
    ]
    constants = {"c": np.ones(1, np.float32), "shape": np.array([64, 64], np.int64)}
    model = model_of(nodes, [info("x", [64, 64])], [info("y", [64, 64])], constants)
    result, _ = apply(model, shapes, fold)
    assert ops(result) == ["Expand", "Add"]
    assert result.ByteSize() < model.ByteSize() + 4096
    roomy, _ = apply(model, shapes, fold, config=OptimizeConfig(max_growth=10**6))
    assert ops(roomy) == ["Add"]


def test_growth_limit_holds_over_several_runs():
    names = [f"e{i}" for i in range(8)]
    nodes = [node("Expand", ["c", "shape"], name) for name in names]
    nodes += [node("Add", ["x", name], f"y{i}") for i, name in enumerate(names)]
    constants = {"c": np.ones(1, np.float32), "shape": np.array([16, 16], np.int64)}
    outputs = [info(f"y{i}", [16, 16]) for i in range(8)]
    model = model_of(nodes, [info("x", [16, 16])], outputs, constants)
    once, _ = apply(model, shapes, fold)
    twice, _ = apply(model, shapes, fold, fold, fold)
    assert ops(once) == ops(twice)
    assert ops(once).count("Expand") >= 4


def test_large_weight_is_replaced_rather_than_doubled():
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    nodes = [node("Transpose", ["w"], "t", perm=[1, 0]), node("MatMul", ["x", "t"], "y")]
    model = model_of(nodes, [info("x", [2, 64])], [info("y", [2, 64])], {"w": weight})
    result, _ = apply(model, shapes, fold)
    assert ops(result) == ["MatMul"]
    shared = model_of(
        [*nodes, node("Add", ["w", "z"], "v")],
        [info("x", [2, 64]), info("z", [64, 64])],
        [info("y", [2, 64]), info("v", [64, 64])],
        {"w": weight},
    )
    kept, _ = apply(shared, shapes, fold)
    assert "Transpose" in ops(kept)


def test_bomb_is_not_computed():
    """A few bytes that ask for a terabyte."""
    nodes = [
        node("ConstantOfShape", ["shape"], "big"),
        node("ReduceSum", ["big"], "sum", keepdims=0),
        node("Add", ["x", "sum"], "y"),
    ]
    constants = {"shape": np.array([2**20, 2**20], np.int64)}
    model = model_of(nodes, [info("x", [1])], [info("y", [1])], constants)
    result, (_, done) = apply(model, shapes, fold)
    assert not done
    assert "ConstantOfShape" in ops(result)


@pytest.mark.parametrize("op_type", ["RandomNormalLike", "Bernoulli"])
def test_random_operators_stay(op_type):
    nodes = [node(op_type, ["c"], "r"), node("Add", ["x", "r"], "y")]
    model = model_of(nodes, [info("x", [3])], [info("y", [3])], {"c": np.ones(3, np.float32)})
    _, (_, done) = apply(model, shapes, fold)
    assert not done


def test_dequantized_weights_stay_small():
    nodes = [node("DequantizeLinear", ["w", "s"], "d"), node("MatMul", ["x", "d"], "y")]
    constants = {"w": np.ones((4, 4), np.int8), "s": np.float32(0.1)}
    model = model_of(nodes, [info("x", [2, 4])], [info("y", [2, 4])], constants)
    _, (_, done) = apply(model, shapes, fold)
    assert not done


def test_overridable_default_stays():
    nodes = [node("Exp", ["c"], "e"), node("Add", ["x", "e"], "y")]
    model = model_of(
        nodes, [info("x", [3]), info("c", [3])], [info("y", [3])], {"c": np.ones(3, np.float32)}
    )
    _, (_, done) = apply(model, shapes, fold)
    assert not done


def test_constants_in_branches_are_folded_where_they_stand():
    def branch(name, op_type):
        nodes = [node("Neg", ["c"], f"{name}n"), node(op_type, ["x", f"{name}n"], f"{name}o")]
        return helper.make_graph(nodes, name, [], [info(f"{name}o", [3])])

    choice = node("If", ["k"], "y", then_branch=branch("t", "Add"), else_branch=branch("e", "Mul"))
    model = model_of(
        [choice],
        [info("x", [3]), info("k", [], TensorProto.BOOL)],
        [info("y", [3])],
        {"c": np.ones(3, np.float32)},
    )
    result, (_, done) = apply(model, shapes, fold)
    assert done["fold_constants"] == 2
    for k in (True, False):
        same(model, result, {"x": np.arange(3, dtype=np.float32), "k": np.array(k)})
