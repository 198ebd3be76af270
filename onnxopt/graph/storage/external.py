"""Finds and maps the files that hold a model's tensors: its own, and external data beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from onnxopt.errors import ModelError
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.mapped import MappedFile, MappedTensor
from onnxopt.graph.storage import valid, wire


class Files:
    """The files of one model: `own` is the model file, the others are mapped as they are met.

    In a tensor's location `token` stands for the model file itself. Without a `path` the model came
    from memory, and there is no folder in which external data could lie.
    """

    def __init__(self, own: MappedFile, token: str, path: str | None) -> None:
        self.own = own
        self.token = token
        self.path = path
        self.external: dict[str, MappedFile] = {}

    def settle(self, tensor: Any) -> Any:
        """Return a mapped tensor for an external one, and any other as it is.

        Raises `ModelError` where the data is missing, too short or not where it may be.
        """
        if isinstance(tensor, ir.ExternalTensor):
            return self._map(tensor)
        if isinstance(tensor, ir.serde.TensorProtoTensor) and tensor.raw.metadata_props:
            # onnx_ir has a copy, and would save both.
            tensor.raw.ClearField("metadata_props")
        return tensor

    def _map(self, tensor: ir.ExternalTensor) -> MappedTensor:
        own, colon, field = str(tensor.location).partition(":")
        embedded = own == self.token and bool(colon)
        file = self.own if embedded else self._file(tensor)
        mapped = MappedTensor(
            file,
            tensor.offset or 0,
            dtype=tensor.dtype,
            shape=ir.Shape(tensor.shape),
            name=tensor.name,
            doc_string=tensor.doc_string,
            metadata_props=dict(tensor.metadata_props) or None,
        )
        if embedded:
            mapped.field = int(field)
        if mapped.offset + mapped.nbytes > len(file):
            raise ModelError(
                f"the data of tensor {tensor.name!r} ends at byte {mapped.offset + mapped.nbytes}"
                f" of {file.path}, which has only {len(file)}",
                "the external data is cut short or of another model: copy both files again",
            )
        return mapped

    def _file(self, tensor: ir.ExternalTensor) -> MappedFile:
        location = str(tensor.location)
        if self.path is None:
            raise ModelError(
                f"tensor {tensor.name!r} lies in the external file {location!r}",
                "give the path of the model, or load it with its external data",
            )
        if location not in self.external:
            found = find(self.path, location, tensor.name)
            mapped = next((file for file in self.external.values() if file.path == found), None)
            self.external[location] = mapped or MappedFile(found)
        return self.external[location]


def find(model: str, location: str, tensor: str) -> str:
    """Return the real path of external data, or raise `ModelError` where it may not be read.

    A model decides which file is read by a relative path inside its folder. A link found there is
    followed when it stays inside, and when model and data are both links into one folder: so a
    Hugging Face cache is laid out, where `snapshots/REVISION/` links into `blobs/`.
    """
    wanted = Path(os.path.normpath(location))
    if wanted.is_absolute() or wanted.parts[:1] in ((), ("..",)) or "\0" in location:
        raise ModelError(
            f"tensor {tensor!r} wants its data from outside the model's folder: {location!r}",
            "do not trust this model; save it again with its data beside it",
        )
    home = Path(model).resolve().parent
    for folder in dict.fromkeys((Path(model).absolute().parent, home)):
        place = folder / wanted
        if not (place.is_symlink() or place.exists()):
            continue
        found = place.resolve()
        linked = Path(model).is_symlink() and found.parent == home
        if not found.is_relative_to(folder.resolve()) and not linked:
            raise ModelError(
                f"the data of tensor {tensor!r} is a link that leads out of the model's folder:"
                f" {place}",
                "copy the file that it leads to in its place, if you trust it",
            )
        if not found.is_file():
            break
        return str(found)
    raise ModelError(
        f"the data of tensor {tensor!r} is missing: no file {location!r} beside the model",
        "put the external data file where the model is",
    )


def locations(path: Path) -> set[str]:
    """Return where the model in a file says that its external data lies; nothing if it is none."""
    token = os.urandom(
        16
    ).hex()  # a location that no file has: that of what lies in the model itself
    try:
        proto = parse(MappedFile(str(path)), token)
    except (OSError, ValueError, ModelError, DecodeError):
        return set()
    return {
        entry.value
        for tensor in valid.tensors(proto)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location" and not entry.value.startswith(token)
    }


def parse(file: MappedFile, token: str) -> onnx.ModelProto:
    """Return the model in a file; its large tensors are external, at locations `token:FIELD`.

    Raises `MalformedError` or `DecodeError`.
    """
    skeleton = wire.take_payloads(file.view, token)
    file.forget()
    proto = onnx.ModelProto()
    proto.ParseFromString(skeleton)
    if not proto.HasField("graph"):
        raise wire.MalformedError("it holds no graph")
    return proto
