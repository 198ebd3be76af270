"""The chains are slower by construction: a block more is exactly a block's work more."""

import collections
import math
from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
import pytest
import trust_models
from trust_models import BLOCKS, KINDS, chain_of


def work(model):
    """Count multiply-accumulates, and outside products the elements that are written."""
    model = onnx.shape_inference.infer_shapes(model)
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    shapes |= {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    found = collections.Counter()
    for node in model.graph.node:
        size = math.prod(shapes[node.output[0]])
        if node.op_type == "MatMul":
            found["macs"] += size * shapes[node.input[1]][0]
        elif node.op_type == "Conv":
            found["macs"] += size * math.prod(shapes[node.input[1]][1:])
        elif node.op_type != "Slice":
            found["elements"] += size
    return found


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
@pytest.mark.parametrize("more", [1, 2])
def test_a_longer_chain_has_exactly_so_much_more_work(kind, more):
    shorter, longer = work(chain_of(kind, BLOCKS)), work(chain_of(kind, BLOCKS + more))
    assert set(shorter) == set(longer)
    assert all(
        Fraction(longer[what], shorter[what]) == Fraction(BLOCKS + more, BLOCKS) for what in shorter
    )


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_onnxruntime_merges_nothing_across_blocks(kind, tmp_path):
    counts = [
        optimized(chain_of(kind, blocks), tmp_path / f"{blocks}.onnx") for blocks in (2, 3, 4)
    ]
    assert counts[1] - counts[0] == counts[2] - counts[1]
    assert sum((counts[1] - counts[0]).values()) >= 1
    assert not counts[0] - counts[1]


def optimized(model, path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(path), 4
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    return collections.Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_values_stay_of_a_size_that_costs_nothing_extra(kind):
    session = onnxruntime.InferenceSession(chain_of(kind, BLOCKS + 2).SerializeToString())
    feed = np.random.default_rng(0).normal(size=kind.shape).astype(np.float32)
    (found,) = session.run(None, {"x": feed})
    assert 1e-3 < np.abs(found).max() < 1e3


def test_the_longer_chain_begins_with_the_shorter():
    shorter, longer = (chain_of(KINDS["MatMul"], blocks).graph for blocks in (BLOCKS, BLOCKS + 1))
    assert list(longer.initializer[: len(shorter.initializer)]) == list(shorter.initializer)


def test_chains_and_inputs_are_where_they_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(trust_models, "KINDS", {"MatMul": KINDS["MatMul"]})
    trust_models.write_chains(tmp_path, (2, 3))
    names = [trust_models.path_of(tmp_path, "MatMul", 2), trust_models.feed_of(tmp_path, "MatMul")]
    assert all(path.exists() for path in names)
