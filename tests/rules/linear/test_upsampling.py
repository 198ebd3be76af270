import numpy as np
import pytest

from onnxopt.rules.linear import upsampling
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

BEFORE = (upsampling.convolve_before_upsampling, upsampling.activate_before_upsampling)
MERGED = upsampling.merge_upsampling_into_convolution
SCALES = ["wrong constant"]  # of another scale than the shapes say
PLAIN = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def enlarged(g, x, factors=(2, 2), **options):
    scales = np.array([1, 1, *factors], np.float32)
    if g.opset < 9:
        return g.Upsample(x, scales=scales.tolist(), **options)
    if g.opset < 10:
        return g.Upsample(x, scales, **options)
    if g.opset < 11:
        return g.Resize(x, scales, **options)
    return g.Resize(x, np.zeros(0, np.float32), scales, **options)


def conv(g, x, size=1, outputs=4, inputs=8, **attributes):
    return g.Conv(x, g.weight(outputs, inputs, size, size), g.weight(outputs), **attributes)


@pytest.mark.parametrize("opset", [7, 9, 10, 11, 13, 18, 19])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_a_pointwise_convolution_goes_first(opset, mode):
    g = Graph(opset)
    y = enlarged(g, g.input("x", 1, 8, 4, 5), mode=mode)
    name = "Upsample" if opset < 10 else "Resize"
    assert_rewrites(BEFORE, g.model(conv(g, y)), becomes=["Conv", name], without=SCALES)


@pytest.mark.parametrize("transform", ["half_pixel", "align_corners", "asymmetric"])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_wherever_the_coordinates_lie(transform, mode):
    g = Graph()
    options = {"mode": mode, "coordinate_transformation_mode": transform}
    y = enlarged(g, g.input("x", 1, 8, 4, 5), (1.5, 3), **options)
    assert_rewrites(BEFORE, g.model(conv(g, y)), becomes=["Conv", "Resize"], without=SCALES)


def test_sizes_follow_the_channels():
    for options in ({}, {"axes": [2, 3]}):
        g = Graph(18)
        sizes = np.array([8, 15] if options else [1, 8, 8, 15])
        y = g.Resize(g.input("x", 1, 8, 4, 5), None, None, sizes, mode="linear", **options)
        model = g.model(conv(g, y, group=2, inputs=4))
        assert_rewrites(BEFORE, model, becomes=["Conv", "Resize"])


def test_activations_go_first_where_elements_are_copied():
    g = Graph()
    y = g.Relu(conv(g, enlarged(g, g.input("x", 1, 8, 4, 5), mode="nearest")))
    made = assert_rewrites(BEFORE, g.model(y), becomes=["Conv", "Relu", "Resize"], without=SCALES)
    assert [node.op_type for node in made.graph.node] == ["Conv", "Relu", "Resize"]
    g = Graph()
    y = g.Clip(enlarged(g, g.input("x", 1, 8, 4, 5), mode="nearest"), 0.0, 0.5)
    made = assert_rewrites(BEFORE, g.model(y), becomes=["Clip", "Resize"], without=SCALES)
    assert made.graph.node[0].op_type == "Clip"
    g = Graph()
    assert_untouched(BEFORE, g.model(g.Relu(enlarged(g, g.input("x", 1, 8, 4, 5), mode="linear"))))


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "cubic", "exclude_outside": 1},
        {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"},
    ],
)
def test_what_is_no_mean_stays(options):
    g = Graph()
    roi = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32)
    y = g.Resize(g.input("x", 1, 8, 4, 5), roi, np.array([1, 1, 2, 2], np.float32), **options)
    assert_untouched(BEFORE, g.model(conv(g, y)))


def test_leaves_what_shrinks_or_would_interpolate_more():
    g = Graph()
    assert_untouched(BEFORE, g.model(conv(g, enlarged(g, g.input("x", 1, 8, 4, 6), (0.5, 2)))))
    g = Graph()
    assert_untouched(BEFORE, g.model(conv(g, enlarged(g, g.input("x", 1, 8, 4, 6)), outputs=64)))
    g = Graph()
    y = g.Resize(g.input("x", 1, 4, 4, 6), None, np.array([1, 2, 2, 2], np.float32))
    assert_untouched(BEFORE, g.model(conv(g, y)))
    g = Graph()
    y = enlarged(g, g.input("x", 1, 8, 4, 6))
    assert_untouched(BEFORE, g.model(conv(g, y, 3)))


@pytest.mark.parametrize("opset", [7, 9, 10, 17])
@pytest.mark.parametrize(
    ("size", "pads"), [(3, [1, 1, 1, 1]), (3, [0, 0, 0, 0]), (2, [1, 0, 0, 1]), (5, [2, 1, 3, 4])]
)
def test_a_convolution_takes_the_copies_in(opset, size, pads):
    g = Graph(opset)
    options = PLAIN if opset > 10 else {}
    y = enlarged(g, g.input("x", 1, 48, 4, 5), (2, 3), mode="nearest", **options)
    model = g.model(conv(g, y, size, inputs=48, pads=pads))
    assert_rewrites(MERGED, model, becomes=["ConvTranspose"], target="cpu", without=SCALES)


COPIES = [
    ("half_pixel", "round_prefer_floor", (2, 3)),
    ("half_pixel", "round_prefer_ceil", (2, 3)),
    ("pytorch_half_pixel", "round_prefer_floor", (4, 1)),
    ("asymmetric", "round_prefer_floor", (2, 2)),
]
OTHERS = [
    ("asymmetric", "round_prefer_floor", (2, 3)),
    ("asymmetric", "ceil", (2, 2)),
    ("asymmetric", "floor", (2, 1.5)),
    ("half_pixel", "floor", (2, 2)),
    ("align_corners", "floor", (2, 2)),
]


@pytest.mark.parametrize(("transform", "rounding", "factors"), [*COPIES, *OTHERS])
def test_only_where_rows_are_copied_equally_often(transform, rounding, factors):
    g = Graph()
    options = {"coordinate_transformation_mode": transform, "nearest_mode": rounding}
    y = enlarged(g, g.input("x", 1, 48, 4, 5), factors, mode="nearest", **options)
    model = g.model(conv(g, y, 3, inputs=48, pads=[1, 1, 1, 1]))
    if (transform, rounding, factors) in COPIES:
        assert_rewrites(MERGED, model, becomes=["ConvTranspose"], target="cpu", without=SCALES)
    else:
        assert_untouched(MERGED, model, target="cpu")


def test_leaves_thin_grouped_strided_and_widely_padded_convolutions():
    for inputs, options in [
        (8, {"pads": [1] * 4}),
        (48, {"strides": [2, 2]}),
        (48, {"dilations": [2, 2]}),
        (48, {"pads": [3, 0, 0, 0]}),
        (48, {"group": 2, "pads": [1] * 4}),
    ]:
        g = Graph()
        y = enlarged(g, g.input("x", 1, inputs, 40, 30), mode="nearest", **PLAIN)
        per_group = inputs // options.get("group", 1)
        assert_untouched(MERGED, g.model(conv(g, y, 3, inputs=per_group, **options)), target="cpu")
