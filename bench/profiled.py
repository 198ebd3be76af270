"""Says where the time of a model goes: `profiled.py MODEL FEED RUNS`, by onnxruntime's profile.

One session at onnxruntime's default level, one thread. For each node the median over the runs is
taken, so that a run that other work on the machine disturbed does not count; nodes are summed by
operator.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PRODUCTS = frozenset(
    {"MatMul", "FusedMatMul", "Gemm", "FusedGemm", "Conv", "FusedConv", "NhwcFusedConv"}
)
ATTENTION = frozenset({"MultiHeadAttention", "Attention", "GroupQueryAttention"})
WARM_UP = 2


def summed(events: Iterable[dict[str, Any]], runs: int) -> dict[str, Any]:
    """Return `ms` and `nodes` by operator, and the products that attention is made of.

    `attention_products_ms` is the time of products of two batches of matrices. Weights have two
    dimensions, or no shape where onnxruntime packed them.
    """
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    batched = set()
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        told = event["args"]
        key = (told["op_name"], f"{told.get('node_index')} {event['name']}")
        times[key].append(event["dur"] / 1000)
        shapes = [shape for each in told["input_type_shape"][:2] for shape in each.values()]
        if told["op_name"] in PRODUCTS and len(shapes) == 2 and min(map(len, shapes)) > 2:
            batched.add(key)
    ms: Counter[str] = Counter()
    nodes: Counter[str] = Counter()
    products = 0.0
    for key, found in times.items():
        middle = statistics.median(found[-runs:])
        ms[key[0]] += middle
        nodes[key[0]] += 1
        products += middle * ((key in batched) and "Conv" not in key[0])
    return {
        "ms": {op: round(time, 4) for op, time in ms.most_common()},
        "nodes": dict(nodes.most_common()),
        "attention_products_ms": round(products, 4),
    }


def outside(profile: dict[str, Any], original: dict[str, Any]) -> float:
    """Return the ms that a model spends outside MatMul, Gemm and Conv.

    An attention operator holds two products. What these took in the original and no longer take
    beside the operator counts as inside; the rest of the operator's time as outside.
    """
    within = max(0.0, original["attention_products_ms"] - profile["attention_products_ms"])
    attention = sum(ms for op, ms in profile["ms"].items() if op in ATTENTION)
    others = sum(ms for op, ms in profile["ms"].items() if op not in PRODUCTS | ATTENTION)
    return float(others + max(0.0, attention - within))


def profile(model: Path, feed: Path, runs: int) -> dict[str, Any]:
    """Run the model and sum its profile."""
    import numpy as np
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
        inputs = dict(np.load(feed))
        for _ in range(WARM_UP + runs):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return summed(events, runs)


if __name__ == "__main__":
    print(json.dumps(profile(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
