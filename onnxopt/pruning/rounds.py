"""Takes channels out in several rounds, each refitted before the next one judges what is left.

Han et al., "Learning both Weights and Connections for Efficient Neural Networks" (2015): what goes
little by little the rest can make up for, and what a channel is worth is told anew by a model that
has lost others already. All that learns learns from the model that was given.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from onnxopt.graph import io
from onnxopt.graph._onnx_ir import ir
from onnxopt.judging.quality import Judge, decibel
from onnxopt.prune_config import PruneConfig
from onnxopt.pruning import telling
from onnxopt.pruning.making import Maker, Outcome
from onnxopt.report import PrunedPart, PrunePoint


def in_rounds(maker: Maker) -> Outcome:
    """Prune in as many rounds as are asked for, towards the same goal by equal ratios.

    The front of the outcome has the model after each round, held against the one that was given.
    """
    config = maker.config
    assert maker.judge is not None
    original, whole = maker.model.clone(), maker.macs(maker.model)
    left = _Left()
    points = [PrunePoint(name="1.00× MACs", macs=1.0, parameters=1.0)]
    parts: dict[str, PrunedPart] = {}
    model, found = maker.model, None
    for number in range(1, config.rounds + 1):
        asked = _asked(config, left, number)
        if asked is None:
            continue
        path = maker.folder / "round.onnx"
        io.save(model, path)
        here = replace(
            maker, model=model.clone(), config=asked, judge=Judge(path, maker.judge.feeds), shown=0
        )
        once = here.outcome()
        assert once.model is not None
        found = replace(maker, model=original).taught_and_learned(once)
        assert found.model is not None
        model = found.model
        _merge(parts, once.parts)
        left = left.after(once, maker.macs(model) / max(whole, 1.0))
        points.append(_point(maker, original, model, left.macs))
    assert found is not None
    points[-1] = replace(points[-1], chosen=True)
    return replace(found, parts=tuple(parts.values()), front=tuple(points))


@dataclass(frozen=True, kw_only=True)
class _Left:
    """What is left of the model that was given: shares of its work, its time and its units."""

    macs: float = 1.0
    ms: float = 1.0
    units: float = 1.0

    def after(self, found: Outcome, macs: float) -> _Left:
        """Return what is left after a round."""
        chosen = next((point for point in found.front if point.chosen), None)
        ms = 1.0 if chosen is None or chosen.predicted is None else chosen.predicted
        units = 1 - telling.sparsity(found.parts)
        return _Left(macs=macs, ms=self.ms * ms, units=self.units * units)


def _asked(config: PruneConfig, left: _Left, number: int) -> PruneConfig | None:
    """Return what a round is asked for; None where others have done it already."""
    part = number / config.rounds
    once = replace(config, rounds=1, learn=0, teach=False)
    if config.sparsity is not None:
        share = (1 - config.sparsity) ** part / left.units
        return replace(once, sparsity=1 - share) if share < 1 else None
    if config.target_macs is not None:
        share = config.target_macs**part / left.macs
        return replace(once, target_macs=share) if share < 1 else None
    assert config.target_latency is not None
    share = config.target_latency**part / left.ms
    return replace(once, target_latency=share) if share < 1 else None


def _merge(parts: dict[str, PrunedPart], more: Iterable[PrunedPart]) -> None:
    """Note what became of each group, from the first round it was seen in to the last."""
    for part in more:
        first = parts.get(part.name, part)
        parts[part.name] = replace(
            part, before=first.before, macs_before=first.macs_before, ms_before=first.ms_before
        )


def _point(maker: Maker, original: ir.Model, model: ir.Model, macs: float) -> PrunePoint:
    return PrunePoint(
        name=f"{macs:.2f}× MACs",
        macs=macs,
        parameters=telling.parameters(model) / max(telling.parameters(original), 1),
        sqnr_db=decibel(maker.noise(model)),
    )
