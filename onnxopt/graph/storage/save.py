"""Saves models: weights go from file to file, and a model that exists is replaced at once or not.

External data goes to one file beside the model, `NAME.data`. Where that file exists it may be in
use, so a new one is called `NAME.XXXXXXXX.data`; when the model is in place, the data that only its
predecessor read is removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from google.protobuf.message import EncodeError

from onnxopt.errors import OutputError
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.mapped import MappedTensor
from onnxopt.graph.storage import convert, kept, replace, wire
from onnxopt.graph.storage.external import locations
from onnxopt.graph.storage.source import Source, source_of
from onnxopt.graph.storage.tensors import Undo, replace_tensors
from onnxopt.text import human_bytes

# The largest message that protobuf parses.
LIMIT = 2**31 - 1
# Data that is mapped in whole pages loads without a copy; small tensors would waste them.
_PAGE, _PAGED, _ALIGNED = 4096, 1 << 16, 64

_ANOTHER = "name another output file"
_HINTS = {
    errno.ENOSPC: "free some space, or write to another disk",
    errno.EDQUOT: "free some space, or write to another disk",
    errno.EACCES: "write to a folder of your own",
    errno.EPERM: "write to a folder of your own",
    errno.EROFS: "write to a folder of your own",
}


def save(
    model: ir.Model,
    path: str | os.PathLike[str],
    *,
    external: bool | None = None,
    limit: int = LIMIT,
) -> None:
    """Write a model, whole or not at all, even where it replaces the file that it comes from.

    Weights are written to an external data file if `external` says so; left to itself, if the
    source had one or if the model would pass `limit` bytes. Raises `OutputError`.
    """
    check_output(path)
    target = Path(path).resolve()
    try:
        _save(model, target, external, limit)
    except OSError as error:
        reason = error.strerror or str(error)
        hint = _HINTS.get(error.errno or 0, "check the folder and the disk")
        raise OutputError(f"{os.fspath(path)} cannot be written: {reason}", hint) from error


def check_output(path: str | os.PathLike[str], source: Source | None = None) -> None:
    """Raise `OutputError` where no file can be written, or where it would replace the source.

    `source` is the model that must stay as it is, its external data included, by whatever link
    `path` leads there.
    """
    try:
        _check_place(os.fspath(path), Path(path))
        used = (source.real_path, *source.external_files) if source else ()
        for file in used:
            if Path(path).exists() and Path(file).exists() and Path(path).samefile(file):
                what = "the input" if file == used[0] else "the input's external data"
                raise OutputError(f"{os.fspath(path)} is {what} itself", _ANOTHER)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{os.fspath(path)} cannot be written: {reason}", _ANOTHER) from error


def _check_place(name: str, place: Path) -> None:
    folder = place.resolve().parent
    if place.is_dir():
        raise OutputError(f"{name} is a folder", f"name a file: {place / 'model.onnx'}")
    if not folder.is_dir():
        raise OutputError(f"there is no folder {folder}", f"create it: mkdir -p {folder}")
    exists = place.exists()
    if exists and not place.is_file():
        raise OutputError(f"{name} is no regular file", _ANOTHER)
    if not os.access(folder, os.W_OK | os.X_OK) or (exists and not os.access(place, os.W_OK)):
        raise OutputError(f"{name} is not writable", "write to a folder of your own")


@dataclass(kw_only=True)
class _Layout:
    """Which tensors are written, and where: into the model file, or the data file at an offset."""

    data_name: str = ""
    attributes: bool = False
    token: str = field(default_factory=lambda: os.urandom(16).hex())
    embedded: list[Any] = field(default_factory=list)
    external: dict[Any, tuple[Any, int]] = field(default_factory=dict)
    end: int = 0

    def stand_in(self, tensor: Any, attribute: str) -> Any:
        """Return an external tensor that says where the bytes will be, or the tensor itself."""
        if attribute == kept.KEY or tensor.dtype == ir.DataType.STRING:
            return tensor
        outside = bool(self.data_name) and (self.attributes or not attribute)
        if tensor.nbytes < wire.LARGE:
            return _read(tensor) if isinstance(tensor, ir.ExternalTensor) else tensor
        if outside:
            return _external(tensor, self.data_name, self._place(tensor), tensor.nbytes)
        if isinstance(tensor, ir.serde.TensorProtoTensor):
            return tensor
        self.embedded.append(tensor)
        return _external(tensor, f"{self.token}:{len(self.embedded) - 1}")

    def _place(self, tensor: Any) -> int:
        """Return the tensor's offset in the data file; one that is used twice is there once."""
        mapped = isinstance(tensor, MappedTensor)
        key = (id(tensor.file), tensor.offset, tensor.nbytes) if mapped else id(tensor)
        if key not in self.external:
            step = _PAGE if tensor.nbytes >= _PAGED else _ALIGNED
            offset = -(-self.end // step) * step
            self.external[key] = (tensor, offset)
            self.end = offset + tensor.nbytes
        return self.external[key][1]


def _read(tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    return ir.Tensor(
        tensor.numpy(),
        dtype=tensor.dtype,
        name=tensor.name,
        doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props),
    )


def _external(
    tensor: Any, location: str, offset: int | None = None, length: int | None = None
) -> ir.ExternalTensor:
    return ir.ExternalTensor(
        location,
        offset,
        length,
        tensor.dtype,
        shape=ir.Shape(tensor.shape),
        name=tensor.name or "",
        doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props),
    )


def _save(model: ir.Model, target: Path, external: bool | None, limit: int) -> None:
    _clear_away(target)
    before = _own_data(target) & locations(target)
    layout, pieces = _lay_out(model, target, external, limit)
    with contextlib.ExitStack() as stack:
        drafts = []
        if layout.external:
            beside = target.with_name(layout.data_name)
            drafts.append(stack.enter_context(replace.draft(beside, owner=target)))
            for tensor, offset in layout.external.values():
                drafts[0].file.write(bytes(offset - drafts[0].file.tell()))
                _copy(tensor, drafts[0].file)
        drafts.append(stack.enter_context(replace.draft(target, owner=target)))
        for piece in pieces:
            if isinstance(piece, wire.Payload):
                _copy(layout.embedded[piece.index], drafts[-1].file)
            else:
                drafts[-1].file.write(piece)
        if before:
            stack.enter_context(replace.remembered(target))
        replace.publish(drafts)
        for name in before:
            target.with_name(name).unlink(missing_ok=True)


def _lay_out(
    model: ir.Model, target: Path, external: bool | None, limit: int
) -> tuple[_Layout, list[wire.Piece]]:
    """Decide what goes where: as little beside the model as is asked for and as the limit lets."""
    source = source_of(model)
    outside = external if external is not None else source is not None and source.external
    layouts = [] if outside else [_Layout()]
    if external is not False:
        name = _free_name(target)
        layouts += [_Layout(data_name=name), _Layout(data_name=name, attributes=True)]
    size = 0
    for layout in layouts:
        pieces = _pieces(model, layout)
        size = wire.size_of(pieces)
        if size <= limit:
            return layout, pieces
    raise OutputError(
        f"the model file would have {human_bytes(size)}, and protobuf reads no more than"
        f" {human_bytes(limit)}",
        "save it with external data" if external is False else "split the model",
    )


def _pieces(model: ir.Model, layout: _Layout) -> list[wire.Piece]:
    """Return the pieces of the model file; where a weight goes, they have a payload."""
    undo: Undo = []
    try:
        replace_tensors(model, layout.stand_in, undo)
        proto = convert.to_proto(model)
    finally:
        for back in reversed(undo):
            back()
    fields = [
        (tensor.field if isinstance(tensor, MappedTensor) else wire.RAW_DATA, tensor.nbytes)
        for tensor in layout.embedded
    ]
    try:
        skeleton = proto.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise OutputError(f"protobuf cannot write the model: {error}", "split the model") from error
    return wire.put_payloads(skeleton, layout.token, fields)


def _copy(tensor: Any, file: IO[bytes]) -> None:
    start = file.tell()
    # numpy writes an array that is not in order element by element.
    scattered = isinstance(tensor, ir.Tensor) and not tensor.numpy().flags.c_contiguous
    if scattered or not hasattr(tensor, "tofile"):
        file.write(tensor.tobytes())
    else:
        tensor.tofile(file)
    assert file.tell() - start == tensor.nbytes, f"{tensor.name} has not the bytes that it says"


def _own_data(target: Path) -> set[str]:
    """Return the names of the files beside the target that are called as its data files are."""
    ours = re.compile(re.escape(target.name) + r"(\.[0-9a-f]{8})?\.data")
    return {
        path.name
        for path in target.parent.iterdir()
        if ours.fullmatch(path.name) and path.is_file() and not path.is_symlink()
    }


def _free_name(target: Path) -> str:
    plain = target.with_name(f"{target.name}.data")
    taken = plain.exists() or plain.is_symlink()
    return f"{target.name}.{os.urandom(4).hex()}.data" if taken else plain.name


def _clear_away(target: Path) -> None:
    """Remove what killed writers left: drafts, and data to which only a draft refers."""
    for path in replace.abandoned(target):
        for name in _own_data(target) & locations(path) - locations(target):
            target.with_name(name).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
