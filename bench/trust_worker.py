"""Stands in for the process that measures, and tells sessions as fast as they can be told.

Speaks as `onnxopt.benchmarking.child.worker` does. Sessions have as many runs as `TRUST_RUNS` says,
and a process as many sessions as `TRUST_SESSIONS`; both are invented, so that ten million take
no hours.
"""

from __future__ import annotations

import json
import os
import random
import sys
from typing import Any

_VARIANTS = 64
_TYPICAL_NS = 1_000_000


def variants(runs: int, seed: int) -> list[str]:
    """Return lists of times as JSON, whose medians differ by some per cent."""
    rng = random.Random(seed)
    levels = [_TYPICAL_NS * rng.lognormvariate(0, 0.03) for _ in range(_VARIANTS)]
    return [
        json.dumps([int(level * rng.lognormvariate(0, 0.02)) for _ in range(runs)])
        for level in levels
    ]


def alone(key: str) -> dict[str, Any]:
    """Return what a process with a single model tells."""
    return {
        "event": "alone",
        "key": key,
        "load_ns": 5 * _TYPICAL_NS,
        "first_ns": 2 * _TYPICAL_NS,
        "assignments": [["node", "Relu", "CPUExecutionProvider"]],
        "peak_rss_bytes": 1 << 20,
        "device_bytes": None,
        "joules_per_run": None,
    }


def main() -> int:
    """Read the plan and tell what might have been measured."""
    plan = json.load(sys.stdin)
    print(json.dumps({"event": "ready"}))
    keys = [candidate["key"] for candidate in plan["candidates"]]
    for key in keys:
        start = json.dumps({"event": "begin", "key": key})
        if plan["alone"]:
            print(start, json.dumps(alone(key)), sep="\n")
            continue
        told = {"event": "session", "key": key, "load_ns": _TYPICAL_NS, "warm_ns": _TYPICAL_NS}
        open_ended = json.dumps(told)[:-1]
        times = variants(int(os.environ["TRUST_RUNS"]), plan["seed"])
        for session in range(int(os.environ["TRUST_SESSIONS"])):
            print(start)
            print(f'{open_ended}, "times_ns": {times[session % _VARIANTS]}}}')
    print(json.dumps({"event": "end"}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
