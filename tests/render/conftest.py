"""Reports as a real run would give them, made by hand."""

import dataclasses
import random

import pytest

from onnxopt.report import (
    BenchmarkReport,
    BenchmarkResult,
    Best,
    Caution,
    Ceiling,
    CompareReport,
    Comparison,
    Difference,
    Hotspot,
    Hotspots,
    InspectReport,
    Measurement,
    NodeInfo,
    OptimizeReport,
    OutputComparison,
    Profile,
    QuantizeReport,
    Setting,
    Step,
    TensorSpec,
)
from tests.render.int8_reports import make_quantized, make_refused, make_untouched

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
        make_result(AFTER.path, 0.88),
        warnings=(Caution(kind="throttled", message="the clock frequency fell by 20 %"),),
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


def make_row(
    model: str, setting: Setting, level_ms: float, *, processes: int = 8, sessions: int = 8
) -> BenchmarkResult:
    """Draw samples as a machine would give them: processes, sessions and runs all vary."""
    draw = random.Random(f"{model} {setting}")
    made = []
    for _ in range(processes):
        process, drawn = draw.gauss(0, 0.03), []
        for _ in range(sessions):
            level = level_ms * 1e6 * (1 + process + draw.gauss(0, 0.05))
            times = [int(level * (1 + abs(draw.gauss(0, 0.02)))) for _ in range(5)]
            session = {"times_ns": times}
            if setting.callers > 1 or setting.rate is not None:
                session["wall_ns"] = sum(times) // setting.callers
            drawn.append(session)
        made.append({"sessions": drawn})
    per_second = 1000 / level_ms * (setting.batch or 1) * setting.callers
    around = {
        name: (value * 0.98, value * (1.02 + 0.02 * place))
        for place, (name, value) in enumerate(
            {"median_ms": level_ms, "p90_ms": level_ms * 1.1, "p99_ms": level_ms * 1.35,
             "throughput": per_second}.items()
        )
    }  # fmt: skip
    return dataclasses.replace(
        make_result(model),
        provider=setting.provider,
        executed=setting.provider,
        placement={"cuda": {"CUDAExecutionProvider": 90, "CPUExecutionProvider": 4}}.get(
            setting.provider, {"CPUExecutionProvider": 94}
        ),
        batch=setting.batch,
        threads=setting.threads,
        callers=setting.callers,
        rate=setting.rate,
        io=setting.io,
        processes=tuple(made),
        median_ms=level_ms,
        p90_ms=level_ms * 1.1,
        p99_ms=level_ms * 1.35,
        throughput=per_second,
        runs=processes * sessions * 5,
        intervals=around,
        feeds={"images": "float32[1, 3, 224, 224], random"},
    )


def make_hotspots(model: str, setting: Setting) -> Hotspots:
    def spot(rank: int, op: str, macs: int, size: int) -> Hotspot:
        ms = 2.4 / (rank + 1)
        return Hotspot(
            name=f"/blocks.{rank}/{op}", op=op, provider="CPUExecutionProvider", count=1, ms=ms,
            share=ms / 8, macs=macs or None, bytes=size,
            gflops=2 * macs / ms / 1e6 if macs else None, gbs=size / ms / 1e6,
            of_ceiling=0.7 / (rank + 1), bound="compute" if macs > 20 * size else "memory",
            shapes="1×32×112×112, 32×32×3×3",
        )  # fmt: skip

    kinds = (("Conv", 90_000_000, 1_600_000), ("Gemm", 12_000_000, 5_100_000), ("Clip", 0, 800_000))
    nodes = tuple(spot(rank, *kinds[rank % 3]) for rank in range(9))
    operators = tuple(dataclasses.replace(nodes[n], name=nodes[n].op, count=3) for n in range(3))
    return Hotspots(
        model=model, setting=setting, runs=20, total_ms=9.1, kernels_ms=8.0, nodes=nodes,
        operators=operators, ceiling=Ceiling(provider="cpu", threads=4, gflops=150.0, gbs=18.0),
    )  # fmt: skip


def make_swept() -> BenchmarkReport:
    """Everything that a benchmark can tell: sweeps, callers, rates, failures, fall-backs."""
    one, two, odd = "main/model.onnx", "pr/model.onnx", "<img src=x onerror=alert(1)>$x_{1$&.onnx"
    models, results = {one: 8.0, two: 5.2, odd: 9.0}, []
    for batch in (1, 4, 16):
        for provider, speed in (("cpu", 1.0), ("cuda", 6.0)):
            setting = Setting(provider=provider, batch=batch, threads=4)
            level = {name: ms * batch**0.8 / speed for name, ms in models.items()}
            results += [make_row(name, setting, level[name]) for name in models]
    for callers in (2, 8):
        setting = Setting(batch=1, threads=1, callers=callers)
        results += [make_row(name, setting, ms * callers**0.5) for name, ms in models.items()]
    rated = Setting(batch=1, threads=4, rate=40.0, io="bound")
    results.append(make_row(one, rated, 8.9))
    stolen = Caution(
        kind="stolen", message="the hypervisor gave 7 % to others", advice="use a quieter machine"
    )
    slow = Caution(kind="unsteady", message="sessions differ by 40 %", advice="give --max-time 60")
    results[0] = dataclasses.replace(results[0], warnings=(stolen,), p999_ms=14.2, build_ms=2100.0)
    results[1] = dataclasses.replace(results[1], warnings=(stolen, slow), device_bytes=350_000_000)
    results[5] = dataclasses.replace(
        results[5], executed="cpu", placement={"CPUExecutionProvider": 94},
        fallback="Conv and 3 more have no kernel on cuda", joules_per_run=0.034,
    )  # fmt: skip
    results += [
        dataclasses.replace(
            results[0], model="broken.onnx", error="it crashed <its> process (segmentation fault)",
            processes=(), placement={}, executed="", intervals={}, warnings=(),
        ),
        dataclasses.replace(results[0], control=True, warnings=()),
    ]  # fmt: skip

    def differ(candidate: str, setting: Setting, ratio: float, **given: object) -> Difference:
        verdict = "no difference" if abs(ratio - 1) < 0.03 else "faster" if ratio > 1 else "slower"
        made = Difference(
            baseline=one, candidate=candidate, provider=setting.provider, ratio=ratio,
            low=ratio * 0.97, high=ratio * 1.04, verdict=verdict, sessions=64, processes=8,
            comparisons=4, setting=setting,
        )  # fmt: skip
        return dataclasses.replace(made, **given)

    here, there = results[0].setting, results[5].setting
    return BenchmarkReport(
        environment={"processor": "AMD EPYC 9354P", "usable_cores": 4, "onnxruntime": "1.32.0",
                     "system": "Linux 6.8", "memory_bytes": 16_000_000_000, "flags": ["avx2"]},
        results=tuple(results),
        differences=(
            differ(two, here, 1.52),
            differ(odd, here, 0.88),
            differ(odd, there, 0.99),
            differ(one, here, 1.0, control=True),
        ),
        seconds=431.4,
        best=(
            Best(model=two, metric="latency", value=0.87, setting=results[4].setting),
            Best(model=two, metric="throughput", value=2100.0, setting=results[13].setting,
                 tied=(results[16].setting,)),
        ),
        hotspots=(make_hotspots(one, here), make_hotspots(two, here)),
        against=(differ(two, here, 1.49, baseline=f"{one} (old/base.json)"),),
        baseline="old/base.json",
        warnings=(Caution(kind="busy", message="load 3.1 on 4 cores", advice="stop the others"),),
        plan={"providers": ["cpu", "cuda"], "batches": [1, 4, 16], "threads": [4, 1],
              "callers": [1, 2, 8], "rates": [None, 40.0], "io": ["copied", "bound"],
              "provider_options": {"cuda": {"use_tf32": "0"}}, "data": None,
              "fix": {"h": 224}, "precision": 0.02, "max_time": 60.0, "timeout": 120.0,
              "seed": 0, "aa": True, "strict": False, "profile": True},
    )  # fmt: skip


@pytest.fixture(scope="session")
def swept() -> BenchmarkReport:
    return make_swept()


@pytest.fixture(scope="session")
def quantized() -> QuantizeReport:
    return make_quantized()


@pytest.fixture(scope="session")
def refused() -> QuantizeReport:
    return make_refused()


@pytest.fixture(scope="session")
def untouched() -> QuantizeReport:
    return make_untouched()


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
