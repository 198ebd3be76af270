"""Who places int8 on which target."""

from __future__ import annotations

from onnxopt.graph._onnx_ir import ir
from onnxopt.quantizing.placement import cpu, cuda, portable, tensorrt
from onnxopt.quantizing.placement.plan import Placement

_PLACES = {
    "cpu": cpu.place,
    "cuda": cuda.place,
    "portable": portable.place,
    "tensorrt": tensorrt.place,
}


def placement_for(target: str, model: ir.Model) -> Placement:
    """Return every int8 unit that a target could make of a model, whose names are unique.

    Raises `OnnxOptError` for a target that has no int8.
    """
    return _PLACES[target](model)
