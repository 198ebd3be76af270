"""Keeps a decision beside a model, to be looked at, edited, taken back or carried out later.

A file of numpy (`.npz`, no pickle): by the name of each group or weight, which of its units
stay, true or false; and the SHA-256 of the model that it is about.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnxopt.arrays import Array
from onnxopt.errors import DataError
from onnxopt.text import near_matches

MODEL = "model_sha256"


def save(path: str | Path, keep: Mapping[str, Array], identity: str) -> None:
    """Write masks, bool arrays by name, for the model of an identity."""
    target = Path(path)
    partial = target.with_name(f"{target.name}.part")
    with partial.open("wb") as file:
        arrays: dict[str, Any] = {MODEL: np.array(identity), **keep}
        np.savez_compressed(file, **arrays)
    partial.replace(target)


def load(path: str | Path, sizes: Mapping[str, tuple[int, ...]], identity: str) -> dict[str, Array]:
    """Return the masks in a file; `sizes` are the shapes that they may have, by name.

    Raises `DataError` where the file is none, is of another model, or does not fit it.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            found = {name: held[name] for name in held.files}
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} holds no masks: {error}", "give what --mask-out wrote") from error
    of = found.pop(MODEL, None)
    if of is not None and str(of) not in ("", identity):
        raise DataError(
            f"{path} is of another model (sha256 {str(of)[:12]})",
            "give the model that it was made of",
        )
    for name, array in found.items():
        if name not in sizes:
            raise DataError(
                f"{path}: the model has nothing called {name!r} that could go",
                near_matches(name, tuple(sizes)),
            )
        if array.shape != sizes[name]:
            raise DataError(
                f"{path}: {name!r} is {list(array.shape)}, and {list(sizes[name])} in the model",
                "one true or false for each unit",
            )
        if array.dtype != bool:
            raise DataError(f"{path}: {name!r} is {array.dtype}", "true stays, false goes")
        if array.ndim == 1 and array.size and not array.any():
            raise DataError(f"{path}: nothing of {name!r} stays", "leave one unit at least")
    return found
