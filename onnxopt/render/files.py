"""Writes a rendered report whole or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from onnxopt.errors import OutputError


def write(text: str | Iterable[str], destination: str) -> None:
    """Write UTF-8 to a file, or to standard output for `-`; pieces are written as they come.

    A file is replaced by rename, so that a reader sees the old text or the new. What is no regular
    file (a pipe, /dev/stdout) is written into. Raises `OutputError`.
    """
    pieces = [text] if isinstance(text, str) else text
    if destination == "-":
        sys.stdout.flush()
        _write(pieces, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    path = Path(destination)
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                _write(pieces, file)
        else:
            _replace(path.resolve(), pieces)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write {destination}: {error.strerror}", "choose another place for the report"
        ) from error


def _write(pieces: Iterable[str], file: BinaryIO) -> None:
    # A lone surrogate in a name becomes \udcXX, which is how JSON spells it too.
    file.writelines(piece.encode("utf-8", "backslashreplace") for piece in pieces)


def _replace(path: Path, pieces: Iterable[str]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as file:
            _write(pieces, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
