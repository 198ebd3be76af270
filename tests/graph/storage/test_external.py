import os

import onnx
import pytest

from onnxopt.errors import ModelError
from onnxopt.graph import io
from tests.graph.protos import chain, same


def external(path, location="weights.bin", **entries):
    """Write the chain with the data of `w1` in a file of its own, and what `entries` say of it."""
    proto = chain()
    tensor = proto.graph.initializer[1]
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    path.write_bytes(proto.SerializeToString())
    return data


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def loads(path):
    same(io.to_proto(io.load(path)), chain())
    return io.source_of(io.load(path))


def refused(path, message):
    with pytest.raises(ModelError, match=message) as caught:
        io.load(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("before", [0, 5, 4096])
@pytest.mark.parametrize("length", [True, False])
def test_data_is_read_from_its_offset(folder, before, length):
    entries = {"offset": before} if before else {}
    data = external(folder / "m.onnx", **entries, **({"length": 4096} if length else {}))
    (folder / "weights.bin").write_bytes(bytes(before) + data + b"rest")
    source = loads(folder / "m.onnx")
    assert source.external_files == (str(folder / "weights.bin"),)
    sizes = [path.stat().st_size for path in folder.iterdir()]
    assert source.file_bytes == sum(sizes)


def test_a_file_in_a_folder_below_is_found(folder, monkeypatch):
    data = external(folder / "m.onnx", "./parts/../parts/weights.bin")
    (folder / "parts").mkdir()
    (folder / "parts/weights.bin").write_bytes(data)
    loads(folder / "m.onnx")
    monkeypatch.chdir(folder)
    assert io.load("m.onnx").graph.initializers["w1"].const_value.tobytes() == data


@pytest.mark.parametrize(
    "location",
    ["../secret", "/etc/hostname", "parts/../../secret", "..", ".", "a/..", "nul\0byte"],
)
def test_a_model_may_not_read_outside_its_folder(folder, location):
    data = external(folder / "m.onnx", location)
    (folder.parent / "secret").write_bytes(data)
    refused(folder / "m.onnx", "'w1' wants its data from outside the model's folder")


def test_a_link_out_of_the_folder_is_refused(folder):
    data = external(folder / "m.onnx")
    (folder.parent / "secret").write_bytes(data)
    (folder / "weights.bin").symlink_to("../secret")
    refused(folder / "m.onnx", "'w1' is a link that leads out of the model's folder")


def test_a_folder_that_is_a_link_out_of_the_folder_is_refused(folder):
    data = external(folder / "m.onnx", "parts/weights.bin")
    (folder.parent / "weights.bin").write_bytes(data)
    (folder / "parts").symlink_to("..")
    refused(folder / "m.onnx", "leads out of")


def test_a_link_inside_the_folder_is_followed(folder):
    data = external(folder / "m.onnx")
    (folder / "real.bin").write_bytes(data)
    (folder / "weights.bin").symlink_to("real.bin")
    assert loads(folder / "m.onnx").external_files == (str(folder / "real.bin"),)


def test_a_hard_link_is_an_ordinary_file(folder):
    data = external(folder / "m.onnx")
    (folder.parent / "blob").write_bytes(data)
    os.link(folder.parent / "blob", folder / "weights.bin")
    loads(folder / "m.onnx")


@pytest.fixture
def snapshot(tmp_path):
    """Lay out a Hugging Face cache: links in a snapshot, files named by their hash in blobs."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots/main/onnx"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "d41d").write_bytes(external(blobs / "c0ffee", "model.onnx_data"))
    (snapshot / "model.onnx").symlink_to("../../../blobs/c0ffee")
    (snapshot / "model.onnx_data").symlink_to("../../../blobs/d41d")
    return snapshot


def test_a_hugging_face_snapshot_loads(snapshot):
    source = loads(snapshot / "model.onnx")
    assert source.external_files == (str(snapshot.parents[2] / "blobs/d41d"),)


def test_a_snapshot_may_not_read_beyond_its_blobs(snapshot):
    (snapshot / "model.onnx_data").unlink()
    (snapshot.parents[2] / "secret").write_bytes(bytes(4096))
    (snapshot / "model.onnx_data").symlink_to("../../../secret")
    refused(snapshot / "model.onnx", "leads out of")


def test_a_copied_model_with_a_link_to_blobs_is_refused(snapshot):
    content = (snapshot / "model.onnx").read_bytes()
    (snapshot / "model.onnx").unlink()
    (snapshot / "model.onnx").write_bytes(content)
    refused(snapshot / "model.onnx", "leads out of")


def test_a_link_to_a_model_finds_the_data_beside_the_model(folder, tmp_path):
    (folder / "weights.bin").write_bytes(external(folder / "m.onnx"))
    (tmp_path / "short.onnx").symlink_to("model/m.onnx")
    loads(tmp_path / "short.onnx")


def test_data_that_is_missing_is_named(folder):
    external(folder / "m.onnx")
    error = refused(folder / "m.onnx", "'w1' is missing: no file 'weights.bin' beside the model")
    assert error.hint == "put the external data file where the model is"
    (folder / "weights.bin").mkdir()
    refused(folder / "m.onnx", "is missing")


def test_a_pipe_is_not_waited_for(folder):
    external(folder / "m.onnx")
    os.mkfifo(folder / "weights.bin")
    refused(folder / "m.onnx", "is missing")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"offset": 1}, r"tensor 'w1' ends at byte 4097 of .*weights.bin, which has only 4096"),
        ({"offset": 10**17}, "which has only 4096"),
        ({"offset": 10**20}, "offset that is none: '1000"),
        ({"offset": -1}, "offset that is none: '-1'"),
        ({"offset": "0x10"}, "offset that is none"),
        ({"offset": "\u0661"}, "offset that is none"),
        ({"length": -4096}, "length that is none"),
        ({"length": 4095}, "holds 4095 bytes, but its type and shape need 4096"),
        ({"length": 10**15}, "need 4096"),
        ({"location": ""}, "says that its data is external, but not where"),
    ],
)
def test_places_that_are_none_are_refused(folder, entries, message):
    (folder / "weights.bin").write_bytes(external(folder / "m.onnx", **entries))
    error = refused(folder / "m.onnx", message)
    assert "'w1'" in error.message


def test_data_that_is_cut_short_is_refused(folder):
    data = external(folder / "m.onnx")
    for size in (4095, 1, 0):
        (folder / "weights.bin").write_bytes(data[:size])
        refused(folder / "m.onnx", f"which has only {size}")


def test_a_proto_without_a_folder_is_refused_its_external_data(folder):
    external(folder / "m.onnx")
    proto = onnx.load(folder / "m.onnx", load_external_data=False)
    with pytest.raises(ModelError, match=r"'w1' lies in the external file 'weights.bin'") as caught:
        io.from_proto(proto)
    assert "path" in caught.value.hint


def test_one_file_is_mapped_once(tmp_path):
    io.save(io.from_proto(chain()), tmp_path / "m.onnx", external=True)
    model = io.load(tmp_path / "m.onnx")
    held = [model.graph.initializers[f"w{i}"].const_value.file for i in range(3)]
    assert held[0] is held[1] is held[2]
