"""Leaves out units that would be int8 for themselves alone: two conversions and nothing gained.

Products pay for the conversions around them. What moves elements pays where what it moves is int8
already, or has to be int8 behind it; what computes element by element needs both.
"""

from __future__ import annotations

from collections.abc import Iterable

from onnxopt.quantizing.placement.plan import Placement, Unit

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def without_islands(placement: Placement) -> Placement:
    """Return the placement of those units that have int8 neighbours to live with."""
    chosen = list(placement.units)
    while True:
        made, wanted = _made(placement, chosen), _wanted(placement, chosen)
        kept = [unit for unit in chosen if _pays(placement, unit, made, wanted)]
        if len(kept) == len(chosen):
            return placement.only({unit.name for unit in kept})
        chosen = kept


def moves(unit: Unit) -> bool:
    """Tell whether a unit only moves elements: it keeps scale and zero point."""
    return bool(unit.ties)


def _pays(placement: Placement, unit: Unit, made: set[str], wanted: set[str]) -> bool:
    if unit.op in _PRODUCTS:
        return True
    given = [placement.sources[edge] in made for edge in unit.reads]
    used = any(name in wanted for name in unit.outputs)
    if moves(unit):
        return all(given) or used
    return (any(given) and used) or (all(given) and len(given) > 1)


def _made(placement: Placement, units: Iterable[Unit]) -> set[str]:
    """Return the tensors that computing units write as int8, and what becomes of them moved."""
    made: set[str] = set()
    for unit in units:
        if not moves(unit) or all(placement.sources[edge] in made for edge in unit.reads):
            made.update(unit.outputs)
    return made


def _wanted(placement: Placement, units: list[Unit]) -> set[str]:
    """Return the tensors that computing units read as int8, moved or not."""
    wanted: set[str] = set()
    for unit in reversed(units):
        if not moves(unit) or any(name in wanted for name in unit.outputs):
            wanted.update(placement.sources[edge] for edge in unit.reads)
    return wanted
