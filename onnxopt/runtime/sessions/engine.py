"""Runs a model with whatever can run it: onnxruntime, else the reference evaluator of onnx."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxopt.errors import ModelError, ProviderError
from onnxopt.runtime.sessions.session import (
    Optimize,
    RunError,
    SessionError,
    cause,
    open_session,
    run,
)

if TYPE_CHECKING:
    import onnx

ONNXRUNTIME = "onnxruntime"
REFERENCE = "onnx.reference"


class NothingRunsError(ModelError):
    """Neither onnxruntime nor onnx.reference can run the model; `message` says why, for both."""


class OrtEngine:
    """A model loaded by onnxruntime, on the processor."""

    name = ONNXRUNTIME

    def __init__(self, model: Path | str | bytes, optimize: Optimize) -> None:
        self.session = open_session(model, optimize=optimize)
        self.outputs = tuple(output.name for output in self.session.get_outputs())

    def run(self, feed: Mapping[str, Any]) -> list[Any]:
        """Run once; raise `RunError`."""
        return run(self.session, feed)


class ReferenceEngine:
    """A model in the hands of onnx's reference evaluator: slow, complete, and plain numpy."""

    name = REFERENCE

    def __init__(self, model: Path | str | bytes) -> None:
        import onnx
        from onnx.reference import ReferenceEvaluator

        try:
            proto = (
                onnx.load_model_from_string(model) if isinstance(model, bytes) else onnx.load(model)
            )
            self.evaluator = ReferenceEvaluator(proto)
        except Exception as error:  # it raises whatever numpy and protobuf raise
            unsupported = isinstance(error, (NotImplementedError, RuntimeError))
            raise SessionError(
                f"onnx.reference cannot load the model: {cause(error)}", unsupported=unsupported
            ) from error
        self.outputs = tuple(self.evaluator.output_names)

    def run(self, feed: Mapping[str, Any]) -> list[Any]:
        """Run once; raise `RunError`."""
        import numpy as np

        try:
            with np.errstate(all="ignore"):
                return list(self.evaluator.run(None, dict(feed)))
        except Exception as error:
            raise RunError(f"onnx.reference stopped: {cause(error)}") from error


Engine = OrtEngine | ReferenceEngine


def open_engine(
    model: Path | str | bytes, *, optimize: Optimize = "none", only: str | None = None
) -> Engine:
    """Load `model` into onnxruntime or, where that has no kernel for it, into onnx.reference.

    `only` forbids the other one. Raises `NothingRunsError` when neither takes the model, and
    `SessionError` when the model is broken.
    """
    if only == REFERENCE:
        return ReferenceEngine(model)
    try:
        return OrtEngine(model, optimize)
    except (SessionError, ProviderError) as error:
        if only == ONNXRUNTIME or not getattr(error, "unsupported", True):
            raise
        refusal = error
    try:
        return ReferenceEngine(model)
    except SessionError as error:
        raise NothingRunsError(f"{refusal.message}; {error.message}") from error


def run_once(model: onnx.ModelProto | bytes, feed: Mapping[str, Any]) -> list[Any]:
    """Compute a small model once: for constant folding, where starting must cost nothing.

    onnxruntime on one thread without optimizations (0.2 ms for a model of one node), else
    onnx.reference. Raises `NothingRunsError`, `SessionError` or `RunError`.
    """
    serialized = model if isinstance(model, bytes) else model.SerializeToString()
    try:
        return run(open_session(serialized, threads=1, optimize="none"), feed)
    except (SessionError, ProviderError) as error:
        if not getattr(error, "unsupported", True):
            raise
        refusal = error
    try:
        return ReferenceEngine(serialized).run(feed)
    except SessionError as error:
        raise NothingRunsError(f"{refusal.message}; {error.message}") from error
