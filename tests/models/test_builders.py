"""The builders' graphs compute what the architectures say, on tiny weights, in plain numpy."""

import json
import math
import struct

import numpy as np
import onnxruntime
import pytest
from build_efficientnet_lite0 import EPSILON, Stage
from build_efficientnet_lite0 import build as build_efficientnet
from build_minilm import BertConfig, read_safetensors
from build_minilm import build as build_minilm

erf = np.vectorize(math.erf)


def run(model, feeds):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, feeds)[0]


STAGES = (
    Stage(blocks=1, kernel=3, stride=1, expand=1, width=4),
    Stage(blocks=2, kernel=5, stride=2, expand=2, width=6),
)


@pytest.fixture
def photo_weights():
    rng = np.random.default_rng(0)
    weights = {}

    def conv(name, out, width, kernel=1):
        weights[f"{name}.weight"] = rng.normal(size=(out, width, kernel, kernel), scale=0.5)

    def norm(name, width):
        for part in ("weight", "bias", "running_mean"):
            weights[f"{name}.{part}"] = rng.normal(size=width)
        weights[f"{name}.running_var"] = rng.uniform(0.5, 2, width)

    conv("_conv_stem", 4, 3, 3)
    norm("_bn0", 4)
    for index, (kernel, expand, width, out) in enumerate(
        [(3, 1, 4, 4), (5, 2, 4, 6), (5, 2, 6, 6)]
    ):
        block, inner = f"_blocks.{index}.", width * expand
        if expand > 1:
            conv(f"{block}_expand_conv", inner, width)
            norm(f"{block}_bn0", inner)
        conv(f"{block}_depthwise_conv", inner, 1, kernel)
        norm(f"{block}_bn1", inner)
        conv(f"{block}_project_conv", out, inner)
        norm(f"{block}_bn2", out)
    conv("_conv_head", 8, 6)
    norm("_bn1", 8)
    weights["_fc.weight"] = rng.normal(size=(5, 8))
    weights["_fc.bias"] = rng.normal(size=5)
    return {name: array.astype(np.float32) for name, array in weights.items()}


def efficientnet(w, x):
    def conv(x, name, stride=1):
        weight = w[f"{name}.weight"]
        out, width, kernel, _ = weight.shape
        size = x.shape[-1]
        positions = math.ceil(size / stride)
        total = max((positions - 1) * stride + kernel - size, 0)
        around = (total // 2, total - total // 2)
        x = np.pad(x, ((0, 0), (0, 0), around, around))
        group = x.shape[1] // width
        y = np.zeros((len(x), out, positions, positions))
        for row, column in np.ndindex(positions, positions):
            top, left = row * stride, column * stride
            patch = x[:, :, top : top + kernel, left : left + kernel]
            for channel in range(out):
                first = channel // (out // group) * width
                part = patch[:, first : first + width] * weight[channel]
                y[:, channel, row, column] = part.sum(axis=(1, 2, 3))
        return y

    def norm(x, name):
        weight, bias, mean, variance = (
            w[f"{name}.{part}"][:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + EPSILON) * weight + bias

    def relu6(x):
        return np.clip(x, 0, 6)

    x = relu6(norm(conv(x, "_conv_stem", 2), "_bn0"))
    for index, stride in enumerate((1, 2, 1)):
        block, y = f"_blocks.{index}.", x
        if index:
            y = relu6(norm(conv(y, f"{block}_expand_conv"), f"{block}_bn0"))
        y = relu6(norm(conv(y, f"{block}_depthwise_conv", stride), f"{block}_bn1"))
        y = norm(conv(y, f"{block}_project_conv"), f"{block}_bn2")
        x = y + x if x.shape == y.shape else y
    x = relu6(norm(conv(x, "_conv_head"), "_bn1"))
    return x.mean(axis=(2, 3)) @ w["_fc.weight"].T + w["_fc.bias"]


@pytest.mark.parametrize("size", [16, 15, 18])
def test_efficientnet_computes_its_architecture(photo_weights, size):
    model = build_efficientnet(photo_weights, stages=STAGES, size=size)
    image = np.random.default_rng(1).normal(size=(2, 3, size, size)).astype(np.float32)
    expected = efficientnet(photo_weights, image)
    np.testing.assert_allclose(run(model, {"input": image}), expected, rtol=1e-4, atol=1e-4)


def test_efficientnet_pads_apart_only_where_padding_is_odd(photo_weights):
    model = build_efficientnet(photo_weights, stages=STAGES, size=16)
    pads = [node for node in model.graph.node if node.op_type == "Pad"]
    assert len(pads) == 2  # stem 16 to 8 and the block 8 to 4


CONFIG = BertConfig(layers=2, heads=2, epsilon=1e-12)


@pytest.fixture
def text_weights():
    rng = np.random.default_rng(0)
    width, inner = 8, 12
    weights = {}

    def linear(name, out, into):
        weights[f"{name}.weight"] = rng.normal(size=(out, into))
        weights[f"{name}.bias"] = rng.normal(size=out)

    def norm(name):
        weights[f"{name}.weight"], weights[f"{name}.bias"] = rng.normal(size=(2, width))

    for kind, count in (("word", 20), ("token_type", 2), ("position", 10)):
        weights[f"embeddings.{kind}_embeddings.weight"] = rng.normal(size=(count, width))
    norm("embeddings.LayerNorm")
    for index in range(CONFIG.layers):
        layer = f"encoder.layer.{index}."
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{layer}attention.{part}", width, width)
        linear(f"{layer}intermediate.dense", inner, width)
        linear(f"{layer}output.dense", width, inner)
        norm(f"{layer}attention.output.LayerNorm")
        norm(f"{layer}output.LayerNorm")
    return {name: array.astype(np.float32) for name, array in weights.items()}


def bert(w, ids, mask, types):
    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + CONFIG.epsilon)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def heads(x):
        return x.reshape(*x.shape[:2], CONFIG.heads, -1).transpose(0, 2, 1, 3)

    e = "embeddings."
    x = w[f"{e}word_embeddings.weight"][ids] + w[f"{e}token_type_embeddings.weight"][types]
    x = norm(x + w[f"{e}position_embeddings.weight"][: ids.shape[1]], f"{e}LayerNorm")
    for index in range(CONFIG.layers):
        p = f"encoder.layer.{index}."
        q, k, v = (heads(linear(x, f"{p}attention.self.{n}")) for n in ("query", "key", "value"))
        scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
        scores = np.where(mask[:, None, None], scores, -np.inf)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        y = scores / scores.sum(-1, keepdims=True) @ v
        y = linear(y.transpose(0, 2, 1, 3).reshape(x.shape), f"{p}attention.output.dense")
        x = norm(x + y, f"{p}attention.output.LayerNorm")
        y = linear(x, f"{p}intermediate.dense")
        y = linear(y * (1 + erf(y / np.sqrt(2))) / 2, f"{p}output.dense")
        x = norm(x + y, f"{p}output.LayerNorm")
    return x


def test_minilm_computes_its_architecture(text_weights):
    rng = np.random.default_rng(1)
    ids, types = rng.integers(0, 20, (2, 6)), rng.integers(0, 2, (2, 6))
    mask = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    result = run(build_minilm(text_weights, CONFIG), feeds)
    np.testing.assert_allclose(result, bert(text_weights, ids, mask, types), rtol=1e-3, atol=1e-4)


def test_safetensors_are_read(tmp_path):
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1, 2])}
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        start, data = len(data), data + array.tobytes()
        kind = {"float32": "F32", "int64": "I64"}[str(array.dtype)]
        header[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": [start, len(data)],
        }
    text = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    tensors = read_safetensors(path)
    assert tensors.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(tensors[name], array)
