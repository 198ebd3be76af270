"""What `optimize` did, proved and measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from onnxopt.report.benchmark import Difference
from onnxopt.report.comparison import Comparison
from onnxopt.report.model import Profile
from onnxopt.report.plain import plain

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnxopt.report.pruning import PruneReport
    from onnxopt.report.quantization import QuantizeReport

StepStatus = Literal["kept", "rolled back", "refused", "unchanged"]
Decision = Literal["kept", "left out", "left out in part"]

ORIGINAL, RESULT = "original", "result"
"""What comparisons of speed call the model that was given and the one that was made of it."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One transaction of the pipeline: what was done (name to count) and what became of it."""

    name: str
    done: dict[str, int]
    nodes_before: int
    nodes_after: int
    seconds: float
    status: StepStatus = "kept"
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One question that was put to the clock, and what became of that which it was about.

    `what` is `RESULT` where the whole was held against the original; else a group of rules, a
    rule or a pass, and the result was held against the result without it. `predicted` is the
    ratio that the cost model (MACs and bytes moved) had promised; None where it was not asked.
    """

    what: str
    units: tuple[str, ...]
    difference: Difference
    decision: Decision
    predicted: float | None = None


@dataclass(frozen=True, kw_only=True)
class OptimizeReport:
    """What `optimize` did, proved and measured; true when every gate held.

    Where it went on to prune or to quantize, `pruned` and `quantized` tell of that, held against
    `input`; `output`, `difference` and `written` are of the result of all, the rest of what is
    exact.
    """

    SCHEMA: ClassVar[str] = "onnxopt.optimize/1"

    input: Profile
    output: Profile
    target: str
    steps: tuple[Step, ...]
    verification: Comparison | None
    difference: Difference | None
    dropped: dict[str, str]
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float
    peak_rss_bytes: int
    written: bool
    measurements: tuple[Measurement, ...] = ()
    pruned: PruneReport | None = None
    quantized: QuantizeReport | None = None
    model: ir.Model | None = field(default=None, repr=False, metadata={"json": False})

    def __bool__(self) -> bool:
        slower = self.difference is not None and self.difference.verdict == "slower"
        wrong = self.verification is not None and not self.verification.passed
        return not (slower or wrong) and all(self.chain())

    def chain(self) -> tuple[PruneReport | QuantizeReport, ...]:
        """Return the reports of what followed, in order."""
        return tuple(each for each in (self.pruned, self.quantized) if each is not None)

    def done(self) -> dict[str, int]:
        """Sum what the kept steps did: rule or pass to count."""
        total: dict[str, int] = {}
        for step in self.steps:
            if step.status == "kept":
                for name, count in step.done.items():
                    total[name] = total.get(name, 0) + count
        return total

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, documented in docs/reports.md."""
        return {"schema": self.SCHEMA, **plain(self)}
