"""What ran elsewhere than was asked, and why."""

import pytest

from onnxopt.runtime.execution.fallback import explain, log_of

CPU, CUDA, TRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
# As onnxruntime 1.25 to 1.31 write it.
LOG = """
2025-09-18 10:26:59.413 [I:onnxruntime:, cuda_execution_provider.cc:2879 GetCapability] \
CUDA kernel not found in registries for Op type: NonZero node name: nz
2025-09-18 10:26:59.413 [I:onnxruntime:, cuda_execution_provider.cc:2890 GetCapability] \
CUDA kernel not supported. Fallback to CPU execution provider for Op type: LSTM node name: rnn
2025-09-18 10:26:59.414 [I:onnxruntime:, fallback_cpu_capability.cc:190 operator()] \
ORT optimization- Force fallback to CPU execution for node: /sh/Gather because the CPU execution \
path is deemed faster than overhead involved with execution on other EPs  capable of executing \
this node
2021-04-05 16:09:30.358 [W:onnxruntime:Default, fallback_cpu_capability.cc:135 \
GetCpuPreferredNodes] Force fallback to CPU execution for node: Slice_63
"""


def on(provider, *operators):
    return [(f"{op}_{index}", op, provider) for index, op in enumerate(operators)]


def test_nothing_is_said_where_all_ran_where_it_was_asked():
    assert explain("cuda", on(CUDA, "Conv", "Relu")) == ""
    assert explain(CUDA, on(CUDA, "Conv")) == explain("cpu", []) == ""


def test_operators_that_ran_elsewhere_are_counted():
    told = explain("cuda", [*on(CUDA, *["Conv"] * 9), *on(CPU, "Shape", "NonZero", "Shape")])
    assert told == "3 of 12 nodes did not run on cuda, but on cpu: Shape ×2, NonZero"


def test_a_provider_that_took_nothing_is_said_to():
    told = explain("tensorrt", [*on(CUDA, "Conv"), *on(CPU, "Shape", "Shape")])
    assert told == "none of 3 nodes ran on tensorrt, but 2 on cpu: Shape ×2; 1 on cuda: Conv"


def test_many_operators_are_cut_short():
    told = explain("cuda", on(CPU, "A", "B", "C", "D", "E", "F"))
    assert told == "none of 6 nodes ran on cuda, but on cpu: A, B, C, D and 2 other operators"


def test_reasons_are_read_from_the_log():
    nodes = [
        ("nz", "NonZero", CPU),
        ("rnn", "LSTM", CPU),
        ("/sh/Gather", "Gather", CPU),
        ("Slice_63", "Slice", CPU),
        ("c", "Conv", CUDA),
    ]
    told = explain("cuda", nodes, LOG)
    assert told == (
        "4 of 5 nodes did not run on cuda, but on cpu: "
        "Gather, Slice (onnxruntime finds it faster there), "
        "NonZero (no kernel for it at this operator set and these types), "
        "LSTM (the kernel does not do these attributes or types)"
    )


def test_reasons_of_tensorrt_are_read_from_the_log():
    log = """
[I] [TRT] No importer registered for op: Frob. Attempting to import as plugin.
ModelImporter.cpp:771: While parsing node number 263 [Range -> "onnx::Add_674"]:
--- Begin node ---
ModelImporter.cpp:775: Assertion failed: inputs.at(0).isInt32() && "Range only supports INT32!"
ERROR: getPluginCreator could not find plugin OneHot version 1
"""
    told = explain("tensorrt", on(CUDA, "Frob", "Range", "OneHot", "Conv"), log)
    assert "Frob, OneHot (TensorRT does not import it)" in told
    assert "Range (TensorRT: Range only supports INT32!)" in told
    assert told.endswith("Conv")


def test_the_log_of_a_load_is_heard(dense, save):
    log = log_of(save(dense), provider="cpu")
    assert "Session successfully initialized" in log


@pytest.mark.parametrize("provider", ["cpu", "nonsense"])
def test_a_load_that_fails_says_nothing(provider, tmp_path):
    assert log_of(tmp_path / "missing.onnx", provider=provider) == ""
