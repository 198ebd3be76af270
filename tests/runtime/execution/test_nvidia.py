"""What CUDA and TensorRT miss on a machine, and the exact fix."""

import pytest

from onnxopt.runtime.execution.libraries import Library
from onnxopt.runtime.execution.nvidia import Machine, details, problems
from onnxopt.runtime.machine.devices import Driver, Gpu

CUDA = ("libcuda.so.1", "libcudart.so.13", "libcublas.so.13")
DRIVER = Driver(version="580.65.06", cuda=(13, 0))


def there(name, version="1", **facts):
    return Library(name=name, path=f"/lib/{name}", version=version, source="system", **facts)


def machine(*missing, driver=DRIVER, present=CUDA):
    return Machine(
        wheel="onnxruntime-gpu",
        version="1.31.1",
        built_for="13.0",
        libraries=[*map(there, present), *missing],
        driver=driver,
    )


def test_a_whole_machine_has_no_problem():
    assert problems(machine(), works=True) == problems(machine(), works=False) == []


def test_a_missing_driver_is_told_first():
    found = problems(machine(Library(name="libcudnn.so.9"), driver=None), works=False)
    assert found[0].reason == "there is no NVIDIA driver: libcuda.so.1 is not there"
    assert "version 580 or newer" in found[0].fix
    assert "--gpus all" in found[0].fix
    assert found[1].reason == "libcudnn.so.9 is not there"


def test_an_old_driver_needs_a_new_one_or_an_older_onnxruntime():
    (found,) = problems(machine(driver=Driver(version="550.54", cuda=(12, 4))), works=False)
    assert found.reason == (
        "the driver 550.54 runs CUDA 12.4 at most, and onnxruntime-gpu 1.31.1 wants CUDA 13"
    )
    assert "version 580 or newer" in found.fix
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]<1.27'" in found.fix


def test_missing_libraries_are_named_with_what_installs_them():
    missing = [
        Library(name="libcudnn.so.9", others=("libcudnn.so.8",)),
        Library(name="libcufft.so.12", required=False),
        Library(name="libnvinfer.so.10", others=("libnvinfer.so.11",)),
    ]
    cuda, tensorrt = problems(machine(*missing), works=False)
    assert cuda.reason == (
        "libcudnn.so.9 and libcufft.so.12 are not there (libcudnn.so.8 will not do)"
    )
    assert cuda.fix == "run: pip install 'onnxruntime-gpu[cuda,cudnn]==1.31.1'"
    assert tensorrt.reason == "libnvinfer.so.10 is not there (libnvinfer.so.11 will not do)"
    assert tensorrt.fix == "run: pip install 'tensorrt-cu13-libs==10.*'"


def test_what_only_some_operators_need_is_told_where_the_provider_works():
    (found,) = problems(machine(Library(name="libcudnn.so.9", required=False)), works=True)
    assert "convolutions" in found.reason
    assert found.fix == "run: pip install 'onnxruntime-gpu[cuda,cudnn]==1.31.1'"


def test_versions_are_held_against_what_is_wanted():
    found = machine(Library(name="libcudnn.so.9"), there("libnvinfer.so.10", "10.16.1"))
    told = details(found)
    assert told["onnxruntime-gpu"] == "1.31.1 for CUDA 13.0"
    assert told["driver"] == "580.65.06, CUDA 13.0 at most"
    assert told["CUDA"] == "1 found, 13 wanted"
    assert told["cuDNN"] == "missing, 9 wanted"
    assert told["TensorRT"] == "10.16.1 found, 10 wanted"
    assert "note" not in told


@pytest.mark.parametrize(
    ("wheel", "said"),
    [("nvidia-cudnn-cu13", "preload_dlls"), ("tensorrt-cu13-libs", "LD_LIBRARY_PATH")],
)
def test_libraries_that_only_wheels_have_are_noted_for_other_programs(wheel, said):
    library = Library(name="libcudnn.so.9", path="/site/libcudnn.so.9", source=wheel)
    assert said in details(machine(library))["note"]


def test_without_libraries_the_build_says_which_cuda_is_wanted():
    bare = Machine(wheel="onnxruntime", version="1.23", built_for="12.8")
    assert bare.cuda == 12
    assert Machine(wheel="onnxruntime", version="1.23").cuda is None
    told = Machine(
        wheel="onnxruntime", version="1.23", gpus=[Gpu(name="A100", memory_bytes=80 * 10**9)]
    )
    assert details(told) == {"onnxruntime": "1.23", "driver": "none", "GPU 0": "A100, 80.0 GB"}
