from pathlib import Path

import pytest

from onnxopt.runtime.machine import memory


def test_what_is_available_is_no_more_than_there_is():
    total = 1024 * int(Path("/proc/meminfo").read_text().split()[1])
    assert 0 < memory.available_bytes() < total


@pytest.mark.parametrize(
    ("most", "used", "cached", "free"),
    [("max", 9 << 30, 0, None), (f"{1 << 20}", 1 << 19, 1 << 18, (1 << 19) + (1 << 18))],
)
def test_a_container_may_have_less(tmp_path, monkeypatch, most, used, cached, free):
    (tmp_path / "memory.max").write_text(f"{most}\n")
    (tmp_path / "memory.current").write_text(f"{used}\n")
    (tmp_path / "memory.stat").write_text(f"anon 7\ninactive_file {cached}\nactive_file 1\n")
    whole = memory.available_bytes()
    monkeypatch.setattr(memory, "_SLICE", tmp_path)
    found = memory.available_bytes()
    assert found == free if free else abs(found - whole) < whole / 2


def test_a_shortage_says_how_much_it_takes(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 5_000_000_000)
    assert memory.shortage(4_999_999_999) == ""
    assert memory.shortage(6_500_000_000).startswith("onnxruntime needs about 6.5 GB of memory")
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    assert memory.shortage(1 << 60) == ""


def test_freed_memory_goes_back_to_the_system():
    held = [bytes(1000) for _ in range(100_000)]
    taken = memory.rss_bytes()
    assert taken <= memory.peak_rss_bytes()
    del held
    memory.return_freed()
    assert memory.rss_bytes() <= taken
