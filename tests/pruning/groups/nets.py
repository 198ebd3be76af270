"""Small networks, and the proof that masked and cut models compute the same."""

import numpy as np
import onnx
from onnx import numpy_helper, parser

from onnxopt.graph import io
from onnxopt.pruning.groups.cutting import mask, remove
from onnxopt.pruning.groups.finding import find_groups
from onnxopt.quantizing.naming import tell_apart
from onnxopt.runtime.sessions.session import open_session, run


def net(text, opset=18, **constants):
    """Parse a model and give it constants: nodes are named n0, n1, …"""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> agraph {text}')
    for name, array in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"
    return model


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(0, 1, shape).astype(np.float32)


def numbers(*items):
    return np.array(items, np.int64)


def groups_of(model, **options):
    return find_groups(io.from_proto(model), **options)


def sizes(model, **options):
    """Return the sizes of the groups of a model, by name."""
    return {group.name: group.size for group in groups_of(model, **options)}


def reasons(model, **options):
    return [frozen.reason for frozen in groups_of(model, **options).frozen]


def some(groups, share=0.4, seed=0):
    """Choose at random what stays of every group: at least one unit."""
    rng = np.random.default_rng(seed)
    keep = {}
    for group in groups:
        stays = rng.random(group.size) >= share
        stays[rng.integers(group.size)] = True
        keep[group.name] = stays
    return keep


def feeds_of(model, seed=0):
    rng = np.random.default_rng(seed)
    held = {init.name for init in model.graph.initializer}
    feed = {}
    for value in model.graph.input:
        if value.name in held:
            continue
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        shape = [max(dim.dim_value, 0) or 2 for dim in value.type.tensor_type.shape.dim]
        if np.issubdtype(kind, np.floating):
            feed[value.name] = rng.normal(0, 1, shape).astype(kind)
        else:
            feed[value.name] = rng.integers(0, 2, shape).astype(kind)
    return feed


def outputs(model, feed):
    return run(open_session(model.SerializeToString(), threads=1, optimize="none"), feed)


def pruned(model, keep=None, **options):
    """Return a model with some units masked, with the same cut out, and its groups."""
    held = io.from_proto(model)
    tell_apart(held)
    groups = find_groups(held, **options)
    keep = some(groups) if keep is None else keep
    made = []
    for take in (mask, remove):
        copy = held.clone()
        take(copy, groups, keep)
        made.append(io.to_proto(copy))
    return (*made, groups)


def assert_alike(soft, hard, feed, tolerance=3e-5):
    for one, other in zip(outputs(soft, feed), outputs(hard, feed), strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        if not np.issubdtype(one.dtype, np.floating):
            assert (one == other).all()
            continue
        known = np.isfinite(one)
        assert (known == np.isfinite(other)).all()
        off = np.abs(one[known].astype(np.float64) - other[known])
        assert off.max(initial=0) <= tolerance * np.abs(one[known]).max(initial=1e-3)


def assert_cuts(model, *, seeds=(0, 1), feed=None, **options):
    """Assert that cutting computes what masking does; return the groups and a cut model."""
    feed = feed or feeds_of(model)
    for seed in seeds:
        soft, hard, groups = pruned(model, some(groups_of(model, **options), seed=seed), **options)
        for made in (soft, hard):
            onnx.checker.check_model(made, full_check=True)
            assert list(made.graph.input) == list(model.graph.input)
            assert list(made.graph.output) == list(model.graph.output)
        assert_alike(soft, hard, feed)
    return groups, hard


def shape_of(model, name):
    """Return the shapes of the constants whose names begin so."""
    return [
        tuple(init.dims)
        for init in model.graph.initializer
        if init.name == name or init.name.startswith(f"{name}_")
    ]
