"""Labels through a Reshape whose sizes are partly unknown come to lie where the elements do."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onnxopt.pruning.groups.reshaping import regrouped


@st.composite
def reshapes(draw):
    """Draw two shapes of as many elements, what is known of them, and labels of the first."""
    parts = draw(st.lists(st.sampled_from([1, 2, 2, 3, 4, 5]), min_size=1, max_size=5))
    shapes = []
    for _ in range(2):
        shape = [1]
        for part in parts:
            if draw(st.booleans()):
                shape.append(part)
            else:
                shape[-1] *= part
        shapes.append(tuple(shape))
    known = [[draw(st.sampled_from([size, size, None])) for size in shape] for shape in shapes]
    differ = [
        size if dim is not None and draw(st.booleans()) else 1
        for size, dim in zip(shapes[0], known[0], strict=True)
    ]
    labels = np.arange(1, 1 + math.prod(differ)).reshape(differ)
    return shapes, tuple(map(tuple, known)), labels


@given(reshapes())
def test_labels_move_as_the_elements_do(case):
    (old, new), (before, after), labels = case
    made = regrouped(labels, before, after)
    if made is None:
        return
    same = np.arange(labels.max() + 1)
    for row in made.joined if made.joined is not None else ():
        same[row] = row[0]
    moved = np.broadcast_to(labels, old).reshape(new)
    assert (same[np.broadcast_to(made.labels, new)] == same[moved]).all()


def test_shapes_that_exporters_write():
    heads = np.arange(1, 9).reshape(4, 1, 1, 2)
    old, new = ("batch", 4, 2, None, 2), ("batch", 8, None, 2)
    made = regrouped(heads, old, new)
    assert made.labels.shape == (1, 8, 1, 2)
    assert made.labels[0, :, 0, 0].tolist() == [1, 1, 3, 3, 5, 5, 7, 7]
    channels = np.arange(1, 7).reshape(6, 1, 1)
    made = regrouped(channels, ("batch", 6, "h", "w"), ("batch", 3, None))
    assert made.labels.reshape(-1).tolist() == [1, 3, 5]
    assert made.joined.tolist() == [[1, 2], [3, 4], [5, 6]]
    back = regrouped(made.labels, ("batch", 3, None), ("batch", 6, "h", "w"))
    assert back.labels.reshape(-1).tolist() == [1, 1, 3, 3, 5, 5]
    assert regrouped(channels, ("batch", 6, "h", "w"), ("batch", None)) is None
