"""Makes what pruning is calibrated with on Fashion-MNIST: 4,000 training images, one a feed.

Judged are all test images, as in `data_garments.py`; both nets take the same.
"""

from __future__ import annotations

import data_garments
import data_store

TASK = "fashion_residual"
CALIBRATION = 4000


def make(quick: bool) -> None:
    """Write calibration and what is judged by."""
    images, labels = data_garments.dataset("train")
    count = 20 if quick else CALIBRATION
    calibration = (({"image": images[i : i + 1]}, [int(labels[i])]) for i in range(count))
    data_store.write(TASK, "0", data_store.CALIBRATION, calibration)
    data_store.write(TASK, "0", "other", data_garments.batches(3 if quick else 100))
