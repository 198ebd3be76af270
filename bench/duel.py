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

from onnxopt.benchmarking.child.feedfile import save_feed
from onnxopt.benchmarking.contest import Block, Contest
from onnxopt.benchmarking.processes import Candidate
from onnxopt.benchmarking.statistics.samples import Samples
from onnxopt.benchmarking.statistics.stats import estimate
from onnxopt.graph import io
from onnxopt.report import Setting
from onnxopt.runtime.feeding.feeds import make_batch
from onnxopt.runtime.sessions.engine import open_engine

_SETTING = Setting(threads=1)
_PRECISION = 0.01


def duel(seconds: float, own: str, others: list[str]) -> dict[str, Any]:
    """Return path of the other to the difference, None where one could not be measured."""
    with tempfile.TemporaryDirectory() as folder:
        feed = Path(folder) / "feed.npz"
        save_feed(feed, make_batch(io.load(own), runs=open_engine(own).run))
        sides = [
            Candidate(key=path, path=path, feed=str(feed), setting=_SETTING)
            for path in (own, *others)
        ]
        block = Block(candidates=sides, samples={path: Samples() for path in (own, *others)})
        Contest(blocks=[block], precision=_PRECISION, max_time=seconds).run()
    if own not in block.samples:
        return dict.fromkeys(others)
    levels = {path: samples.levels for path, samples in block.samples.items()}
    found = {other: estimate(levels[other], levels[own]) for other in others if other in levels}
    return {
        other: asdict(difference.difference(other, own, _SETTING))
        if (difference := found.get(other))
        else None
        for other in others
    }


if __name__ == "__main__":
    print(json.dumps(duel(float(sys.argv[1]), sys.argv[2], sys.argv[3:])))
