"""Small networks, their runs, and their rescaling by any scales."""

import numpy as np
import onnx
from onnx import numpy_helper, parser

from onnxopt.graph import io
from onnxopt.graph.editor import Editor
from onnxopt.quantizing.repair.chains import apply, candidates
from onnxopt.runtime.sessions.session import open_session, run


def net(text, **constants):
    """Parse a model of opset 18 and give it constants: nodes are named n0, n1, …"""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> agraph {text}')
    for name, array in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"
    return model


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(0, 1, shape).astype(np.float32)


def outputs(model, feed):
    return run(open_session(model.SerializeToString(), threads=1, optimize="none"), feed)


def feeds_of(model, seed=0, big=1.0):
    return {
        value.name: big * normal(*(dim.dim_value or 2 for dim in value.type.tensor_type.shape.dim))
        for value in model.graph.input
        if value.name not in {init.name for init in model.graph.initializer}
    }


def assert_same(before, after, feed):
    onnx.checker.check_model(after, full_check=True)
    for one, other in zip(outputs(before, feed), outputs(after, feed), strict=True):
        assert np.abs(one - other).max() <= 2e-5 * max(np.abs(one).max(), 1e-3)


def rescaled(model, seed=0, **options):
    """Rescale every chain by random scales; return the model and the chains."""
    held = io.from_proto(model)
    chains = candidates(held, **options)
    rng, editor = np.random.default_rng(seed), Editor(held)
    for chain in chains:
        assert apply(editor, chain, np.exp(rng.normal(0, 1, chain.size)))
    return io.to_proto(held), chains


def assert_exact(model, feed=None, **options):
    """Assert that any scales leave the outputs alone; return the chains by their first tensor."""
    after, chains = rescaled(model, **options)
    assert_same(model, after, feed or feeds_of(model))
    return {chain.name: chain for chain in chains}
