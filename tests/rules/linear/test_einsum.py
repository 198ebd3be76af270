import pytest
from onnx import TensorProto

from onnxopt.rules.linear import einsum
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

SIZES = dict(zip("abcdehijkst", (2, 3, 4, 5, 6, 3, 4, 5, 2, 4, 3), strict=True))


def shape(labels):
    return tuple(SIZES[label] for label in labels)


@pytest.mark.parametrize(
    ("equation", "becomes"),
    [
        ("bhid,bhjd->bhij", ["Transpose", "MatMul"]),
        ("bhij,bhjd->bhid", ["MatMul"]),
        ("bhjd,bhid->bhij", ["Transpose", "MatMul"]),
        ("ij,jk->ik", ["MatMul"]),
        ("ij,jk", ["MatMul"]),
        (" i j , k j -> k i ", ["Transpose", "MatMul"]),
        ("aecd,abcd->acbe", ["Transpose", "Transpose", "MatMul"]),
        ("acbe,aecd->abcd", ["Transpose", "MatMul", "Transpose"]),
        ("bij,bkj->bki", ["Transpose", "MatMul"]),
        ("abi,ij->abj", ["MatMul"]),
        ("iab,ij->abj", ["Transpose", "MatMul"]),
    ],
)
def test_products_of_two_tensors(equation, becomes):
    left, right = equation.replace(" ", "").split("->")[0].split(",")
    g = Graph()
    y = g.Einsum(g.input("x", *shape(left)), g.input("z", *shape(right)), equation=equation)
    model = g.model(y)
    assert_rewrites(einsum.turn_einsum_into_matmul, model, becomes=becomes, without=["free batch"])


@pytest.mark.parametrize(
    ("equation", "becomes"),
    [
        ("bsd,de->bse", ["MatMul"]),
        ("bsd,ed->bse", ["MatMul"]),
        ("abc,cde->abde", ["MatMul", "Reshape"]),
        ("abcd,cde->abe", ["Reshape", "MatMul"]),
        ("abcd,dce->abe", ["Reshape", "MatMul"]),
        ("abcd,cdhi->abhi", ["Reshape", "MatMul", "Reshape"]),
    ],
)
def test_products_with_a_constant(equation, becomes):
    left, right = equation.split("->")[0].split(",")
    g = Graph()
    y = g.Einsum(g.input("x", *shape(left)), g.weight(*shape(right)), equation=equation)
    assert_rewrites(einsum.turn_einsum_into_matmul, g.model(y), becomes=becomes)


def test_a_free_batch_and_sequence_are_no_hindrance():
    g = Graph()
    q, k = g.input("q", "N", 3, "S", 4), g.input("k", "N", 3, "T", 4)
    model = g.model(g.Einsum(q, k, equation="bhid,bhjd->bhij"))
    assert_rewrites(einsum.turn_einsum_into_matmul, model, becomes=["Transpose", "MatMul"])


@pytest.mark.parametrize(
    "equation",
    [
        "ij,ij->ij",
        "i,j->ij",
        "ij,ij->",
        "ii,ij->ij",
        "ij,jk->k",
        "bi,bij->bj",
        "...ij,...jk->...ik",
        "abc,abcd->abd",
    ],
)
def test_what_is_no_product_of_matrices_stays(equation):
    left, right = equation.replace("...", "").split("->")[0].split(",")
    g = Graph()
    y = g.Einsum(g.input("x", *shape(left)), g.input("z", *shape(right)), equation=equation)
    assert_untouched(einsum.turn_einsum_into_matmul, g.model(y))


def test_sums_that_might_broadcast_and_integers_stay():
    for size in (1, "M"):
        g = Graph()
        y = g.Einsum(g.input("x", 2, size), g.input("z", 4, 3), equation="ij,jk->ik")
        assert_untouched(einsum.turn_einsum_into_matmul, g.model(y))
    g = Graph()
    x = g.input("x", 2, 2, dtype=TensorProto.INT64)
    model = g.model(g.Einsum(x, x, equation="ij,jk->ik"), dtype=TensorProto.INT64)
    assert_untouched(einsum.turn_einsum_into_matmul, model)


def test_bfloat16_stays_where_its_kernel_is():
    g = Graph(22)
    inputs = [g.input(name, 3, 3, dtype=TensorProto.BFLOAT16) for name in "xz"]
    model = g.model(g.Einsum(*inputs, equation="ij,jk->ik"), dtype=TensorProto.BFLOAT16)
    assert_untouched(einsum.turn_einsum_into_matmul, model)


def test_a_rearrangement_is_a_transpose():
    for equation, becomes in (
        ("abc->cab", ["Transpose", "Relu"]),
        ("ba", ["Transpose", "Relu"]),
        ("abc->abc", ["Relu"]),
    ):
        g = Graph()
        x = g.input("x", *shape(equation.split("->")[0]))
        model = g.model(g.Relu(g.Einsum(x, equation=equation)))
        assert_rewrites(einsum.turn_einsum_into_transpose, model, becomes=becomes)
    for equation in ("aab->ab", "abc->ab", "ab->"):
        g = Graph()
        x = g.input("x", *[2 for _ in equation.split("->")[0]])
        model = g.model(g.Einsum(x, equation=equation))
        assert_untouched(einsum.turn_einsum_into_transpose, model)
