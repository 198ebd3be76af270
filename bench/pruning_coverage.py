"""Prunes every model that there is, to see that nothing crashes: its channels by 30 %.

The models are those that were trained, of the manifest and for this benchmark, and those that onnx
ships for testing backends. Each is pruned by the command, in a process of its own, and what it made
is looked at in another. As a script, in onnxopt's environment: `pruning_coverage.py` prints kind,
name and path of onnx's models, `pruning_coverage.py ORIGINAL RESULT` what is wrong with a result.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pruning_plan as plan
import record
from process import run
from quantization_plan import MAKERS, OWN
from tools import FOLDER

PRUNED, REFUSED, VAGUE, INVALID, CRASHED = "pruned", "refused", "vague", "invalid", "crashed"
STATUSES = (PRUNED, REFUSED, VAGUE, INVALID, CRASHED)
"""What becomes of a model, best first. Vague is a refusal that names neither operator nor tensor
of the model; that, what is invalid and what crashed are faults of onnxopt."""
KINDS = ("light", "simple", "pytorch-converted", "pytorch-operator")
_TIMEOUT = 900.0
_SHARE = "0.3"
_SAID = ("error:", "failed:")
_EMPTY = re.compile(r"\b(no|nothing|without|none)\b", re.IGNORECASE)
Verdict = dict[str, Any]


def cover(verdicts: dict[str, Verdict], save: Callable[[str], None], *, most: int | None) -> None:
    """Fill `verdicts` ('kind name' to verdict) with what is not there yet."""
    for kind, name, path in [*(("trained", *pair) for pair in plan.trained()), *shipped()][:most]:
        key = f"{kind} {name}"
        if key not in verdicts:
            verdicts[key] = prune(path, plan.WORK / "coverage" / key.replace(" ", "_"))
            told = verdicts[key].get("why", "")
            save(f"{key:60} {verdicts[key]['status']:8} {told[:100]}")
            shutil.rmtree(plan.WORK / "coverage" / key.replace(" ", "_"), ignore_errors=True)


def shipped() -> list[tuple[str, str, Path]]:
    """Return kind, name and path of the models that onnx ships."""
    command = [str(MAKERS[OWN].python), str(FOLDER / "pruning_coverage.py")]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [(kind, name, Path(path)) for kind, name, path in json.loads(found)]


def prune(model: Path, folder: Path) -> Verdict:
    """Prune a model by the command and say what became of it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    output, log = folder / "model.onnx", folder / "log.txt"
    python = str(MAKERS[OWN].python)
    command = [python, "-m", OWN, "prune", str(model), "-o", str(output), "--random-data"]
    command += ["--structure", "channel", "--sparsity", _SHARE, "--no-measure", "--anyway"]
    command += ["--json", str(folder / "report.json"), "--quiet"]
    found = record.timing([run(command, log, _TIMEOUT)])
    kept = {"seconds": found["median_seconds"], "peak_rss_bytes": found["peak_rss_bytes"]}
    said = log.read_text(encoding="utf-8", errors="replace")
    if output.exists() and not found["error"]:
        return look(model, output) | kept | gone(folder / "report.json")
    return refusal(said, found["error"], words_of(model)) | kept


def refusal(said: str, error: str | None, words: set[str]) -> Verdict:
    """Say whether the command refused in words that help, or broke."""
    line = next((line for line in said.splitlines() if line.startswith(_SAID)), None)
    if line is None or "Traceback" in said or "this is a fault of onnxopt" in said:
        return {"status": CRASHED, "why": (error or "it ended well but wrote no model")[:400]}
    named = words & spoken(said)
    status = REFUSED if named or _EMPTY.search(line) else VAGUE
    return {"status": status, "why": line.partition(":")[2].strip()[:400]}


def spoken(said: str) -> set[str]:
    """Return what may be a name in a message, C++'s qualified names also by their parts."""
    found = set(re.findall(r"[\w./:-]+", said))
    return found | {part for name in found for part in name.split("::")}


def gone(report: Path) -> Verdict:
    """Return how many units were there and are gone, where the report says so."""
    if not report.exists():
        return {}
    parts = json.loads(report.read_text(encoding="utf-8")).get("parts", [])
    before = sum(part["before"] for part in parts)
    return {"units": before, "gone": before - sum(part["after"] for part in parts)}


def look(original: Path, result: Path) -> Verdict:
    """Look at a result in a process of its own, which a broken model may take down."""
    command = [str(MAKERS[OWN].python), str(FOLDER / "pruning_coverage.py")]
    child = subprocess.run(
        [*command, str(original), str(result)], capture_output=True, check=False, text=True
    )
    if child.returncode:
        lines = child.stderr.strip().splitlines() or [f"exit code {child.returncode}"]
        return {"status": INVALID, "why": lines[-1][:400]}
    wrong = json.loads(child.stdout.splitlines()[-1])
    return {"status": INVALID, "why": "; ".join(wrong)} if wrong else {"status": PRUNED}


def words_of(model: Path) -> set[str]:
    """Return the operators and names of a model, read in a process of its own."""
    command = [str(MAKERS[OWN].python), str(FOLDER / "pruning_coverage.py"), str(model)]
    child = subprocess.run(command, capture_output=True, check=False, text=True)
    return set(json.loads(child.stdout.splitlines()[-1])) if not child.returncode else set()


def summary(verdicts: dict[str, Verdict]) -> dict[str, Counter[str]]:
    """Count by kind what became of the models."""
    found: dict[str, Counter[str]] = {}
    for key, verdict in verdicts.items():
        found.setdefault(key.split(" ")[0], Counter())[verdict["status"]] += 1
    return found


def _listed() -> list[tuple[str, str, str]]:
    import cases

    folder = cases.DATA
    return [
        (kind, name, str(folder / kind / (f"{name}.onnx" if kind == cases.LIGHT else path)))
        for kind in KINDS
        for name in cases.names(kind)
        for path in [Path(name) / "model.onnx"]
    ]


def _named(model: Path) -> list[str]:
    import examine
    import onnx

    found = set()
    for node in examine.nodes(onnx.load(model, load_external_data=False)):
        found |= {node.op_type, node.name, *node.input, *node.output}
    return sorted(found - {""})


def _faults(original: Path, result: Path) -> list[str]:
    """Say what is wrong with a result: whether it is valid, its signature, what running it gives.

    Other numbers are what pruning is for; only shapes are compared, and that it runs at all.
    """
    import examine
    import onnx

    from onnxopt.graph._onnx_ir import ir
    from onnxopt.runtime.comparing.compare import Reference
    from onnxopt.runtime.sessions.engine import open_engine

    if _is_valid(original):
        onnx.checker.check_model(str(result), full_check=True)
    before, after = (onnx.load(path, load_external_data=False) for path in (original, result))
    found = examine.differences(before, after)
    reference = Reference.invent(original, ir.load(original), count=1)
    if reference.unverified:
        return found
    names, (was, became) = (
        reference.names,
        (open_engine(path, optimize="all").run(reference.feeds[0]) for path in (original, result)),
    )
    for name, one, other in zip(names, was, became, strict=True):
        shapes = [getattr(value, "shape", None) for value in (one, other)]
        if shapes[0] != shapes[1]:
            found.append(f"output {name}: {shapes[0]} became {shapes[1]}")
    return found


def _is_valid(model: Path) -> bool:
    """Tell whether onnx itself has nothing to say against a model."""
    import onnx

    try:
        onnx.checker.check_model(str(model), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return True


def main(*paths: str) -> None:
    """List models, tell the words of one, or look at a result."""
    work: Callable[..., Any] = (_listed, _named, _faults)[len(paths)]
    print(json.dumps(work(*map(Path, paths))))


if __name__ == "__main__":
    main(*sys.argv[1:])
