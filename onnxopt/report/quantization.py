"""What `quantize` did: what became int8 and why, what that costs in accuracy, what it gains."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from onnxopt.report.benchmark import Caution, Difference, Interval
from onnxopt.report.comparison import Comparison
from onnxopt.report.model import Profile
from onnxopt.report.optimization import Measurement, Step, StepStatus
from onnxopt.report.plain import plain

if TYPE_CHECKING:
    import onnx_ir as ir

QuantizeStatus = Literal["quantized", "untouched", "refused"]
"""`untouched`: the model was quantized already. `refused`: no int8 model held every gate."""
Role = Literal["activation", "weight", "bias"]
Became = Literal["int8", "float"]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The data that ranges were taken from, and what taking them cost.

    `source` is a path as `--calibration` takes it, `given` for feeds from Python, or `random`.
    `held_out` are samples that no range and no repair has seen; every error in the report is of
    those. `peak_bytes` is what the statistics themselves took at most.
    """

    source: str
    samples: int
    held_out: int
    method: str
    passes: int = 1
    seconds: float = 0.0
    peak_bytes: int | None = None
    statistics: str | None = None

    @property
    def random(self) -> bool:
        """Whether the samples were made up: then ranges and errors mean little."""
        return self.source == "random"


@dataclass(frozen=True, kw_only=True)
class QuantizedTensor:
    """What became of one tensor.

    `scale` is the least and the greatest over `channels`; `zero_point` is None where channels
    differ. `low` and `high` are what was seen in calibration. `clipped` is the share of elements
    beyond the range, `sqnr_db` what rounding and clipping do to the tensor itself. `shared_with`
    are the others that have the same scale.
    """

    name: str
    role: Role
    dtype: str
    scale: Interval
    zero_point: int | None
    low: float
    high: float
    sqnr_db: float | None = None
    channels: int = 1
    clipped: float = 0.0
    method: str = ""
    shared_with: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PairSums:
    """Pairs of products that a kernel adds in 16 bits, of all `rows` (output channels).

    `overflowing` could go beyond 16 bits as the weights were rounded, `remaining` still can;
    `rows_mended` are the rows in which anything was changed.
    """

    rows: int
    pairs: int
    overflowing: int
    remaining: int
    rows_mended: int


@dataclass(frozen=True, kw_only=True)
class Region:
    """Nodes that become int8 together or not at all, and why they did or did not.

    `reason` is in words: `loses 3.2 dB of the output`. `sqnr_db` is that of the model's outputs
    with nothing but this region in int8. Times are measured on this machine, conversions at its
    borders included in `int8_ms`; None where they were not.
    """

    name: str
    op: str
    nodes: tuple[str, ...]
    became: Became
    reason: str
    int8_ms: float | None = None
    float_ms: float | None = None
    sqnr_db: float | None = None
    macs: int | None = None
    pair_sums: PairSums | None = None


@dataclass(frozen=True, kw_only=True)
class Repair:
    """One attempt to gain accuracy: SQNR on held-out samples before and after, and its fate.

    `done` counts what was changed: kind of place to number.
    """

    name: str
    status: StepStatus
    sqnr_before_db: float
    sqnr_after_db: float
    seconds: float
    done: dict[str, int] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Saturation:
    """Whether kernels of an instruction set add two products in 16 bits, and what was done.

    `probe` says in words what the installed onnxruntime did when it was tried; empty where it
    could not be. `total` sums up the regions that became int8; None where nothing can overflow.
    """

    isa: str
    adds_in_16_bits: bool
    total: PairSums | None = None
    probe: str = ""


@dataclass(frozen=True, kw_only=True)
class FrontPoint:
    """One choice of regions: how accurate it is and how fast.

    `trade` is the price of error in the cut that found it. `predicted` is the ratio of float time
    to its time by the measured costs of regions (above 1: faster than float); `difference` is the
    measured one, where the model was built. `sqnr_db` is on held-out samples, over all outputs. A
    point without int8 regions is the float model as it was optimized: what int8 has to beat.
    """

    name: str
    int8_regions: int
    sqnr_db: float
    predicted: float | None = None
    difference: Difference | None = None
    metric: float | None = None
    trade: float | None = None
    chosen: bool = False

    @property
    def ratio(self) -> float | None:
        """Speed against float: measured, else predicted."""
        return self.predicted if self.difference is None else self.difference.ratio


@dataclass(frozen=True, kw_only=True)
class OutputQuality:
    """What held-out samples say of one output, beyond what `verification` has.

    `sqnr_p5_db` is the 5th percentile over samples: 95 of 100 are better. For outputs that look
    like classes, `agreement` is the share of samples with the same largest element as float, and
    `sure_agreement` that of the `sure` ones, whose margin in float is above a half (of 1, after a
    softmax); else None.
    """

    name: str
    samples: int
    sqnr_p5_db: float
    worst_sample: int | None = None
    agreement: float | None = None
    sure: int | None = None
    sure_agreement: float | None = None


@dataclass(frozen=True, kw_only=True)
class Score:
    """The user's own measure of accuracy, higher is better: of float and of the result."""

    function: str
    float_score: float
    int8_score: float | None
    max_drop: float | None = None


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """One Q/DQ pair or converted weight, as the target loads it.

    `kernel` is what it was fused into, empty where it is left over, and then `reason` says why.
    A `fault` costs time at every run, such as a weight that is dequantized each time.
    """

    node: str
    tensor: str
    kernel: str = ""
    reason: str = ""
    fault: bool = False


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Every Q/DQ pair of the result, accounted for by `engine`.

    `kernels` counts the int8 kernels that run; `fused` and `left_over` count pairs. `reason` says
    why nothing was looked at, where the target cannot run here.
    """

    engine: str
    kernels: dict[str, int]
    fused: int
    left_over: int
    faults: int
    entries: tuple[AuditEntry, ...] = ()
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A condition that the result had to hold, such as `faster`, `min_sqnr` or `max_drop`.

    `text` says in words what was asked and what came.
    """

    name: str
    limit: float
    value: float
    passed: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class QuantizeReport:
    """What `quantize` did, proved and measured; true unless a gate failed.

    `isa` is the instruction set that was decided for, `isa_given` whether the user named it.
    `rounding` is how weights were to be rounded; empty where there was nothing to round.
    `verification` holds the result against the float model on held-out samples. `front` is sorted
    from accurate to fast. `reason` says why a model was left untouched or refused.
    """

    SCHEMA: ClassVar[str] = "onnxopt.quantize/1"

    input: Profile
    output: Profile
    target: str
    status: QuantizeStatus
    reason: str
    written: bool
    seconds: float
    peak_rss_bytes: int
    isa: str = ""
    isa_given: bool = False
    format: str = "qdq"
    rounding: str = ""
    calibration: Calibration | None = None
    steps: tuple[Step, ...] = ()
    verification: Comparison | None = None
    quality: tuple[OutputQuality, ...] = ()
    score: Score | None = None
    difference: Difference | None = None
    gates: tuple[Gate, ...] = ()
    regions: tuple[Region, ...] = ()
    tensors: tuple[QuantizedTensor, ...] = ()
    front: tuple[FrontPoint, ...] = ()
    repairs: tuple[Repair, ...] = ()
    saturation: Saturation | None = None
    audit: Audit | None = None
    measurements: tuple[Measurement, ...] = ()
    warnings: tuple[Caution, ...] = ()
    model: ir.Model | None = field(default=None, repr=False, metadata={"json": False})

    def __bool__(self) -> bool:
        return self.status != "refused" and all(gate.passed for gate in self.gates)

    def chosen(self) -> FrontPoint | None:
        """Return the point of the front that became the result."""
        return next((point for point in self.front if point.chosen), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, documented in docs/reports.md."""
        return {"schema": self.SCHEMA, **plain(self)}
