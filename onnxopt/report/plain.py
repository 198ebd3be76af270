"""Turns report data into what JSON knows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any


def plain(thing: Any) -> Any:
    """Turn report data into what `json.dumps` takes: dicts, lists, strings, finite numbers."""
    if is_dataclass(thing) and not isinstance(thing, type):
        return {f.name: plain(getattr(thing, f.name)) for f in fields(thing) if is_public(f)}
    if isinstance(thing, Mapping):
        return {str(key): plain(value) for key, value in thing.items()}
    if isinstance(thing, Sequence) and not isinstance(thing, str):
        return [plain(item) for item in thing]
    if isinstance(thing, float) and not math.isfinite(thing):
        return None
    return thing


def is_public(f: Any) -> bool:
    """Tell whether a dataclass field belongs into the JSON form."""
    return not f.name.startswith("_") and f.metadata.get("json", True)
