"""Reports of `quantize` as real runs would give them, made by hand."""

import dataclasses
import math
import random

from onnxopt.report import (
    Audit,
    AuditEntry,
    Calibration,
    Caution,
    Comparison,
    Difference,
    FrontPoint,
    Gate,
    OutputComparison,
    OutputQuality,
    PairSums,
    Profile,
    QuantizedTensor,
    QuantizeReport,
    Region,
    Repair,
    Saturation,
    Score,
    Step,
    TensorSpec,
)

INPUT = Profile(
    path="models/efficientnet_lite0.onnx", sha256="9f2c1e07" * 8, file_bytes=18_594_812, nodes=94,
    ops={"Conv": 49, "Clip": 33, "Add": 9, "Gemm": 1, "GlobalAveragePool": 1, "Flatten": 1},
    parameters=4_652_008, parameter_bytes=18_608_032, macs=386_000_000, opset={"": 13},
    inputs=(TensorSpec(name="images", type="float32", shape=(1, 3, 224, 224)),),
    outputs=(TensorSpec(name="logits", type="float32", shape=(1, 1000)),), dynamic_dims=(),
)  # fmt: skip
RESULT = dataclasses.replace(
    INPUT, path="models/efficientnet_lite0.int8.onnx", file_bytes=4_902_233, nodes=301,
    ops={**INPUT.ops, "QuantizeLinear": 62, "DequantizeLinear": 150, "Clip": 2},
)  # fmt: skip
FASTER = Difference(
    baseline="original", candidate="result", provider="cpu", ratio=1.41, low=1.38, high=1.44,
    verdict="faster", sessions=24, processes=6,
)  # fmt: skip


def _regions():
    draw = random.Random(7)
    for block in range(16):
        for kind, macs in (("expand", 9e6), ("depthwise", 1.5e6), ("project", 8e6), ("add", 0)):
            if kind == "add" and block % 2:
                continue
            name = f"/blocks/blocks.{block}/conv_{kind}/Conv"
            before = 0.02 + macs / 9e7 * draw.uniform(0.8, 1.3)
            after = before * draw.uniform(0.45, 0.8) + 0.01 * (kind == "depthwise")
            noise = draw.gauss(39, 5) - (9 if kind == "depthwise" else 0) - (8 if block < 2 else 0)
            reason = ""
            if noise < 21:
                reason = f"loses {27 - noise:.1f} dB of the output"
            elif after > 0.85 * before:
                reason = f"costs more than it saves: {after:.3f} ms int8 against {before:.3f} ms"
            yield Region(
                name=name if macs else f"/blocks/blocks.{block}/Add",
                op="Conv" if macs else "Add",
                nodes=(name, name.replace("Conv", "Clip")),
                became="float" if reason else "int8",
                reason=reason or "faster, and exact enough",
                int8_ms=after,
                float_ms=before,
                sqnr_db=noise,
                macs=int(macs) or None,
                pair_sums=PairSums(
                    rows=96, pairs=96 * 36, overflowing=draw.randrange(60), remaining=0,
                    rows_mended=draw.randrange(20),
                ) if macs and not reason else None,
            )  # fmt: skip
    yield Region(
        name="/head/GlobalAveragePool", op="GlobalAveragePool", nodes=("/head/GlobalAveragePool",),
        became="float", reason="no int8 kernel",
    )  # fmt: skip


def _tensors(regions):
    draw = random.Random(8)
    for region in regions:
        high = draw.choice([6.0, 6.0, draw.uniform(2, 30)])
        yield QuantizedTensor(
            name=region.name + "_output_0", role="activation", dtype="uint8",
            scale=(high / 255, high / 255), zero_point=0, low=0.0, high=high,
            sqnr_db=draw.gauss(34, 4), clipped=draw.choice([0.0, 0.0003]),
            method="percentile 99.99", shared_with=(),
        )  # fmt: skip
        if region.op == "Conv":
            yield QuantizedTensor(
                name=region.name.replace("/Conv", ".weight"), role="weight", dtype="int8",
                scale=(0.0004, 0.031), zero_point=0, low=-2.1, high=3.9, channels=96,
                sqnr_db=draw.gauss(38, 3), method="rounding by second-order information",
            )  # fmt: skip


def _front():
    for number in range(9):
        ratio = 1 + 0.075 * number - 0.001 * number**2
        yield FrontPoint(
            name=f"choice {number + 1}", int8_regions=11 + 6 * number,
            sqnr_db=34 - 1.1 * number - 0.14 * number**2, predicted=ratio * 1.01,
            difference=dataclasses.replace(
                FASTER, ratio=ratio, low=ratio - 0.03, high=ratio + 0.03,
                verdict="faster" if ratio > 1.03 else "no difference",
            ) if number % 2 == 0 else None,
            trade=10.0**-number, chosen=number == 6, metric=0.7512 - 0.0004 * number,
        )  # fmt: skip


def make_quantized() -> QuantizeReport:
    regions = tuple(_regions())
    return QuantizeReport(
        input=INPUT, output=RESULT, target="cpu", status="quantized", reason="", written=True,
        seconds=214.3, peak_rss_bytes=412_000_000, isa="avx2", isa_given=True,
        calibration=Calibration(
            source="crops/", samples=100, held_out=32, method="auto", passes=2, seconds=14.2,
            peak_bytes=31_000_000,
        ),
        steps=(
            Step(name="prepare", done={"fold_batchnorm_into_conv": 49}, nodes_before=214,
                 nodes_after=94, seconds=1.2),
        ),
        verification=Comparison(
            passed=True, verified=True, noise_floor=3.1e-7, feeds=32,
            outputs=(
                OutputComparison(
                    name="logits", max_abs=0.81, max_rel=0.9, sqnr_db=22.4, cosine=0.99712,
                    worst_index=(0, 412), tolerance=math.nan, passed=True,
                ),
            ),
        ),
        quality=(
            OutputQuality(
                name="logits", samples=32, sqnr_p5_db=16.8, worst_sample=12, agreement=0.9375,
                sure=21, sure_agreement=1.0,
            ),
        ),
        score=Score(function="eval.py:top1", float_score=0.7512, int8_score=0.7488, max_drop=0.005),
        difference=FASTER,
        gates=(
            Gate(name="faster", limit=1.0, value=1.38, passed=True, text="1.41× faster"),
            Gate(name="max_drop", limit=0.005, value=0.0024, passed=True,
                 text="eval.py:top1 drops by 0.0024, 0.005 is allowed"),
        ),
        regions=regions,
        tensors=tuple(_tensors(regions)),
        front=tuple(_front()),
        repairs=(
            Repair(name="equalization", status="kept", sqnr_before_db=9.8, sqnr_after_db=14.1,
                   seconds=0.6, done={"pair of layers": 17, "depthwise triple": 15}),
            Repair(name="smoothing", status="unchanged", sqnr_before_db=14.1, sqnr_after_db=14.1,
                   seconds=0.1, reason="there is no LayerNormalization"),
            Repair(name="rounding", status="kept", sqnr_before_db=14.1, sqnr_after_db=20.6,
                   seconds=61.0, done={"weight": 46}),
            Repair(name="splitting", status="rolled back", sqnr_before_db=20.6,
                   sqnr_after_db=20.4, seconds=3.4, done={"channel": 12},
                   reason="helps the samples it was made from only"),
            Repair(name="bias correction", status="kept", sqnr_before_db=20.6,
                   sqnr_after_db=22.4, seconds=9.1, done={"bias": 46}),
        ),
        saturation=Saturation(
            isa="avx2", adds_in_16_bits=True,
            total=PairSums(rows=8816, pairs=1_204_318, overflowing=2117, remaining=0,
                           rows_mended=409),
            probe="Conv 3x3 pairs channels 0 and 1, as taken here",
        ),
        audit=Audit(
            engine="onnxruntime 1.32.0", kernels={"QLinearConv": 46, "QLinearAdd": 7}, fused=148,
            left_over=2, faults=1,
            entries=(
                AuditEntry(node="images_q", tensor="images", kernel="QLinearConv"),
                AuditEntry(node="pool_dq", tensor="/head/pool", reason="the border to float"),
                AuditEntry(node="fc_w_dq", tensor="fc.weight", fault=True,
                           reason="dequantized at every run: no int8 kernel takes it"),
            ),
        ),
        warnings=(
            Caution(kind="constant", message="/blocks.3/gate is 0 in all samples",
                    advice="give samples of more kinds"),
        ),
    )  # fmt: skip


def make_refused() -> QuantizeReport:
    report = make_quantized()
    slow = dataclasses.replace(FASTER, ratio=0.93, low=0.9, high=0.96, verdict="slower")
    why = "no int8 model is both right and faster: the fastest is 1.08× slower"
    return dataclasses.replace(
        report, status="refused", reason=why, written=False, difference=slow, score=None,
        gates=(
            Gate(name="faster", limit=1.0, value=0.93, passed=False, text=why),
            Gate(name="min_sqnr", limit=30.0, value=22.4, passed=False,
                 text="SQNR 22.4 dB is below 30 dB"),
        ),
        front=tuple(
            dataclasses.replace(point, chosen=False, metric=None, difference=None)
            for point in report.front
        ),
    )  # fmt: skip


def make_untouched() -> QuantizeReport:
    return QuantizeReport(
        input=RESULT, output=RESULT, target="cpu", status="untouched", written=False,
        reason="it has 62 QuantizeLinear nodes already", seconds=0.4, peak_rss_bytes=90_000_000,
    )  # fmt: skip
