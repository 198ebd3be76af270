import io as memory
import os
import signal
import stat
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from onnxopt.errors import OutputError
from onnxopt.graph import io
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.storage import replace
from onnxopt.graph.storage import save as saving
from tests.graph.protos import chain, info, model_of, node, same, weights


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def model():
    return io.from_proto(chain())


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.onnx"


def check(path, proto):
    same(onnx.load(path), proto)
    onnx.checker.check_model(str(path))


def test_external_data_is_written_where_it_is_asked_for(model, out):
    io.save(model, out, external=True)
    check(out, chain())
    assert names(out.parent) == ["out.onnx", "out.onnx.data"]
    stored = onnx.load(out, load_external_data=False).graph.initializer
    assert [len(tensor.external_data) > 0 for tensor in stored] == [True, True, True, False]
    assert not {int(t.external_data[1].value) % 64 for t in stored[:3]} - {0}
    feed = {"x": np.ones((2, 32), np.float32)}
    assert onnxruntime.InferenceSession(str(out)).run(None, feed)[0].shape == (2, 32)


def test_external_data_follows_the_source(model, out, tmp_path):
    io.save(model, out, external=True)
    again = tmp_path / "elsewhere" / "again.onnx"
    again.parent.mkdir()
    io.save(io.load(out), again)
    assert names(again.parent) == ["again.onnx", "again.onnx.data"]
    io.save(io.load(out), again, external=False)
    assert names(again.parent) == ["again.onnx"]
    check(again, chain())


def test_a_model_beyond_the_limit_gets_external_data(model, out):
    io.save(model, out, limit=8000)
    assert names(out.parent) == ["out.onnx", "out.onnx.data"]
    check(out, chain())
    with pytest.raises(OutputError, match=r"would have 12.5 KB, .* no more than 8.0 KB"):
        io.save(model, out, limit=8000, external=False)
    with pytest.raises(OutputError, match=r"no more than 100 B"):
        io.save(model, out, limit=100)


def test_constants_go_out_only_where_the_rest_is_still_too_large(out):
    nodes = [
        node("Constant", [], ["c"], value=weights("")),
        node("Add", ["x", "c"], ["t"]),
        node("Add", ["t", "w"], ["y"]),
    ]
    proto = model_of(nodes, [info("x", [32, 32])], [info("y", [32, 32])], [weights("w")])
    for limit, outside in ((6000, 1), (3000, 2)):
        io.save(io.from_proto(proto), out, limit=limit)
        check(out, proto)
        assert out.read_bytes().count(b"out.onnx.") == outside
        feed = {"x": np.zeros((32, 32), np.float32)}
        assert onnxruntime.InferenceSession(str(out)).run(None, feed)[0].any()


def test_a_tensor_that_is_used_twice_is_written_once(model, out):
    first = model.graph.initializers["w0"].const_value
    model.graph.initializers["w1"].const_value = first
    large = ir.tensor(np.ones((64, 64), np.float32))
    for name in ("u", "v"):
        value = ir.Value(name=name, const_value=large)
        model.graph.register_initializer(value)
    io.save(model, out, external=True)
    assert Path(f"{out}.data").stat().st_size == 2 * 4096 + 64 * 64 * 4
    again = io.to_proto(io.load(out)).graph.initializer
    assert again[0].raw_data == again[1].raw_data
    assert [tensor.name for tensor in again] == ["w0", "w1", "w2", "b", "u", "v"]


@pytest.mark.parametrize("external", [True, False])
def test_weights_made_in_memory_are_written_whatever_their_kind(model, out, external):
    rows = np.arange(4096, dtype=np.float32).reshape(64, 64)
    made = {
        "turned": ir.tensor(rows.T),
        "strided": ir.tensor(rows[::2, ::2]),
        "small": ir.tensor(np.float32([1])),
        "four": ir.Tensor(rows.astype(np.int8) % 8, dtype=ir.DataType.INT4),
        "lazy": ir.LazyTensor(
            lambda: ir.tensor(rows), dtype=ir.DataType.FLOAT, shape=ir.Shape([64, 64])
        ),
        "words": ir.tensor(["a", "b"] * 1000),
    }
    for name, tensor in made.items():
        model.graph.register_initializer(ir.Value(name=name, const_value=tensor))
    expected = io.to_proto(model)
    io.save(model, out, external=external)
    same(onnx.load(out), expected)
    assert model.graph.initializers["turned"].const_value is made["turned"]


def test_tensors_that_onnx_ir_holds_outside_are_taken_along(model, out, tmp_path):
    (tmp_path / "away").mkdir()
    onnx.save(
        chain(),
        tmp_path / "away/m.onnx",
        save_as_external_data=True,
        location="d",
        size_threshold=0,
    )
    io.save(ir.load(tmp_path / "away/m.onnx"), out)
    same(onnx.load(out), chain())


def test_a_model_is_left_as_it_was_when_saving_fails(model, out, monkeypatch):
    before = io.to_proto(model)
    monkeypatch.setattr(ir.serde, "serialize_model", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        io.save(model, out)
    monkeypatch.undo()
    same(io.to_proto(model), before)
    assert names(out.parent) == []


@pytest.mark.parametrize("external", [True, False])
def test_a_model_may_replace_itself(out, external):
    io.save(io.from_proto(chain()), out, external=external)
    model = io.load(out)
    model.graph.doc_string = "changed"
    for _ in range(3):
        io.save(model, out)
        same(io.to_proto(io.load(out)), io.to_proto(model))
        assert len(names(out.parent)) == 1 + external


def test_a_link_is_written_through(model, out, tmp_path):
    (tmp_path / "real").mkdir()
    out.symlink_to("real/model.onnx")
    io.save(model, out, external=True)
    assert out.is_symlink()
    assert names(tmp_path / "real") == ["model.onnx", "model.onnx.data"]
    check(tmp_path / "real/model.onnx", chain())


def test_permissions_of_what_is_replaced_are_kept(model, out):
    old = os.umask(0o027)
    try:
        io.save(model, out, external=True)
        assert [stat.S_IMODE(path.stat().st_mode) for path in out.parent.iterdir()] == [0o640] * 2
        out.chmod(0o604)
        io.save(model, out, external=True)
        assert [stat.S_IMODE(path.stat().st_mode) for path in out.parent.iterdir()] == [0o604] * 2
    finally:
        os.umask(old)


def test_data_of_the_replaced_model_goes_and_that_of_others_stays(model, out):
    Path(f"{out}.data").write_bytes(b"of somebody else")
    io.save(model, out, external=True)
    first = names(out.parent)
    assert len(first) == 3
    io.save(model, out, external=True)
    assert len(names(out.parent)) == 3
    assert names(out.parent) != first
    io.save(model, out, external=False)
    assert names(out.parent) == ["out.onnx", "out.onnx.data"]
    assert Path(f"{out}.data").read_bytes() == b"of somebody else"


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(step, monkeypatch, count):
    """Let the process die at the count-th call of a step."""
    owner, name = {"sync": (os, "fsync"), "rename": (Path, "rename"), "remove": (Path, "unlink")}[
        step
    ]
    real, calls = getattr(owner, name), []

    def call(*arguments, **more):
        calls.append(1)
        return die() if len(calls) == count else real(*arguments, **more)

    monkeypatch.setattr(owner, name, call)


STEPS = [
    ("sync", 1), ("sync", 2), ("rename", 1), ("rename", 2), ("sync", 3), ("remove", 1),
    ("remove", 2), ("remove", 3),
]  # fmt: skip


@pytest.mark.parametrize(("step", "count"), STEPS)
@pytest.mark.parametrize("was", ["nothing", "embedded", "external"])
def test_a_killed_save_leaves_the_old_model_or_the_new(out, monkeypatch, was, step, count):
    old, new = chain(1), chain(3)
    if was != "nothing":
        io.save(io.from_proto(old), out, external=was == "external")
    child = os.fork()
    if child == 0:
        kill_at(step, monkeypatch, count)
        try:
            io.save(io.from_proto(new), out, external=True)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    if out.exists():
        found = io.to_proto(io.load(out))
        same(found, new if len(found.graph.node) == 4 else old)
    else:
        assert was == "nothing"
    # The next save puts the folder in order.
    io.save(io.from_proto(new), out, external=True)
    check(out, new)
    assert len(names(out.parent)) == 2


@pytest.mark.parametrize("step", ["fsync", "rename", "copy"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_save_leaves_nothing(model, out, monkeypatch, step, error):
    io.save(io.from_proto(chain(1)), out, external=True)
    before = {path: path.read_bytes() for path in out.parent.iterdir()}
    calls = []

    def stop(*arguments, **more):
        calls.append(1)
        if step == "rename" and len(calls) == 1:
            return real(*arguments, **more)
        raise error

    owner, name = {"fsync": (os, "fsync"), "rename": (Path, "rename"), "copy": (saving, "_copy")}[
        step
    ]
    real = getattr(owner, name)
    monkeypatch.setattr(owner, name, stop)
    expected = OutputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        io.save(model, out, external=True)
    if expected is OutputError:
        assert caught.value.message == f"{out} cannot be written: No space left on device"
        assert caught.value.hint == "free some space, or write to another disk"
    assert {path: path.read_bytes() for path in out.parent.iterdir()} == before


def test_the_draft_of_a_living_writer_is_left_alone(model, out):
    with replace.draft(out, owner=out) as draft:
        draft.file.write(b"in the making")
        io.save(model, out)
        assert draft.path.exists()
        assert replace.abandoned(out) == []
    assert names(out.parent) == ["out.onnx"]


def test_a_tensor_that_lies_about_its_size_is_never_written(model, out):
    wrong = ir.LazyTensor(
        lambda: ir.tensor(np.ones(999, np.float32)), dtype=ir.DataType.FLOAT, shape=ir.Shape([1000])
    )
    model.graph.register_initializer(ir.Value(name="wrong", const_value=wrong))
    with pytest.raises(AssertionError, match="not the bytes"):
        io.save(model, out)
    assert names(out.parent) == []


def test_the_same_model_gives_the_same_bytes(model, out, tmp_path):
    io.save(model, out)
    io.save(model, tmp_path / "again.onnx")
    assert out.read_bytes() == (tmp_path / "again.onnx").read_bytes()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("", "is a folder"),
        ("none/out.onnx", "there is no folder"),
        ("file/out.onnx", "there is no folder"),
        ("pipe", "is no regular file"),
        ("n" * 300, "cannot be written: File name too long"),
        ("nul\0byte", "cannot be written: embedded null byte"),
        ("in.onnx", "is the input itself"),
        ("in.onnx.data", "is the input's external data itself"),
        ("link.onnx", "is the input itself"),
        ("hard.onnx", "is the input itself"),
        ("../{name}/in.onnx", "is the input itself"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused(model, tmp_path, place, message):
    given = tmp_path / "in.onnx"
    io.save(model, given, external=True)
    (tmp_path / "file").touch()
    (tmp_path / "link.onnx").symlink_to("in.onnx")
    os.link(given, tmp_path / "hard.onnx")
    os.mkfifo(tmp_path / "pipe")
    before = names(tmp_path)
    source = io.source_of(io.load(given))
    path = tmp_path / place.format(name=tmp_path.name)
    with pytest.raises(OutputError, match=message) as caught:
        io.check_output(path, source)
    assert caught.value.hint
    if "itself" not in message:
        with pytest.raises(OutputError, match=message):
            io.save(model, path)
    assert names(tmp_path) == before
    same(onnx.load(given), chain())


def test_an_output_without_permission_is_refused(model, out, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(OutputError, match=r"out\.onnx is not writable"):
        io.save(model, out)


def test_a_free_name_is_accepted(model, tmp_path):
    io.save(model, tmp_path / "in.onnx")
    source = io.source_of(io.load(tmp_path / "in.onnx"))
    io.check_output(tmp_path / "out.onnx", source)
    (tmp_path / "in.onnx").unlink()
    io.check_output(tmp_path / "in.onnx", source)


def test_payloads_are_written_to_what_is_no_file(model):
    target = memory.BytesIO()
    tensor = model.graph.initializers["w0"].const_value
    saving._copy(tensor, target)
    assert target.getvalue() == tensor.tobytes()
