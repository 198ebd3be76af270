import io as memory
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.errors import ModelError
from onnxopt.graph import mapped
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.mapped import MappedFile, MappedTensor, digest

NUMERIC = [kind for kind in ir.DataType if kind not in (ir.DataType.UNDEFINED, ir.DataType.STRING)]
LARGE = mapped._SMALL


def tensor_in(path, data, *, before=b"", dtype=ir.DataType.UINT8, shape=None):
    path.write_bytes(before + data)
    shape = [len(data)] if shape is None else shape
    return MappedTensor(
        MappedFile(str(path)), len(before), dtype=dtype, shape=ir.Shape(shape), name="w"
    )


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(NUMERIC),
    st.lists(st.integers(0, 5), max_size=3),
    st.integers(0, 9),
    st.randoms(use_true_random=False),
)
def test_every_element_type_reads_as_onnx_ir_reads_it(tmp_path_factory, dtype, shape, skip, random):
    count = int(np.prod(shape, dtype=int))
    data = random.randbytes(-(-count * dtype.bitwidth // 8))
    if dtype.bitwidth == 6:
        data = bytes(len(data))  # its unused bits have to be zero
    path = tmp_path_factory.mktemp("t") / "data"
    tensor = tensor_in(path, data, before=bytes(skip), dtype=dtype, shape=shape)
    assert tensor.nbytes == len(data)
    assert tensor.tobytes() == bytes(tensor.view) == data
    array = tensor.numpy()
    assert array.shape == tuple(shape)
    assert ir.Tensor(array, dtype=dtype).nbytes == len(data)
    if dtype.bitwidth >= 8:
        assert array.tobytes() == data
        assert not array.size or not array.flags.writeable


def test_four_bit_values_are_unpacked(tmp_path):
    tensor = tensor_in(tmp_path / "w", b"\x21\x0f", dtype=ir.DataType.INT4, shape=[3])
    assert tensor.numpy().dtype == ml_dtypes.int4
    assert tensor.numpy().tolist() == [1, 2, -1]


def test_the_array_is_a_view_of_the_file(tmp_path):
    tensor = tensor_in(tmp_path / "w", bytes(4096), dtype=ir.DataType.FLOAT, shape=[1024])
    assert np.shares_memory(tensor.numpy(), np.frombuffer(tensor.file.view, np.uint8))
    assert np.asarray(tensor).shape == (1024,)
    assert np.from_dlpack(tensor).shape == (1024,)


def test_an_array_outlives_its_tensor(tmp_path):
    array = tensor_in(tmp_path / "w", b"\x07" * 5000).numpy()
    (tmp_path / "w").unlink()
    assert array.sum() == 35000


def test_a_file_that_is_replaced_is_still_read_as_it_was(tmp_path):
    tensor = tensor_in(tmp_path / "w", b"old" * 2000)
    (tmp_path / "new").write_bytes(b"new" * 2000)
    (tmp_path / "new").rename(tmp_path / "w")
    assert tensor.tobytes() == b"old" * 2000
    assert digest(tensor) == digest(ir.tensor(np.frombuffer(b"old" * 2000, np.uint8)))


@pytest.mark.parametrize("size", [0, 1, 5000, LARGE - 1, LARGE, 3 * LARGE + 17])
@pytest.mark.parametrize("kernel", [True, False])
def test_bytes_are_copied_to_a_file_after_what_is_there(tmp_path, size, kernel, monkeypatch):
    if not kernel:
        monkeypatch.setattr(mapped, "_NO_KERNEL_COPY", {18})

        def refuse(*_):
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr(os, "copy_file_range", refuse)
    data = os.urandom(size)
    tensor = tensor_in(tmp_path / "in", data, before=b"abc")
    with (tmp_path / "out").open("wb") as file:
        file.write(b"head")
        tensor.tofile(file)
        assert file.tell() == 4 + size
        file.write(b"tail")
    assert (tmp_path / "out").read_bytes() == b"head" + data + b"tail"


def test_the_kernel_may_copy_a_part_and_give_up(tmp_path, monkeypatch):
    answers = iter([5000, 0])
    real = os.copy_file_range

    def some(source, target, count, *places):
        share = next(answers)
        return real(source, target, share, *places) if share else 0

    monkeypatch.setattr(os, "copy_file_range", some)
    data = os.urandom(2 * LARGE)
    tensor = tensor_in(tmp_path / "in", data)
    with (tmp_path / "out").open("wb") as file:
        tensor.tofile(file)
    assert (tmp_path / "out").read_bytes() == data


def test_an_error_of_the_disk_is_not_hidden(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "copy_file_range", full)
    tensor = tensor_in(tmp_path / "in", bytes(2 * LARGE))
    with (tmp_path / "out").open("wb") as file, pytest.raises(OSError, match="No space"):
        tensor.tofile(file)


def test_bytes_are_copied_to_what_is_no_file():
    tensor = MappedTensor(
        MappedFile(b"abc" * LARGE), 3, dtype=ir.DataType.UINT8, shape=ir.Shape([LARGE]), name="w"
    )
    target = memory.BytesIO()
    tensor.tofile(target)
    assert target.getvalue() == (b"abc" * LARGE)[3 : 3 + LARGE]


def test_a_file_that_became_shorter_is_an_error_not_a_loop(tmp_path):
    tensor = tensor_in(tmp_path / "w", bytes(3 * mapped._CHUNK))
    os.truncate(tmp_path / "w", mapped._CHUNK)
    with pytest.raises(OSError, match="shorter"):
        digest(tensor)


def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ModelError, match="no regular file"):
            MappedFile(str(path))


def test_descriptors_are_given_back(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        tensor_in(tmp_path / "w", bytes(5000))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_user_who_serializes_with_onnx_ir_gets_the_bytes(tmp_path):
    tensor = tensor_in(tmp_path / "w", b"\x05" * 3000)
    assert ir.to_proto(tensor).raw_data == b"\x05" * 3000


def resident(path):
    """Return how many bytes of a file this process has in memory."""
    text = Path("/proc/self/smaps").read_text()
    return 1024 * sum(
        int(part.partition("Rss:")[2].split()[0])
        for part in text.split("VmFlags:")
        if f"{path}\n" in part
    )


def test_what_was_read_of_a_large_tensor_leaves_the_memory_with_the_last_array(tmp_path):
    path = tmp_path / "w"
    tensor = tensor_in(path, os.urandom(1 << 22), before=bytes(100))
    array = tensor.numpy()
    part = array.reshape(2, -1)[1]
    assert int(array.max()) == 255
    assert resident(path) > 3 << 20
    del array
    assert resident(path) > 3 << 20, "a part of it is still in use"
    assert part.sum() > 0
    del part
    assert resident(path) < 1 << 18


def test_a_scratch_file_has_no_name_and_holds_what_is_written(tmp_path):
    file = MappedFile.scratch(str(tmp_path), 1 << 30)
    data = os.urandom(100_000)
    file.write(4096, memoryview(data))
    assert list(tmp_path.iterdir()) == []
    assert bytes(file.view[4096:104_096]) == file.read(4096, 100_000) == data
    assert len(file) == 1 << 30


def test_a_scratch_file_that_is_gone_gives_its_descriptors_back(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        MappedFile.scratch(str(tmp_path), 4096)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
