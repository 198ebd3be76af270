"""Whether two models compute the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from onnxopt.report.model import Profile
from onnxopt.report.plain import plain


@dataclass(frozen=True, kw_only=True)
class OutputComparison:
    """How far one output is from its reference, over all feeds.

    `max_rel` is the largest |a-b|/|a| over elements that are not negligible (|a| above a
    thousandth of the largest). `sqnr_db` is 10·log10(Σa²/Σ(a-b)²), infinite when equal.
    `tolerance` is the absolute difference that was allowed at the largest element.
    """

    name: str
    max_abs: float
    max_rel: float
    sqnr_db: float
    cosine: float
    worst_index: tuple[int, ...]
    tolerance: float
    passed: bool
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Whether two models compute the same.

    `noise_floor` is the largest absolute difference that the reference shows against itself, with
    onnxruntime's own graph optimizations on and off. `verified` is False when neither runtime
    could run the model: then nothing was proven, and `reason` says why.
    """

    passed: bool
    verified: bool
    noise_floor: float
    outputs: tuple[OutputComparison, ...]
    feeds: int
    engine: str = "onnxruntime"
    reason: str = ""

    @classmethod
    def unverified(cls, reason: str) -> Comparison:
        """Say, in words that cannot be missed, that nothing was run and why."""
        return cls(
            passed=True,
            verified=False,
            noise_floor=0.0,
            outputs=(),
            feeds=0,
            engine="none",
            reason=f"NOT VERIFIED: {reason}",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, documented in docs/reports.md."""
        found: dict[str, Any] = plain(self)
        return found


@dataclass(frozen=True, kw_only=True)
class CompareReport:
    """What `compare` found about two models."""

    SCHEMA: ClassVar[str] = "onnxopt.compare/1"

    reference: Profile
    candidate: Profile
    verification: Comparison
    seconds: float

    def __bool__(self) -> bool:
        return self.verification.passed and self.verification.verified

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, documented in docs/reports.md."""
        return {"schema": self.SCHEMA, **plain(self)}
