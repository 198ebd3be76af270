"""Starts the processes that measure, listens to them, and survives whatever becomes of them."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO

from onnxopt.report import Setting
from onnxopt.runtime.execution import interpreter

WORKER = "onnxopt.benchmarking.child.worker"
_LAST_BYTES, _LAST_CHARACTERS = 10_000, 300
_STEP_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One model as a worker runs it, in one setting.

    `key` names it in events, `feed` is a file of `save_feed`. Candidates of one `block` take
    turns with each other, `rounds` times two sessions each. `runs` is how many steady runs a
    session has; None lets the worker choose by time.
    """

    key: str
    path: str
    feed: str
    setting: Setting
    block: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    rounds: int = 1
    runs: int | None = None


def measure_alone(candidate: Candidate, *, timeout: float) -> Iterator[dict[str, Any]]:
    """Run one model in a process of its own; yield the events that `worker` describes.

    A process that crashes, or is silent for `timeout` seconds, ends with a `failed` event.
    """
    return listen(WORKER, {"alone": True, "candidates": [asdict(candidate)]}, timeout)


def measure_turns(
    candidates: Sequence[Candidate], *, seconds: float, seed: int, timeout: float
) -> Iterator[dict[str, Any]]:
    """Run models in turns in one fresh process, until `seconds` are over; yield its events.

    The first round is always made.
    """
    plan = {
        "alone": False,
        "candidates": [asdict(candidate) for candidate in candidates],
        "seconds": seconds,
        "seed": seed,
    }
    return listen(WORKER, plan, timeout)


def listen(module: str, plan: Mapping[str, Any], timeout: float) -> Iterator[dict[str, Any]]:
    """Run a module of ours as a program with `plan` as JSON on its standard input; yield events.

    An event is a line of JSON that begins with the key `event`. `begin` tells whom to blame for
    what follows, `end` ends it; neither is yielded. A process that ends otherwise, or is silent
    for `timeout` seconds, gives a `failed` event with the `key` of the blamed, `message`, and
    `fatal`.
    """
    with tempfile.TemporaryFile() as errors:
        process = _start(module, errors)
        blamed = ""
        try:
            _send(process, plan)
            for event in _events(process, timeout):
                if event["event"] == "end":
                    return
                if event["event"] == "begin":
                    blamed = event["key"]
                elif event["event"] == "silent":
                    told = f"gave no answer for {timeout:g} s and was stopped"
                    yield _failed(blamed, f"{told}; --timeout gives it longer")
                    return
                else:
                    yield event
            yield _failed(blamed, _last_words(process, errors))
        finally:
            process.kill()
            process.wait()


def _start(module: str, errors: BinaryIO) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - our own module
        interpreter.command(module),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        encoding="utf-8",
        errors="replace",
        env=interpreter.environment(),
    )


def _send(process: subprocess.Popen[str], plan: Mapping[str, Any]) -> None:
    assert process.stdin is not None
    try:
        json.dump(plan, process.stdin)
        process.stdin.close()
    except BrokenPipeError:
        pass  # it died before it could listen: its last words tell why


def _events(process: subprocess.Popen[str], timeout: float) -> Iterator[dict[str, Any]]:
    """Yield what the process prints; one `silent` event when nothing comes for `timeout` s."""
    lines: queue.Queue[str | None] = queue.Queue(maxsize=100)

    def read() -> None:
        assert process.stdout is not None
        with process.stdout as printed:
            for line in printed:
                lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    waited = 0.0
    while True:
        # In steps: what passes while both are stopped (Ctrl-Z) is at most one of them.
        step = min(_STEP_SECONDS, timeout - waited)
        try:
            line = lines.get(timeout=step)
        except queue.Empty:
            waited += step
            if waited < timeout:
                continue
            yield {"event": "silent"}
            return
        waited = 0.0
        if line is None:
            return
        event = _event(line)
        if event is not None:
            yield event


def _event(line: str) -> dict[str, Any] | None:
    """Read an event; None for what libraries print, and where a process died within a line."""
    if not line.startswith('{"event"'):
        return None
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return found


def _failed(key: str, message: str) -> dict[str, Any]:
    return {"event": "failed", "key": key, "message": message, "fatal": True}


def _last_words(process: subprocess.Popen[str], errors: BinaryIO) -> str:
    code = process.wait()
    printed = _last_printed(errors)
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        out_of_memory = " (out of memory?)" if name == "SIGKILL" else ""
        return f"crashed the process with {name}{out_of_memory} {printed}".strip()
    return f"ended the process with code {code}: {printed or 'it said nothing'}"


def _last_printed(errors: BinaryIO) -> str:
    """Return the end of what was printed; of a traceback the error, which its last lines are."""
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - _LAST_BYTES))
    text = errors.read().decode(errors="replace")
    _, trace, lines = text.rpartition("Traceback (most recent call last):")
    if trace:
        said = [line for line in lines.splitlines() if line[:1] not in {"", " "}]
        text = " ".join(said) or lines
    return " ".join(text.split())[-_LAST_CHARACTERS:]
