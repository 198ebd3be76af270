"""What the numbers were taken on."""

import os
from dataclasses import replace

import pytest

from onnxopt.benchmarking.surroundings import environment
from onnxopt.benchmarking.surroundings.environment import Snapshot, judge, snapshot
from onnxopt.runtime.machine import devices
from onnxopt.runtime.machine.devices import Driver, Gpu, GpuState


def test_the_environment_is_plain_and_knows_versions():
    found = environment.describe()
    assert found["onnxruntime"]
    assert found["python"]
    assert all(isinstance(value, (str, int, float)) for value in found.values())


HERTZ = os.sysconf("SC_CLK_TCK")
# Ten seconds on four processors, of which this benchmark used one.
BEFORE = Snapshot(
    at=100.0,
    cores=4,
    load=0.1,
    ticks=(0, 0, 0),
    own_seconds=0.0,
    throttled_seconds=0.0,
    overheated=0,
    swapped_pages=0,
    memory_bytes=10**9,
    available_bytes=10**9,
)
AFTER = replace(BEFORE, at=110.0, ticks=(0, 10 * HERTZ, 40 * HERTZ), own_seconds=10.0)


def test_a_quiet_machine_has_nothing_against_it():
    assert judge(BEFORE, AFTER) == []
    assert judge(Snapshot(), Snapshot()) == []
    assert judge(BEFORE, BEFORE) == []


@pytest.mark.parametrize(
    ("before", "after", "kind", "message"),
    [
        ({"load": 3.0}, {}, "busy", "load 3 on 4 cores"),
        ({}, {"ticks": (0, 30 * HERTZ, 40 * HERTZ)}, "busy", "used 2.0 of 4 processors"),
        ({}, {"ticks": (2 * HERTZ, 10 * HERTZ, 40 * HERTZ)}, "stolen", "5%"),
        ({}, {"throttled_seconds": 2.5}, "throttled", "quota stopped it for 2.50 s"),
        ({}, {"overheated": 3}, "throttled", "for heat 3 times"),
        ({}, {"swapped_pages": 1000}, "memory", "swapped 4.1 MB"),
        ({}, {"available_bytes": 10**7}, "memory", "only 10.0 MB"),
        ({"described": {"governor": "powersave (acpi-cpufreq)"}}, {}, "throttled", "governor"),
        (
            {"gpu": GpuState(thermal_ns=0, power_ns=0)},
            {"gpu": GpuState(thermal_ns=2 * 10**9, power_ns=None)},
            "throttled",
            "heat held the GPU's clock down for 20% of the time",
        ),
    ],
)
def test_what_happened_meanwhile_is_told(before, after, kind, message):
    (caution,) = judge(replace(BEFORE, **before), replace(AFTER, **after))
    assert caution.kind == kind
    assert message in caution.message
    assert caution.advice


def test_a_governor_that_leaves_the_choice_to_the_processor_is_well():
    own = replace(BEFORE, described={"governor": "powersave (intel_pstate)"})
    assert judge(own, AFTER) == []


def test_advice_knows_what_was_asked_for():
    stopped = replace(AFTER, throttled_seconds=2.5)
    assert judge(BEFORE, stopped, threads=8)[0].advice == "measure with --threads 4 or fewer"
    assert "quota" in judge(BEFORE, stopped, threads=2)[0].advice
    busy = replace(BEFORE, load=4.0)
    assert "--max-time" not in judge(busy, AFTER)[0].advice
    assert "--max-time" in judge(busy, AFTER, precise=False)[0].advice


def test_a_snapshot_is_of_this_machine():
    taken = snapshot()
    assert taken.described == environment.describe() | {
        name: taken.described[name]
        for name in ("frequency_mhz", "load", "memory_available_bytes", "swap_used_bytes")
        if name in taken.described
    }
    assert taken.cores >= 1
    assert taken.gpu is None
    assert taken.own_seconds > 0


def test_the_gpu_is_described_where_a_provider_uses_it(monkeypatch):
    gpu = Gpu(name="NVIDIA Test", memory_bytes=80)
    state = GpuState(clock_mhz=1500, limits=("power cap",))
    monkeypatch.setattr(devices, "gpu_of", lambda _provider: gpu)
    monkeypatch.setattr(devices, "gpu_state", lambda _provider: state)
    monkeypatch.setattr(devices, "driver", lambda: Driver(version="580.65.06"))
    found = snapshot(["cpu", "tensorrt"])
    assert found.gpu == state
    assert found.described["gpu"] == "NVIDIA Test"
    assert found.described["gpu_driver"] == "580.65.06"
    assert found.described["gpu_limits"] == "power cap"
    assert "gpu" not in environment.describe(["cpu"])
