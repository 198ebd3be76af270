"""Reports of `prune` as real runs would give them, made by hand."""

import dataclasses
import math
import random

from onnxopt.report import (
    Attempt,
    Calibration,
    Caution,
    Comparison,
    FrozenPart,
    Gate,
    OutputComparison,
    OutputQuality,
    PrunedPart,
    PrunePoint,
    PruneReport,
    Score,
    Step,
)
from tests.render.int8_reports import FASTER, INPUT

RESULT = dataclasses.replace(
    INPUT, path="models/efficientnet_lite0.pruned.onnx", sha256="1ab7c4d2" * 8,
    file_bytes=12_310_220, parameters=3_077_331, parameter_bytes=12_309_324, macs=270_200_000,
)  # fmt: skip
ZEROED = dataclasses.replace(
    INPUT, path="models/efficientnet_lite0.pruned.onnx", sha256="77ab10ff" * 8
)
QUICKER = dataclasses.replace(FASTER, ratio=1.25, low=1.22, high=1.28)


def _parts():
    draw = random.Random(11)
    for block in range(16):
        width = 96 * (1 + block // 3)
        kept = width if block in (0, 15) else int(width * draw.uniform(0.45, 0.9)) // 16 * 16
        reason = {0: "the outputs lose 4.1 dB without any of it", 15: "protected"}.get(
            block, "cheapest by measured error and time" if block % 3 else "a multiple of 16"
        )
        work = 9_000_000 // (1 + block // 4)
        names = (f"/blocks/blocks.{block}/conv_{name}/Conv" for name in ("pw", "dw", "pwl"))
        yield PrunedPart(
            name=f"/blocks/blocks.{block}/conv_pw/Conv_output_0", nodes=tuple(names),
            unit="channels", before=width, after=kept, reason=reason,
            lost_db=math.inf if kept == width else draw.gauss(17, 3) + 6 * kept / width,
            macs_before=work, macs_after=work * kept // width,
            ms_before=work / 4e7, ms_after=work / 4e7 * (0.1 + 0.9 * kept / width),
        )  # fmt: skip


def _front():
    for number in range(8):
        share = 1 - 0.07 * number
        ratio = 1 / (0.12 + 0.88 * share)
        yield PrunePoint(
            name=f"{share:.2f}× MACs", macs=share, parameters=share - 0.02 * number,
            sqnr_db=math.inf if not number else 21 - 2.4 * number, predicted=1 / ratio,
            difference=dataclasses.replace(QUICKER, ratio=ratio, low=ratio - 0.03,
                                           high=ratio + 0.03) if number in (3, 4, 6) else None,
            metric=0.7512 - 0.004 * number if number in (3, 4, 6) else None, chosen=number == 4,
        )  # fmt: skip


def make_pruned() -> PruneReport:
    return PruneReport(
        input=INPUT, output=RESULT, target="cpu", structure="channel", status="pruned", reason="",
        written=True, seconds=148.1, peak_rss_bytes=611_000_000, sparsity=0.339, importance="obs",
        solver="exact", ridge=0.01,
        calibration=Calibration(
            source="crops/", samples=100, held_out=32, method="Gram matrices", passes=2,
            seconds=21.4, peak_bytes=88_000_000,
        ),
        steps=(
            Step(name="prepare", done={"fold_batchnorm_into_conv": 49}, nodes_before=214,
                 nodes_after=94, seconds=1.2),
            Step(name="dead and duplicate channels", done={"dead channel": 7}, nodes_before=94,
                 nodes_after=94, seconds=0.4),
        ),
        verification=Comparison(
            passed=True, verified=True, noise_floor=3.1e-7, feeds=32,
            outputs=(
                OutputComparison(
                    name="logits", max_abs=2.31, max_rel=0.9, sqnr_db=11.4, cosine=0.96531,
                    worst_index=(0, 412), tolerance=math.nan, passed=True,
                ),
            ),
        ),
        quality=(
            OutputQuality(
                name="logits", samples=32, sqnr_p5_db=8.2, worst_sample=12, agreement=0.8125,
                sure=21, sure_agreement=0.9524,
            ),
        ),
        score=Score(function="eval.py:top1", float_score=0.7512, int8_score=0.7352, max_drop=0.02),
        difference=QUICKER,
        gates=(
            Gate(name="faster", limit=1.0, value=1.25, passed=True, text="1.25× faster"),
            Gate(name="max_drop", limit=0.02, value=0.016, passed=True,
                 text="eval.py:top1 drops by 0.016, 0.02 is allowed"),
        ),
        parts=tuple(_parts()),
        frozen=(
            *(
                FrozenPart(tensor=f"/blocks/blocks.{block}/Add_output_0",
                           node=f"/blocks/blocks.{block}/Add",
                           reason="joined by additions into one group that no gain is measured for")
                for block in range(4)
            ),
            FrozenPart(tensor="logits", node="", reason="it is a graph output"),
        ),
        front=tuple(_front()),
        attempts=(
            Attempt(name="channels, obs", sqnr_db=11.4, share=0.7, kept=True,
                    reason="the least error for a millisecond"),
            Attempt(name="channels, random", sqnr_db=7.2, share=0.7, kept=False,
                    reason="the control"),
            Attempt(name="low rank", sqnr_db=6.1, share=0.72, kept=False,
                    reason="loses 5.3 dB more at the same time"),
        ),
        warnings=(
            Caution(kind="few samples", message="100 samples are few for 1,280 channels",
                    advice="give 500 or more"),
        ),
    )  # fmt: skip


def make_zeroed() -> PruneReport:
    """`--structure element`, whose zeros nobody gains by but a compressed file."""
    weights = tuple(
        PrunedPart(
            name=f"encoder.layer.{layer}.{name}.weight", nodes=(f"/layer.{layer}/{name}/MatMul",),
            unit="elements", before=size, after=size // 2, lost_db=14.0 + layer, reason="",
        )
        for layer in range(6)
        for name, size in (("query", 147_456), ("output.dense", 589_824))
    )  # fmt: skip
    report = make_pruned()
    return dataclasses.replace(
        report, output=ZEROED, structure="element", importance="wanda", sparsity=0.5,
        parts=weights, frozen=(), front=(), attempts=(), gates=(), score=None, warnings=(),
        difference=dataclasses.replace(QUICKER, ratio=1.0, low=0.99, high=1.01,
                                       verdict="no difference"),
    )  # fmt: skip


def make_masked() -> PruneReport:
    """`--mask-out`: the decision is kept, the model is as it was."""
    return dataclasses.replace(
        make_pruned(), output=INPUT, status="masked", written=False, masks="masks.npz",
        difference=None, gates=(), score=None, verification=None, quality=(),
    )  # fmt: skip


def make_unprunable() -> PruneReport:
    """A gate failed, and so nothing was written."""
    return dataclasses.replace(
        make_pruned(), status="refused", written=False, output=INPUT,
        reason="SQNR on held-out samples: 11.4 dB of 20 dB",
        gates=(
            Gate(name="min_sqnr", limit=20.0, value=11.4, passed=False,
                 text="SQNR on held-out samples: 11.4 dB of 20 dB"),
            Gate(name="max_drop", limit=0.01, value=0.016, passed=False,
                 text="eval.py:top1 drops by 0.016, and may by 0.01"),
        ),
    )  # fmt: skip
