"""Measures a model against another: `quantization_speed.py REFERENCE CANDIDATE SECONDS [DATA]`.

Prints the difference as JSON. Both run on the first feed of the folder DATA, or on one that is made
up; one thread, fresh sessions in fresh processes that take turns.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import data_store

from onnxopt.benchmarking.measure import ab


def main(reference: str, candidate: str, seconds: str, data: str | None = None) -> None:
    """Measure, and print the difference."""
    feeds = None if data is None else list(islice(data_store.feeds(Path(data)), 1))
    found = ab(reference, candidate, seconds=float(seconds), threads=1, feeds=feeds)
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main(*sys.argv[1:])
