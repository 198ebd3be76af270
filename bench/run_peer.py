"""Runs one peer on one model, in the peer's own environment: `run_peer.py TOOL MODEL OUTPUT`.

Each is called as its documentation shows, with its defaults and without any check of its own, from
one file to another. Only the tool itself is imported: the whole process is what is timed.

`run_peer.py --many TOOL JOBS` runs many models in one process, for tools whose time is mostly that
of their imports: JOBS is a JSON file of `[model, output]` pairs, and a line of JSON is printed for
each. Here onnxopt is a tool as well: `onnxopt TARGET`.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any


def run_onnxruntime(model: str, output: str) -> None:
    """ONNX Runtime's offline optimization at the highest level that is no machine's own."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = output
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_transformers(model: str, output: str, model_type: str = "bert") -> None:
    """ONNX Runtime's optimizer for transformers, which takes a model for BERT unless told.

    It imports torch on every call, to ask for the vendor of a GPU that is not used here. A
    stand-in lets it run without, and spares it the time.
    """
    _stand_in_for_torch()
    from onnxruntime.transformers import optimizer

    optimizer.optimize_model(model, model_type=model_type).save_model_to_file(output)


def _stand_in_for_torch() -> None:
    torch = types.ModuleType("torch")
    torch.version = types.SimpleNamespace(hip=None)  # type: ignore[attr-defined]
    sys.modules["torch"] = torch


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


def run_ort_fusions(model: str, output: str) -> None:
    """Use onnxscript's fusions for ONNX Runtime, which begin and end with its optimizer."""
    import onnx_ir
    from onnxscript.rewriter.ort_fusions import optimize_for_ort

    optimized, _ = optimize_for_ort(onnx_ir.load(model))
    onnx_ir.save(optimized, output)


def run_onnxoptimizer(model: str, output: str) -> None:
    """Use onnxoptimizer's fusion and elimination passes, its default."""
    import onnx
    import onnxoptimizer

    onnx.save(onnxoptimizer.optimize(onnx.load(model)), output)


def run_onnxopt(model: str, output: str, target: str) -> dict[str, int]:
    """Use onnxopt, checked and measured no more than its peers; return what it did."""
    import onnxopt

    report = onnxopt.optimize(model, output, target=target, verify=False, measure=False)
    return report.done()


PEERS = {
    "onnxruntime": run_onnxruntime,
    "onnxruntime.transformers": run_transformers,
    "onnxsim": run_onnxsim,
    "onnxslim": run_onnxslim,
    "onnxscript": run_onnxscript,
    "onnxscript.ort_fusions": run_ort_fusions,
    "onnxoptimizer": run_onnxoptimizer,
}
_MODULES = {
    "onnxopt": "onnxopt.pipeline",
    "onnxruntime.transformers": "onnxruntime.transformers.optimizer",
    "onnxscript": "onnxscript.optimizer",
    "onnxscript.ort_fusions": "onnxscript.rewriter.ort_fusions",
}


def run_many(tool: str, jobs: str) -> None:
    """Run `tool` on every pair of the file `jobs`, each in a fork of its own."""
    import json
    from pathlib import Path

    sys.path.append(str(Path(__file__).parent))
    from forked import forked

    name, _, target = tool.partition(" ")
    if tool == "onnxruntime.transformers":
        _stand_in_for_torch()
    importlib.import_module(_MODULES.get(name, name))
    if target:
        importlib.import_module("onnxopt.rules").load()
    for model, output in json.loads(Path(jobs).read_text(encoding="utf-8")):

        def work(model: str = model, output: str = output) -> Any:
            return run_onnxopt(model, output, target) if target else PEERS[name](model, output)

        done, error = forked(work, timeout=60)
        print("\n" + json.dumps({"output": output, "error": error, "done": done}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--many":
        run_many(*sys.argv[2:])
    else:
        PEERS[sys.argv[1]](*sys.argv[2:])
