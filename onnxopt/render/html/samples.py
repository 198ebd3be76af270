"""What plots show of the samples: one number a session, read once and never all together."""

from __future__ import annotations

import numpy as np

from onnxopt.report import BenchmarkResult


def levels(result: BenchmarkResult) -> list[np.ndarray]:
    """Return for each process one number a session: the median run in ms.

    Where throughput is what counts, it is samples per second of the whole session instead.
    """
    throughput = result.setting.metric == "throughput"
    size = (result.batch or 1) * 1e9
    found = []
    for process in result.processes:
        drawn = []
        for session in process["sessions"]:
            times = session["times_ns"]
            if not len(times):
                continue
            wall = session.get("wall_ns") if throughput else None
            drawn.append(size * len(times) / wall if wall else float(np.median(times)) / 1e6)
        found.append(np.array(drawn, float))
    return found
