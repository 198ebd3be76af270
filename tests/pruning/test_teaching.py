"""A pupil whose blocks are refitted to its teacher's comes nearer, where nothing was fitted too."""

import math

import numpy as np
import onnx
import pytest

from onnxopt.graph import io
from onnxopt.graph.editor import Editor
from onnxopt.graph.signature import signature_of
from onnxopt.judging.quality import Judge
from onnxopt.judging.samples import Samples
from onnxopt.pruning.factored import factorable
from onnxopt.pruning.teaching import teach
from onnxopt.sweep import matrix
from tests.pruning.blocks.nets import convolutions, pictures, sentences, transformer
from tests.quantizing.repair.nets import normal


def disturbed(model, share, seed=0):
    """Return a copy whose weights are off by a share of themselves."""
    student = model.clone()
    editor = Editor(student)
    for number, node in enumerate(factorable(student).values()):
        rows = matrix.rows_of(node, 18)
        noise = normal(*rows.shape, seed=seed + number) * rows.std()
        matrix.set_rows(editor, node, rows + share * noise)
    return student


@pytest.mark.parametrize(
    ("make", "feeds"),
    [
        (lambda: transformer(2, 16, norm_first=True), sentences(64, length=12)),
        (lambda: transformer(2, 16), sentences(64, length=12)),
        (lambda: convolutions(16), pictures(32)),
    ],
)
def test_a_disturbed_model_comes_nearer(make, feeds):
    model = make()
    student = disturbed(model, 0.3)
    judge = Judge(io.to_proto(model).SerializeToString(), feeds[-4:])
    before = judge.judge(io.to_proto(student).SerializeToString()).noise
    rest = feeds[:-4]
    lessons = teach(model, student, Samples(lambda: rest))
    assert lessons
    assert all(lesson.gained > 0 for lesson in lessons)
    proto = io.to_proto(student)
    onnx.checker.check_model(proto, full_check=True)
    assert signature_of(student) == signature_of(model)
    assert judge.judge(proto.SerializeToString()).noise < 0.95 * before


def test_a_model_that_is_its_own_teacher_learns_nothing():
    model = transformer(1, 16, norm_first=True)
    feeds = sentences(16)
    assert teach(model, model.clone(), Samples(lambda: feeds)) == ()


def test_what_is_not_read_stays_unread():
    model = transformer(1, 16, norm_first=True)
    student = disturbed(model, 0.2)
    editor = Editor(student)
    wide = next(node for node in factorable(student).values() if node.outputs[0].name == "i0")
    rows = matrix.rows_of(wide, 18)
    rows[:4] = 0
    matrix.set_rows(editor, wide, rows)
    last = next(node for node in factorable(student).values() if node.outputs[0].name == "d0")
    kept = matrix.rows_of(last, 18)
    kept[:, :4] = 0
    matrix.set_rows(editor, last, kept)
    feeds = sentences(32, length=12)
    assert teach(model, student, Samples(lambda: feeds))
    after = matrix.rows_of(next(n for n in student.graph if n.name == last.name), 18)
    assert not after[:, :4].any()
    assert not np.array_equal(after, kept)


def test_without_held_samples_nothing_is_learnt():
    model = transformer(1, 16)
    feeds = sentences(3)
    assert teach(model, disturbed(model, 0.3), Samples(lambda: feeds)) == ()


def test_the_bias_alone_is_corrected_where_no_ridge_is_small_enough():
    model = transformer(1, 16, norm_first=True)
    student = disturbed(model, 0.3)
    feeds = sentences(32, length=12)
    lessons = teach(model, student, Samples(lambda: feeds), ridges=(math.inf,))
    rows = [matrix.rows_of(node, 18) for node in factorable(student).values()]
    same = [matrix.rows_of(node, 18) for node in factorable(disturbed(model, 0.3)).values()]
    assert all(lesson.ridge == math.inf for lesson in lessons)
    for one, other in zip(rows, same, strict=True):
        np.testing.assert_array_equal(one, other)
