"""Carries one feed to another process in an `.npz`: strings, bfloat16 and sequences included."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_INDEX = "__feed__"


def save_feed(path: Path, feed: Mapping[str, Any]) -> None:
    """Write a feed (input name to array or list of arrays)."""
    index: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for name, value in feed.items():
        parts = [np.asarray(part) for part in (value if isinstance(value, list) else [value])]
        index.append(
            {
                "name": name,
                "sequence": isinstance(value, list),
                "parts": [[str(len(arrays) + i), part.dtype.name] for i, part in enumerate(parts)],
            }
        )
        for part in parts:
            arrays[str(len(arrays))] = _storable(part)
    np.savez(path, **{_INDEX: np.array(json.dumps(index))}, **arrays)  # type: ignore[arg-type]


def _storable(array: np.ndarray) -> np.ndarray:
    """Make an array storable: strings of a fixed width, foreign types as bytes."""
    if array.dtype.kind == "O":
        return array.astype(np.str_)
    return array if array.dtype.kind in "biufcU" else array.view(f"V{array.dtype.itemsize}")


def load_feed(path: Path) -> dict[str, Any]:
    """Read what `save_feed` wrote; nothing is unpickled."""
    feed: dict[str, Any] = {}
    with np.load(path, allow_pickle=False) as archive:
        for entry in json.loads(str(archive[_INDEX])):
            parts = [_restore(archive[key], dtype) for key, dtype in entry["parts"]]
            feed[entry["name"]] = parts if entry["sequence"] else parts[0]
    return feed


def _restore(array: np.ndarray, dtype: str) -> np.ndarray:
    if array.dtype.kind == "U":
        return array.astype(object)
    if array.dtype.kind != "V":
        return array
    import ml_dtypes

    return array.view(getattr(ml_dtypes, dtype))


def describe_feed(feed: Mapping[str, Any]) -> dict[str, str]:
    """Write each input's type and shape for people: `float32[1,3,224,224]`."""
    return {name: _describe(value) for name, value in feed.items()}


def _describe(value: Any) -> str:
    if isinstance(value, list):
        return f"sequence of {len(value)} × {_describe(value[0])}" if value else "empty sequence"
    array = np.asarray(value)
    name = "string" if array.dtype.kind in "OU" else array.dtype.name
    return f"{name}[{','.join(map(str, array.shape))}]"
