"""Keeps computed weights out of memory: beyond an allowance they go to a file that has no name.

Rules compute weights one at a time, but what they computed stays until the model is saved. Where
every layer is rewritten that is a second model. The file has no name, so nothing is left of it
however this process ends; on saving, the kernel copies from it.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

import numpy as np

from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.mapped import MappedFile, MappedTensor

_KEY = "onnxopt.spill"
_ALLOWANCE = 64 << 20
_LEAST = 1 << 16  # bytes: smaller tensors stay in memory
_SEGMENT = 1 << 30  # bytes: a file cannot grow while it is mapped, so there are several
_PAGE = 4096


class Spill:
    """The computed weights of one model: `allowance` bytes in memory, the rest in `folder`.

    Where the folder takes no more, they stay in memory.
    """

    def __init__(self, folder: Path | None = None, allowance: int = _ALLOWANCE) -> None:
        self.folder = folder
        self.left = allowance
        self.spilled = 0
        self._file: MappedFile | None = None
        self._end = 0

    def keep(self, tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        """Return the tensor, or one of the same content that lies in a file."""
        if type(tensor) is not ir.Tensor or tensor.dtype == ir.DataType.STRING:
            return tensor
        self.left -= tensor.nbytes
        if self.left >= 0 or tensor.nbytes < _LEAST or sys.byteorder != "little":
            return tensor
        try:
            held = self._write(tensor)
        except OSError as error:
            logging.getLogger(__name__).info("cannot spill %s: %s", tensor.name, error)
            return tensor
        self.left += tensor.nbytes
        self.spilled += tensor.nbytes
        return held

    def _write(self, tensor: ir.TensorProtocol) -> MappedTensor:
        size = tensor.nbytes
        if self._file is None or self._end + size > len(self._file):
            folder = str(self.folder or tempfile.gettempdir())
            self._file, self._end = MappedFile.scratch(folder, max(size, _SEGMENT)), 0
        file, offset = self._file, self._end
        file.write(offset, _bytes_of(tensor))
        self._end = -(-(offset + size) // _PAGE) * _PAGE
        return MappedTensor(
            file,
            offset,
            dtype=tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=tensor.name,
            doc_string=tensor.doc_string,
            metadata_props=dict(tensor.metadata_props) or None,
        )


def spill_into(model: ir.Model, folder: Path | None) -> None:
    """Let the computed weights of a model go to a folder, where they become too large."""
    model.meta[_KEY] = Spill(folder)


def spill_of(model: ir.Model) -> Spill:
    """Return where the computed weights of a model are kept."""
    found: Spill = model.meta.setdefault(_KEY, Spill())
    return found


def _bytes_of(tensor: ir.TensorProtocol) -> memoryview:
    """Return the bytes as they lie in a file, without a copy where the array is so already."""
    if tensor.dtype.bitwidth < 8:
        return memoryview(tensor.tobytes())
    return np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8).data
