"""Optimizes a model of 6.5 GB: how long that takes, in how much memory, and whether it is right.

`large.py BEFORE AFTER` runs both models on one input with onnxruntime, one after the other, and
prints how far apart the outputs are, as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import record
from process import run
from tools import TOOLS

GIGABYTES = 6.5
SHARES = {"half": 0.5, "every": 1.0}
"""How many of the layers have a weight that is rewritten."""

TIMEOUT = 1800.0
OWN = TOOLS["onnxopt portable"]


def measure(share: float, folder: Path) -> dict[str, Any]:
    """Generate a model, optimize it, run both, and clear away; return what was found."""
    folder.mkdir(parents=True, exist_ok=True)
    model, output, log = (folder / name for name in ("large.onnx", "small.onnx", "large.txt"))
    script = str(record.FOLDER / "generate_large.py")
    command = [str(OWN.python), script, str(GIGABYTES), str(share), str(model)]
    try:
        subprocess.run(command, check=True)
        load = os.getloadavg()
        found = run(OWN.command(model, output), log, TIMEOUT)
        told = {
            "date": time.strftime("%Y-%m-%d"),
            "load_average": load,
            "error": found.error,
            "seconds": round(found.seconds, 2),
            "cpu_seconds": round(found.cpu_seconds, 2),
            "peak_rss_bytes": found.peak_rss_bytes,
            "file_bytes": [size(path) for path in (model, output)],
        }
        if not found.error:
            told["verification"] = verify(model, output)
        return told
    finally:
        for path in folder.glob("*.onnx*"):
            path.unlink()


def size(model: Path) -> int:
    """Return the bytes of a model and of the data beside it."""
    return sum(path.stat().st_size for path in model.parent.glob(f"{model.name}*"))


def verify(model: Path, output: Path) -> dict[str, Any]:
    """Run both models in a process of its own and compare."""
    command = [str(OWN.python), __file__, str(model), str(output)]
    child = subprocess.run(command, capture_output=True, check=False, text=True)
    if child.returncode:
        return {"error": (child.stderr.strip().splitlines() or [f"exit {child.returncode}"])[-1]}
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return found


def compare(before: str, after: str) -> dict[str, Any]:
    """Run two models, one after the other, on two rows of noise; say how the outputs differ."""
    # Not above: what this module's importer holds would count as a child's memory.
    import numpy as np
    from generate_large import WIDTH

    from onnxopt.runtime.machine.memory import peak_rss_bytes
    from onnxopt.runtime.sessions.session import open_session

    rows = np.random.default_rng(1).standard_normal((2, WIDTH)).astype(np.float32)
    one, two = (open_session(path).run(None, {"input": rows})[0] for path in (before, after))
    noise = float(np.linalg.norm(one - two))
    return {
        "max_abs": float(np.abs(one).max()),
        "max_difference": float(np.abs(one - two).max()),
        "sqnr_db": round(20 * float(np.log10(np.linalg.norm(one) / noise)), 1) if noise else None,
        "peak_rss_bytes": peak_rss_bytes(),
    }


if __name__ == "__main__":
    print(json.dumps(compare(*sys.argv[1:])))
