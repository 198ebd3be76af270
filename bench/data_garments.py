"""Makes inputs for the small net that was trained on Fashion-MNIST, out of a Debian package.

Calibration are training images, judged are all 10,000 test images, a hundred a feed.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import data_sources
import data_store
import numpy as np

TASK = "fashion_cnn"
CALIBRATION, _BATCH = 100, 100
_HEADER = {"images": 16, "labels": 8}


def make(quick: bool) -> None:
    """Write calibration and what is judged by."""
    images, labels = dataset("train")
    count = 10 if quick else CALIBRATION
    calibration = (({"image": images[i : i + 1]}, [int(labels[i])]) for i in range(count))
    data_store.write(TASK, "0", data_store.CALIBRATION, calibration)
    data_store.write(TASK, "0", "other", batches(3 if quick else 100))


def batches(count: int) -> Iterator[tuple[dict[str, np.ndarray], list[int]]]:
    """Yield test images with their labels."""
    images, labels = dataset("t10k")
    for start in range(0, count * _BATCH, _BATCH):
        part = slice(start, start + _BATCH)
        yield {"image": images[part]}, labels[part].tolist()


def dataset(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images [N, 1, 28, 28] in [0, 1] and labels [N] of `train` or `t10k`."""
    found = {}
    for name, content in data_sources.read_deb("fashion-mnist"):
        for kind, header in _HEADER.items():
            if f"{part}-{kind}" in name:
                found[kind] = np.frombuffer(gzip.decompress(content), np.uint8)[header:]
    images = found["images"].reshape(-1, 1, 28, 28).astype(np.float32) / 255
    return images, found["labels"]
