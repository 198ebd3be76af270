"""Says what onnxruntime makes of results: `score.py JOBS` prints a line of JSON for each.

JOBS is a JSON file of `[original, [result, …]]`. Counted are the nodes of the file and those that
onnxruntime runs: it loads the result, optimizes it as it always does, and writes what it will run.
At its `extended` level that is standard and com.microsoft operators; at `all`, its default, some
have become operators of this processor's own memory layout, and what reorders memory counts too.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from examine import differences, judge, nodes, references
from forked import forked

import onnxopt.runtime.comparing.compare  # noqa: F401 - before the fork, so that it is imported once

_LEVELS = {
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


def score(original: Path, results: list[Path]) -> list[dict[str, Any]]:
    """Return nodes, operators, what onnxruntime runs, signature, and correctness of each."""
    before = onnx.load(original)
    known = references(original, {"shapes": {}, "values": {}})
    cells = []
    for result in results:
        after = onnx.load(result)
        cells.append(
            {
                "nodes": len(list(nodes(after))),
                "ops": operators(after),
                "edges": edges(after),
                "runs": {level: what_runs(result, level) for level in _LEVELS},
                "signature": differences(before, after),
                "verification": judge(known, result),
            }
        )
    return cells


def what_runs(path: Path, level: str) -> dict[str, int]:
    """Return operator to count in the graph that onnxruntime runs at an optimization level."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = _LEVELS[level]
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "runs.onnx")
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return operators(onnx.load(options.optimized_model_filepath))


def operators(model: onnx.ModelProto) -> dict[str, int]:
    """Count operators except Constant; those of other domains are written with theirs."""
    found = Counter(
        f"{node.domain}.{node.op_type}" if node.domain not in {"", "ai.onnx"} else node.op_type
        for node in nodes(model)
        if node.op_type != "Constant"
    )
    return dict(sorted(found.items()))


def edges(model: onnx.ModelProto) -> str:
    """Return a digest of which operators read what which others make; constants are left out."""
    makers = {
        output: node.op_type
        for node in nodes(model)
        for output in node.output
        if node.op_type != "Constant"
    }
    makers |= {value.name: "input" for value in model.graph.input}
    found = sorted(
        f"{makers[name]} > {node.op_type}"
        for node in nodes(model)
        for name in node.input
        if name in makers
    )
    return hashlib.sha256("\n".join(found).encode()).hexdigest()[:8]


def main(jobs: str) -> None:
    """Score the results of each original in a fork, which a broken one may take down.

    Then each gets a fork of its own, to find out which one it was.
    """
    for original, results in json.loads(Path(jobs).read_text(encoding="utf-8")):
        cells, error = _in_fork(original, results)
        if error:
            tried = [_in_fork(original, [result]) for result in results]
            cells = [
                one[0] if one else {"error": f"cannot be examined: {why}"} for one, why in tried
            ]
        for result, cell in zip(results, cells, strict=True):
            print(json.dumps({"result": result, "cell": cell}), flush=True)


def _in_fork(original: str, results: list[str]) -> tuple[Any, str | None]:
    return forked(lambda: score(Path(original), [Path(result) for result in results]), timeout=60)


if __name__ == "__main__":
    main(sys.argv[1])
