"""What Linux counts and sets, and None where it does not."""

import pytest

from onnxopt.benchmarking.surroundings import counters


@pytest.fixture
def root(tmp_path):
    """Make files of the kernel below a folder; return what writes them."""

    def write(**files):
        for path, text in files.items():
            place = tmp_path / path.replace("__", "/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        return tmp_path

    return write


CPUS = "sys__devices__system__cpu__"


def test_where_nothing_is_told_there_is_nothing(tmp_path):
    for question in (
        counters.ticks,
        counters.throttled_seconds,
        counters.overheated,
        counters.swapped_pages,
        counters.governor,
        counters.frequency_mhz,
        counters.max_frequency_mhz,
        counters.turbo,
    ):
        assert question(tmp_path) is None, question
    assert counters.memory("MemTotal", tmp_path) is None


def test_ticks_are_stolen_busy_and_all(root):
    stat = "cpu  100 10 50 800 20 1 9 10 7 0\ncpu0 1 2 3\n"
    assert counters.ticks(root(proc__stat=stat)) == (10, 170, 1000)


def test_throttling_is_summed_up_by_the_control_group(root):
    folder = root(proc__self__cgroup="0::/\n")
    (folder / "sys/fs/cgroup").mkdir(parents=True)
    (folder / "sys/fs/cgroup/cpu.stat").write_text("usage_usec 5\nthrottled_usec 2500000\n")
    assert counters.throttled_seconds(folder) == 2.5


def test_throttling_is_in_nanoseconds_in_old_control_groups(root):
    folder = root(proc__self__cgroup="1:cpu:/\n")
    (folder / "sys/fs/cgroup/cpu").mkdir(parents=True)
    (folder / "sys/fs/cgroup/cpu/cpu.stat").write_text(
        "nr_throttled 3\nthrottled_time 1500000000\n"
    )
    assert counters.throttled_seconds(folder) == 1.5


def test_heat_is_that_of_the_hottest_processor(root):
    folder = root(
        **{
            f"{CPUS}cpu0__thermal_throttle__core_throttle_count": "2\n",
            f"{CPUS}cpu1__thermal_throttle__package_throttle_count": "5\n",
        }
    )
    assert counters.overheated(folder) == 5


def test_swapping_and_memory_are_read(root):
    folder = root(
        proc__vmstat="pgpgin 9\npswpin 3\npswpout 4\n", proc__meminfo="MemTotal:     1000 kB\n"
    )
    assert counters.swapped_pages(folder) == 7
    assert counters.memory("MemTotal", folder) == 1_024_000


def test_frequencies_and_who_sets_them_are_read(root):
    folder = root(
        **{
            f"{CPUS}cpu0__cpufreq__scaling_governor": "powersave\n",
            f"{CPUS}cpu0__cpufreq__scaling_driver": "intel_pstate\n",
            f"{CPUS}cpu0__cpufreq__scaling_cur_freq": "1200000\n",
            f"{CPUS}cpu1__cpufreq__scaling_cur_freq": "3400000\n",
            f"{CPUS}cpu0__cpufreq__cpuinfo_max_freq": "4000000\n",
            f"{CPUS}intel_pstate__no_turbo": "1\n",
        }
    )
    assert counters.governor(folder) == "powersave (intel_pstate)"
    assert counters.frequency_mhz(folder) == 3400
    assert counters.max_frequency_mhz(folder) == 4000
    assert counters.turbo(folder) == "off"


def test_frequency_and_boost_are_found_elsewhere_too(root):
    folder = root(
        proc__cpuinfo="cpu MHz\t\t: 2596.100\ncpu MHz\t\t: 2597.900\n",
        **{f"{CPUS}cpufreq__boost": "1\n"},
    )
    assert counters.frequency_mhz(folder) == 2598
    assert counters.turbo(folder) == "on"
