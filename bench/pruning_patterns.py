"""Holds zeros against 2:4, layer by layer: `pruning_patterns.py REFERENCE MODEL DATA [MOST]`.

Sparse kernels want two zeros in every four neighbours along the axis that is summed over: the input
channels of a convolution at each place of its kernel, the inner axis of a product. Prints a line of
JSON: how many layers keep to it exactly, are left whole, or have zeros otherwise; and the SQNR of
the outputs of those with zeros on the feeds of DATA, once fed with what the reference computes
there, once in the place where they stand, behind other layers with zeros.

A layer is a Conv, Gemm or MatMul with a constant weight, together with the Add of a constant behind
it. Layers of both models are paired by their order, so both are to be of one graph.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import data_store
import numpy as np
import onnx
import pruning_macs
from onnx import numpy_helper

EXACT, WHOLE, OTHER = "exact", "whole", "otherwise"
_FEW = 0.05
"""A layer that got no more zeros than this was left as it is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """A product or convolution, the Add behind it, its weight and the axis that is summed over."""

    nodes: tuple[onnx.NodeProto, ...]
    given: str
    weight: np.ndarray
    axis: int

    @property
    def output(self) -> str:
        """The tensor that it makes."""
        return self.nodes[-1].output[0]


def layers(model: onnx.ModelProto) -> Iterator[Layer]:
    """Yield the layers in the order of the graph."""
    held = pruning_macs.constants(model)
    readers = Counter(name for node in model.graph.node for name in node.input)
    readers.update(value.name for value in model.graph.output)
    adds = {
        name: node
        for node in model.graph.node
        if node.op_type == "Add" and sum(name in held for name in node.input) == 1
        for name in node.input
        if name not in held and readers[name] == 1
    }
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        side = next((s for s in (1, 0) if node.input[s] in held), None)
        if side is None or node.input[1 - side] in held:
            continue
        weight = numpy_helper.to_array(held[node.input[side]])
        behind = adds.get(node.output[0])
        yield Layer(
            nodes=(node,) if behind is None else (node, behind),
            given=node.input[1 - side],
            weight=weight,
            axis=_axis(node, side, weight.ndim),
        )


def _axis(node: onnx.NodeProto, side: int, rank: int) -> int:
    """Return which axis of a weight is summed over."""
    if node.op_type == "Conv":
        return 1
    name = ("transA", "transB")[side]
    turned = any(entry.name == name and entry.i for entry in node.attribute)
    return rank - 1 if (side == 0) != turned else max(0, rank - 2)


def kept_to(weight: np.ndarray, axis: int, own: float = 0.0) -> str:
    """Tell whether a weight has two zeros in every four neighbours along an axis.

    `own` is the share of zeros that it had before: nets are trained to have some, too.
    """
    if (weight == 0).mean() <= own + _FEW:
        return WHOLE
    length = weight.shape[axis]
    if length % 4:
        return OTHER
    fours = np.moveaxis(weight, axis, -1).reshape(-1, 4)
    return EXACT if ((fours == 0).sum(1) >= 2).all() else OTHER


def found_in(was: Layer, now: Layer) -> str:
    """Tell what became of a layer."""
    return kept_to(now.weight, now.axis, float((was.weight == 0).mean()))


def losses(
    reference: onnx.ModelProto, model: onnx.ModelProto, feeds: Sequence[dict[str, np.ndarray]]
) -> tuple[list[float], list[float]]:
    """Return the SQNR in dB of each layer with zeros: fed as the reference is, and in place."""
    pairs = [
        (was, now)
        for was, now in zip(layers(reference), layers(model), strict=True)
        if found_in(was, now) != WHOLE
    ]
    if not pairs:
        return [], []
    known = [was.output for was, _ in pairs]
    copies = [f"{was.output}/alone" for was, _ in pairs]
    both = pruning_macs.opened(_beside(reference, model, pairs), [*known, *copies])
    other = pruning_macs.opened(model, [now.output for _, now in pairs])
    signal, errors = np.zeros(len(pairs)), np.zeros((2, len(pairs)))
    for feed in feeds:
        found = both.run([*known, *copies], dict(pruning_macs.known_of(reference, feed)))
        placed = other.run(
            [now.output for _, now in pairs], dict(pruning_macs.known_of(model, feed))
        )
        wanted = [y.astype(np.float64) for y in found[: len(pairs)]]
        signal += [np.square(y).sum() for y in wanted]
        for row, got in enumerate((found[len(pairs) :], placed)):
            errors[row] += [np.square(z - y).sum() for y, z in zip(wanted, got, strict=True)]
    decibels = 10 * np.log10((signal + 1e-30) / (np.maximum(errors, signal * 1e-15) + 1e-30))
    return decibels[0].tolist(), decibels[1].tolist()


def _beside(
    reference: onnx.ModelProto, model: onnx.ModelProto, pairs: Sequence[tuple[Layer, Layer]]
) -> onnx.ModelProto:
    """Return the reference with the layers of the other model beside its own, fed as they are."""
    found, held = onnx.ModelProto(), pruning_macs.constants(model)
    found.CopyFrom(reference)
    for was, now in pairs:
        names = {now.given: was.given, now.output: f"{was.output}/alone"}
        for node in now.nodes:
            copy = found.graph.node.add()
            copy.CopyFrom(node)
            copy.name = f"{node.output[0]}/alone"
            names |= {n: f"{n}/other" for n in (*node.input, *node.output) if n not in names}
            copy.input[:] = [name and names[name] for name in node.input]
            copy.output[:] = [names[name] for name in node.output]
            for name in node.input:
                if name in held:
                    tensor = found.graph.initializer.add()
                    tensor.CopyFrom(held[name])
                    tensor.name = names[name]
    return _once(found)


def _once(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop initializers of a name that was there before: layers may share a bias."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    kept = list(tensors.values())
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def examined(reference: Path, model: Path, data: Path, most: int) -> dict[str, Any]:
    """Return counts of layers, and the mean and least SQNR of those with zeros."""
    before, after = onnx.load(reference), onnx.load(model)
    kinds = Counter(
        found_in(was, now) for was, now in zip(layers(before), layers(after), strict=True)
    )
    alone, placed = losses(before, after, list(data_store.feeds(data, most)))
    found: dict[str, Any] = {kind: kinds[kind] for kind in (EXACT, WHOLE, OTHER)}
    for name, values in (("alone", alone), ("placed", placed)):
        if values:
            found |= {f"{name}_db": statistics.fmean(values), f"{name}_least_db": min(values)}
    return found


def main(reference: str, model: str, data: str, most: str = "50") -> None:
    """Examine, and print what was found."""
    print(json.dumps(examined(Path(reference), Path(model), Path(data), int(most))))


if __name__ == "__main__":
    main(*sys.argv[1:])
