"""Writes a rendered report whole or not at all."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from onnxopt.errors import OutputError


def write(text: str, destination: str) -> None:
    """Write UTF-8 to a file, or to standard output for `-`.

    A file is replaced by rename, so that a reader sees the old text or the new. What is no regular
    file (a pipe, /dev/stdout) is written into. Raises `OutputError`.
    """
    # A lone surrogate in a name becomes \udcXX, which is how JSON spells it too.
    content = text.encode("utf-8", "backslashreplace")
    if destination == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    path = Path(destination)
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
        else:
            _replace(path.resolve(), content)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write {destination}: {error.strerror}", "choose another place for the report"
        ) from error


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
