"""Makes up samples for a model that only its speed is asked of: `data_random.py MODEL TASK [20]`.

Pictures are noise, tokens are drawn evenly, masks hide nothing. Sizes that are free become those
of the published model: one sample, 128 tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import data_store
import numpy as np
import onnxruntime

SAMPLES = 20
_TOKENS, _VOCABULARY = 128, 1000


def samples(model: str, count: int) -> Iterator[tuple[dict[str, np.ndarray], None]]:
    """Yield feeds for the inputs of a model."""
    rng = np.random.default_rng(0)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for _ in range(count):
        yield {given.name: _array(given, rng) for given in session.get_inputs()}, None


def _array(given: Any, rng: np.random.Generator) -> np.ndarray:
    shape = [
        size if isinstance(size, int) else (1 if axis == 0 else _TOKENS)
        for axis, size in enumerate(given.shape)
    ]
    if given.type == "tensor(float)":
        return rng.normal(0, 1, shape).astype(np.float32)
    if "mask" in given.name:
        return np.ones(shape, np.int64)
    return rng.integers(0, 2 if "type" in given.name else _VOCABULARY, shape)


if __name__ == "__main__":
    wanted = int(sys.argv[3]) if len(sys.argv) > 3 else SAMPLES
    data_store.write(sys.argv[2], "0", data_store.CALIBRATION, samples(sys.argv[1], wanted))
