"""What only a process that holds one model can tell: loading, first run, placement, memory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from onnxopt.benchmarking.processes import Candidate, measure_alone
from onnxopt.report import Setting
from onnxopt.runtime.execution.fallback import explain, log_of

_LONG_SECONDS = 10.0
TIMES = 3
"""How many processes a model is loaded in, alone; where there are many settings, fewer."""


@dataclass(frozen=True, kw_only=True)
class Alone:
    """One model alone, in one setting: medians over processes, and the largest peak of memory.

    `build_ms` is what the first load took longer than the others; `placement` is how many
    nodes each provider took, by onnxruntime's names, the most first, and `fallback` a sentence on
    those that the provider asked for did not take. With `error` nothing else is known.
    """

    load_ms: float = float("nan")
    first_run_ms: float = float("nan")
    build_ms: float | None = None
    placement: Mapping[str, int] = field(default_factory=dict)
    fallback: str = ""
    peak_rss_bytes: int = 0
    device_bytes: int | None = None
    joules_per_run: float | None = None
    error: str = ""


def without_traffic(setting: Setting) -> Setting:
    """Return the setting of which a model that is alone knows: traffic makes no difference."""
    return replace(setting, callers=1, rate=None)


def observe(candidate: Candidate, *, times: int, builds: bool, timeout: float) -> Alone:
    """Run a model in `times` processes of its own; `builds` says that the first load may build.

    Where one takes long there are fewer: two where the first may build, else one.
    """
    seen: list[Mapping[str, Any]] = []
    begun = time.perf_counter()
    for _ in range(times):
        if len(seen) > builds and time.perf_counter() - begun > _LONG_SECONDS:
            break
        for event in measure_alone(candidate, timeout=timeout):
            if event["event"] == "failed":
                return Alone(error=event["message"])
            if event["event"] == "alone":
                seen.append(event)
    loads: Sequence[int] = [event["load_ns"] for event in seen]
    later = loads[1:] or loads
    assignments = [tuple(each) for each in seen[0]["assignments"]]
    return Alone(
        load_ms=median(later if builds else loads) / 1e6,
        first_run_ms=median(event["first_ns"] for event in seen) / 1e6,
        build_ms=max(0.0, loads[0] - median(later)) / 1e6 if builds and len(loads) > 1 else None,
        placement=dict(Counter(taker for _, _, taker in assignments).most_common()),
        fallback=_fallback(candidate, assignments, timeout),
        peak_rss_bytes=max(event["peak_rss_bytes"] for event in seen),
        device_bytes=max(
            (event["device_bytes"] for event in seen if event["device_bytes"] is not None),
            default=None,
        ),
        joules_per_run=seen[-1]["joules_per_run"],
    )


def _fallback(
    candidate: Candidate, assignments: Sequence[tuple[str, str, str]], timeout: float
) -> str:
    """Say which nodes ran elsewhere, and why where onnxruntime's log tells."""
    provider = candidate.setting.provider
    if not explain(provider, assignments):
        return ""
    log = log_of(candidate.path, provider=provider, options=candidate.options, timeout=timeout)
    return explain(provider, assignments, log)
