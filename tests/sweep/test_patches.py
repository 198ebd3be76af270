"""Patches times weights are what the operators compute."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.sweep.patches import Window, convolved, enough, multiplied, padding
from tests.quantizing.repair.nets import net, normal, outputs


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    groups=st.sampled_from([1, 2, 4]),
)
def test_patches_times_rows_are_the_convolution(kernel, stride, dilation, pads, groups):
    x, w = normal(1, 4, 7, 6), normal(8, 4 // groups, *kernel)
    text = f"""(float[1,4,7,6] x) => (float y) {{
        y = Conv <strides=[{stride},{stride}], dilations=[{dilation},{dilation}],
                  pads=[{",".join(map(str, pads))}], group={groups}> (x, w)
    }}"""
    wanted = outputs(net(text, w=w), {"x": x})[0]
    window = Window(
        kernel=kernel,
        strides=(stride, stride),
        dilations=(dilation, dilation),
        pads=pads,
        groups=groups,
    )
    rows = w.transpose(0, 2, 3, 1).reshape(groups, 8 // groups, -1)
    found = np.matmul(convolved(x, window, 1000), rows.transpose(0, 2, 1))
    made = found.transpose(0, 2, 1).reshape(8, -1)
    np.testing.assert_allclose(made, wanted.reshape(8, -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_automatic_padding_is_that_of_the_operator(mode):
    x, w = normal(1, 2, 7, 8), normal(3, 2, 3, 2)
    text = (
        f'(float[1,2,7,8] x) => (float y) {{ y = Conv <auto_pad="{mode}", strides=[2,3]> (x, w) }}'
    )
    wanted = outputs(net(text, w=w), {"x": x})[0]
    window = Window(kernel=(3, 2), strides=(2, 3), dilations=(1, 1), pads=(0, 0, 0, 0))
    window = Window(
        kernel=(3, 2), strides=(2, 3), dilations=(1, 1), pads=padding(mode, (7, 8), window)
    )
    assert convolved(x, window).shape[1] == wanted[0, 0].size


def test_large_tensors_give_no_more_positions_than_are_enough():
    window = Window(kernel=(1, 1), strides=(1, 1), dilations=(1, 1), pads=(0, 0, 0, 0))
    found = convolved(normal(1, 8, 100, 100), window)
    assert enough(8) // 2 <= found.shape[1] <= enough(8)
    assert multiplied(normal(3, 1000, 4)).shape[1] <= enough(4)
