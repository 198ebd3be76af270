"""Raises old models with onnx's own converter, and proves that they still compute the same.

`passes.opset` raises from operator set 11 on, node by node, where the schemas show that nothing
changes. Before it, too much changed its form; `onnx.version_converter` knows how. It is C++ that
may crash or leave something out without a word. So it runs in a process of its own, and what it
makes is held against the model that was given, as any result is.

Up to IR version 3 every weight has to be an input. onnxruntime lets nobody override those, and from
IR version 4 on a weight that is no input says the same. That is how such a model is raised.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from onnxopt.errors import DataError, OnnxOptError
from onnxopt.graph import io
from onnxopt.graph._onnx_ir import ir
from onnxopt.passes import opset

_CONVERT = """
import sys, onnx, onnx.version_converter
model = onnx.load(sys.argv[1])
onnx.save(onnx.version_converter.convert_version(model, int(sys.argv[3])), sys.argv[2])
"""
_LARGEST = 1 << 30  # bytes: the converter holds a model several times, and protobuf ends at 2 GiB
_WEIGHTS_ARE_INPUTS = 3
"""The newest IR version in which they have to be."""


def converted(source: Path, goal: int, folder: Path, *, seed: int = 0) -> Path:
    """Write the model at `source` into `folder` at operator set `goal`; return where it lies.

    Raises `OnnxOptError` where the converter fails, or where what it made does not compute the
    same on inputs that are made up, within the original's own noise. Without onnxruntime's kernels
    for an operator set as old as that, onnx's reference implementation tells.
    """
    if io.file_bytes(source) > _LARGEST:
        raise OnnxOptError("onnx's converter does not take a model of more than a gigabyte")
    model = io.load(source)
    free_weights(model)
    model.ir_version = max(model.ir_version, opset.ir_version_of(goal))
    old, raised = folder / "old.onnx", folder / "raised.onnx"
    io.save(model, old)
    command = [sys.executable, "-P", "-c", _CONVERT, str(old), str(raised), str(goal)]
    child = subprocess.run(  # noqa: S603 - this interpreter, and paths of our own
        command, stdin=subprocess.DEVNULL, capture_output=True, check=False, text=True
    )
    old.unlink()
    if child.returncode:
        last = (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        raise OnnxOptError(f"onnx's converter fails: {last}")
    if wrong := difference(source, raised, seed=seed):
        raise OnnxOptError(f"what onnx's converter makes of it is not the same: {wrong}")
    return raised


def free_weights(model: ir.Model) -> None:
    """Let weights be no inputs, in a model so old that they have to be."""
    if model.ir_version <= _WEIGHTS_ARE_INPUTS:
        for value in [value for value in model.graph.inputs if value.is_initializer()]:
            model.graph.inputs.remove(value)


def difference(source: Path, raised: Path, *, seed: int) -> str:
    """Say in what a raised model differs from its source, or why that cannot be told, or nothing.

    Raises `DataError` where the source itself does not run.
    """
    from onnxopt.runtime.comparing.compare import Reference
    from onnxopt.runtime.sessions.crash import crash_on_loading

    for path in (source, raised):
        if crash := crash_on_loading(path):
            raise DataError(crash, "another version of onnxruntime may do better")
    found = Reference.invent(source, io.load(source), seed=seed).judge(raised)
    return "" if found.passed and found.verified else found.reason
