"""Judges one pruned model: `pruning_judge.py REFERENCE MODEL DATA [--exam TASK] [--split 0]`.

Prints a line of JSON: shares of multiplications, parameters and zeros, whether signature and shapes
of the outputs are those of the reference, and the scores of `quantization_judge.py` on held-out
data where there is an exam. DATA is a folder of feeds; its first says how large inputs are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import data_store
import examine
import numpy as np
import onnx
import onnxruntime
import pruning_macs
import quantization_judge
from onnx import numpy_helper

EXAMS = quantization_judge.EXAMS


def described(reference: Path, model: Path, feed: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return what of a model is left, and what its callers would notice."""
    before, after = onnx.load(reference), onnx.load(model)
    counts = [(pruning_macs.macs(m, feed), pruning_macs.parameters(m)) for m in (before, after)]
    return {
        "macs": counts[1][0] / max(1, counts[0][0]),
        "parameters": counts[1][1] / max(1, counts[0][1]),
        "zeros": zeros(after),
        "file_bytes": model.stat().st_size,
        "signature": examine.differences(before, after),
        "shapes": shapes_differ(reference, model, feed),
    }


def zeros(model: onnx.ModelProto) -> float:
    """Return the share of zeros in the weights of products and convolutions."""
    held = pruning_macs.constants(model)
    names = {
        name
        for node in model.graph.node
        if node.op_type in pruning_macs.PRODUCTS
        for name in node.input[:2]
    }
    weights = [numpy_helper.to_array(held[name]) for name in names if name in held]
    total = sum(weight.size for weight in weights)
    return float(sum((weight == 0).sum() for weight in weights)) / max(1, total)


def shapes_differ(reference: Path, model: Path, feed: dict[str, np.ndarray]) -> list[str]:
    """Say which outputs have another shape than the reference's, or are not finite."""
    both = [_outputs(path, feed) for path in (reference, model)]
    found = []
    for name, was in both[0].items():
        became = both[1].get(name)
        if became is None or became.shape != was.shape:
            found.append(f"{name}: {was.shape} became {None if became is None else became.shape}")
        elif np.isfinite(was).all() and not np.isfinite(became).all():
            found.append(f"{name} is not finite")
    return found


def _outputs(model: Path, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    given = {value.name: feed[value.name] for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


@click.command()
@click.argument("reference", type=click.Path(exists=True, path_type=Path))
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--exam", type=click.Choice(list(EXAMS)), help="What it is judged by.")
@click.option("--split", default="0", show_default=True, help="One of the data's splits.")
@click.option("--most", type=int, help="At most so many samples of each part.")
def main(
    reference: Path, model: Path, data: Path, exam: str | None, split: str, most: int | None
) -> None:
    """Judge MODEL against REFERENCE."""
    feed = next(data_store.feeds(data, 1))
    found = described(reference, model, feed)
    if exam:
        found["scores"] = quantization_judge.judge(model, exam, split, most)
    click.echo(json.dumps(found))


if __name__ == "__main__":
    main()
