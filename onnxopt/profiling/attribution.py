"""Tells for each node that onnxruntime really runs which node of the model it stands for.

onnxruntime fuses nodes and renames them: a Conv in blocked layout is called like the tensor that it
writes with `_nchwc` behind it, one whose channels are last gets `_token_12`, what replaces a
function has no name at all. So a node is looked up by its name, then by the names of what it
writes. What onnxruntime itself put in (Q, DQ, layouts) is a conversion where it stands at a border
of int8 and float; elsewhere it is part of its neighbour, as is any node that cannot be found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

_SUFFIXES = re.compile(r"(_nchwc|_nhwc|_token_\d+|_quantized|_dequantized)$")
_QUANTIZING = frozenset({"DequantizeLinear", "QuantizeLinear"})
LAYOUTS = frozenset({"ReorderInput", "ReorderOutput", "Transpose"})


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A node as onnxruntime runs it: its name, which may be empty, and tensors."""

    name: str
    op: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Known:
    """The nodes of the model that was optimized: which tensors each writes, by name."""

    writes: Mapping[str, Sequence[str]]

    @cached_property
    def makers(self) -> dict[str, str]:
        """Which node writes a tensor."""
        return {tensor: node for node, tensors in self.writes.items() for tensor in tensors}

    def find(self, name: str) -> str | None:
        """Return the node that a name means, its own or that of a tensor it writes."""
        while True:
            if name in self.writes:
                return name
            if name in self.makers:
                return self.makers[name]
            shorter = _SUFFIXES.sub("", name)
            if shorter == name:
                return None
            name = shorter


def owners(ran: Sequence[Ran], known: Known) -> list[str | None]:
    """Return the owner of each node that runs, in topological order; None for a conversion.

    A node that nothing is known of, and that hangs together with nothing known, has none either.
    """
    found = [_named(node, known) for node in ran]
    before, behind = _neighbours(ran)
    lost = []
    for place, node in enumerate(ran):
        at_border = any(ran[near].op in _QUANTIZING for near in (*before[place], *behind[place]))
        if node.op in _QUANTIZING or (found[place] is None and node.op in LAYOUTS and at_border):
            found[place] = None
        elif found[place] is None:
            lost.append(place)
    # Conversions have no owner, but what is lost behind one belongs to what was converted.
    origins = list(found)
    for place, origin in enumerate(found):
        if origin is None:
            origins[place] = next((origins[n] for n in before[place] if origins[n]), None)
    for place in lost:
        found[place] = origins[place]
    for place in reversed(lost):
        if found[place] is None:
            found[place] = next((found[near] for near in behind[place] if found[near]), None)
    return found


def _named(node: Ran, known: Known) -> str | None:
    own = known.find(node.name) if node.name else None
    if own is not None or node.op in LAYOUTS:
        return own  # a layout writes under its reader's or writer's name: that says nothing
    return next((owner for name in node.writes if (owner := known.find(name)) is not None), None)


def _neighbours(ran: Sequence[Ran]) -> tuple[list[list[int]], list[list[int]]]:
    """Return the places of the nodes that each reads, and of those that read it."""
    makers = {tensor: place for place, node in enumerate(ran) for tensor in node.writes}
    before = [[makers[tensor] for tensor in node.reads if tensor in makers] for node in ran]
    behind: list[list[int]] = [[] for _ in ran]
    for place, makers_of in enumerate(before):
        for maker in makers_of:
            behind[maker].append(place)
    return before, behind


@dataclass(frozen=True, kw_only=True)
class Timed:
    """A row of a profile: the name that the trace has, which is never empty, and µs in a run."""

    name: str
    op: str
    us: float


def times(
    rows: Iterable[Timed], ran: Sequence[Ran], known: Known
) -> tuple[dict[str, float], float]:
    """Return the time of each node of the model that runs in any form, and that of conversions.

    Nodes without a name are taken in their order, by operator. A row that is none of `ran` is
    looked up by its name alone.
    """
    owner_of = owners(ran, known)
    named = {node.name: owner for node, owner in zip(ran, owner_of, strict=True) if node.name}
    nameless: dict[str, list[str | None]] = {}
    for node, owner in zip(ran, owner_of, strict=True):
        if not node.name:
            nameless.setdefault(node.op, []).append(owner)
    found: dict[str, float] = {}
    conversions = 0.0
    for row in rows:
        if row.name in named:
            owner = named[row.name]
        elif nameless.get(row.op):
            owner = nameless[row.op].pop(0)
        else:
            owner = known.find(row.name)
        if owner is None:
            conversions += row.us
        else:
            found[owner] = found.get(owner, 0.0) + row.us
    return found, conversions
