"""Shared libraries: what is needed, what is found, what is loaded from wheels."""

import importlib.metadata
import shutil
import sys
from pathlib import Path

import pytest

from onnxopt.runtime.execution import libraries
from onnxopt.runtime.execution.elf import needed
from onnxopt.runtime.execution.libraries import find, libraries_of

OWN = next(libraries.capi().glob("onnxruntime_pybind11_state*.so"))


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Make a folder of packages beside which nothing is installed."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.setattr(libraries, "_USUAL", ())
    monkeypatch.setattr(libraries, "_loader_cache", dict)
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    real = importlib.metadata.distributions
    monkeypatch.setattr(importlib.metadata, "distributions", lambda **_: real(path=[str(folder)]))
    libraries._wheel_files.cache_clear()
    yield folder
    libraries._wheel_files.cache_clear()


def put(folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()


def test_what_a_library_needs_is_read_from_it():
    assert "libc.so.6" in needed(OWN)
    assert "libstdc++.so.6" in needed(OWN)


def test_what_is_no_library_needs_nothing(tmp_path):
    cut = tmp_path / "cut.so"
    cut.write_bytes(OWN.read_bytes()[:100])
    assert needed(cut) == needed(Path(__file__)) == needed(tmp_path / "missing") == ()


def test_the_loader_finds_what_the_system_has():
    found = find("libc.so.6")
    assert found.source == "system"
    assert Path(found.path).exists()


def test_a_library_in_a_wheel_has_the_version_of_the_wheel(site):
    put(site / "nvidia/cudnn/lib", "libcudnn.so.9")
    info = site / "nvidia_cudnn_cu13-9.28.1.4.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: nvidia-cudnn-cu13\nVersion: 9.28.1.4\n")
    (info / "RECORD").write_text("nvidia/cudnn/lib/libcudnn.so.9,,\n")
    found = find("libcudnn.so.9")
    assert (found.version, found.source) == ("9.28.1.4", "nvidia-cudnn-cu13")
    assert found.in_wheel
    assert (found.stem, found.major) == ("libcudnn", 9)


def test_the_users_folders_come_first(site, tmp_path, monkeypatch):
    put(site / "tensorrt_libs", "libnvinfer.so.10")
    put(tmp_path / "own", "libnvinfer.so.10.9.0")
    (tmp_path / "own/libnvinfer.so.10").symlink_to("libnvinfer.so.10.9.0")
    monkeypatch.setenv("LD_LIBRARY_PATH", f":{tmp_path / 'own'}")
    found = find("libnvinfer.so.10")
    assert (found.version, found.source) == ("10.9.0", "LD_LIBRARY_PATH")
    assert not found.in_wheel


def test_other_versions_are_told_of(site):
    put(site / "tensorrt_libs", "libnvinfer.so.11")
    put(site / "tensorrt_libs", "libnvinfer_plugin.so.10")
    found = find("libnvinfer.so.10")
    assert found.path is None
    assert found.others == ("libnvinfer.so.11",)


def test_providers_need_what_they_are_linked_with_and_what_they_load_later(site, monkeypatch):
    linked = {
        "libonnxruntime_providers_cuda.so": ("libcublas.so.13", "libcudart.so.13", "libc.so.6"),
        "libonnxruntime_providers_tensorrt.so": ("libcudnn.so.9", "libnvinfer.so.10", "libm.so.6"),
    }
    monkeypatch.setattr(libraries, "needed", lambda path: linked[path.name])
    cuda = {each.name: each.required for each in libraries_of("CUDAExecutionProvider", site)}
    assert cuda == {
        "libcublas.so.13": True,
        "libcudart.so.13": True,
        "libcudnn.so.9": False,
        "libcufft.so.12": False,
        "libnvrtc.so.13": False,
    }
    tensorrt = [each.name for each in libraries_of("TensorrtExecutionProvider", site)]
    assert tensorrt == ["libcudnn.so.9", "libnvinfer.so.10", "libnvinfer_plugin.so.10"]


def test_other_providers_and_builds_without_need_nothing(tmp_path):
    assert libraries_of("CPUExecutionProvider") == ()
    assert libraries_of("CUDAExecutionProvider", tmp_path) == ()


def test_what_only_a_wheel_has_is_loaded_from_there(site, monkeypatch):
    put(site / "tensorrt_libs", "libnvinfer_plugin.so.10")
    shutil.copy(
        OWN.parent / "libonnxruntime_providers_shared.so", site / "tensorrt_libs/libnvinfer.so.10"
    )
    monkeypatch.setattr(libraries, "needed", lambda _path: ("libnvinfer.so.10",))
    libraries.preload.cache_clear()
    libraries.preload("TensorrtExecutionProvider")
    assert str(site / "tensorrt_libs/libnvinfer.so.10") in Path("/proc/self/maps").read_text()
