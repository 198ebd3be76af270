"""Models with Q/DQ pairs, written by hand."""

import numpy as np
from onnx import numpy_helper, parser

S, Z = np.float32(0.05), np.uint8(0)
W = np.random.default_rng(0).integers(-127, 128, (4, 4, 1, 1)).astype(np.int8)
WEIGHT = {"w": W, "ws": np.full(4, 0.01, np.float32), "wz": np.zeros(4, np.int8)}


def written(text, **constants):
    """Parse a model of opset 17 and name its nodes n0, n1, …"""
    made = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> agraph {text}')
    for name, array in {"s": S, "z": Z, **constants}.items():
        made.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    for number, node in enumerate(made.graph.node):
        node.name = f"n{number}"
    return made


def pair(source, scale="s", zero="z"):
    return (
        f"{source}_q = QuantizeLinear({source}, {scale}, {zero})"
        f" {source}_d = DequantizeLinear({source}_q, {scale}, {zero})"
    )


def of(result, tensor):
    found = [entry for entry in result.entries if entry.tensor == tensor]
    assert len(found) == 1
    return found[0]
