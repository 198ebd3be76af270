"""Reads files out of Qt's binary resources (`.rcc`), as some programs ship their pictures.

The header is `qres` and, as are all numbers in big-endian order, version and offsets of the tree,
of the data and of the names. A node of the tree is a folder (how many, the first of them) or a file
(where its data begin); from version 2 on it ends with a time. Data begin with their length, names
with theirs and a hash (Qt's rcc.cpp, qresource.cpp).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

MAGIC = b"qres"
_COMPRESSED, _FOLDER, _ZSTD = 1, 2, 4


def files(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of every file; ValueError where it is none or Zstandard is in it."""
    if not content.startswith(MAGIC):
        raise ValueError(f"no resources of Qt: they begin with {content[:4]!r}")
    version, tree, data, names = struct.unpack_from(">4I", content, len(MAGIC))
    width = 22 if version > 1 else 14
    nodes = [(0, "")]
    while nodes:
        node, folder = nodes.pop()
        name, flags = struct.unpack_from(">IH", content, tree + node * width)
        path = f"{folder}/{_text(content, names + name)}".lstrip("/") if node else ""
        if flags & _FOLDER:
            count, first = struct.unpack_from(">2I", content, tree + node * width + 6)
            nodes += [(first + place, path) for place in reversed(range(count))]
        else:
            (start,) = struct.unpack_from(">I", content, tree + node * width + 10)
            yield path, _unpacked(content, data + start, flags)


def _text(content: bytes, start: int) -> str:
    (length,) = struct.unpack_from(">H", content, start)
    return content[start + 6 : start + 6 + 2 * length].decode("utf-16-be")


def _unpacked(content: bytes, start: int, flags: int) -> bytes:
    if flags & _ZSTD:
        raise ValueError("its files are compressed by Zstandard, which is not read here")
    (length,) = struct.unpack_from(">I", content, start)
    found = content[start + 4 : start + 4 + length]
    # What is compressed begins with its size before.
    return zlib.decompress(found[4:]) if flags & _COMPRESSED else found
