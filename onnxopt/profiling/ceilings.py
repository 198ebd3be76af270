"""Measures what this machine can do at most: one matrix product and one copy, as models.

They run on the provider and with the threads and options of the models that are held against
them, and are timed by the same trace: x·x of an ever larger square matrix until that gets no
faster, and -x of 128 MB (256 MB read and written) and of 2 MB.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path

from onnxopt.profiling.hotspots import run_child
from onnxopt.report import Ceiling, Setting


def ceiling(setting: Setting, *, options: Mapping[str, str], timeout: float) -> Ceiling:
    """Measure the ceiling of a provider in a process of its own, in about two seconds.

    NaN stands for what cannot be measured, because it failed, took more than `timeout` seconds,
    or the provider left the node to another.
    """
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
        product, copy = Path(folder, "product.onnx"), Path(folder, "copy.onnx")
        product.write_bytes(_model("MatMul", 2))
        copy.write_bytes(_model("Neg", 1))
        plan = {"ceiling": True, "product": str(product), "copy": str(copy)}
        found = run_child(plan, setting, options, timeout)
    gflops, gbs, cached = (
        float(found.get(name, math.nan)) for name in ("gflops", "gbs", "cached_gbs")
    )
    return Ceiling(
        provider=setting.provider,
        threads=setting.threads,
        gflops=gflops,
        gbs=gbs,
        cached_gbs=cached,
    )


def _model(op: str, rank: int) -> bytes:
    """Serialize a model of one node, whose only input of any size is each of its inputs."""
    from onnx import TensorProto, helper

    dims = [f"d{axis}" for axis in range(rank)]
    graph = helper.make_graph(
        [helper.make_node(op, ["x"] * rank, ["y"])],
        "ceiling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, dims)],
    )
    opsets = [helper.make_opsetid("", 17)]
    found: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return found
