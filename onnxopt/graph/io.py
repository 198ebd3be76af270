"""Loads and saves models: mapped, not read; checked before anything is built; written whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from google.protobuf.message import EncodeError

from onnxopt.errors import ModelError
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.mapped import MappedFile
from onnxopt.graph.storage import convert, external
from onnxopt.graph.storage.convert import to_proto
from onnxopt.graph.storage.kept import KEY as KEPT
from onnxopt.graph.storage.kept import node_to_proto
from onnxopt.graph.storage.save import check_output, save
from onnxopt.graph.storage.source import Source, remember, sha256_of, source_of
from onnxopt.graph.storage.tensors import replace_tensors

__all__ = [
    "KEPT",
    "Source",
    "check_output",
    "files_of",
    "from_proto",
    "load",
    "node_to_proto",
    "save",
    "sha256_of",
    "source_of",
    "to_proto",
]

_NO_MODEL = "give an ONNX model: a binary file, usually named .onnx"
_FETCH_AGAIN = "export or download it again"
# How files begin that people take for models.
_BEGINNINGS = {
    b"version https://git-lfs": ("a Git LFS pointer, not the model itself", "run: git lfs pull"),
    b"PK\x03\x04": ("a zip archive, perhaps a PyTorch checkpoint", "export it to ONNX first"),
    b"\x89HDF": ("an HDF5 file, perhaps a Keras model", "convert it with tf2onnx first"),
    b"\x80\x02": ("a Python pickle, perhaps a PyTorch checkpoint", "export it to ONNX first"),
    b"\x1f\x8b": ("compressed with gzip", "run: gunzip"),
}


def load(path: str | os.PathLike[str]) -> ir.Model:
    """Load a model from a file without reading its weights: they are mapped, and read when used.

    A graph that is not sorted is sorted. Raises `ModelError` for all that is no valid model.
    """
    name = os.fspath(path)
    with _blaming(name):
        file = _open(name)
        model, files = _build(file, name)
    others = {file.path: len(file) for file in files.external.values()}
    source = Source(
        path=name,
        real_path=str(Path(name).resolve()),
        file_bytes=len(file) + sum(others.values()),
        external_files=tuple(others),
    )
    remember(model, source)
    return model


def from_proto(proto: onnx.ModelProto) -> ir.Model:
    """Build a model from a proto, which stays as it is; all checks are those of `load`."""
    with _blaming("the ModelProto"):
        try:
            data = proto.SerializeToString()
        except (EncodeError, ValueError):
            raise ModelError(
                "it is larger than the 2 GB that protobuf can serialize",
                "save it with external data and give the path",
            ) from None
        return _build(MappedFile(data), None)[0]


def files_of(path: str | os.PathLike[str]) -> list[Path]:
    """Return the files that make up a saved model: its own, then those of its external data."""
    beside = sorted(external.locations(Path(path)))
    return [Path(path), *(Path(path).parent / name for name in beside)]


def file_bytes(path: str | os.PathLike[str]) -> int:
    """Return the bytes of all files that make up a saved model."""
    return sum(part.stat().st_size for part in files_of(path))


def _open(path: str) -> MappedFile:
    try:
        if Path(path).is_dir():
            inside = sorted(Path(path).glob("*.onnx"))
            hint = f"did you mean {inside[0]}?" if inside else _NO_MODEL
            raise ModelError("this is a folder", hint)
        file = MappedFile(path)
    except FileNotFoundError:
        raise ModelError("no such file", "check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"the file cannot be read: {reason}", "check the path") from None
    if not len(file):
        raise ModelError("the file is empty", _FETCH_AGAIN)
    return file


@contextmanager
def _blaming(name: str) -> Iterator[None]:
    """Let every error say which file it is about."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{name}: {error.message}", error.hint) from error


def _build(file: MappedFile, path: str | None) -> tuple[ir.Model, external.Files]:
    files = external.Files(file, os.urandom(16).hex(), path)
    try:
        model = convert.to_model(external.parse(file, files.token))
        replace_tensors(model, lambda tensor, _: files.settle(tensor), [])
    except (ModelError, MemoryError):
        raise
    except Exception as error:
        # Whatever a broken file provokes in protobuf, onnx or onnx_ir, the file is to blame.
        raise _diagnosis(file, error) from error
    return model, files


def _diagnosis(file: MappedFile, error: Exception) -> ModelError:
    """Say what the file is instead of a model, as well as can be told."""
    head = bytes(file.view[:512])
    for beginning, (what, hint) in _BEGINNINGS.items():
        if head.startswith(beginning):
            return ModelError(f"this is {what}", hint)
    if head[4:8] == b"ORTM":
        return ModelError("this is a model in ORT format", "give the .onnx file it was made from")
    try:
        is_text = head.decode().isprintable() or b"\n" in head[:256]
    except UnicodeDecodeError:
        is_text = False
    if is_text and not any(byte < 9 for byte in head):
        return ModelError("this is a text file, not an ONNX model", _NO_MODEL)
    cause = convert.root_cause(error)
    detail = " ".join(str(cause).split())[:160] or type(cause).__name__
    return ModelError(f"no valid ONNX model, or only a part of one: {detail}", _FETCH_AGAIN)
