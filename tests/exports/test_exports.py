"""Models of transformers, as both exporters of torch write them: fused in every layer, and right.

The fixtures have two layers; `MEANT` says how many operators of each kind they come to, and `STILL`
how many at least where the optimizer does not get that far yet.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxopt
from onnxopt.graph import facts
from onnxopt.runtime.sessions import crash

MODELS = Path(__file__).parent / "models"

KINDS = {
    "attention": {"Attention", "MultiHeadAttention", "GroupQueryAttention"},
    "normalization": {
        *("LayerNormalization", "SkipLayerNormalization"),
        *("RMSNormalization", "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization"),
    },
    "gelu": {"Gelu", "FastGelu", "BiasGelu"},
    "rotary": {"RotaryEmbedding"},
}

# What each architecture means, whoever exported it: two layers, two normalisations each, and one
# more at an end. A decoder with an encoder has three in each of its layers.
MEANT = {
    "bert": {"attention": 2, "normalization": 5, "gelu": 2},
    "distilbert": {"attention": 2, "normalization": 5, "gelu": 2},
    "vit": {"attention": 2, "normalization": 5, "gelu": 2},
    "gpt2": {"attention": 2, "normalization": 5, "gelu": 2},
    "gpt2_cache": {"attention": 2, "normalization": 5, "gelu": 2},
    "gpt_neox": {"attention": 2, "normalization": 5, "gelu": 2, "rotary": 4},
    "llama": {"attention": 2, "normalization": 5, "rotary": 4},
    "llama_cache": {"attention": 2, "normalization": 5, "rotary": 4},
    "mistral": {"attention": 2, "normalization": 5, "rotary": 4},
    "qwen3": {"attention": 2, "normalization": 9, "rotary": 4},
    "bart": {"attention": 6, "normalization": 12, "gelu": 4},
    "t5": {"attention": 6, "normalization": 12},
    "resnet50": {},
    "mobilenet_v2": {},
}

# Where the optimizer does not get as far yet: target → architecture → kind → at least so many.
# onnxruntime fuses the RMSNormalization of opset 17 to 20 itself, when it loads the model.
RMS = {name: {"normalization": 0} for name in ("llama", "llama_cache", "mistral", "qwen3", "t5")}
STILL: dict[str, dict[str, dict[str, int]]] = {
    "portable": {name: {"attention": 0, "rotary": 0, **RMS.get(name, {})} for name in MEANT},
    "cpu": RMS,
}


def architecture(path):
    return path.stem.removesuffix("_eager").removesuffix("_script").removesuffix("_dynamo")


def counted(model):
    ops = Counter(node.op_type for graph, _ in facts.scopes(model) for node in graph)
    return {kind: sum(ops[op] for op in names) for kind, names in KINDS.items()}


@pytest.fixture(autouse=True)
def nothing_crashes(monkeypatch):
    """Spare the processes that load each model first: they take as long as all the rest."""
    monkeypatch.setattr(crash, "crash_on_loading", lambda _path: "")


def padded(length):
    """A sentence filled up behind its end, one filled up before its start, and none at all."""
    mask = np.ones((3, length), np.int64)
    mask[0, length // 2 :] = 0
    mask[1, :3] = 0
    mask[2] = 0
    return mask


def feeds(path):
    """Two feeds of different sizes: no token is masked in the first, some are in the second."""
    inputs = onnx.load(path).graph.input
    rng = np.random.default_rng(0)
    for sizes in ({"batch": 1, "sequence": 6, "source": 5, "past": 4}, None):
        size = sizes or {"batch": 3, "sequence": 11, "source": 8, "past": 3}
        size["total"] = size["past"] + size["sequence"]
        feed = {}
        for each in inputs:
            dims = each.type.tensor_type.shape.dim
            shape = [size[dim.dim_param] if dim.dim_param else dim.dim_value for dim in dims]
            if each.name == "attention_mask":
                feed[each.name] = np.ones(shape, np.int64) if sizes else padded(shape[1])
            elif each.type.tensor_type.elem_type == onnx.TensorProto.INT64:
                feed[each.name] = rng.integers(3, 50, shape)
            else:
                feed[each.name] = rng.standard_normal(shape).astype(np.float32)
        yield feed


def check(path, still, **options):
    """Optimize a fixture, and hold it against what it means; `still` says what may be missing."""
    report = onnxopt.optimize(path, measure=False, data=list(feeds(path)), **options)
    assert report.verification.passed
    assert not [step for step in report.steps if step.status == "rolled back"]
    found = counted(report.model)
    for kind, number in found.items():
        meant = MEANT[architecture(path)].get(kind, 0)
        assert still.get(kind, meant) <= number <= meant, f"{number} of {meant} {kind}: {found}"


@pytest.mark.parametrize("target", ["portable", "cpu"])
@pytest.mark.parametrize("path", sorted(MODELS.glob("*.onnx")), ids=lambda path: path.stem)
def test_every_layer_is_fused_and_right(path, target):
    check(path, STILL[target].get(architecture(path), {}), target=target)


@pytest.mark.parametrize("path", sorted(MODELS.glob("*[!r].onnx")), ids=lambda path: path.stem)
def test_operators_of_the_standard_do_from_set_23_on(path):
    check(path, {}, target="portable", opset=23)


def test_there_is_a_fixture_for_everything_that_is_meant():
    assert {architecture(path) for path in MODELS.glob("*.onnx")} == set(MEANT)


def test_fixtures_stay_small():
    sizes = [path.stat().st_size for path in MODELS.glob("*.onnx")]
    assert max(sizes) < 150_000
    assert sum(sizes) < 4_000_000
