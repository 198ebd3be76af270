"""Writes a rendered report whole or not at all."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from onnxopt.errors import OutputError

_START = 4096


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
        raise _refused(destination, error) from error


def check(destination: str) -> None:
    """Raise `OutputError` where `write` could not write a file, or would replace what is no text.

    Nothing is left behind.
    """
    path = Path(destination)
    try:
        if path.exists() and not path.is_file():
            return
        if path.exists() and _is_binary(path):
            raise OutputError(
                f"{destination} holds data, which the report would replace",
                "give the report another name, or delete that file first",
            )
        if path.exists() and not os.access(path, os.W_OK):
            raise OutputError(f"{path} is not writable", "choose another place for the report")
        temporary = _beside(path.resolve())
        temporary.open("xb").close()
        temporary.unlink()
    except OSError as error:
        raise _refused(destination, error) from error


def _is_binary(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(_START)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return True
    return b"\0" in start


def _refused(destination: str, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {destination}: {error.strerror}", "choose another place for the report"
    )


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _write(pieces: Iterable[str], file: BinaryIO) -> None:
    # A lone surrogate in a name becomes \udcXX, which is how JSON spells it too.
    file.writelines(piece.encode("utf-8", "backslashreplace") for piece in pieces)


def _replace(path: Path, pieces: Iterable[str]) -> None:
    temporary = _beside(path)
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
