"""Reports as a real run would give them, made by hand."""

import dataclasses

import pytest

from onnxopt.report import (
    BenchmarkReport,
    BenchmarkResult,
    CompareReport,
    Comparison,
    Difference,
    InspectReport,
    Measurement,
    NodeInfo,
    OptimizeReport,
    OutputComparison,
    Profile,
    Step,
    TensorSpec,
)

IMAGES = TensorSpec(name="images", type="float32", shape=("batch", 3, 224, 224))
LOGITS = TensorSpec(name="logits", type="float32", shape=("batch", 1000))

BEFORE = Profile(
    path="models/efficientnet_lite0.onnx",
    sha256="9f2c1e07" * 8,
    file_bytes=18_594_812,
    nodes=214,
    ops={"Conv": 49, "BatchNormalization": 49, "Clip": 33, "Constant": 70, "Add": 9, "Gemm": 1,
         "GlobalAveragePool": 1, "Flatten": 1, "Identity": 1},
    parameters=4_694_000,
    parameter_bytes=18_776_000,
    macs=386_000_000,
    opset={"": 13},
    inputs=(IMAGES,),
    outputs=(LOGITS,),
    dynamic_dims=("batch",),
    macs_per_op={"Conv": 384_720_000, "Gemm": 1_280_000},
)  # fmt: skip

AFTER = dataclasses.replace(
    BEFORE,
    path="models/efficientnet_lite0.opt.onnx",
    file_bytes=18_523_004,
    nodes=94,
    ops={"Conv": 49, "Clip": 33, "Add": 9, "Gemm": 1, "GlobalAveragePool": 1, "Flatten": 1},
    parameters=4_652_008,
    parameter_bytes=18_608_032,
)

PROVEN = Comparison(
    passed=True,
    verified=True,
    noise_floor=3.1e-7,
    outputs=(
        OutputComparison(
            name="logits",
            max_abs=2.384e-7,
            max_rel=4.1e-6,
            sqnr_db=131.7,
            cosine=1.0,
            worst_index=(0, 412),
            tolerance=1.2e-5,
            passed=True,
        ),
    ),
    feeds=4,
)

FASTER = Difference(
    baseline="models/efficientnet_lite0.onnx",
    candidate="models/efficientnet_lite0.opt.onnx",
    provider="cpu",
    ratio=1.124,
    low=1.093,
    high=1.151,
    verdict="faster",
    sessions=20,
    processes=5,
)

SLOWER = dataclasses.replace(FASTER, ratio=0.8, low=0.77, high=0.83, verdict="slower")
EQUAL = dataclasses.replace(FASTER, ratio=1.0, low=0.99, high=1.01, verdict="no difference")
MEASUREMENTS = tuple(
    Measurement(
        what=what,
        units=("fuse_erf_gelu",),
        difference=dataclasses.replace(found, baseline=baseline, candidate="result"),
        decision=decision,
    )
    for what, baseline, found, decision in (
        ("result", "original", FASTER, "left out in part"),
        ("activations", "result without activations", SLOWER, "left out"),
        ("norms", "result without norms", EQUAL, "kept"),
        ("attention", "result without attention", FASTER, "kept"),
    )
)

STEPS = (
    Step(name="inline", done={}, nodes_before=214, nodes_after=214, seconds=0.0004,
         status="unchanged"),
    Step(name="fold", done={"fold_constants": 70}, nodes_before=214, nodes_after=144,
         seconds=0.071),
    Step(name="fuse", done={"fold_batchnorm_into_conv": 49, "fuse_relu_into_clip": 2},
         nodes_before=144, nodes_after=95, seconds=0.132),
    Step(name="share", done={"share_initializers": 3}, nodes_before=95, nodes_after=95,
         seconds=0.018, status="rolled back", reason="slower by 3 % on cpu"),
    Step(name="dead", done={"remove_identity": 1}, nodes_before=95, nodes_after=94,
         seconds=0.002),
)  # fmt: skip


def make_optimize() -> OptimizeReport:
    return OptimizeReport(
        input=BEFORE,
        output=AFTER,
        target="cpu",
        steps=STEPS,
        verification=PROVEN,
        difference=FASTER,
        dropped={"fuse_erf_gelu": "output logits differs by 0.0031 where 1.2e-05 is allowed"},
        refusals=("fold_batchnorm_into_conv: /bn: scale can be overridden by the caller",) * 3,
        warnings=("weight /head/fc.weight holds 2 NaN values: kept as they are",),
        seconds=24.7,
        peak_rss_bytes=181_000_000,
        written=True,
        measurements=MEASUREMENTS,
    )  # fmt: skip


def make_failed() -> OptimizeReport:
    wrong = dataclasses.replace(
        PROVEN.outputs[0], max_abs=0.31, sqnr_db=18.2, cosine=0.982113, passed=False,
        reason="wrong at [0, 412]: 7.1 became 7.4",
    )  # fmt: skip
    return dataclasses.replace(
        make_optimize(),
        verification=dataclasses.replace(PROVEN, passed=False, outputs=(*PROVEN.outputs, wrong)),
        difference=None,
        measurements=(),
        written=False,
    )


def make_compare() -> CompareReport:
    return CompareReport(reference=BEFORE, candidate=AFTER, verification=PROVEN, seconds=1.2)


def make_inspect() -> InspectReport:
    def conv(index: int, channels: int, size: int) -> NodeInfo:
        out = TensorSpec(name=f"c{index}", type="float32", shape=("batch", channels, size, size))
        return NodeInfo(
            name=f"/model/blocks.{index}/depthwise_separable/conv_pw/Conv",
            op="Conv",
            domain="",
            graph="main",
            outputs=(out,),
            macs=channels * size * size * 96,
            parameters=channels * 96,
            provider="CPUExecutionProvider",
        )

    gemm = NodeInfo(
        name="/head/Gemm", op="Gemm", domain="", graph="main", outputs=(LOGITS,),
        macs=1_280_000, parameters=1_281_000,
    )  # fmt: skip
    gelu = NodeInfo(
        name="[bold]gelu[/bold]\x1b[2J", op="Gelu", domain="com.microsoft", graph="main",
        outputs=(TensorSpec(name="g", type="float32", shape=None),), macs=None, parameters=0,
        rule="fuse_erf_gelu",
    )  # fmt: skip
    return InspectReport(
        profile=BEFORE,
        nodes=(*(conv(i, 16 * (i + 1), 112 >> (i // 3)) for i in range(12)), gemm, gelu),
        placement={
            "cpu": {"CPUExecutionProvider": 214},
            "cuda": {"CPUExecutionProvider": 12, "CUDAExecutionProvider": 202},
            "tensorrt": "TensorrtExecutionProvider is not in this build of onnxruntime",
        },
        warnings=("2 nodes of domain my.ops are unknown to onnxruntime",),
    )


def make_result(model: str, factor: float = 1.0) -> BenchmarkResult:
    return BenchmarkResult(
        model=model,
        sha256="ab" * 32,
        provider="cpu",
        placement={"CPUExecutionProvider": 94},
        batch=None,
        threads=4,
        load_ms=41.26 * factor,
        first_run_ms=14.9 * factor,
        processes=({"sessions": [{"times_ns": [8_123_000, 8_201_000]}]},),
        median_ms=8.1234 * factor,
        p90_ms=8.92 * factor,
        p99_ms=11.4 * factor,
        throughput=123.1 / factor,
        peak_rss_bytes=92_000_000,
    )


def make_benchmark() -> BenchmarkReport:
    second = dataclasses.replace(
        make_result(AFTER.path, 0.88), warnings=("the clock frequency fell by 20 %",)
    )
    broken = dataclasses.replace(
        make_result("broken.onnx"), provider="cuda", placement={}, error="no CUDA device"
    )
    return BenchmarkReport(
        environment={"cpu": "AMD EPYC 9354P", "cores": 4, "onnxruntime": "1.32.0",
                     "os": "Linux 6.8", "flags": ["avx2"]},
        results=(make_result(BEFORE.path), second, broken),
        differences=(FASTER,),
        seconds=31.4,
    )  # fmt: skip


@pytest.fixture
def optimized() -> OptimizeReport:
    return make_optimize()


@pytest.fixture
def failed() -> OptimizeReport:
    return make_failed()


@pytest.fixture
def compared() -> CompareReport:
    return make_compare()


@pytest.fixture
def inspected() -> InspectReport:
    return make_inspect()


@pytest.fixture
def benchmarked() -> BenchmarkReport:
    return make_benchmark()
