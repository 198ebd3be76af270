"""What is written into a model: pairs, integers, and the names that people look for."""

import numpy as np
import onnx
import pytest

from onnxopt.graph import io
from onnxopt.graph.signature import signature_of
from onnxopt.quantizing.insert.qdq import Insertion, insert, written_as_int8
from onnxopt.quantizing.placement.cpu import place
from tests.quantizing.small import outputs, pictures, samples, solved, sqnr, tokens


@pytest.mark.parametrize("make", [pictures, tokens])
def test_the_int8_model_is_valid_near_and_keeps_its_signature(make):
    model = make()
    feeds = samples(model)
    wanted = outputs(model, feeds)
    before = signature_of(model)
    insert(model, solved(model))
    assert not before.differences(signature_of(model))
    onnx.checker.check_model(io.to_proto(model), full_check=True)
    assert sqnr(wanted, outputs(model, feeds)) > 25


def test_any_subset_of_units_is_a_valid_choice():
    model = pictures()
    names = [unit.name for unit in place(model).units]
    feeds = samples(model)
    wanted = outputs(model, feeds)
    rng = np.random.default_rng(0)
    for _ in range(12):
        chosen = {name for name in names if rng.random() < 0.5}
        other = model.clone()
        insert(other, solved(model, place(model).only(chosen)))
        onnx.checker.check_model(io.to_proto(other), full_check=True)
        if chosen:
            assert sqnr(wanted, outputs(other, feeds)) > 20
        else:
            np.testing.assert_array_equal(wanted, outputs(other, feeds))


def test_counts_tell_what_was_done():
    model = pictures()
    done = insert(model, solved(model))
    assert done["weights"] == 4
    assert done["biases"] == 3
    assert done["clamps absorbed"] == 2


def test_constants_may_come_one_by_one_after_the_pairs():
    model, other = pictures(), pictures()
    solution = solved(model)
    insert(model, solution)
    step = Insertion(other, solution)
    step.activations()
    for unit in solution.placement.units:
        step.constants(unit)
    feeds = samples(model)
    np.testing.assert_array_equal(outputs(model, feeds), outputs(other, feeds))


def test_a_layer_without_a_bias_may_be_given_one():
    model = pictures()
    solution = solved(model)
    plain = model.clone()
    insert(plain, solution)
    solution.biases["n4"] = np.full(8, 0.5, np.float32)
    insert(model, solution)
    feeds = samples(model)
    moved = outputs(model, feeds)[0][0] - outputs(plain, feeds)[0][0]
    assert np.abs(moved).max() > 0.05


def test_the_bias_of_a_product_goes_into_the_sum_behind_it():
    model = tokens()
    feeds = samples(model)
    solution = solved(model)
    plain = model.clone()
    insert(plain, solution)
    solution.biases["n1"] = np.ones(16, np.float32)
    insert(model, solution)
    assert np.abs(outputs(model, feeds)[0][0] - outputs(plain, feeds)[0][0]).max() > 0


def test_what_only_int8_reads_is_written_as_int8():
    model = tokens()
    written = written_as_int8(model, solved(model))
    assert "k" in written
    assert "y" not in written
    assert "q" not in written


def test_a_range_that_does_not_absorb_its_clamp_is_a_fault():
    model = pictures()
    solution = solved(model)
    solution.activations["ar"] = solution.activations["x"]
    with pytest.raises(AssertionError, match="does not absorb"):
        insert(model, solution)
