"""Says where the time of a model goes: `profiled.py MODEL FEED RUNS`, by onnxruntime's profile.

One session at onnxruntime's default level, one thread. For each node the median over the runs is
taken, so that a run that other work on the machine disturbed does not count; nodes are summed by
operator.
"""

from __future__ import annotations

import json
import math
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
    """Return `ms` and `nodes` by operator, and of what an attention operator may hold its time.

    `attention_products_ms` is the time of products of two batches of matrices. Weights have two
    dimensions, or no shape where onnxruntime packed them. `projections` are the mean ms of a
    product with weights by its size (rows × inner × columns), `packed` how many attention
    operators contain three of a size.
    """
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    arguments = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            told = event["args"]
            key = (told["op_name"], f"{told.get('node_index')} {event['name']}")
            times[key].append(event["dur"] / 1000)
            arguments[key] = told
    middles = {key: statistics.median(found[-runs:]) for key, found in times.items()}
    ms: Counter[str] = Counter()
    projections: dict[str, list[float]] = defaultdict(list)
    packed: Counter[str] = Counter()
    products = 0.0
    for key, middle in middles.items():
        ms[key[0]] += middle
        ranks = [len(shape) for shape in _shapes(arguments[key], "input")]
        size = _size(arguments[key])
        if key[0] in PRODUCTS and "Conv" not in key[0]:
            if len(ranks) > 1 and min(ranks[:2]) > 2:
                products += middle
            else:
                projections[size].append(middle)
        elif key[0] == "Attention" and len([rank for rank in ranks[:3] if rank > 2]) < 3:
            packed[size] += 1
    means = {size: round(statistics.mean(found), 4) for size, found in projections.items()}
    return {
        "ms": {op: round(time, 4) for op, time in ms.most_common()},
        "nodes": dict(Counter(op for op, _ in middles).most_common()),
        "attention_products_ms": round(products, 4),
        "projections": means,
        "packed": dict(packed),
    }


def _shapes(told: dict[str, Any], side: str) -> list[list[int]]:
    return [shape for each in told.get(f"{side}_type_shape", ()) for shape in each.values()]


def _size(told: dict[str, Any]) -> str:
    """Write rows × inner × columns of a product, from the shapes that come in and go out."""
    (*rows, inner), (*_, columns) = (
        (_shapes(told, side) or [[0]])[0] or [0] for side in ("input", "output")
    )
    return f"{math.prod(rows)}x{inner}x{columns}"


def outside(profile: dict[str, Any], original: dict[str, Any]) -> float:
    """Return the ms that a model spends outside MatMul, Gemm and Conv.

    An attention operator holds two products, and a packed one the three projections before them.
    What the two took in the original and no longer take beside the operator counts as inside, as
    does what such projections take in the original. The rest of the operator's time is outside.
    """
    within = max(0.0, original["attention_products_ms"] - profile["attention_products_ms"])
    for size, count in profile["packed"].items():
        rows, inner, columns = map(int, size.split("x"))
        alone, joined = (f"{rows}x{inner}x{columns * many}" for many in (1, 3))
        means = original["projections"]
        within += count * (means[joined] if joined in means else 3 * means.get(alone, 0.0))
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
