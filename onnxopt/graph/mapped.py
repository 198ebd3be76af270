"""Tensors that stay in their file: mapped to be read, copied from file to file to be written."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import math
import mmap
import os
import stat
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from functools import partial
from typing import IO, Any

import numpy as np

from onnxopt.errors import ModelError
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.storage import wire

_CHUNK = 1 << 20
# Below this a copy by the kernel costs more than one through a buffer.
_SMALL = 1 << 16
_AROUND = 1 << 16
_MOST_AT_ONCE = 1 << 30
# What copy_file_range answers where it cannot do it: other file systems, old kernels, pipes.
_NO_KERNEL_COPY = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EXDEV,
                   errno.EBADF, errno.EISDIR, errno.ETXTBSY}  # fmt: skip


class MappedFile:
    """A file, mapped for as long as a tensor in it is used.

    It is held by inode: renaming another file over its name, or deleting it, does not touch what
    is read here. Bytes given instead of a path make a file in memory.
    """

    def __init__(self, source: str | bytes) -> None:
        self.path = source if isinstance(source, str) else ""
        self.descriptor: int | None = None
        if isinstance(source, bytes):
            self.view = memoryview(source)
            return
        # Not to wait for a writer where the name is a pipe's.
        self._hold(os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))

    @classmethod
    def scratch(cls, folder: str, size: int) -> MappedFile:
        """Make a file of `size` zeros in a folder, without a name, to be filled with `write`.

        What is never written takes no room. Raises `OSError`.
        """
        made = cls(b"")
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            os.truncate(file.fileno(), size)
            made._hold(os.dup(file.fileno()))
        return made

    def _hold(self, descriptor: int) -> None:
        weakref.finalize(self, os.close, descriptor)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ModelError("this is no regular file", "give the path of a model file")
        self.descriptor = descriptor
        mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) if status.st_size else b""
        self.view = memoryview(mapped)

    def __len__(self) -> int:
        return len(self.view)

    def forget(self, offset: int = 0, length: int | None = None) -> None:
        """Let go of the pages that were read: they come back when they are read again."""
        if isinstance(self.view.obj, mmap.mmap):
            # Reading one page maps those around it too.
            start = max(offset - _AROUND, 0) // mmap.PAGESIZE * mmap.PAGESIZE
            end = len(self) if length is None else min(offset + length + _AROUND, len(self))
            self.view.obj.madvise(mmap.MADV_DONTNEED, start, end - start)

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes without mapping them: a large file read this way takes no memory."""
        if self.descriptor is None:
            return bytes(self.view[offset : offset + length])
        return os.pread(self.descriptor, length, offset)

    def write(self, offset: int, data: memoryview) -> None:
        """Put bytes into a file that was made by `scratch`."""
        assert self.descriptor is not None
        while data:
            done = os.pwrite(self.descriptor, data[:_MOST_AT_ONCE], offset)
            data, offset = data[done:], offset + done


class _Window(np.ndarray[Any, Any]):
    """An array that lies in a mapped file; arrays that are made of it keep it as their base."""


def window(
    file: MappedFile, offset: int, dtype: np.dtype[Any], shape: Sequence[int]
) -> np.ndarray[Any, Any]:
    """Return the numbers at an offset of a file, read-only and without a copy.

    Once no array refers to them any more, the memory that a large one took is free again: weights
    of any size can be looked at, one after the other.
    """
    held = _Window(tuple(shape), dtype, buffer=file.view, offset=offset)
    if held.nbytes >= _SMALL and file.descriptor is not None:
        weakref.finalize(held, file.forget, offset, held.nbytes).atexit = False
    return held.view(np.ndarray)


class MappedTensor(ir.LazyTensor):
    """A tensor whose bytes lie in a file: inside a model file, or in an external data file.

    `numpy()` is a read-only view of the mapping; only elements smaller than a byte are unpacked
    into memory. `field` is the field of TensorProto that held the bytes: `raw_data`, or the packed
    `float_data` or `double_data`, whose bytes are the same.
    """

    __slots__ = ("field", "file", "offset")

    def __init__(
        self,
        file: MappedFile,
        offset: int,
        *,
        dtype: ir.DataType,
        shape: ir.Shape,
        name: str | None,
        doc_string: str | None = None,
        metadata_props: dict[str, str] | None = None,
        field: int = wire.RAW_DATA,
    ) -> None:
        super().__init__(
            partial(_read, file, offset, dtype, shape),
            dtype,
            shape,
            name=name,
            doc_string=doc_string,
            metadata_props=metadata_props,
        )
        self.file = file
        self.offset = offset
        self.field = field

    @property
    def view(self) -> memoryview:
        """The bytes, little endian and packed, as they lie in the file."""
        return self.file.view[self.offset : self.offset + self.nbytes]

    def tobytes(self) -> bytes:
        """Return a copy of the bytes, little endian and packed."""
        return self.view.tobytes()

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        """Yield the bytes from `start` on in pieces that are read, not mapped."""
        left, offset = self.nbytes - start, self.offset + start
        while left:
            chunk = self.file.read(offset, min(_CHUNK, left))
            if not chunk:
                raise OSError(errno.EIO, "the file became shorter", self.file.path)
            yield chunk
            left -= len(chunk)
            offset += len(chunk)

    def tofile(self, file: IO[bytes]) -> None:
        """Copy the bytes to an open file, by the kernel where it can."""
        if self.nbytes < _SMALL:
            file.write(self.tobytes())
            return
        done = self._copy_by_kernel(file)
        for chunk in self.chunks(done):
            file.write(chunk)

    def _copy_by_kernel(self, file: IO[bytes]) -> int:
        """Copy as much as the kernel will, and return how much that was."""
        if self.file.descriptor is None:
            return 0
        try:
            target = file.fileno()
            if not stat.S_ISREG(os.fstat(target).st_mode):
                return 0
            file.flush()
            at = file.tell()
        except OSError:
            return 0
        done = 0
        with contextlib.suppress(_NoKernelCopyError):
            while done < self.nbytes:
                copied = _copy_range(
                    self.file.descriptor, target, self.nbytes - done, self.offset + done, at + done
                )
                if not copied:
                    break
                done += copied
        file.seek(at + done)
        return done

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __dlpack__(self, *, stream: Any = None) -> Any:
        # DLPack knows no read-only memory.
        return self.numpy().copy().__dlpack__(stream=stream)

    def __deepcopy__(self, memo: Any) -> MappedTensor:
        return self

    def __repr__(self) -> str:
        return f"MappedTensor<{self.dtype},{self.shape}>(name={self.name!r}, offset={self.offset})"


def _read(file: MappedFile, offset: int, dtype: ir.DataType, shape: ir.Shape) -> ir.TensorProtocol:
    dims = [int(dim) for dim in shape.numpy()]
    if dtype.bitwidth < 8:
        size = -(-math.prod(dims) * dtype.bitwidth // 8)
        packed = window(file, offset, np.dtype(np.uint8), [size])
        return ir.PackedTensor(packed, dtype, shape=shape)
    little = dtype.numpy().newbyteorder("<")
    # A tensor without elements may lie at the very end, where numpy takes no offset.
    array = np.empty(dims, little) if 0 in dims else window(file, offset, little, dims)
    return ir.Tensor(array, dtype=dtype, shape=shape)


def digest(tensor: ir.TensorProtocol) -> bytes:
    """Return the SHA-256 of the tensor's bytes; those of a mapped one are read in pieces."""
    if isinstance(tensor, MappedTensor):
        found = hashlib.sha256()
        for chunk in tensor.chunks():
            found.update(chunk)
        return found.digest()
    return hashlib.sha256(tensor.tobytes()).digest()


class _NoKernelCopyError(Exception):
    """The kernel does not copy between these two files."""


def _copy_range(source: int, target: int, count: int, source_at: int, target_at: int) -> int:
    try:
        return os.copy_file_range(source, target, min(count, 1 << 30), source_at, target_at)
    except OSError as error:
        if error.errno in _NO_KERNEL_COPY:
            raise _NoKernelCopyError from error
        raise
