"""Build all-MiniLM-L6-v2 from its trained weights, in the operators of a TorchScript export.

The architecture is BERT's encoder (Devlin et al., 2018) with 6 layers of width 384. Written at
opset 14, where ONNX has neither LayerNormalization nor Gelu: both are spelt out, attention is six
MatMul and a Softmax, and every Reshape takes its shape from a chain of Shape, Gather, Unsqueeze
and Concat. Dropout, which does nothing at inference, is left out.
"""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from graph_writer import GraphWriter

_DTYPES = {"F32": "<f4", "F16": "<f2", "I64": "<i8"}
_MASKED = (
    -3.4028235e38
)  # the smallest float32: what the exporter adds to the score of a masked token


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """The sizes that the weights do not tell."""

    layers: int
    heads: int
    epsilon: float


def build(weights: dict[str, np.ndarray], config: BertConfig) -> onnx.ModelProto:
    """Return the encoder; `weights` bear PyTorch's names without the leading `bert.`.

    Inputs `input_ids`, `attention_mask` and `token_type_ids` are int64 [batch, sequence], output
    `last_hidden_state` is float32 [batch, sequence, width].
    """
    encoder = _Encoder(weights, config)
    x = encoder.embeddings()
    mask = encoder.mask()
    for index in range(config.layers):
        last = index == config.layers - 1
        x = encoder.layer(x, mask, f"encoder.layer.{index}.", "last_hidden_state" if last else None)
    return encoder.graph.model(
        "minilm",
        {
            name: ("int64", ["batch", "sequence"])
            for name in ("input_ids", "attention_mask", "token_type_ids")
        },
        {"last_hidden_state": ("float32", ["batch", "sequence", encoder.width])},
        opset=14,
    )


class _Encoder:
    """The graph under construction, with the scalars and shape chains that every layer reads."""

    def __init__(self, weights: dict[str, np.ndarray], config: BertConfig) -> None:
        self.graph = GraphWriter()
        self._weights = weights
        self._epsilon = config.epsilon
        self._heads = config.heads
        self.width = weights["embeddings.word_embeddings.weight"].shape[1]
        shape = self.graph.node("Shape", "input_ids")
        self._batch, self._sequence = (self._dimension(shape, axis) for axis in (0, 1))

    def embeddings(self) -> str:
        """Sum of the word's, the segment's and the position's vector, normalized."""
        positions = len(self._weights["embeddings.position_embeddings.weight"])
        position_ids = self.graph.node(
            "Slice",
            self.graph.constant("position_ids", np.arange(positions, dtype=np.int64)[None]),
            self._integers("starts", 0),
            self._sequence,
            self._integers("axes", 1),
        )
        vectors = [
            self.graph.node("Gather", self._weight(f"embeddings.{kind}_embeddings.weight"), ids)
            for kind, ids in (
                ("word", "input_ids"),
                ("token_type", "token_type_ids"),
                ("position", position_ids),
            )
        ]
        x = self.graph.node("Add", self.graph.node("Add", vectors[0], vectors[1]), vectors[2])
        return self._layer_norm(x, "embeddings.LayerNorm")

    def mask(self) -> str:
        """0 where the token counts and the smallest float where not, [batch, 1, 1, sequence]."""
        x = self.graph.node("Unsqueeze", "attention_mask", self._integers("axis_1", 1))
        x = self.graph.node("Unsqueeze", x, self._integers("axis_2", 2))
        x = self.graph.node("Cast", x, to=onnx.TensorProto.FLOAT)
        x = self.graph.node("Sub", self._scalar("one", 1), x)
        return self.graph.node("Mul", x, self._scalar("masked", _MASKED))

    def layer(self, x: str, mask: str, name: str, output: str | None) -> str:
        y = self._linear(self._attention(x, mask, name), f"{name}attention.output.dense")
        x = self.graph.node("Add", y, x)
        x = self._layer_norm(x, f"{name}attention.output.LayerNorm")
        y = self._gelu(self._linear(x, f"{name}intermediate.dense"))
        y = self._linear(y, f"{name}output.dense")
        return self._layer_norm(self.graph.node("Add", y, x), f"{name}output.LayerNorm", output)

    def _attention(self, x: str, mask: str, name: str) -> str:
        query, key, value = (
            self._split_heads(self._linear(x, f"{name}attention.self.{part}"), order)
            for part, order in (
                ("query", [0, 2, 1, 3]),
                ("key", [0, 2, 3, 1]),
                ("value", [0, 2, 1, 3]),
            )
        )
        scale = self._scalar("scale", np.sqrt(self.width // self._heads))
        scores = self.graph.node("Div", self.graph.node("MatMul", query, key), scale)
        weights = self.graph.node("Softmax", self.graph.node("Add", scores, mask), axis=-1)
        y = self.graph.node("MatMul", weights, value)
        y = self.graph.node("Transpose", y, perm=[0, 2, 1, 3])
        return self._reshape(y, self._integers("width", self.width))

    def _split_heads(self, x: str, order: list[int]) -> str:
        heads = self._integers("heads", self._heads)
        head_width = self._integers("head_width", self.width // self._heads)
        return self.graph.node("Transpose", self._reshape(x, heads, head_width), perm=order)

    def _reshape(self, x: str, *sizes: str) -> str:
        shape = self.graph.node("Concat", self._batch, self._sequence, *sizes, axis=0)
        return self.graph.node("Reshape", x, shape)

    def _linear(self, x: str, name: str) -> str:
        weight = self.graph.constant(f"{name}.weight_T", self._weights[f"{name}.weight"].T)
        return self.graph.node(
            "Add", self._weight(f"{name}.bias"), self.graph.node("MatMul", x, weight)
        )

    def _layer_norm(self, x: str, name: str, output: str | None = None) -> str:
        """(x - mean) / √(mean((x - mean)²) + ε) · weight + bias, over the last axis."""
        mean = self.graph.node("ReduceMean", x, axes=[-1], keepdims=1)
        centred = self.graph.node("Sub", x, mean)
        square = self.graph.node("Pow", centred, self._scalar("two", 2))
        variance = self.graph.node("ReduceMean", square, axes=[-1], keepdims=1)
        variance = self.graph.node("Add", variance, self._scalar("epsilon", self._epsilon))
        y = self.graph.node("Div", centred, self.graph.node("Sqrt", variance))
        y = self.graph.node("Mul", y, self._weight(f"{name}.weight"))
        return self.graph.node("Add", y, self._weight(f"{name}.bias"), output=output)

    def _gelu(self, x: str) -> str:
        """x·(1 + erf(x/√2))·½."""
        y = self.graph.node("Erf", self.graph.node("Div", x, self._scalar("sqrt_2", np.sqrt(2))))
        y = self.graph.node("Mul", x, self.graph.node("Add", y, self._scalar("one", 1)))
        return self.graph.node("Mul", y, self._scalar("half", 0.5))

    def _dimension(self, shape: str, axis: int) -> str:
        index = self.graph.constant(f"index_{axis}", np.array(axis, np.int64))
        size = self.graph.node("Gather", shape, index, axis=0)
        return self.graph.node("Unsqueeze", size, self._integers("axis_0", 0))

    def _weight(self, name: str) -> str:
        return self.graph.constant(name, self._weights[name])

    def _scalar(self, name: str, value: float) -> str:
        return self.graph.constant(name, np.array(value, np.float32))

    def _integers(self, name: str, *values: int) -> str:
        return self.graph.constant(name, np.array(values, np.int64))


def read_safetensors(source: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a safetensors file: a length, a JSON header, then the bytes."""
    content = source.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    data = memoryview(content)[8 + length :]
    tensors = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(data[start:end], _DTYPES[entry["dtype"]]).reshape(
            entry["shape"]
        )
    return tensors


def build_from_file(source: Path) -> onnx.ModelProto:
    """Return the model of `source`, a safetensors file with its `config.json` beside it."""
    config = json.loads(source.with_name("config.json").read_text())
    weights = {name.removeprefix("bert."): a for name, a in read_safetensors(source).items()}
    sizes = BertConfig(
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        epsilon=config["layer_norm_eps"],
    )
    return build(weights, sizes)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(
            "usage: build_minilm.py model.safetensors OUT.onnx (config.json beside the weights)"
        )
    Path(sys.argv[2]).write_bytes(build_from_file(Path(sys.argv[1])).SerializeToString())
