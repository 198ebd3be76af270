"""Where a model came from."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from onnxopt.graph._onnx_ir import ir

_KEY = "onnxopt.source"


@dataclass(frozen=True, kw_only=True)
class Source:
    """The files of a model.

    `path` is as it was given, `real_path` with links resolved; `file_bytes` is the size of the
    model file and of its external data files together.
    """

    path: str
    real_path: str
    file_bytes: int
    external_files: tuple[str, ...] = ()

    @property
    def external(self) -> bool:
        """Whether the model had external data."""
        return bool(self.external_files)


def remember(model: ir.Model, source: Source) -> None:
    """Note in the model where it came from."""
    # A clone of a model keeps only the metadata of its graph.
    model.meta[_KEY] = model.graph.meta[_KEY] = source


def source_of(model: ir.Model) -> Source | None:
    """Return where the model was loaded from; None for one that was made in memory."""
    found: Source | None = model.meta.get(_KEY, model.graph.meta.get(_KEY))
    return found


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
