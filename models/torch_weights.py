"""Read the tensors of a PyTorch file in the legacy (pre-1.6) format, without PyTorch or unpickling.

Such a file is a row of pickles (a magic number, a protocol number, facts about the machine, the
state dict, the storage keys) followed by the raw storages, each with its number of elements before
it. A pickle is a program, and `pickle.Unpickler` runs it: even with a guarded `find_class` it
calls what it found and sets attributes that the file chose. `pickletools.genops` only lists the
instructions. The two dozen that a state dict needs are interpreted here on plain lists and dicts,
without one call that the file could choose; any other instruction or name is refused.
"""

from __future__ import annotations

import pickletools
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES: dict[str, np.dtype[Any]] = {
    "torch DoubleStorage": np.dtype("<f8"),
    "torch FloatStorage": np.dtype("<f4"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch IntStorage": np.dtype("<i4"),
    "torch LongStorage": np.dtype("<i8"),
}
_DICT = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"

# Instructions that push a constant: the argument itself, or the value that the name stands for.
_LITERALS = {"BININT", "BININT1", "BININT2", "BINUNICODE", "LONG1"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS = {"BINPUT", "LONG_BINPUT"}
_GETS = {"BINGET", "LONG_BINGET"}


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """A view of a storage: where it starts, its shape and strides, all counted in elements."""

    key: str
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]


def read_state_dict(file: BinaryIO) -> dict[str, np.ndarray]:
    """Return the tensors of a legacy `.pth` file by name; raise `ValueError` for anything else."""
    try:
        if read_pickle(file) != _MAGIC:
            raise ValueError("no legacy PyTorch file: the magic number is missing")
        for _ in ("protocol version", "facts about the machine that wrote it"):
            read_pickle(file)
        tensors = read_pickle(file)
        storages = _read_storages(file, read_pickle(file), tensors)
        return {name: _view(storages[t.key], t) for name, t in tensors.items()}
    except (AttributeError, LookupError, TypeError, struct.error) as error:
        raise ValueError(f"no legacy PyTorch state dict: {error}") from error


def read_pickle(file: BinaryIO) -> Any:
    """Interpret the next pickle of `file` as data; raise `ValueError` for what is not data."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    argument: Any
    for opcode, argument, position in pickletools.genops(file):
        name = opcode.name
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _PUTS:
            memo[argument] = stack[-1]
        elif name in _GETS:
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "STOP":
            return stack.pop()
        elif name != "PROTO":
            _build(name, argument, position, stack, marks)
    raise ValueError("the pickle has no end")


def _build(
    name: str, argument: Any, position: int | None, stack: list[Any], marks: list[int]
) -> None:
    """Carry out one instruction that makes or fills a container, or names what PyTorch wrote."""
    if name == "EMPTY_DICT":
        stack.append({})
    elif name == "EMPTY_LIST":
        stack.append([])
    elif name in _TUPLES:
        stack.append(tuple(_take(stack, len(stack) - _TUPLES[name])))
    elif name == "TUPLE":
        stack.append(tuple(_take(stack, marks.pop())))
    elif name in {"SETITEM", "SETITEMS"}:
        items = _take(stack, len(stack) - 2 if name == "SETITEM" else marks.pop())
        stack[-1].update(zip(items[::2], items[1::2], strict=True))
    elif name in {"APPEND", "APPENDS"}:
        items = _take(stack, len(stack) - 1 if name == "APPEND" else marks.pop())
        stack[-1].extend(items)
    elif name == "GLOBAL":
        if argument not in {_DICT, _TENSOR, *_STORAGES}:
            raise ValueError(f"the file names {argument!r}, which no state dict needs")
        stack.append(argument)
    elif name == "BINPERSID":
        _, storage, key, *_ = stack.pop()
        stack.append(_Storage(key=key, dtype=_STORAGES[storage]))
    elif name == "REDUCE":
        arguments = stack.pop()
        stack.append(_made(stack.pop(), arguments))
    elif name == "BUILD":
        stack.pop()  # the state dict's own attributes: versions of modules, of no use here
    else:
        raise ValueError(f"instruction {name} at byte {position} is none that a state dict needs")


def _made(what: str, arguments: tuple[Any, ...]) -> dict[str, Any] | StoredTensor:
    if what == _DICT and not arguments:
        return {}
    if what == _TENSOR:
        storage, offset, shape, strides, *_ = arguments
        return StoredTensor(
            key=storage.key, dtype=storage.dtype, offset=offset, shape=shape, strides=strides
        )
    raise ValueError(f"the file calls {what!r}, which no state dict needs")


def _take(stack: list[Any], start: int) -> list[Any]:
    items = stack[start:]
    del stack[start:]
    return items


def _read_storages(
    file: BinaryIO, keys: list[str], tensors: dict[str, StoredTensor]
) -> dict[str, np.ndarray]:
    dtypes = {tensor.key: tensor.dtype for tensor in tensors.values()}
    storages = {}
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        storages[key] = np.frombuffer(file.read(count * dtypes[key].itemsize), dtypes[key])
    return storages


def _view(storage: np.ndarray, tensor: StoredTensor) -> np.ndarray:
    last = tensor.offset + sum(
        (n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True)
    )
    if min((tensor.offset, *tensor.strides, *tensor.shape), default=0) < 0 or last >= storage.size:
        raise ValueError(f"a tensor of shape {tensor.shape} reaches beyond storage {tensor.key}")
    strides = [step * storage.itemsize for step in tensor.strides]
    view = np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides)
    return view.copy()
