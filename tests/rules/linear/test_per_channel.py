import pytest

from onnxopt.rules.linear import per_channel
from onnxopt.rules.simple import reassociate
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

RULE = per_channel.fuse_channel_affine
OTHERWISE = ("half precision",)


def affine(first, second, shape=(2, 6, 5, 4), one=(6, 1, 1), two=(6, 1, 1), opset=17, dtype=1):
    g = Graph(opset)
    x = g.input("x", *shape, dtype=dtype)
    kind = "float32" if dtype == 1 else "float64"
    constants = [g.const(g.rng.uniform(0.5, 2, size), kind) for size in (one, two)]
    step = g.node(first, x, constants[0])
    return g.model(g.node(second, step, constants[1]), dtype=dtype)


@pytest.mark.parametrize("first", ["Mul", "Div"])
@pytest.mark.parametrize("second", ["Add", "Sub"])
def test_scale_then_shift(first, second):
    model = affine(first, second)
    assert_rewrites(RULE, model, becomes=["BatchNormalization"], target="cpu", loses=OTHERWISE)


@pytest.mark.parametrize(("first", "second"), [("Add", "Mul"), ("Sub", "Div")])
def test_shift_then_scale(first, second):
    model = affine(first, second)
    assert_rewrites(RULE, model, becomes=["BatchNormalization"], target="cpu", loses=OTHERWISE)


@pytest.mark.parametrize(
    "options",
    [
        {"opset": 9},
        {"one": (1, 6, 1, 1)},
        {"one": ()},
        {"two": (1,)},
        {"shape": ("n", 6, "h", "w")},
        {"shape": (2, 6, 5), "one": (6, 1), "two": (1, 6, 1)},
    ],
)
def test_other_shapes_of_constants_and_images(options):
    model = affine("Mul", "Add", **options)
    assert_rewrites(RULE, model, becomes=["BatchNormalization"], target="cpu", loses=OTHERWISE)


@pytest.mark.parametrize(
    "options",
    [
        {"one": (), "two": ()},
        {"one": (4,), "two": (4,)},
        {"one": (6, 5, 4)},
        {"one": (1, 1, 6, 1, 1)},
        {"shape": (2, 6, 6), "one": (6,)},
        {"shape": (2, 6), "one": (6,), "two": (6,)},
        {"shape": ("n", "c", 5, 4)},
        {"shape": (2, 1, 5, 4), "one": (6, 1, 1)},
        {"dtype": 11},
    ],
)
def test_what_is_not_per_channel_is_left_alone(options):
    assert_untouched(RULE, affine("Mul", "Add", **options), target="cpu")


def test_constants_that_follow_come_first():
    g = Graph()
    step = g.Add(g.Mul(g.input("x", 2, 6, 5, 4), g.weight(6, 1, 1)), g.weight(6, 1, 1))
    model = g.model(g.Mul(step, 2.0))
    rules = (reassociate.merge_affine, RULE)
    assert_rewrites(rules, model, becomes=["BatchNormalization"], target="cpu", loses=OTHERWISE)


def test_only_where_it_was_measured():
    assert_untouched(RULE, affine("Mul", "Add"), target="portable")
