"""Runs one peer on one model, in the peer's own environment: `run_peer.py TOOL MODEL OUTPUT`.

Each is called as its documentation shows, with its defaults and without any check of its own, from
one file to another. Only the tool itself is imported: the whole process is what is timed.
"""

from __future__ import annotations

import sys
import types


def run_onnxruntime(model: str, output: str) -> None:
    """ONNX Runtime's offline optimization at the highest level that is no machine's own."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = output
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_transformers(model: str, output: str) -> None:
    """ONNX Runtime's optimizer for transformers, which takes a model for BERT unless told.

    It imports torch on every call, to ask for the vendor of a GPU that is not used here. A
    stand-in lets it run without, and spares it the time.
    """
    torch = types.ModuleType("torch")
    torch.version = types.SimpleNamespace(hip=None)  # type: ignore[attr-defined]
    sys.modules["torch"] = torch
    from onnxruntime.transformers import optimizer

    optimizer.optimize_model(model, model_type="bert").save_model_to_file(output)


def run_onnxsim(model: str, output: str) -> None:
    """Use onnxsim from file to file, its fastest way."""
    import onnxsim

    _, succeeded = onnxsim.simplify(model, output_path=output)
    if not succeeded:
        raise SystemExit("onnxsim says that it did not succeed")


def run_onnxslim(model: str, output: str) -> None:
    """Use onnxslim from file to file."""
    import onnxslim

    onnxslim.slim(model, output)


def run_onnxscript(model: str, output: str) -> None:
    """Use onnxscript's optimizer on onnx-ir's model, which spares two conversions."""
    import onnx_ir
    import onnxscript.optimizer

    onnx_ir.save(onnxscript.optimizer.optimize(onnx_ir.load(model)), output)


def run_onnxoptimizer(model: str, output: str) -> None:
    """Use onnxoptimizer's fusion and elimination passes, its default."""
    import onnx
    import onnxoptimizer

    onnx.save(onnxoptimizer.optimize(onnx.load(model)), output)


PEERS = {
    "onnxruntime": run_onnxruntime,
    "onnxruntime.transformers": run_transformers,
    "onnxsim": run_onnxsim,
    "onnxslim": run_onnxslim,
    "onnxscript": run_onnxscript,
    "onnxoptimizer": run_onnxoptimizer,
}

if __name__ == "__main__":
    PEERS[sys.argv[1]](*sys.argv[2:])
