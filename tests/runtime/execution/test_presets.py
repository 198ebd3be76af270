"""Provider options: what is preset, what is kept where, what is refused."""

from pathlib import Path

import pytest

from onnxopt.errors import OutputError, ProviderError
from onnxopt.runtime.execution import presets
from onnxopt.runtime.execution.presets import cache_folder, check_options, options_for
from onnxopt.runtime.machine import devices
from onnxopt.runtime.machine.devices import Gpu

MODEL = {"model_sha256": "ab" * 32, "shapes": {"x": "float32[1,3]"}}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Keep engines beside the test."""
    monkeypatch.setenv("ONNXOPT_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


def test_cuda_states_tf32_and_the_caller_wins():
    assert options_for("cuda", **MODEL, given={})["use_tf32"] == "1"
    assert options_for("cuda", **MODEL, given={"use_tf32": "0"})["use_tf32"] == "0"
    assert "enable_cuda_graph" not in options_for("cuda", **MODEL, given={})
    check_options("cuda", options_for("cuda", **MODEL, given={}))


def test_other_providers_get_what_the_caller_gives():
    assert options_for("cpu", **MODEL, given={}) == {}
    given = {"device_type": "GPU"}
    assert options_for("openvino", **MODEL, given=given) == given
    check_options("openvino", given)


def test_tensorrt_keeps_engines_and_timings(cache):
    made = options_for("tensorrt", **MODEL, given={"trt_fp16_enable": "1"})
    engines, timings = Path(made["trt_engine_cache_path"]), Path(made["trt_timing_cache_path"])
    assert engines.is_dir()
    assert timings.is_dir()
    assert engines.parent == timings.parent == cache / "tensorrt"
    assert made["trt_engine_cache_enable"] == made["trt_timing_cache_enable"] == "1"
    assert made["trt_fp16_enable"] == "1"
    check_options("tensorrt", made)
    assert options_for("tensorrt", **MODEL, given={"trt_fp16_enable": "1"}) == made


def engines(given=(), files=(), **changed):
    made = options_for("tensorrt", **{**MODEL, **changed}, given=dict(given), files=files)
    return made["trt_engine_cache_path"], made["trt_timing_cache_path"]


def test_another_model_shape_option_or_weight_is_another_engine(cache, tmp_path):
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"1")
    found = [
        engines(),
        engines(model_sha256="cd" * 32),
        engines(shapes={"x": "float32[8,3]"}),
        engines([("trt_fp16_enable", "1")]),
        engines(files=[weights]),
    ]
    weights.write_bytes(b"12")
    found.append(engines(files=[weights]))
    assert len({engine for engine, _ in found}) == 6
    assert len({timing for _, timing in found}) == 1


def test_another_gpu_or_version_is_another_engine_with_other_timings(cache, monkeypatch):
    before = engines()
    gpu = Gpu(name="NVIDIA Test", capability="9.0")
    monkeypatch.setattr(devices, "gpu_of", lambda _provider, _device: gpu)
    assert not set(engines()) & set(before)


def test_a_cache_of_the_callers_own_is_left_to_him(cache):
    made = options_for("tensorrt", **MODEL, given={"trt_engine_cache_path": "/mine"})
    assert made["trt_engine_cache_path"] == "/mine"
    off = {"trt_engine_cache_enable": "False", "trt_timing_cache_enable": "0"}
    assert options_for("tensorrt", **MODEL, given=off) == off


def test_a_cache_that_cannot_be_written_is_an_error_with_the_way_out(cache):
    cache.write_text("a file")
    with pytest.raises(OutputError) as caught:
        options_for("tensorrt", **MODEL, given={})
    assert "ONNXOPT_CACHE" in caught.value.hint


def test_the_cache_is_where_the_system_keeps_such(monkeypatch, tmp_path):
    monkeypatch.delenv("ONNXOPT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "onnxopt"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache/onnxopt"


@pytest.mark.parametrize(
    ("provider", "name", "hint"),
    [
        ("tensorrt", "trt_fp16", "trt_fp16_enable"),
        ("cuda", "use_tf23", "use_tf32"),
        ("cuda", "zzz", "CUDA-ExecutionProvider"),
        ("cpu", "use_arena", "cpu has no options"),
    ],
)
def test_an_option_that_a_provider_lacks_is_refused_with_the_near_ones(provider, name, hint):
    with pytest.raises(ProviderError) as caught:
        check_options(provider, {name: "1"})
    assert f"has no option {name!r}" in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("provider", "name"), [("cuda", "enable_cuda_graph"), ("tensorrt", "trt_cuda_graph_enable")]
)
def test_cuda_graphs_need_bound_inputs_and_outputs(provider, name):
    with pytest.raises(ProviderError) as caught:
        check_options(provider, {name: "True"}, io=("bound", "copied"))
    assert caught.value.hint == "measure with --io bound, or leave the option out"
    check_options(provider, {name: "1"}, io=("bound",))
    check_options(provider, {name: "0"}, io=("copied",))


def test_what_is_preset_is_known():
    assert set(presets._CUDA) <= presets._KNOWN["cuda"]
