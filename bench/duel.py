"""Measures onnxopt's result against others: `duel.py SECONDS OWN OTHER…`, prints JSON.

All are loaded by onnxruntime at its default level, on one thread, and take turns in fresh
processes. For each OTHER the time of OTHER over that of OWN is printed: above 1, OWN is faster.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from onnxopt.benchmarking.feedfile import save_feed
from onnxopt.benchmarking.processes import Candidate
from onnxopt.benchmarking.setting import describe_difference
from onnxopt.benchmarking.stats import estimate
from onnxopt.benchmarking.turns import take_turns
from onnxopt.graph import io
from onnxopt.runtime.engine import open_engine
from onnxopt.runtime.feeds import make_batch

_PROCESSES = 5


def duel(seconds: float, own: str, others: list[str]) -> dict[str, Any]:
    """Return path of the other to the difference, None where one could not be measured."""
    with tempfile.TemporaryDirectory() as folder:
        feed = Path(folder) / "feed.npz"
        save_feed(feed, make_batch(io.load(own), runs=open_engine(own).run))
        sides = [
            Candidate(key=path, path=path, feed=str(feed), provider="cpu", threads=1)
            for path in (own, *others)
        ]
        times = take_turns(sides, seconds=seconds, processes=_PROCESSES).times
    found = {other: estimate(times[other], times[own]) for other in others}
    return {
        other: asdict(describe_difference(other, own, "cpu", difference)) if difference else None
        for other, difference in found.items()
    }


if __name__ == "__main__":
    print(json.dumps(duel(float(sys.argv[1]), sys.argv[2], sys.argv[3:])))
