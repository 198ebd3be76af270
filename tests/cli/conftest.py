"""A stand-in for the Python API that records how the commands call it."""

import dataclasses
import sys
import types

import pytest

import onnxopt
from onnxopt.cli.main import run
from onnxopt.report import (
    BenchmarkReport,
    BenchmarkResult,
    CompareReport,
    Comparison,
    Difference,
    InspectReport,
    OptimizeReport,
    OutputComparison,
    Profile,
    PruneReport,
    QuantizeReport,
)

PROFILE = Profile(
    path="m.onnx", sha256=None, file_bytes=10, nodes=2, ops={"Relu": 2}, parameters=0,
    parameter_bytes=0, macs=None, opset={"": 17}, inputs=(), outputs=(), dynamic_dims=(),
)  # fmt: skip
OUTPUT = OutputComparison(
    name="y", max_abs=0.0, max_rel=0.0, sqnr_db=float("inf"), cosine=1.0, worst_index=(0,),
    tolerance=1e-5, passed=True,
)  # fmt: skip
SAME = Comparison(passed=True, verified=True, noise_floor=0.0, outputs=(OUTPUT,), feeds=1)
DIFFERS = dataclasses.replace(
    SAME, passed=False, outputs=(dataclasses.replace(OUTPUT, passed=False),)
)


def optimize_report(verification=SAME):
    return OptimizeReport(
        input=PROFILE, output=PROFILE, target="portable", steps=(), verification=verification,
        difference=None, dropped={}, refusals=(), warnings=(), seconds=0.1,
        peak_rss_bytes=1_000_000, written=verification.passed,
    )  # fmt: skip


def quantize_report(status="quantized", reason=""):
    return QuantizeReport(
        input=PROFILE, output=PROFILE, target="cpu", status=status, reason=reason,
        written=status == "quantized", seconds=0.1, peak_rss_bytes=1_000_000,
    )  # fmt: skip


def prune_report(status="pruned", reason=""):
    return PruneReport(
        input=PROFILE, output=PROFILE, target="portable", structure="channel", status=status,
        reason=reason, written=status == "pruned", seconds=0.1, peak_rss_bytes=1_000_000,
        masks="masks.npz" if status == "masked" else None,
    )  # fmt: skip


def benchmark_report(ratio=1.0, error=None):
    result = BenchmarkResult(
        model="a.onnx", sha256="", provider="cpu", placement={}, batch=None, threads=1,
        load_ms=1.0, first_run_ms=1.0, processes=(), median_ms=1.0, p90_ms=1.0, p99_ms=1.0,
        throughput=1000.0, peak_rss_bytes=1_000_000, error=error,
    )  # fmt: skip
    difference = Difference(
        baseline="a.onnx", candidate="b.onnx", provider="cpu", ratio=ratio, low=ratio - 0.01,
        high=ratio + 0.01, verdict="slower",
    )  # fmt: skip
    return BenchmarkReport(environment={}, results=(result,), differences=(difference,))


@pytest.fixture
def api(monkeypatch):
    """Replace onnxopt.api; `calls` holds (verb, arguments, options), `gives` the results."""
    fake = types.ModuleType("onnxopt.api")
    fake.calls = []
    fake.benchmark_report = benchmark_report
    fake.failed_report = optimize_report(DIFFERS)
    fake.quantize_report = quantize_report
    fake.prune_report = prune_report
    fake.gives = {
        "optimize": optimize_report(),
        "quantize": quantize_report(),
        "prune": prune_report(),
        "inspect": InspectReport(profile=PROFILE, nodes=(), placement={}, warnings=()),
        "compare": CompareReport(
            reference=PROFILE, candidate=PROFILE, verification=SAME, seconds=0.1
        ),
        "benchmark": benchmark_report(),
    }

    def verb(name):
        def call(*args, **options):
            fake.calls.append((name, args, options))
            given = fake.gives[name]
            if isinstance(given, BaseException):
                raise given
            return given

        return call

    for name in list(fake.gives):
        setattr(fake, name, verb(name))
    monkeypatch.setitem(sys.modules, "onnxopt.api", fake)
    monkeypatch.setattr(onnxopt, "api", fake, raising=False)
    return fake


@pytest.fixture
def onnxopt_(capsys, monkeypatch, tmp_path):
    """Run a command line in an empty folder: (status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def call(*args):
        status = run(args)
        out, err = capsys.readouterr()
        return status, out, err

    return call
