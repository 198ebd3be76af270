"""Scores of quantized models are what they are called."""

import numpy as np
import pytest
import quantization_scores as scores
from hypothesis import given
from hypothesis import strategies as st


def test_decibels_are_those_of_a_known_error():
    y = np.ones((1, 100), np.float32)
    found = scores.decibels([y, y], [y + 0.1, y + 0.01])
    assert found["sqnr_mean_db"] == pytest.approx(30, abs=1e-3)
    assert found["sqnr_db"] == pytest.approx(10 * np.log10(200 / 1.01), abs=1e-3)
    assert found["sqnr_p5_db"] == pytest.approx(21, abs=1e-3)


def test_what_is_equal_or_empty_has_finite_decibels():
    y = np.zeros((1, 4), np.float32)
    assert np.isfinite(list(scores.decibels([y, y + 1], [y, y + 1]).values())).all()


def test_a_disagreement_counts_as_sure_only_where_fp32_leads_by_half():
    sure, unsure = np.array([[9.0, 0, 0]]), np.array([[1.0, 0.9, 0]])
    found = scores.classes([sure, unsure], [sure[:, ::-1], unsure[:, ::-1]], [None, None])
    assert (found["sure"], found["sure_disagreed"], found["agreement"]) == (1, 1, 0)


def test_ctc_drops_repeats_and_blanks():
    best = np.array([[0, 1, 1, 0, 1, 2, 2, 0]])
    assert scores.read_text(best, ["", "a", "b"]) == "aab"


def test_error_rate_is_of_the_truth_and_without_blanks():
    assert scores.error_rate(["kit ten", "abc"], ["sitting", "abc"]) == pytest.approx(100 * 3 / 10)


@given(st.text("ab", max_size=8), st.text("ab", max_size=8))
def test_edits_are_a_distance(one, other):
    found = scores.edits(one, other)
    assert found == scores.edits(other, one)
    assert abs(len(one) - len(other)) <= found <= max(len(one), len(other))
    assert (found == 0) == (one == other)


def test_labels_are_counted_over_batches():
    logits = np.eye(3, dtype=np.float32)[[0, 1, 2]]
    found = scores.labelled(None)([logits[:2], logits[2:]], [logits[:2], logits[:1]], [[0, 1], [2]])
    assert found["accuracy_fp32"] == 1
    assert found["accuracy"] == pytest.approx(2 / 3)


def test_maps_without_text_are_not_in_the_decibels():
    page, blank = np.full((1, 1, 2, 2), 0.9), np.zeros((1, 1, 2, 2))
    found = scores.maps([page, blank], [page * 0.9, blank + 0.1], [None, None])
    assert found["written"] == 1
    assert found["sqnr_db"] == pytest.approx(20)


def test_padding_is_not_in_the_embedding():
    feed = {"attention_mask": np.array([[1, 1, 0]])}
    hidden = np.array([[[1.0, 0], [0, 1], [100, 100]]])
    np.testing.assert_allclose(scores.pooled([hidden], feed), [[0.5, 0.5]])
