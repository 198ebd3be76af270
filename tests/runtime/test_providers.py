"""Execution providers: which work, why not, and the fix."""

import types

import pytest

from onnxopt.errors import ProviderError
from onnxopt.runtime import providers
from onnxopt.runtime.probe import Probe, probe_apart, probe_here
from onnxopt.runtime.providers import PROVIDERS, check_usable, find_provider, survey


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


@pytest.mark.parametrize(
    ("printed", "reason", "fix"),
    [
        (
            "libcudnn.so.9: cannot open shared object file: No such file",
            "libcudnn.so.9",
            "cudnn",
        ),
        ("libnvinfer.so.10: cannot open shared object file", "libnvinfer.so.10", "tensorrt"),
        ("CUDA failure 100: no CUDA-capable device is detected", "no NVIDIA device", "nvidia-smi"),
        ("something else", "something else", "another provider"),
    ],
)
def test_what_a_failed_try_printed_becomes_a_reason_and_a_fix(
    offering, monkeypatch, printed, reason, fix
):
    offering("CUDAExecutionProvider", "CPUExecutionProvider")
    monkeypatch.setattr(providers, "probe_apart", lambda *_: Probe(works=False, error=printed))
    status = next(status for status in survey() if status.name == "cuda")
    assert not status.usable
    assert reason in status.reason
    assert fix in status.fix
    with pytest.raises(ProviderError, match="cuda"):
        check_usable("cuda")


def test_two_wheels_over_each_other_are_noticed(monkeypatch):
    monkeypatch.setattr(
        providers, "installed_wheels", lambda: {"onnxruntime": "1", "onnxruntime-gpu": "1"}
    )
    status = survey()[0]
    assert status.usable
    assert "over each other" in status.reason
    assert status.fix == (
        "run: pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
    )


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
