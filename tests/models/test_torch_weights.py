"""Legacy PyTorch files are read as data; whatever would run something is refused."""

import io
import os
import pickle
import struct
import sys
import types

import numpy as np
import pytest
from torch_weights import read_pickle, read_state_dict


class Storage:
    def __init__(self, key, array):
        self.key, self.array = key, array


@pytest.fixture
def write(monkeypatch):
    """Return a function that writes arrays the way `torch.save` did before 1.6."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch._utils = utils
    for name in ("FloatStorage", "LongStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    code = "def _rebuild_tensor_v2(*arguments): raise AssertionError('must not run')"
    exec(code, utils.__dict__)  # its __module__ must be torch._utils for pickle to name it so
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    class Tensor:
        def __init__(self, storage, offset, shape, strides):
            self.arguments = (storage, offset, shape, strides, False, {})

        def __reduce__(self):
            return utils._rebuild_tensor_v2, self.arguments

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            if not isinstance(thing, Storage):
                return None
            kind = torch.FloatStorage if thing.array.dtype == np.float32 else torch.LongStorage
            return ("storage", kind, thing.key, "cpu", thing.array.size, None)

    def write_file(tensors):
        file = io.BytesIO()
        storages = {storage.key: storage.array for storage, *_ in tensors.values()}
        state = {name: Tensor(*parts) for name, parts in tensors.items()}
        for thing in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, state):
            Pickler(file, protocol=2).dump(thing)
        pickle.dump(sorted(storages), file, protocol=2)
        for key in sorted(storages):
            file.write(struct.pack("<q", storages[key].size) + storages[key].tobytes())
        file.seek(0)
        return file

    return write_file


def test_tensors_are_read_with_shape_stride_and_offset(write):
    floats = Storage("1", np.arange(12, dtype=np.float32))
    count = Storage("0", np.array([7]))
    file = write(
        {
            "whole": (floats, 0, (3, 4), (4, 1)),
            "turned": (floats, 0, (4, 3), (1, 4)),
            "tail": (floats, 10, (2,), (1,)),
            "count": (count, 0, (), ()),
        }
    )
    tensors = read_state_dict(file)
    whole = floats.array.reshape(3, 4)
    np.testing.assert_array_equal(tensors["whole"], whole)
    np.testing.assert_array_equal(tensors["turned"], whole.T)
    np.testing.assert_array_equal(tensors["tail"], [10, 11])
    assert tensors["count"] == 7
    assert tensors["count"].dtype == np.int64


def test_tensor_beyond_its_storage_is_refused(write):
    floats = Storage("0", np.arange(12, dtype=np.float32))
    with pytest.raises(ValueError, match="reaches beyond"):
        read_state_dict(write({"w": (floats, 1, (3, 4), (4, 1))}))


def test_calls_are_refused_and_not_made(tmp_path):
    victim = tmp_path / "victim"

    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(victim),)

    for protocol in (1, 2, 4):
        with pytest.raises(ValueError, match=r"no state dict needs|none that a state dict needs"):
            read_pickle(io.BytesIO(pickle.dumps(Hostile(), protocol)))
    assert not victim.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", pickle.dumps(1), b"\x80\x02."])
def test_other_files_are_refused(content):
    with pytest.raises(ValueError):
        read_state_dict(io.BytesIO(content))
