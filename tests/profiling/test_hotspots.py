"""Profiles of real sessions, in real processes."""

import math
import os
import subprocess
import sys

import pytest

import onnxopt
from onnxopt.profiling import ceilings, hotspots
from onnxopt.report import Ceiling, Setting

SETTING = Setting(provider="cpu", threads=1)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(hotspots, "_SECONDS", 0.05)


def profile(paths, **given):
    given = {"options": {}, "timeout": 60, **given}
    return hotspots.profile(*paths, given.pop("setting", SETTING), **given)


def test_nodes_have_time_work_and_bytes_though_weights_are_packed(dense):
    ceiling = Ceiling(provider="cpu", threads=1, gflops=1e6, gbs=1e6)
    found = profile(dense, ceiling=ceiling)
    assert found.error is None
    assert (found.model, found.setting, found.ceiling) == (dense[0], SETTING, ceiling)
    nodes = {node.name: node for node in found.nodes}
    first = nodes["first"]
    assert first.macs == 64 * 256 * 512
    assert first.bytes == 4 * (64 * 256 + 256 * 512 + 64 * 512)
    assert first.shapes == "64×256, 256×512"
    assert first.gflops == pytest.approx(2 * first.macs / first.ms / 1e6)
    assert first.of_ceiling is not None
    assert 0 < first.of_ceiling < 1
    assert nodes["relu"].macs == 0
    assert nodes["relu"].bound == "memory"


def test_shares_and_sums_add_up(dense):
    found = profile(dense)
    assert found.runs >= 3
    assert found.kernels_ms == pytest.approx(sum(node.ms for node in found.nodes))
    assert found.kernels_ms == pytest.approx(sum(each.ms for each in found.operators))
    assert found.kernels_ms < found.total_ms
    assert sum(node.share for node in found.nodes) == pytest.approx(1)
    for spots in (found.nodes, found.operators):
        assert [spot.ms for spot in spots] == sorted((spot.ms for spot in spots), reverse=True)
    products = next(each for each in found.operators if each.op == "MatMul")
    assert (products.count, products.name) == (2, "MatMul")
    assert products.macs == 64 * 512 * (256 + 32)


def test_prediction_and_profile_count_the_same(dense):
    found = profile(dense)
    predicted = onnxopt.inspect(dense[0], costs=True, fix={"n": 64}).costs["MatMul"]
    products = next(each for each in found.operators if each.op == "MatMul")
    assert (products.macs, products.bytes) == (predicted.macs, predicted.bytes)


def test_a_loop_does_not_count_twice(looping):
    found = profile(looping)
    nodes = {node.name: node for node in found.nodes}
    assert nodes["product"].macs == 7 * 16**3
    assert nodes["product"].count == 1
    assert (nodes["loop"].macs, nodes["loop"].of_ceiling) == (None, None)
    assert found.kernels_ms < found.total_ms


def test_the_equation_of_an_einsum_comes_from_the_model(einsum):
    (node,) = profile(einsum).nodes
    assert (node.op, node.macs) == ("Einsum", 2 * 5 * 7 * 3)


def test_inputs_and_outputs_may_be_bound(dense):
    found = profile(dense, setting=Setting(provider="cpu", threads=1, io="bound"))
    assert {node.name for node in found.nodes} == {"first", "relu", "second"}


def test_what_fails_is_said_and_nothing_is_left_behind(dense, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x08\xff")
    found = profile((str(broken), dense[1]))
    assert "cannot load" in found.error
    assert math.isnan(found.total_ms)
    assert found.nodes == ()
    assert not list(tmp_path.glob("onnxopt-*"))


def test_a_model_that_hangs_is_stopped(dense, tmp_path):
    pipe = tmp_path / "pipe.onnx"
    os.mkfifo(pipe)
    found = profile((str(pipe), dense[1]), timeout=1.5)
    assert "was stopped" in found.error


def test_the_ceiling_is_measured_or_not_known():
    found = ceilings.ceiling(SETTING, options={}, timeout=60)
    assert (found.provider, found.threads) == ("cpu", 1)
    assert min(found.gflops, found.gbs, found.cached_gbs) > 0
    none = ceilings.ceiling(Setting(provider="none"), options={}, timeout=60)
    assert all(map(math.isnan, (none.gflops, none.gbs, none.cached_gbs)))


def test_nothing_but_onnxruntime_and_numpy_is_loaded_in_the_child():
    code = "import sys, onnxopt.profiling.child; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"onnx", "onnx_ir", "rich", "click"} & set(loaded)
