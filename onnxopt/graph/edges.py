"""Where a tensor is read, by names: what outlives a clone of the model."""

from __future__ import annotations

from typing import NamedTuple


class Edge(NamedTuple):
    """One input of one node."""

    node: str
    place: int
