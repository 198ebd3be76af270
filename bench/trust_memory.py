"""Asks how much memory the parent of a benchmark takes for its samples, in a process of its own.

All is onnxopt's but the worker, which invents what it tells (`trust_worker`); the report is
rewritten after each process, as the command does it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import trust_loops

FOLDER = Path(__file__).resolve().parent


def keep(model: str, report: str, samples: int, runs: int) -> dict[str, Any]:
    """Take so many samples, `runs` to a session, and tell the most memory that this process had."""
    import onnxopt
    from onnxopt.benchmarking import processes
    from onnxopt.benchmarking.statistics.schedule import FEWEST_PROCESSES
    from onnxopt.render.json import chunks
    from onnxopt.runtime.machine.memory import peak_rss_bytes

    def write(found: Any) -> None:
        with Path(report).open("w", encoding="utf-8") as file:
            file.writelines(chunks(found))

    processes.WORKER = "trust_worker"
    sessions = max(1, samples // runs // FEWEST_PROCESSES)
    os.environ |= {
        "PYTHONPATH": str(FOLDER),
        "TRUST_RUNS": str(runs),
        "TRUST_SESSIONS": str(sessions),
    }
    # The invented sessions agree so well that the fewest processes are enough.
    found = onnxopt.benchmark(model, threads=[1], precision=0.2, max_time=3600, watch=write)
    write(found)
    (result,) = found.results
    if result.error:
        raise SystemExit(result.error)
    return {
        "samples": result.runs,
        "sessions": result.runs // runs,
        "peak_rss_bytes": peak_rss_bytes(),
        "report_bytes": Path(report).stat().st_size,
    }


if __name__ == "__main__":
    sys.exit(trust_loops.serve({"keep": keep}))
