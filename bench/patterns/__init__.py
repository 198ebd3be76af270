"""113 wasteful forms that exporters write, each a small model: what a graph optimizer is tried on.

`FORMS` maps a name to its `Form`; a module per kind of form enters its own.
"""

from __future__ import annotations

from patterns import activations, attention, conv, flow, layout, matmul, norms, shapes
from patterns.graph import FORMS, Form, Graph

__all__ = [
    "FORMS",
    "Form",
    "Graph",
    "activations",
    "attention",
    "conv",
    "flow",
    "layout",
    "matmul",
    "norms",
    "shapes",
]
