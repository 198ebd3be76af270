"""Arithmetic on dimensions: names are added, multiplied and divided to formulas in a fixed order.

`past + sequence` and `2*batch*heads` are names like others, except that the same sum or product is
always written the same way. A sum of products, or a product of sums, is not known (None).
"""

from __future__ import annotations

import math
from collections import Counter

from onnxopt.graph.facts import Dim

_PLUS, _TIMES = " + ", "*"


def is_plain(name: str) -> bool:
    """Tell whether a name is a name, not a formula or a phrase."""
    return name.isidentifier()


def total(one: Dim, other: Dim) -> Dim:
    """Return the sum of two dimensions, or None."""
    left, right = _terms(one), _terms(other)
    if left is None or right is None:
        return None
    return _sum(left[0] + right[0], left[1] + right[1])


def difference(one: Dim, other: Dim) -> Dim:
    """Return what is left of a dimension when another is taken away, or None."""
    left, right = _terms(one), _terms(other)
    if left is None or right is None or right[1] - left[1]:
        return None
    number = left[0] - right[0]
    names = left[1] - right[1]
    return None if names and number < 0 else _sum(number, names)


def product(one: Dim, other: Dim) -> Dim:
    """Return the product of two dimensions, or None."""
    left, right = _factors(one), _factors(other)
    if left is None or right is None:
        return None
    return _product(left[0] * right[0], left[1] + right[1])


def quotient(one: Dim, other: Dim) -> Dim:
    """Return a dimension divided by another that is known to divide it, or None."""
    left, right = _factors(one), _factors(other)
    if left is None or right is None or not right[0] or left[0] % right[0] or right[1] - left[1]:
        return None
    return _product(left[0] // right[0], left[1] - right[1])


def _terms(dim: Dim) -> tuple[int, Counter[str]] | None:
    """Return a dimension as a number and the names that are added to it."""
    if dim is None or isinstance(dim, int):
        return None if dim is None else (dim, Counter())
    parts = dim.split(_PLUS)
    names = [part for part in parts if is_plain(part)]
    numbers = [part for part in parts if part.isdigit()]
    known = len(names) + len(numbers) == len(parts)
    return (sum(map(int, numbers)), Counter(names)) if known else None


def _sum(number: int, names: Counter[str]) -> Dim:
    terms = [*sorted(names.elements()), *([str(number)] if number else [])]
    return _PLUS.join(terms) if names else number


def _factors(dim: Dim) -> tuple[int, Counter[str]] | None:
    """Return a dimension as a number and the names by which it is multiplied."""
    if dim is None or isinstance(dim, int):
        return None if dim is None else (dim, Counter())
    parts = dim.split(_TIMES)
    names = [part for part in parts if is_plain(part)]
    numbers = [part for part in parts if part.isdigit()]
    known = len(names) + len(numbers) == len(parts)
    return (math.prod(map(int, numbers)), Counter(names)) if known else None


def _product(number: int, names: Counter[str]) -> Dim:
    if not names or number == 0:
        return number
    factors = [*([str(number)] if number != 1 else []), *sorted(names.elements())]
    return _TIMES.join(factors)
