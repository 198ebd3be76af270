"""Holds layers that were split in two against channels taken out of the same model instead.

A low rank rarely pays: two kernels stand for one, and what each layer can spare it has often spread
over all of its directions. So both are made to leave the same share of the multiply-accumulates,
and what counts is the error for what is saved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from onnxopt.errors import OnnxOptError
from onnxopt.graph._onnx_ir import ir
from onnxopt.judging.quality import decibel
from onnxopt.pruning.making import Maker
from onnxopt.report import Attempt, Difference, Gate

_RANK, _CHANNELS = "low rank", "channels"


@dataclass(frozen=True, kw_only=True)
class Way:
    """One of two ways: `noise` over the outputs' energy, and the share of the MACs that is left."""

    model: ir.Model
    noise: float
    macs: float
    difference: Difference | None = None

    def share(self, *, timed: bool) -> float:
        """Return the share that is left of the time, or of the multiply-accumulates."""
        return 1 / self.difference.ratio if timed and self.difference else self.macs

    def price(self, *, timed: bool) -> float:
        """Return the noise for what is saved; infinite where nothing is."""
        saved = 1 - self.share(timed=timed)
        return self.noise / saved if saved > 0 else math.inf


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Low rank, and channels at the same cost: None where they cannot go, for a `reason`."""

    rank: Way
    channels: Way | None
    reason: str = ""

    def measured(self, rank: Difference, channels: Difference | None) -> Contest:
        """Return the same with times."""
        assert self.channels is not None
        return replace(
            self,
            rank=replace(self.rank, difference=rank),
            channels=replace(self.channels, difference=channels),
        )

    @property
    def timed(self) -> bool:
        """Whether time decides: both were measured, and at least one saves some."""
        known = [way.difference for way in (self.rank, self.channels) if way is not None]
        return None not in known and any(each.ratio > 1 for each in known if each is not None)

    @property
    def dearer(self) -> float:
        """How many times the error of channels low rank has, for the same that is saved."""
        assert self.channels is not None
        own, other = (way.price(timed=self.timed) for way in (self.rank, self.channels))
        if own == other:
            return 1.0
        return own / other if other > 0 and math.isfinite(own) else math.inf

    def gate(self) -> Gate | None:
        """Return the condition that channels do not lose less; None where they cannot go."""
        if self.channels is None:
            return None
        told = f"low rank has {self._told(self.rank)}, channels out {self._told(self.channels)}"
        won = self.dearer <= 1
        if not won:
            told += f", the {self._least}: give --structure channel --target-macs "
            told += f"{self.rank.macs:.3g}"
        return Gate(name="beats_channels", limit=1.0, value=self.dearer, passed=won, text=told)

    def attempts(self, *, kept: bool) -> tuple[Attempt, ...]:
        """Tell what was tried; `kept` says whether low rank became the result."""
        rank = self._attempt(_RANK, self.rank, kept=kept)
        if self.channels is None:
            return (replace(rank, reason=f"nothing to hold it against: {self.reason}"),)
        channels = self._attempt(_CHANNELS, self.channels, kept=False)
        best = f"the {self._least}"
        if self.dearer > 1:
            why = self._worse(self.rank, self.channels)
            return replace(rank, reason=why), replace(channels, reason=best)
        why = self._worse(self.channels, self.rank)
        return replace(rank, reason=best), replace(channels, reason=why)

    @property
    def _least(self) -> str:
        saved = "millisecond" if self.timed else "multiply-accumulate"
        return f"least error for a {saved} saved"

    def _worse(self, way: Way, other: Way) -> str:
        """Say how much more error is paid for what is saved."""
        own, least = (each.price(timed=self.timed) for each in (way, other))
        if math.isinf(own):
            return "saves nothing"
        if own == least:
            return "as much error for what it saves"
        if not least:
            return "errs, which the other does not"
        return f"{own / least:.2f} times the error for what it saves"

    def _told(self, way: Way) -> str:
        of = "time" if self.timed else "multiply-accumulates"
        share = 100 * way.share(timed=self.timed)
        return f"{decibel(way.noise):.1f} dB with {share:.0f} % of the {of}"

    def _attempt(self, name: str, way: Way, *, kept: bool) -> Attempt:
        return Attempt(
            name=name,
            sqnr_db=decibel(way.noise),
            share=way.share(timed=self.timed),
            kept=kept,
            macs=way.macs,
            difference=way.difference,
        )


def contest(maker: Maker, made: ir.Model) -> Contest:
    """Take channels out until as many multiply-accumulates are left as `made` of low rank has."""
    whole = maker.macs(maker.model)
    rank = Way(model=made, noise=maker.noise(made), macs=maker.macs(made) / max(whole, 1))
    if not 0 < rank.macs < 1:
        return Contest(rank=rank, channels=None, reason="its multiply-accumulates are not known")
    config = replace(
        maker.config, structure="channel", sparsity=None, threshold=None, target_latency=None,
        target_macs=rank.macs,
    )  # fmt: skip
    try:
        rival = replace(maker, model=maker.model.clone(), config=config, shown=0)
        found = rival.outcome().model
    except OnnxOptError as error:
        return Contest(rank=rank, channels=None, reason=error.message)
    assert found is not None
    channels = Way(model=found, noise=maker.noise(found), macs=maker.macs(found) / whole)
    return Contest(rank=rank, channels=channels)
