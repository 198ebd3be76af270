import struct

import hidden_isa

HEADER, SEGMENT = 64, 56


def library(segments, length):
    header = bytearray(HEADER)
    struct.pack_into("<Q", header, 32, HEADER)
    struct.pack_into("<HH", header, 54, SEGMENT, len(segments))
    table = b"".join(struct.pack("<IIQQQQQQ", *segment, 0, 0) for segment in segments)
    return (bytes(header) + table).ljust(length, b"\0")


def test_patches_the_instructions_and_nothing_that_only_looks_like_them(tmp_path, monkeypatch):
    code = bytearray(library([(1, 5, 0, 0, 0, 0x200), (1, 5, 0x200, 0x1200, 0, 0x200)], 0x400))
    code[0x210:0x212] = code[0x300:0x302] = hidden_isa._CPUID
    path = tmp_path / "library.so"
    path.write_bytes(code)
    monkeypatch.setattr(hidden_isa, "_addresses", lambda _: [0x1210])
    assert hidden_isa.patch(path) == 1
    patched = path.read_bytes()
    assert patched[0x210:0x212] == hidden_isa._TRAP
    assert patched[0x300:0x302] == hidden_isa._CPUID


def test_the_environment_puts_the_copy_before_what_was_there(tmp_path, monkeypatch):
    (tmp_path / "hidden_isa.so").write_bytes(b"")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    found = hidden_isa.prepare("avx512", tmp_path)
    assert found["HIDE_ISA"] == "avx512"
    assert found["PYTHONPATH"] == f"{tmp_path}:elsewhere"
