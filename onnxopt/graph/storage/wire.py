"""Walks the bytes of a model file: takes large tensors out to parse it, puts them back to write it.

A model file is one protobuf message (https://protobuf.dev/programming-guides/encoding): fields,
each a key (number × 8 + wire type) and a value; messages, strings and bytes are told by their
length. So the weights can be stepped over without reading them. `take_payloads` copies everything
but the large payloads and leaves a stand-in where each was: a TensorProto whose data is external,
at a location that begins with a token. What is left is small, and protobuf parses it.
`put_payloads` is the inverse: it finds the stand-ins and returns the pieces of the file to write.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

# Shorter payloads stay in: a stand-in and a mapping cost about as much.
LARGE = 1024

RAW_DATA, FLOAT_DATA, DOUBLE_DATA = 9, 4, 10

_DATA_TYPE, _EXTERNAL_DATA, _DATA_LOCATION = 2, 13, 14
# With dims, name, doc_string and metadata_props: a tensor with any other field stays as it is.
# float_data and double_data are packed: their bytes are those of raw_data.
_PLAIN_FIELDS = frozenset({1, _DATA_TYPE, 8, 12, _DATA_LOCATION, 16})
_PAYLOAD_TYPES = {FLOAT_DATA: {1, 14}, DOUBLE_DATA: {11, 15}}
_TENSOR = "tensor"
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: _TENSOR},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: _TENSOR, 6: "graph", 10: _TENSOR, 11: "graph"},
}
_DEEPEST = 100  # protobuf itself parses no deeper

Data: TypeAlias = bytes | memoryview


class MalformedError(ValueError):
    """The bytes are no protobuf message: a length or a key leads out of the file."""


@dataclass(frozen=True, kw_only=True)
class Payload:
    """The place of a tensor's bytes: to be copied there when the model is written."""

    index: int
    length: int

    def __len__(self) -> int:
        return self.length


Piece: TypeAlias = bytes | memoryview | Payload
_Rewrite: TypeAlias = Callable[[Data, int, int], list[Piece] | None]
_Wanted: TypeAlias = Callable[[int, int], bool]


def take_payloads(data: Data, token: str) -> bytes:
    """Return the model without its large payloads.

    A stand-in's location is `token:field`, its offset and length say where in `data` the payload
    lies. Raises `MalformedError`.
    """

    def take(data: Data, start: int, end: int) -> list[Piece] | None:
        return _take_payload(data, start, end, token)

    pieces = _walk(data, 0, len(data), "model", take, lambda start, end: end - start >= LARGE)
    return bytes(data) if pieces is None else b"".join(pieces)  # type: ignore[arg-type]


def put_payloads(data: bytes, token: str, payloads: Sequence[tuple[int, int]]) -> list[Piece]:
    """Return the pieces of the model with each stand-in's payload in its place.

    A stand-in's location is `token:index`; `payloads[index]` is the field that carries the payload
    and its length.
    """
    marks = _positions(data, token.encode())

    def wanted(start: int, end: int) -> bool:
        at = bisect_left(marks, start)
        return at < len(marks) and marks[at] < end

    def put(data: Data, start: int, end: int) -> list[Piece] | None:
        return _put_payload(data, start, end, token, payloads)

    pieces = _walk(data, 0, len(data), "model", put, wanted)
    return [data] if pieces is None else pieces


def size_of(pieces: Sequence[Piece]) -> int:
    """Return the number of bytes that the pieces make up."""
    return sum(map(len, pieces))


def _walk(
    data: Data, start: int, end: int, kind: str, rewrite: _Rewrite, wanted: _Wanted, depth: int = 0
) -> list[Piece] | None:
    """Return the message's pieces, or None where nothing in it was rewritten."""
    if kind == _TENSOR:
        return rewrite(data, start, end)
    if depth > _DEEPEST:
        raise MalformedError("messages are nested too deeply")
    children = _MESSAGES[kind]
    pieces: list[Piece] = []
    copied = at = start
    while at < end:
        begin = at
        number, stop, at = _field(data, at, end)
        child = children.get(number) if data[begin] & 7 == 2 else None
        if child is not None and wanted(at, stop):
            new = _walk(data, at, stop, child, rewrite, wanted, depth + 1)
            if new is not None:
                pieces += (data[copied:begin], _key(number, 2), _varint(size_of(new)), *new)
                copied = stop
        at = stop
    if not pieces:
        return None
    return [*pieces, data[copied:end]]


def _take_payload(data: Data, start: int, end: int, token: str) -> list[Piece] | None:
    payload: tuple[int, int, int] | None = None
    data_type = 0
    kept: list[Piece] = []
    at = start
    while at < end:
        begin = at
        number, stop, at = _field(data, at, end)
        if number in _PLAIN_FIELDS:
            if number == _DATA_TYPE:
                data_type = _read_varint(data, at, stop)[0]
            if number != _DATA_LOCATION:
                kept.append(data[begin:stop])
            elif data[at:stop] != b"\x00":
                return None
        elif number in (RAW_DATA, FLOAT_DATA, DOUBLE_DATA) and payload is None:
            if data[begin] & 7 != 2:
                return None
            payload = (number, at, stop - at)
        else:
            return None
        at = stop
    if payload is None or payload[2] < LARGE:
        return None
    field, offset, length = payload
    if field != RAW_DATA and data_type not in _PAYLOAD_TYPES[field]:
        return None
    kept.append(_external(f"{token}:{field}", offset, length))
    return kept


def _put_payload(
    data: Data, start: int, end: int, token: str, payloads: Sequence[tuple[int, int]]
) -> list[Piece] | None:
    mark = token.encode() + b":"
    index: int | None = None
    kept: list[Piece] = []
    at = start
    while at < end:
        begin = at
        number, stop, at = _field(data, at, end)
        if number == _EXTERNAL_DATA:
            entry = bytes(data[at:stop])
            if mark in entry:
                index = int(entry.partition(mark)[2])
        elif number != _DATA_LOCATION:
            kept.append(data[begin:stop])
        at = stop
    if index is None:
        return None
    field, length = payloads[index]
    return [*kept, _key(field, 2), _varint(length), Payload(index=index, length=length)]


def _external(location: str, offset: int, length: int) -> bytes:
    """Return the fields of a TensorProto that say where its data lies."""
    entries = b""
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        texts = b"".join(
            _key(number, 2) + _varint(len(text)) + text.encode()
            for number, text in ((1, key), (2, value))
        )
        entries += _key(_EXTERNAL_DATA, 2) + _varint(len(texts)) + texts
    return entries + _key(_DATA_LOCATION, 0) + _varint(1)


def _field(data: Data, at: int, end: int) -> tuple[int, int, int]:
    """Return the field's number, where its value ends, and where its value begins."""
    key, at = _read_varint(data, at, end)
    wire = key & 7
    if wire == 2:
        length, at = _read_varint(data, at, end)
        stop = at + length
    elif wire == 0:
        stop = _read_varint(data, at, end)[1]
    elif wire == 5:
        stop = at + 4
    elif wire == 1:
        stop = at + 8
    else:
        raise MalformedError(f"byte {at}: no such field")
    if stop > end:
        raise MalformedError(f"byte {at}: a field of {stop - at} bytes, but {end - at} are left")
    if key < 8:
        raise MalformedError(f"byte {at}: no such field")
    return key >> 3, stop, at


def _read_varint(data: Data, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        if byte < 128:
            return value | byte << shift, at
        value |= (byte & 127) << shift
        shift += 7
    raise MalformedError(f"byte {at}: a number without an end")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _key(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _positions(data: bytes, mark: bytes) -> list[int]:
    found = []
    at = data.find(mark)
    while at >= 0:
        found.append(at)
        at = data.find(mark, at + len(mark))
    return found
