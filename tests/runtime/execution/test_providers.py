"""Execution providers: which work, why not, and the fix."""

import types

import pytest

from onnxopt.errors import ProviderError
from onnxopt.runtime.execution import libraries, providers, wheels
from onnxopt.runtime.execution.libraries import Library
from onnxopt.runtime.execution.probe import Probe, probe_apart, probe_here
from onnxopt.runtime.execution.providers import (
    PROVIDERS,
    check_usable,
    find_provider,
    short_name,
    survey,
)
from onnxopt.runtime.execution.wheels import Problem
from onnxopt.runtime.machine import devices
from onnxopt.runtime.machine.devices import Driver, Gpu


def test_the_cpu_works():
    status = next(status for status in survey() if status.name == "cpu")
    assert status.usable
    assert status.details["usable cores"]
    assert check_usable("cpu").ort_name == "CPUExecutionProvider"


def test_cuda_and_tensorrt_are_always_told_of():
    names = [status.name for status in survey()]
    assert names[:3] == ["cpu", "cuda", "tensorrt"]
    assert "azure" not in names
    for status in survey():
        assert status.usable or (status.reason and status.fix)


def test_probing_apart_says_what_probing_here_says():
    assert probe_here("CPUExecutionProvider").works
    assert probe_apart("CPUExecutionProvider").works


def test_neither_the_folder_nor_what_is_printed_disturbs_a_probe(monkeypatch, tmp_path):
    (tmp_path / "json.py").write_text("raise RuntimeError('not the json that was meant')")
    noise = "import atexit; print('noise'); atexit.register(print, 'more')"
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise/sitecustomize.py").write_text(noise)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "noise"))
    monkeypatch.chdir(tmp_path)
    assert probe_apart.__wrapped__("CPUExecutionProvider").works


def test_a_provider_that_is_not_there_does_not_work():
    found = probe_apart("NoSuchExecutionProvider", ("CPUExecutionProvider",))
    assert not found.works
    assert found.error


def test_an_unknown_name_is_refused_with_the_near_ones():
    with pytest.raises(ProviderError, match="tensorrt"):
        find_provider("tensort")


def test_onnxruntimes_own_names_are_understood():
    assert find_provider("CPUExecutionProvider").name == "cpu"


@pytest.fixture
def offering(monkeypatch):
    """Pretend that the installed onnxruntime offers these providers."""

    def offer(*names):
        fake = types.SimpleNamespace(
            get_available_providers=lambda: list(names), __version__="9.9", InferenceSession=object
        )
        monkeypatch.setattr(providers, "import_onnxruntime", lambda: fake)

    return offer


def test_a_provider_that_this_build_lacks_is_refused_with_the_wheel(offering, monkeypatch):
    offering("CPUExecutionProvider")
    monkeypatch.setattr(providers, "installed_wheels", lambda: {"onnxruntime": "9.9"})
    with pytest.raises(ProviderError) as caught:
        find_provider("cuda")
    assert "without CUDAExecutionProvider" in caught.value.message
    assert caught.value.hint == "run: pip uninstall -y onnxruntime && pip install onnxruntime-gpu"


def test_providers_without_a_name_of_ours_are_offered_too(offering):
    offering("CPUExecutionProvider", "ShinyExecutionProvider")
    assert find_provider("shiny").ort_name == "ShinyExecutionProvider"


@pytest.fixture
def driven(monkeypatch):
    """Pretend that there is a driver for CUDA 13 and every library."""
    monkeypatch.setattr(devices, "driver", lambda: Driver(version="580.65.06", cuda=(13, 0)))
    monkeypatch.setattr(devices, "gpus", lambda: (Gpu(name="NVIDIA Test"),))


@pytest.mark.parametrize(
    ("printed", "reason", "fix"),
    [
        ("libfoo.so.9: cannot open shared object file: No such file", "libfoo.so.9", "libfoo.so.9"),
        ("CUDA failure 100: no CUDA-capable device is detected", "no NVIDIA device", "nvidia-smi"),
        ("something else", "something else", "another provider"),
        ("", "took no node", "another provider"),
    ],
)
def test_what_a_failed_try_printed_becomes_a_reason_and_a_fix(
    offering, driven, monkeypatch, printed, reason, fix
):
    offering("CUDAExecutionProvider", "CPUExecutionProvider")
    monkeypatch.setattr(providers, "probe_apart", lambda *_: Probe(works=False, error=printed))
    status = next(status for status in survey() if status.name == "cuda")
    assert not status.usable
    assert reason in status.reason
    assert fix in status.fix
    assert status.details["GPU 0"] == "NVIDIA Test"
    with pytest.raises(ProviderError, match="cuda"):
        check_usable("cuda")


def test_what_is_missing_comes_before_what_was_printed(offering, driven, monkeypatch):
    offering("TensorrtExecutionProvider", "CPUExecutionProvider")
    monkeypatch.setattr(providers, "probe_apart", lambda *_: Probe(works=False, error="odd"))
    missing = Library(name="libnvinfer.so.10", others=("libnvinfer.so.11",))
    monkeypatch.setattr(libraries, "libraries_of", lambda _name: (missing,))
    status = next(status for status in survey() if status.name == "tensorrt")
    assert status.libraries == (missing,)
    assert "libnvinfer.so.11 will not do" in status.reason
    assert "tensorrt-cu12-libs==10.*" in status.fix


def test_a_provider_that_works_tells_of_wheels_over_each_other(monkeypatch):
    both = [Problem(reason="two are installed over each other", fix="run: pip uninstall")]
    monkeypatch.setattr(wheels, "problems", lambda: both)
    status = survey()[0]
    assert status.usable
    assert (status.reason, status.fix) == (both[0].reason, both[0].fix)


def test_short_names_are_ours_or_made_of_onnxruntimes():
    assert short_name("TensorrtExecutionProvider") == "tensorrt"
    assert short_name("DmlExecutionProvider") == "directml"
    assert short_name("ShinyExecutionProvider") == "shiny"


def test_files_that_another_wheel_took_along_are_named_where_onnxruntime_is_broken(monkeypatch):
    def empty():
        raise ProviderError("onnxruntime is broken: the package is there but empty", "reinstall")

    gone = [Problem(reason="9 files of onnxruntime-gpu 1.31 are gone", fix="run: pip install it")]
    monkeypatch.setattr(providers, "import_onnxruntime", empty)
    monkeypatch.setattr(wheels, "problems", lambda: gone)
    assert {status.reason for status in survey()} == {gone[0].reason}


def test_without_onnxruntime_every_provider_names_the_fix(monkeypatch):
    def missing():
        raise ProviderError("onnxruntime is not installed", "run: pip install something")

    monkeypatch.setattr(providers, "import_onnxruntime", missing)
    statuses = survey()
    assert [status.usable for status in statuses] == [False, False, False]
    assert all("pip install" in status.fix for status in statuses)


def test_every_provider_falls_back_on_what_comes_after_it():
    assert PROVIDERS["cpu"].fallbacks == ()
    assert PROVIDERS["tensorrt"].fallbacks == ("CUDAExecutionProvider", "CPUExecutionProvider")
