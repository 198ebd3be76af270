"""Runs a model once over every feed of a folder: `quantization_plain.py MODEL DATA`.

What calibration is measured against: the samples read and the model run, by as many threads as
onnxruntime chooses, and nothing else.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import data_store
from quantization_judge import session

if __name__ == "__main__":
    loaded = session(Path(sys.argv[1]), threads=0)
    start = time.perf_counter()
    for feed in data_store.feeds(Path(sys.argv[2])):
        loaded.run(None, feed)
    print(json.dumps({"seconds": time.perf_counter() - start}))
