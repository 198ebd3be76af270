"""What `prune` did: what was taken out and why, what that costs in accuracy, what it gains."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from onnxopt.report.benchmark import Caution, Difference
from onnxopt.report.comparison import Comparison
from onnxopt.report.model import Profile
from onnxopt.report.optimization import Step
from onnxopt.report.plain import plain
from onnxopt.report.quantization import Calibration, Gate, OutputQuality, Score

if TYPE_CHECKING:
    import onnx_ir as ir

PruneStatus = Literal["pruned", "masked", "refused"]
"""`masked`: the decision was kept beside an unchanged model. `refused`: a gate did not hold, or
nothing could be taken out."""


@dataclass(frozen=True, kw_only=True)
class PrunedPart:
    """One group of channels, weight, block or factored layer: what was there and what is left.

    `name` is that of its tensor, weight or block, `nodes` those whose weights changed. `before` and
    `after` count `unit`s: channels, heads, elements, blocks, ranks. `reason` says in words why so
    many. `lost_db` is the SQNR of the layers that read it, after the refit, on held-out samples.
    Times are those of its nodes, measured or predicted; None where they are not known.
    """

    name: str
    nodes: tuple[str, ...]
    unit: str
    before: int
    after: int
    reason: str = ""
    lost_db: float | None = None
    macs_before: int | None = None
    macs_after: int | None = None
    ms_before: float | None = None
    ms_after: float | None = None


@dataclass(frozen=True, kw_only=True)
class FrozenPart:
    """What could not be taken out: its tensor, and the node and reason that kept it."""

    tensor: str
    node: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class PrunePoint:
    """One choice of how much goes: shares of the model's MACs, parameters and time that are left.

    `sqnr_db` is on held-out samples, over all outputs. `predicted` is the share of time by measured
    costs, `difference` the measured ratio (above 1: faster than the model).
    """

    name: str
    macs: float
    parameters: float
    sqnr_db: float | None = None
    predicted: float | None = None
    difference: Difference | None = None
    metric: float | None = None
    chosen: bool = False


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """Another way that was tried, and what it came to at the same cost: which structure won.

    `share` is what is left of the cost that they were compared by: time, where `difference` is
    known of each and one saves some, else `macs`.
    """

    name: str
    sqnr_db: float
    share: float
    kept: bool
    reason: str = ""
    macs: float | None = None
    difference: Difference | None = None


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What gradient steps through all layers came to, on samples that were put aside.

    `before` and `passes`, the error in front of the first pass and after each, are sums over what
    was learned of E[(t - s)²] / Var[t], t of the model that was given. `kept` is the pass that was
    kept, counted from 1; 0 where none gained anything. `reason` says why nothing could learn.
    """

    before: float | None = None
    passes: tuple[float, ...] = ()
    kept: int = 0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class PruneReport:
    """What `prune` did, proved and measured; true unless a gate failed.

    `sparsity` is the share of weights that are zero or gone. `verification` holds the result
    against the model that was given, on held-out samples. `front` is sorted from accurate to fast.
    `reason` says why a model was refused.
    """

    SCHEMA: ClassVar[str] = "onnxopt.prune/1"

    input: Profile
    output: Profile
    target: str
    structure: str
    status: PruneStatus
    reason: str
    written: bool
    seconds: float
    peak_rss_bytes: int
    sparsity: float = 0.0
    importance: str = ""
    solver: str = ""
    ridge: float | None = None
    learned: Learned | None = None
    calibration: Calibration | None = None
    steps: tuple[Step, ...] = ()
    verification: Comparison | None = None
    quality: tuple[OutputQuality, ...] = ()
    score: Score | None = None
    difference: Difference | None = None
    gates: tuple[Gate, ...] = ()
    parts: tuple[PrunedPart, ...] = ()
    frozen: tuple[FrozenPart, ...] = ()
    front: tuple[PrunePoint, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    masks: str | None = None
    warnings: tuple[Caution, ...] = ()
    model: ir.Model | None = field(default=None, repr=False, metadata={"json": False})

    def __bool__(self) -> bool:
        return self.status != "refused" and all(gate.passed for gate in self.gates)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, documented in docs/reports.md."""
        return {"schema": self.SCHEMA, **plain(self)}
