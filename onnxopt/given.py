"""Takes what callers of the Python API give, and saves what they are to get."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from onnxopt.errors import OnnxOptError, ProviderError
from onnxopt.graph import io
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.profile import profile
from onnxopt.graph.signature import spec_of
from onnxopt.passes import shapes
from onnxopt.report import Profile

ModelLike = str | Path | onnx.ModelProto | ir.Model


@contextlib.contextmanager
def on_disk(model: ModelLike) -> Iterator[Path]:
    """Give the path of a model; one that is in memory is written to a temporary folder."""
    if isinstance(model, (str, Path)):
        yield Path(model)
        return
    if not isinstance(model, (onnx.ModelProto, ir.Model)):
        raise OnnxOptError(
            f"{type(model).__name__} is no model", "give a path, a ModelProto or an onnx_ir Model"
        )
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
        path = Path(folder) / "model.onnx"
        io.save(model if isinstance(model, ir.Model) else io.from_proto(model), path)
        yield path


def folder_of(output: str | Path | None) -> Path | None:
    """Return the folder that a result goes to; None where none is written."""
    return None if output is None else Path(output).absolute().parent


@contextlib.contextmanager
def room_beside(output: str | Path | None) -> Iterator[Path]:
    """Give a temporary folder beside a result, where there is room for models of its size."""
    with tempfile.TemporaryDirectory(prefix=".onnxopt-", dir=folder_of(output)) as folder:
        yield Path(folder)


def profile_of(model: ir.Model, path: Path, given: ModelLike) -> Profile:
    """Profile a model that lies at a path; it has no path in the report if it was in memory."""
    if not shapes.was_inferred(model):
        shapes.infer(model)
    source = io.source_of(model)
    size = source.file_bytes if source is not None else path.stat().st_size
    named = str(path) if isinstance(given, (str, Path)) else None
    return profile(model, path=named, sha256=io.sha256_of(path), file_bytes=size)


def saved(model: ir.Model, output: str | Path | None) -> Profile:
    """Write a result, where that is wanted; return its profile."""
    after = profile(model)
    if output is None:
        return after
    io.save(model, output)
    digest, size = io.sha256_of(output), io.file_bytes(output)
    return replace(after, path=str(output), sha256=digest, file_bytes=size)


def same_inputs(a: ir.Model, b: ir.Model) -> None:
    """Raise where no feed could suit both models."""
    mine, theirs = (
        {v.name: spec_of(v) for v in m.graph.inputs if not v.is_initializer()} for m in (a, b)
    )
    for name in (*mine, *theirs):
        one, two = mine.get(name), theirs.get(name)
        if one is None or two is None:
            where = "second" if two is None else "first"
            raise OnnxOptError(
                f"the {where} model has no input {name!r}", "compare models with the same inputs"
            )
        if one.type != two.type:
            raise OnnxOptError(
                f"input {name!r} is {one.type} in one model and {two.type} in the other",
                "compare models with the same inputs",
            )


def samples_of(data: Any) -> tuple[str | Path | None, Sequence[Mapping[str, Any]] | None]:
    """Tell a path to samples from feeds; one feed alone will do."""
    if data is None or isinstance(data, (str, Path)):
        return data, None
    if isinstance(data, Mapping):
        return None, [data]
    try:
        feeds = list(data)
    except TypeError:
        feeds = [None]
    if not all(isinstance(feed, Mapping) for feed in feeds):
        raise OnnxOptError(
            f"{type(data).__name__} is no kind of samples",
            "give a path, or feeds: dicts of arrays by input name",
        )
    return None, feeds


def check_providers(names: Sequence[str]) -> None:
    """Raise `ProviderError` for an unknown provider, or when none of those asked for is there."""
    from onnxopt.runtime.execution.providers import find_provider, is_known

    faults = []
    for name in names:
        try:
            find_provider(name)
        except ProviderError as error:
            if not is_known(name):
                raise
            faults.append(error)
    if faults and len(faults) == len(names):
        raise faults[0]
