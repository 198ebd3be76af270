"""Runs one of onnxsim's pruners in its environment: `pruning_peer.py RECIPE MODEL DATA OUTPUT HOW`.

DATA is a folder of `.npz`, one feed each. HOW is `sparsity=0.5`, which the pruner is given as it
is, or `macs=0.7`: the least sparsity at which at most that share of the model's multiplications is
left, found by bisection. The model is simplified first, as its documentation shows. A pruner that
leaves every weight as it was is an error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxsim
import pruning_macs
from onnx import numpy_helper

Feed = dict[str, np.ndarray]
Recipe = Callable[[onnx.ModelProto, Sequence[Feed], float], onnx.ModelProto]
_HALVINGS = 7


def _given(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy: some pruners change what they are given."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def plain(
    model: onnx.ModelProto, _: Sequence[Feed], share: float, *, pruner: str, **options: Any
) -> onnx.ModelProto:
    """Prune without data."""
    found: onnx.ModelProto = getattr(onnxsim, pruner)(_given(model), sparsity=share, **options)
    return found


def calibrated(
    model: onnx.ModelProto, feeds: Sequence[Feed], share: float, *, pruner: str, **options: Any
) -> onnx.ModelProto:
    """Prune by what the activations of the samples are."""
    found: onnx.ModelProto = getattr(onnxsim, pruner)(
        _given(model), calibration_data=feeds, sparsity=share, **options
    )
    return found


def finetuned(
    model: onnx.ModelProto, feeds: Sequence[Feed], share: float, *, first: Recipe
) -> onnx.ModelProto:
    """Prune, then fit what is left of its MatMul and Gemm layers to the model's activations."""
    pruned = first(model, feeds, share)
    found: onnx.ModelProto = onnxsim.apply_pruning_finetune(
        _given(model), pruned, calibration_data=feeds
    )
    return found


_CHANNELS, _WANDA = "apply_structured_pruning", "apply_structured_wanda_pruning"
_TWO_OF_FOUR: dict[str, Any] = {"n": 2, "m": 4}
_L2 = partial(plain, pruner=_CHANNELS)
RECIPES: dict[str, Recipe] = {
    "onnxsim l2": _L2,
    "onnxsim l1": partial(plain, pruner=_CHANNELS, importance_norm="l1"),
    "onnxsim l2 global": partial(plain, pruner=_CHANNELS, global_sparsity=True),
    "onnxsim wanda": partial(calibrated, pruner=_WANDA),
    "onnxsim l2 finetuned": partial(finetuned, first=_L2),
    "onnxsim heads": partial(plain, pruner="apply_attention_head_pruning"),
    "onnxsim blocks": partial(calibrated, pruner="apply_transformer_block_pruning"),
    "onnxsim magnitude 2:4": partial(plain, pruner="apply_magnitude_pruning", **_TWO_OF_FOUR),
    "onnxsim wanda 2:4": partial(calibrated, pruner="apply_wanda_pruning", **_TWO_OF_FOUR),
    "onnxsim sparsegpt 2:4": partial(calibrated, pruner="apply_sparsegpt_pruning", **_TWO_OF_FOUR),
    "onnxsim magnitude": partial(plain, pruner="apply_magnitude_pruning"),
    "onnxsim sparsegpt": partial(calibrated, pruner="apply_sparsegpt_pruning"),
}


def prune(
    recipe: Recipe, model: onnx.ModelProto, feeds: Sequence[Feed], how: str
) -> onnx.ModelProto:
    """Prune by so much; raises ValueError where nothing of the model changed or enough cannot."""
    kind, _, number = how.partition("=")
    found = (
        recipe(model, feeds, float(number))
        if kind == "sparsity"
        else at_macs(recipe, model, feeds, float(number))
    )
    if _kept(found) == _kept(model):
        raise ValueError("it left every weight as it was")
    return found


def at_macs(
    recipe: Recipe, model: onnx.ModelProto, feeds: Sequence[Feed], share: float
) -> onnx.ModelProto:
    """Return what the least sparsity gives that leaves at most `share` of the multiplications."""
    most = share * pruning_macs.macs(model, feeds[0])
    low, high, best = 0.0, 1.0, None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = recipe(model, feeds, middle)
        if pruning_macs.macs(found, feeds[0]) <= most:
            high, best = middle, found
        else:
            low = middle
    if best is None:
        raise ValueError(f"no sparsity leaves {share:.0%} of the multiplications")
    return best


def _kept(model: onnx.ModelProto) -> int:
    """Return how many numbers of the weights are not zero, biases and scalars aside."""
    weights = map(numpy_helper.to_array, pruning_macs.constants(model).values())
    return sum(int(np.count_nonzero(weight)) for weight in weights if weight.ndim > 1)


def main(recipe: str, model: str, data: str, output: str, how: str) -> None:
    """Prune a file into another."""
    simplified, _ = onnxsim.simplify(model)
    feeds = []
    for path in sorted(Path(data).glob("*.npz")):
        with np.load(path) as archive:
            feeds.append({name: archive[name] for name in archive.files})
    onnx.save(prune(RECIPES[recipe], simplified, feeds, how), output)


if __name__ == "__main__":
    main(*sys.argv[1:])
