"""Reads which shared libraries a shared library needs: the DT_NEEDED entries of an ELF file.

Layout: System V ABI, chapters 4 (program header) and 5 (dynamic section). 64 bits, little-endian:
every Linux for which onnxruntime is published.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO

_MAGIC = b"\x7fELF\x02\x01"
_LOAD, _DYNAMIC = 1, 2
_END, _NEEDED, _STRINGS, _STRINGS_SIZE = 0, 1, 5, 10
_LARGEST = 1 << 22


def needed(path: Path) -> tuple[str, ...]:
    """Return the sonames that the library at `path` needs, in order; empty where it is no ELF."""
    try:
        with path.open("rb") as file:
            return _needed(file)
    except (OSError, struct.error):
        return ()


def _needed(file: IO[bytes]) -> tuple[str, ...]:
    header = file.read(64)
    if not header.startswith(_MAGIC):
        return ()
    (start,) = struct.unpack_from("<Q", header, 32)
    size, count = struct.unpack_from("<HH", header, 54)
    segments = [
        struct.unpack_from("<IIQQQQ", _read(file, start + index * size, size))
        for index in range(count)
    ]
    entries: list[tuple[int, int]] = []
    for kind, _, offset, _, _, length in segments:
        if kind == _DYNAMIC:
            table = _read(file, offset, min(length, _LARGEST) // 16 * 16)
            entries += struct.iter_unpack("<QQ", table)
    if (_END, 0) in entries:
        entries = entries[: entries.index((_END, 0))]
    told = dict(entries)
    place = _place(told.get(_STRINGS, 0), segments)
    strings = _read(file, place, min(told.get(_STRINGS_SIZE, 0), _LARGEST))
    return tuple(
        strings[value:].split(b"\0", 1)[0].decode(errors="replace")
        for tag, value in entries
        if tag == _NEEDED
    )


def _place(address: int, segments: list[tuple[int, ...]]) -> int:
    """Return where in the file stands what is loaded to `address`."""
    for kind, _, offset, virtual, _, length in segments:
        if kind == _LOAD and virtual <= address < virtual + length:
            return offset + address - virtual
    return address


def _read(file: IO[bytes], offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)
