"""Tries an execution provider with a session of one node, apart from this process if it may crash.

Run as a program (`python -m onnxopt.runtime.execution.probe PROVIDER FALLBACK…`) it prints one JSON
object.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from onnxopt.runtime.execution import interpreter
from onnxopt.runtime.sessions.session import assignments, cause, import_onnxruntime

# MatMul of x[2,2] with itself, opset 13: serialized here so that trying needs no onnx package.
_MODEL = base64.b64decode(
    "CAgSADpAChEKAXgKAXgSAXkiBk1hdE11bBIBZ1oTCgF4Eg4KDAgBEggKAggCCgIIAmITCgF5Eg4KDAgB"
    "EggKAggCCgIIAkIECgAQDQ=="
)
_SECONDS = 180
_ANSWER = '{"works"'  # libraries print to standard output too


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What trying a provider showed; `error` is all that it printed on its way."""

    works: bool
    error: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


def probe_here(ort_name: str, fallbacks: Sequence[str] = ()) -> Probe:
    """Run a model of one node on the provider; it works when it, and no other, took the node."""
    onnxruntime = import_onnxruntime()
    settings = onnxruntime.SessionOptions()
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        session = onnxruntime.InferenceSession(
            _MODEL, settings, providers=[ort_name, *fallbacks], enable_fallback=0
        )
        _run(session)
    except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no class but this
        return Probe(works=False, error=cause(error))
    if ort_name not in session.get_providers():
        return Probe(works=False)
    took = {provider for _, _, provider in assignments(session)}
    return Probe(
        works=not took or took == {ort_name}, details={"onnxruntime": str(onnxruntime.__version__)}
    )


def _run(session: Any) -> None:
    import numpy as np

    square = np.array([[1, 2], [3, 4]], np.float32)
    (product,) = session.run(None, {"x": square})
    if not np.allclose(product, square @ square):
        raise RuntimeError(f"a matrix product came out as {product.tolist()}")


@cache
def probe_apart(ort_name: str, fallbacks: tuple[str, ...] = ()) -> Probe:
    """Do what `probe_here` does in a fresh process, whose crash or silence becomes an error.

    The answer is remembered: a device does not come and go while a command runs.
    """
    command = interpreter.command("onnxopt.runtime.execution.probe", ort_name, *fallbacks)
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command,
            env=interpreter.environment(),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Probe(works=False, error=f"no answer within {_SECONDS} s")
    lines = [line for line in done.stdout.splitlines() if line.startswith(_ANSWER)]
    printed = " ".join(done.stderr.split())[-600:]
    if done.returncode != 0 or not lines:
        return Probe(works=False, error=printed or f"the process ended with {done.returncode}")
    answer = json.loads(lines[-1])
    error = "" if answer["works"] else answer["error"] or printed
    return Probe(works=answer["works"], error=error, details=answer["details"])


def main(arguments: Sequence[str]) -> int:
    """Try the provider named first, with the others to fall back on, and print what was found."""
    from onnxopt.runtime.execution.providers import preload

    ort_name, *fallbacks = arguments
    preload(ort_name, *fallbacks)
    found = probe_here(ort_name, fallbacks)
    answer = {"works": found.works, "error": found.error, "details": dict(found.details)}
    sys.stdout.write(f"\n{json.dumps(answer)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
