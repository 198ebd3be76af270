"""Says in one sentence what ran elsewhere than was asked, and why, where onnxruntime tells.

onnxruntime says why only in its log, while it divides the graph: the CUDA provider that it has no
kernel for a node, or none for its attributes (cuda_execution_provider.cc, `GetCapability`); a
heuristic that it moved a node to the CPU, mostly arithmetic on shapes (fallback_cpu_capability.cc);
TensorRT's parser that it cannot import an operator (onnx-tensorrt, ModelImporter.cpp). Run as a
program (`python -m onnxopt.runtime.execution.fallback`) this module loads a model and prints that
log.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from onnxopt.errors import OnnxOptError
from onnxopt.runtime.execution import interpreter
from onnxopt.runtime.execution.providers import find_provider, known_as, short_name
from onnxopt.runtime.sessions.session import import_onnxruntime
from onnxopt.text import plural

Assignment = tuple[str, str, str]

_SHOWN = 4
_INFO = 1
_NO_KERNEL = "no kernel for it at this operator set and these types"
_FASTER = "onnxruntime finds it faster there"
_NO_IMPORT = "TensorRT does not import it"
# What the log says of a node by name, and of an operator.
_OF_NODES = {
    r"CUDA kernel not found in registries for Op type: \S+ node name: (.*)": _NO_KERNEL,
    r"CUDA kernel not supported\. Fallback to CPU execution provider for Op type: \S+ node name: "
    r"(.*)": "the kernel does not do these attributes or types",
    r"Force fallback to CPU execution for node: (.*?)(?: because .*)?$": _FASTER,
}
_OF_OPERATORS = {
    r"No importer registered for op: (\w+)": _NO_IMPORT,
    r"could not find plugin:? (\w+) version": _NO_IMPORT,
    r"While parsing node number \d+ \[(\w+)": _NO_IMPORT,
}
# TensorRT's own words for why, on the lines that follow the operator's name.
_ASSERTION = re.compile(
    r"While parsing node number \d+ \[(\w+)(?:(?!While parsing).){0,2000}?"
    r'Assertion failed: [^"\n]*"([^"\n]+)"',
    re.DOTALL,
)


def explain(asked: str, assignments: Sequence[Assignment], log: str = "") -> str:
    """Return a sentence on the nodes that did not run on `asked`; empty where all did.

    `asked` is our name of a provider or onnxruntime's, `assignments` are (node, operator,
    onnxruntime's name of the provider that took it), `log` is what `log_of` returns.
    """
    wanted = known_as(asked)
    elsewhere = [each for each in assignments if short_name(each[2]) != wanted]
    if not elsewhere:
        return ""
    reasons = _reasons(elsewhere, log)
    providers = Counter(short_name(provider) for _, _, provider in elsewhere)
    parts = [
        f"{_count(number, len(providers))}on {name}: "
        + _operators([each for each in elsewhere if short_name(each[2]) == name], reasons)
        for name, number in providers.most_common()
    ]
    total = plural(len(assignments), "node")
    if len(elsewhere) == len(assignments):
        return f"none of {total} ran on {wanted}, but {'; '.join(parts)}"
    return f"{len(elsewhere):,} of {total} did not run on {wanted}, but {'; '.join(parts)}"


def _count(number: int, providers: int) -> str:
    return f"{number:,} " if providers > 1 else ""


def _operators(nodes: Sequence[Assignment], reasons: Mapping[Assignment, str]) -> str:
    """Name operators, the most frequent first, each reason once behind those that it holds for."""
    by_reason: dict[str, Counter[str]] = {}
    for node in nodes:
        by_reason.setdefault(reasons.get(node, ""), Counter())[node[1]] += 1
    left, told = _SHOWN, []
    for reason, operators in sorted(by_reason.items(), key=lambda item: -item[1].total()):
        shown = operators.most_common(left)
        left -= len(shown)
        if shown:
            names = ", ".join(op if times == 1 else f"{op} ×{times}" for op, times in shown)
            told.append(f"{names} ({reason})" if reason else names)
    hidden = len({operator for _, operator, _ in nodes}) - _SHOWN
    return ", ".join(told) + (f" and {plural(hidden, 'other operator')}" if hidden > 0 else "")


def _reasons(nodes: Sequence[Assignment], log: str) -> dict[Assignment, str]:
    """Return why nodes went elsewhere, where the log tells."""
    by_node = {
        name.strip(): reason
        for pattern, reason in _OF_NODES.items()
        for name in re.findall(pattern, log, re.MULTILINE)
    }
    by_operator = {
        operator: reason
        for pattern, reason in _OF_OPERATORS.items()
        for operator in re.findall(pattern, log)
    }
    by_operator.update({op: f"TensorRT: {words.strip()}" for op, words in _ASSERTION.findall(log)})
    told = {node: by_node.get(node[0]) or by_operator.get(node[1], "") for node in nodes}
    return {node: reason for node, reason in told.items() if reason}


def log_of(
    model: Path | str,
    *,
    provider: str,
    options: Mapping[str, str] | None = None,
    timeout: float = 120.0,
) -> str:
    """Load a model once more, in a process of its own, and return what onnxruntime says of it.

    Empty where that fails or takes longer than `timeout` seconds: whoever asks has loaded the
    model before, and knows why.
    """
    task = json.dumps({"model": str(model), "provider": provider, "options": dict(options or {})})
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            interpreter.command("onnxopt.runtime.execution.fallback"),
            env=interpreter.environment(),
            input=task,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stderr if done.returncode == 0 else ""


def main() -> int:
    """Load the model of the task on standard input; the log goes to standard error."""
    task = json.load(sys.stdin)
    onnxruntime = import_onnxruntime()
    onnxruntime.set_default_logger_severity(_INFO)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _INFO
    wanted = find_provider(task["provider"])
    options = {**wanted.options, **task["options"]}
    if wanted.name == "tensorrt":  # else its parser is silent but for errors
        options["trt_detailed_build_log"] = "1"
    chain = [(wanted.ort_name, options), *wanted.fallbacks]
    onnxruntime.InferenceSession(task["model"], settings, providers=chain, enable_fallback=0)
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except OnnxOptError:
        raise SystemExit(1) from None
