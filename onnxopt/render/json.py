"""A report as JSON text: whole, or piece by piece where its samples would not fit into memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import chain, islice
from typing import Any

from onnxopt.report.plain import is_public, plain

_BLOCK = 4096
_INDENT = "  "


def text(data: dict[str, Any]) -> str:
    """Write what a report's `to_dict()` returns, indented, with a newline at the end."""
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def chunks(thing: Any) -> Iterator[str]:
    """Write a report, or what its `to_dict()` returns, in pieces of a few KB at most.

    Sequences are iterated once and never held: they may read from disk what they give. Lists of
    numbers stand on one line, all else as in `text`.
    """
    schema = getattr(thing, "SCHEMA", None)
    if schema is None:
        yield from _pieces(thing, "\n")
    else:
        yield from _object(chain([("schema", schema)], _members(thing)), "\n")
    yield "\n"


def _pieces(thing: Any, newline: str) -> Iterator[str]:
    """Write one value; `newline` starts the line that its closing bracket stands on."""
    if is_dataclass(thing) and not isinstance(thing, type):
        yield from _object(_members(thing), newline)
    elif isinstance(thing, Mapping):
        yield from _object(thing.items(), newline)
    elif isinstance(thing, Sequence) and not isinstance(thing, str):
        yield from _array(thing, newline)
    else:
        yield _scalar(thing)


def _members(thing: Any) -> Iterator[tuple[str, Any]]:
    for each in fields(thing):
        if is_public(each):
            yield each.name, getattr(thing, each.name)


def _object(members: Iterable[tuple[Any, Any]], newline: str) -> Iterator[str]:
    start = "{"
    for name, value in members:
        yield f"{start}{newline}{_INDENT}{_scalar(str(name))}: "
        yield from _pieces(value, newline + _INDENT)
        start = ","
    yield "{}" if start == "{" else newline + "}"


def _array(items: Iterable[Any], newline: str) -> Iterator[str]:
    rest = iter(items)
    first = next(rest, rest)
    if first is rest:
        yield "[]"
    elif _is_number(first):
        yield from _line(chain([first], rest))
    else:
        start = "["
        for item in chain([first], rest):
            yield f"{start}{newline}{_INDENT}"
            yield from _pieces(item, newline + _INDENT)
            start = ","
        yield newline + "]"


def _line(items: Iterator[Any]) -> Iterator[str]:
    """Write a list that begins with a number on one line, a block at a time."""
    start = "["
    while block := list(islice(items, _BLOCK)):
        yield start + _dump(block)[1:-1]
        start = ", "
    yield "]"


def _is_number(thing: Any) -> bool:
    return isinstance(thing, int | float)


def _scalar(thing: Any) -> str:
    return json.dumps(plain(thing), ensure_ascii=False, allow_nan=False)


def _dump(block: list[Any]) -> str:
    try:  # as fast as json is, for there are millions
        return json.dumps(block, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        return _scalar(block)
