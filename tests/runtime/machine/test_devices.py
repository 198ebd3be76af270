"""Devices: what they tell, and None where they tell nothing."""

# ruff: noqa: N802 - the names are those of NVML

import os
import types

import pytest

from onnxopt.runtime.machine import devices
from onnxopt.runtime.machine.devices import Driver, RaplMeter


class FakeNvml:
    """NVML of a machine with one GPU, on which the process `pid` holds memory."""

    NotSupported = type("NotSupported", (Exception,), {})

    def __init__(self, processes=(), energy_mj=5000, reasons=0):
        self.processes = processes
        self.energy_mj = energy_mj
        self.reasons = reasons

    def nvmlSystemGetDriverVersion(self):
        return b"580.65.06"

    def nvmlDeviceGetCount(self):
        return 1

    def nvmlDeviceGetHandleByIndex(self, index):
        return f"gpu {index}"

    def nvmlDeviceGetHandleByPciBusId(self, place):
        return f"gpu at {place.decode()}"

    def nvmlDeviceGetName(self, handle):
        return "NVIDIA Test"

    def nvmlDeviceGetMemoryInfo(self, handle):
        return types.SimpleNamespace(total=80 << 30)

    def nvmlDeviceGetCudaComputeCapability(self, handle):
        return 9, 0

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):
        return self.reasons

    def nvmlDeviceGetClockInfo(self, handle, kind):
        return 1500

    def nvmlDeviceGetMaxClockInfo(self, handle, kind):
        return 1980

    def nvmlDeviceGetTemperature(self, handle, sensor):
        return 60

    def nvmlDeviceGetViolationStatus(self, handle, policy):
        if policy == 0:
            raise self.NotSupported
        return types.SimpleNamespace(violationTime=7)

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return [types.SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.processes]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        if self.energy_mj is None:
            raise self.NotSupported
        return self.energy_mj


@pytest.fixture
def nvml(monkeypatch):
    """Put a GPU into the machine."""

    def put(**facts):
        monkeypatch.setattr(devices, "_nvml", lambda: FakeNvml(**facts))
        monkeypatch.setattr(devices, "_libcuda", lambda: None)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return put


@pytest.fixture
def bare(monkeypatch):
    """Take NVML and CUDA away."""
    monkeypatch.setattr(devices, "_nvml", lambda: None)
    monkeypatch.setattr(devices, "_libcuda", lambda: None)


def test_without_nvml_nothing_is_told(bare, tmp_path):
    assert devices.device_bytes(os.getpid(), "cuda") is None
    assert devices.energy_joules("cuda") is None
    assert devices.gpu_state("cuda") is None
    assert devices.gpus() == ()
    assert devices.driver(tmp_path) is None


def test_the_driver_is_read_from_proc_where_nvml_is_missing(bare, tmp_path):
    (tmp_path / "driver/nvidia").mkdir(parents=True)
    (tmp_path / "driver/nvidia/version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n"
    )
    assert devices.driver(tmp_path) == Driver(version="535.104.05")


def test_a_gpu_is_described(nvml):
    nvml(reasons=0x04 | 0x01)
    assert devices.driver() == Driver(version="580.65.06")
    (gpu,) = devices.gpus()
    assert (gpu.name, gpu.memory_bytes, gpu.capability) == ("NVIDIA Test", 80 << 30, "9.0")
    state = devices.gpu_state("tensorrt")
    assert (state.clock_mhz, state.max_clock_mhz, state.temperature_c) == (1500, 1980, 60)
    assert state.limits == ("power cap",)
    assert (state.thermal_ns, state.power_ns) == (7, None)


def test_other_providers_have_no_gpu_of_nvidia(nvml):
    nvml(processes=[(os.getpid(), 1)])
    assert devices.gpu_of("openvino") is None
    assert devices.device_bytes(os.getpid(), "openvino") is None


def test_memory_is_that_of_the_process(nvml):
    nvml(processes=[(os.getpid(), 300), (1, 500)])
    assert devices.device_bytes(os.getpid(), "cuda") == 300


def test_a_process_of_the_host_alone_on_the_device_is_this_one(nvml):
    nvml(processes=[(2**22 + 5, 300)])
    assert devices.device_bytes(os.getpid(), "cuda") == 300


@pytest.mark.parametrize("others", [[(2**22 + 5, 1), (2**22 + 6, 2)], [(1, 300)]])
def test_memory_of_others_is_not_taken_for_ours(nvml, others):
    nvml(processes=others)
    assert devices.device_bytes(os.getpid(), "cuda") is None


def test_memory_that_the_driver_hides_is_unknown(nvml):
    nvml(processes=[(os.getpid(), None)])
    assert devices.device_bytes(os.getpid(), "cuda") is None


def test_energy_of_a_gpu_is_in_joules(nvml):
    nvml(energy_mj=2500)
    assert devices.energy_joules("cuda") == 2.5
    nvml(energy_mj=None)
    assert devices.energy_joules("cuda") is None


def test_a_device_that_cuda_renumbers_is_found_by_its_place(nvml, monkeypatch):
    nvml()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert devices.gpu_of("cuda") is None
    monkeypatch.setattr(devices, "_pci_bus", lambda device: b"0000:3B:00.0")
    assert devices._handle("cuda", 0)[1] == "gpu at 0000:3B:00.0"


@pytest.fixture
def zone(tmp_path):
    """Make an energy counter and return what sets it."""

    def make(folder, name, energy, most=1000):
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        (place / "name").write_text(f"{name}\n")
        (place / "energy_uj").write_text(f"{energy}\n")
        (place / "max_energy_range_uj").write_text(f"{most}\n")

    return make


def test_energy_of_processors_adds_packages_and_memory_up(zone, tmp_path):
    zone("intel-rapl:0", "package-0", 100)
    zone("intel-rapl:0:0", "core", 100)
    zone("intel-rapl:0:1", "dram", 100)
    zone("intel-rapl:1", "psys", 100)
    meter = RaplMeter(tmp_path)
    assert meter.read() == 0
    zone("intel-rapl:0", "package-0", 400)
    zone("intel-rapl:0:0", "core", 300)
    zone("intel-rapl:0:1", "dram", 150)
    assert meter.read() == pytest.approx(350e-6)


def test_a_counter_that_starts_again_is_followed(zone, tmp_path):
    zone("intel-rapl:0", "package-0", 900)
    meter = RaplMeter(tmp_path)
    meter.read()
    zone("intel-rapl:0", "package-0", 99)
    assert meter.read() == pytest.approx(200e-6)
    zone("intel-rapl:0", "package-0", 199)
    assert meter.read() == pytest.approx(300e-6)


def test_energy_that_may_not_be_read_is_unknown(zone, tmp_path):
    assert RaplMeter(tmp_path).read() is None
    zone("intel-rapl:0", "package-0", 900)
    meter = RaplMeter(tmp_path)
    (tmp_path / "intel-rapl:0/energy_uj").unlink()
    assert meter.read() is None
