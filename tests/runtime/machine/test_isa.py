"""What the processor is and how much of it may be used."""

import pytest

from onnxopt.runtime.machine.isa import processor, usable_cores


def test_this_processor_has_a_name_and_a_core():
    found = processor()
    assert found.name
    assert found.cores >= 1
    assert isinstance(found.dots_int8, bool)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Pretend to be a machine with four cores of two hardware threads each."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    for cpu in range(8):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "physical_package_id").write_text("0\n")
        (folder / "core_id").write_text(f"{cpu % 4}\n")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    return tmp_path


def test_hardware_threads_of_one_core_count_once(machine):
    assert usable_cores(machine) == 4


def test_affinity_limits(machine, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 4}, raising=False)
    assert usable_cores(machine) == 2


def test_quota_of_the_second_kind_of_groups_limits(machine):
    (machine / "proc/self/cgroup").write_text("0::/pod/box\n")
    (machine / "sys/fs/cgroup/pod/box").mkdir(parents=True)
    (machine / "sys/fs/cgroup/pod/box/cpu.max").write_text("max 100000\n")
    (machine / "sys/fs/cgroup/pod/cpu.max").write_text("150000 100000\n")
    assert usable_cores(machine) == 2


def test_quota_of_the_first_kind_of_groups_limits(machine):
    (machine / "proc/self/cgroup").write_text("4:memory:/box\n1:cpu:/box\n")
    folder = machine / "sys/fs/cgroup/cpu/box"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("100000\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(machine) == 1


def test_no_quota_is_no_limit(machine):
    (machine / "proc/self/cgroup").write_text("1:cpu:/box\n")
    folder = machine / "sys/fs/cgroup/cpu"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(machine) == 4
