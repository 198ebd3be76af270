"""Writes models whose work differs by an exact share: a chain of 20 equal blocks, of 21, of 22.

Nothing stands before the first block; after the last one stands at most a Slice that takes no time,
where a whole output would have to be copied. A block ends where onnxruntime's fusions end, so that
each block costs what the others cost, and the longer chain begins with the blocks of the shorter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BLOCKS = 20
OPSET = 20
_SEED = 4


@dataclass(kw_only=True)
class Chain:
    """A graph that grows by blocks: `value` is what the next node reads."""

    rng: np.random.Generator
    value: str = "x"
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def weight(self, *shape: int, spread: float, mean: float = 0.0) -> str:
        """Add a normally distributed weight and return its name."""
        name = f"w{len(self.weights)}"
        array = self.rng.normal(mean, spread, shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        """Add a node that reads `value` and `inputs`; what it computes becomes `value`."""
        name = f"v{len(self.nodes)}"
        node = helper.make_node(op, [self.value, *inputs], [name], name=name, **attributes)
        self.nodes.append(node)
        self.value = name
        return name


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of chain: the shape that flows through it, and how a block is added."""

    name: str
    shape: tuple[int, ...]
    add_block: Callable[[Chain], None]
    tail: bool = False


def _product(chain: Chain) -> None:
    """Multiply by a matrix and cut off what is negative."""
    chain.add("MatMul", chain.weight(256, 256, spread=math.sqrt(2 / 256)))
    chain.add("Relu")


def _convolution(chain: Chain) -> None:
    """Convolve 3×3, 48 channels to 48."""
    weight = chain.weight(48, 48, 3, 3, spread=math.sqrt(2 / (48 * 9)))
    chain.add("Conv", weight, chain.weight(48, spread=0.1), pads=[1, 1, 1, 1])
    chain.add("Relu")


def _separable(chain: Chain) -> None:
    """Convolve each of 192 channels 3×3, then mix them 1×1, as mobile networks do."""
    each = chain.weight(192, 1, 3, 3, spread=math.sqrt(2 / 9))
    chain.add("Conv", each, chain.weight(192, spread=0.1), pads=[1, 1, 1, 1], group=192)
    chain.add("Relu")
    mix = chain.weight(192, 192, 1, 1, spread=math.sqrt(2 / 192))
    chain.add("Conv", mix, chain.weight(192, spread=0.1))
    chain.add("Relu")


def _perceptron(chain: Chain) -> None:
    """Add a layer of 512 hidden values to its input, and normalize: half of a transformer."""
    start = chain.value
    chain.add("MatMul", chain.weight(128, 512, spread=math.sqrt(1 / 128)))
    chain.add("Add", chain.weight(512, spread=0.1))
    chain.add("Gelu")
    chain.add("MatMul", chain.weight(512, 128, spread=math.sqrt(1 / 512)))
    chain.add("Add", chain.weight(128, spread=0.1))
    chain.add("Add", start)
    scale, bias = chain.weight(128, spread=0.1, mean=1.0), chain.weight(128, spread=0.1)
    chain.add("LayerNormalization", scale, bias, axis=-1)


def _elementwise(chain: Chain) -> None:
    """Scale and shift 4 MB, more than a core's own cache holds."""
    chain.add("Mul", chain.weight(1024, spread=0.1, mean=1.0))
    chain.add("Add", chain.weight(1024, spread=0.1))


KINDS = {
    kind.name: kind
    for kind in (
        Kind(name="MatMul", shape=(64, 256), add_block=_product),
        Kind(name="Conv", shape=(1, 48, 28, 28), add_block=_convolution),
        Kind(name="separable Conv", shape=(1, 192, 14, 14), add_block=_separable),
        Kind(name="LayerNorm and MLP", shape=(48, 128), add_block=_perceptron),
        Kind(name="elementwise", shape=(1024, 1024), add_block=_elementwise, tail=True),
    )
}


def chain_of(kind: Kind, blocks: int) -> onnx.ModelProto:
    """Return a chain of so many blocks; the same kind always gets the same weights."""
    chain = Chain(rng=np.random.default_rng(_SEED))
    for _ in range(blocks):
        kind.add_block(chain)
    shape = kind.shape
    if kind.tail:
        shape = (1, *shape[1:])
        _take_first(chain)
    chain.nodes[-1].output[0] = "y"
    graph = helper.make_graph(
        chain.nodes,
        f"{blocks} blocks",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, kind.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        chain.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def _take_first(chain: Chain) -> None:
    for name, value in (("starts", 0), ("ends", 1), ("axes", 0)):
        chain.weights.append(numpy_helper.from_array(np.array([value], np.int64), name))
    chain.add("Slice", "starts", "ends", "axes")


def path_of(folder: Path, kind: str, blocks: int) -> Path:
    """Return where `write_chains` puts a chain."""
    return folder / f"{kind.replace(' ', '_')}_{blocks}.onnx"


def feed_of(folder: Path, kind: str) -> Path:
    """Return where `write_chains` puts the input of all chains of a kind."""
    return folder / f"{kind.replace(' ', '_')}.npz"


def write_chains(folder: Path, lengths: Sequence[int]) -> None:
    """Write a chain of each kind and length into `folder`, and an input for each kind."""
    from onnxopt.benchmarking.child.feedfile import save_feed

    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS.values():
        for blocks in lengths:
            onnx.save(chain_of(kind, blocks), path_of(folder, kind.name, blocks))
        values = np.random.default_rng(_SEED).normal(size=kind.shape).astype(np.float32)
        save_feed(feed_of(folder, kind.name), {"x": values})


def write_smallest(path: Path) -> Path:
    """Write a model of one node that does next to nothing: what is left is the call itself."""
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "one node",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    opset = helper.make_opsetid("", OPSET)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return path
