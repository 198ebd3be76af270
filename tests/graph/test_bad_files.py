import contextlib
import gzip
import pickle
import warnings

import onnx
import pytest
from google.protobuf.message import EncodeError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from onnxopt.errors import ModelError
from onnxopt.graph import io
from onnxopt.graph.storage import valid
from tests.graph.protos import chain, info, model_of, node, weights

HOSTILE = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def refused(load, *arguments):
    """Return the message and the hint of the ModelError, each a line."""
    with pytest.raises(ModelError) as caught:
        load(*arguments)
    for text in (caught.value.message, caught.value.hint):
        assert text
        assert "\n" not in text
        assert len(text) < 500
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize(
    ("data", "message", "hint"),
    [
        (b"", "is empty", "again"),
        (b"# A readme\n\nof a model\n", "text file", "binary"),
        ("Modèle\nd'un autre".encode(), "text file", "binary"),
        (b'{"irVersion": "8", "graph": {}}', "text file", "binary"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS", "git lfs pull"),
        (b"PK\x03\x04" + bytes(60), "zip archive", "export"),
        (gzip.compress(chain().SerializeToString()), "gzip", "gunzip"),
        (pickle.dumps({"state": 1}, protocol=2), "pickle", "export"),
        (b"\x89HDF\r\n\x1a\n" + bytes(60), "HDF5", "convert"),
        (b"\x20\x00\x00\x00ORTM" + bytes(60), "ORT format", "onnx file"),
        (bytes(range(256)), "no valid ONNX model", "again"),
        (b"\x00" * 64, "no valid ONNX model", "again"),
        (b"\x08\x09", "holds no graph", "again"),
        (chain().SerializeToString()[:9000], "only a part of one", "again"),
    ],
)
def test_a_file_that_is_no_model_is_named_for_what_it_is(tmp_path, data, message, hint):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    said, advice = refused(io.load, path)
    assert said.startswith(f"{path}: ")
    assert message in said
    assert hint in advice


def test_a_path_that_is_no_file_is_refused(tmp_path):
    assert "no such file" in refused(io.load, tmp_path / "none.onnx")[0]
    assert "no such file" in refused(io.load, str(tmp_path / "none.onnx"))[0]
    assert "cannot be read" in refused(io.load, tmp_path / ("n" * 300))[0]
    assert "cannot be read" in refused(io.load, "nul\0byte")[0]
    assert "no regular file" in refused(io.load, "/dev/zero")[0]
    said, hint = refused(io.load, tmp_path)
    assert "is a folder" in said
    assert "give an ONNX model" in hint
    (tmp_path / "inside.onnx").touch()
    assert "did you mean" in refused(io.load, tmp_path)[1]


def test_a_file_without_permission_is_refused(tmp_path, monkeypatch):
    def forbid(*_):
        raise PermissionError(13, "Permission denied")

    onnx.save(chain(), tmp_path / "m.onnx")
    monkeypatch.setattr("onnxopt.graph.mapped.os.open", forbid)
    assert "cannot be read: Permission denied" in refused(io.load, tmp_path / "m.onnx")[0]


def ill(nodes, *, inputs=("x",), outputs=("y",), held=(), **fields):
    return model_of(nodes, [info(n) for n in inputs], [info(n) for n in outputs], held, **fields)


def relu(source="x", target="y", **attributes):
    return node("Relu", [source], [target], **attributes)


def inner(*nodes, inputs=(), output="b"):
    return helper.make_graph(list(nodes), "inner", [info(n) for n in inputs], [info(output)])


def loop(body):
    return node("Loop", ["", "p", "x"], ["y"], body=body)


BROKEN = {
    "no outputs": (ill([relu()], outputs=()), "has no outputs"),
    "undefined": (ill([relu("z", name="r")]), "'z' is read by Relu node 'r', but nothing defines"),
    "undefined, nameless": (ill([relu("z")]), "read by Relu node that makes 'y'"),
    "no producer": (ill([relu(target="z")]), "'y' is an output of the graph, but nothing"),
    "defined twice": (ill([relu(), relu(name="b")]), "'y' is defined twice, .* Relu node 'b'"),
    "defined over an input": (ill([relu("y", "x")], inputs=("x", "y")), "'x' is defined twice"),
    "two inputs": (ill([relu()], inputs=("x", "x")), "graph input 'x' is defined twice"),
    "two initializers": (
        ill([relu()], held=[weights("w", (1,)), weights("w", (1,))]), "initializer 'w' is defined",
    ),
    "nameless input": (ill([relu()], inputs=("x", "")), "an input or an initializer has no name"),
    "nameless weight": (ill([relu()], held=[weights("", (1,))]), "initializer has no name"),
    "cycle": (ill([node("Add", ["x", "b"], ["a"]), relu("a", "b"), relu("b")]), "form a cycle"),
    "own output": (ill([node("Add", ["x", "y"], ["y"])]), "form a cycle"),
    "two attributes": (
        ill([helper.make_node("LRN", ["x"], ["y"], size=1)]), "two attributes of one name",
    ),
    "undefined in a nested graph": (
        ill([node("If", ["x"], ["y"], then_branch=inner(relu("z", "b")))]), "'z' is read by Relu",
    ),
    "defined twice in a nested graph": (
        ill([loop(inner(relu("x", "b"), relu("x", "b")))], inputs=("x", "p")), "'b' is defined",
    ),
    "cycle through a nested graph": (
        ill([loop(inner(relu("q", "b"))), relu("y", "q")], inputs=("x", "p")), "form a cycle",
    ),
}  # fmt: skip
BROKEN["two attributes"][0].graph.node[0].attribute.append(helper.make_attribute("size", 2))


@pytest.mark.parametrize(("proto", "message"), BROKEN.values(), ids=BROKEN)
def test_a_graph_that_is_none_is_refused(proto, message):
    with pytest.raises(ModelError, match=message) as caught:
        io.from_proto(proto)
    assert caught.value.message.startswith("the ModelProto: ")
    assert caught.value.hint


def test_versions_that_onnx_does_not_know_are_refused(monkeypatch):
    proto = chain()
    known = onnx.defs.onnx_opset_version()
    for domain in ("", "ai.onnx"):
        proto.opset_import[0].domain = domain
        proto.opset_import[0].version = known + 1
        said, hint = refused(io.from_proto, proto)
        assert f"operator set {known + 1} of domain 'ai.onnx' is newer" in said
        assert f"knows, {known}" in said
        assert "pip install -U onnx" in hint
    proto.opset_import[0].version = 21
    for version, advice in ((onnx.IR_VERSION + 1, "pip install"), (2, "export"), (0, "export")):
        proto.ir_version = version
        said, hint = refused(io.from_proto, proto)
        assert f"IR version {version} is not supported" in said
        assert advice in hint
    proto.ir_version = 9
    proto.opset_import.append(helper.make_opsetid("", 20))
    assert "two operator set versions, 21 and 20" in refused(io.from_proto, proto)[0]
    proto.opset_import[1].version = 21
    io.from_proto(proto)
    del proto.opset_import[:]
    assert "names no operator set" in refused(io.from_proto, proto)[0]


def function(name, *nodes, inputs=("a",), outputs=("b",)):
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, inputs, outputs, nodes, opsets)


def call(name, source="a", target="b"):
    return helper.make_node(name, [source], [target], domain="local")


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ([function("F", call("F"))], "function 'F' calls itself"),
        ([function("F", call("G")), function("G", call("F"))], "calls itself"),
        ([function("F", relu("a", "b")), function("F", relu("a", "b"))], "the same name"),
        ([function("F", relu("z", "b"))], "'z' is read by"),
        ([function("F", relu("b", "c"), relu("c", "b"))], "form a cycle"),
        ([function("F", relu("a", "b"), inputs=("a", "a"))], "'a' is defined twice"),
    ],
)
def test_functions_are_checked(functions, message):
    proto = ill([call("F", "x", "y")])
    proto.functions.extend(functions)
    with pytest.raises(ModelError, match=message):
        io.from_proto(proto)


def tensor(kind=TensorProto.FLOAT, dims=(300,), **fields):
    return TensorProto(name="w", data_type=kind, dims=dims, **fields)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (tensor(raw_data=bytes(1199)), "holds 1199 bytes, but its type and shape need 1200"),
        (tensor(raw_data=bytes(1204)), "holds 1204 bytes"),
        (tensor(dims=(3,), raw_data=bytes(8)), "holds 8 bytes"),
        (tensor(dims=(2, 1 << 62), raw_data=bytes(8)), "holds 8 bytes"),
        (tensor(dims=(-1,), raw_data=bytes(4)), "no valid type or shape"),
        (tensor(kind=0, raw_data=bytes(1200)), "no valid type or shape"),
        (tensor(kind=99, raw_data=bytes(1200)), "no valid type or shape"),
        (tensor(), "holds 0 numbers, but its type and shape need 300"),
        (tensor(dims=(2,), float_data=[1]), "holds 1 numbers"),
        (tensor(dims=(2,), int64_data=[1, 2]), "holds 0 numbers"),
        (tensor(TensorProto.COMPLEX64, dims=(2,), float_data=[1, 2]), "need 4"),
        (tensor(TensorProto.INT4, dims=(3,), int32_data=[1, 2, 3]), "need 2"),
        (tensor(TensorProto.STRING, dims=(2,), string_data=[b"a"]), "1 strings instead of 2"),
        (tensor(TensorProto.INT4, raw_data=bytes(151)), "need 150"),
    ],
)
def test_a_tensor_whose_bytes_do_not_fit_is_refused(held, message):
    for proto in (
        ill([node("Add", ["x", "w"], ["y"])], held=[held]),
        ill([node("Constant", [], ["c"], value=held), node("Add", ["x", "c"], ["y"])]),
    ):
        with pytest.raises(ModelError, match=message) as caught:
            io.from_proto(proto)
        assert "tensor 'w'" in caught.value.message


@pytest.mark.parametrize("kind", [k for k in valid._bits() if k != TensorProto.STRING])
@pytest.mark.parametrize("dims", [(), (0,), (3,), (5, 3)])
def test_tensors_as_onnx_itself_writes_them_are_accepted(kind, dims):
    count = 15 if dims == (5, 3) else (*dims, 1)[0]
    made = helper.make_tensor("w", kind, dims, [1] * count)
    valid.check_tensor(made)
    valid.check_tensor(numpy_helper.from_array(numpy_helper.to_array(made), "w"))


def test_a_proto_that_protobuf_cannot_serialize_is_refused():
    class Large:
        def SerializeToString(self):  # noqa: N802
            raise EncodeError("Failed to serialize proto")

    said, hint = refused(io.from_proto, Large())
    assert "larger than the 2 GB" in said
    assert "external data" in hint


def test_names_that_are_no_text_are_refused(tmp_path):
    proto = chain().SerializeToString().replace(b"t0", b"\xc4\xe3")
    (tmp_path / "m.onnx").write_bytes(proto)
    assert "is not UTF-8" in refused(io.load, tmp_path / "m.onnx")[0]
    proto = chain().SerializeToString().replace(b"last", b"\xc4\xe3\xc4\xe3")
    (tmp_path / "m.onnx").write_bytes(proto)
    model = io.load(tmp_path / "m.onnx")
    assert "text that is not UTF-8" in refused(io.save, model, tmp_path / "o.onnx")[0]


def small_model():
    """Return a small model that has a bit of everything."""
    body = inner(relu("x", "b"))
    nodes = [
        node("Constant", [], ["c"], value=weights("", (3,))),
        node("If", ["p"], ["t"], then_branch=body, else_branch=body, name="choice"),
        node("Sum", ["x", "c", "t", "w"], ["s"], doc_string="a sum"),
        helper.make_node("F", ["s"], ["y"], domain="local"),
    ]
    flag = info("p", [], TensorProto.BOOL)
    held = [weights("w", (400,)), helper.make_tensor("v", TensorProto.INT64, [3], [1, 2, 3])]
    extra = [helper.make_value_info("m", helper.make_map_type_proto(7, info("q").type))]
    proto = model_of(nodes, [info("x"), flag], [info("y")], held, value_info=extra)
    proto.functions.append(function("F", relu("a", "b", alpha=0.5)))
    proto.opset_import.append(helper.make_opsetid("local", 1))
    proto.metadata_props.add(key="author", value="nobody")
    return proto.SerializeToString()


WHOLE = small_model()


def load_or_refuse(path, data):
    path.write_bytes(data)
    with contextlib.suppress(ModelError):
        io.to_proto(io.load(path))


def test_the_whole_of_it_is_a_model(tmp_path):
    (tmp_path / "m.onnx").write_bytes(WHOLE)
    io.load(tmp_path / "m.onnx")


def test_a_model_cut_anywhere_is_a_model_or_refused(tmp_path):
    for end in range(0, len(WHOLE), 11):
        load_or_refuse(tmp_path / "m.onnx", WHOLE[:end])


@HOSTILE
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1))
def test_a_model_with_flipped_bits_is_a_model_or_refused(tmp_path, flips):
    data = bytearray(WHOLE)
    for at, bits in flips:
        data[at] ^= bits
    with warnings.catch_warnings(action="error"):
        load_or_refuse(tmp_path / "m.onnx", bytes(data))


@HOSTILE
@given(st.binary(max_size=200))
@example(b"\x08\x0a\x3a\x00")
def test_any_bytes_are_a_model_or_refused(tmp_path, data):
    load_or_refuse(tmp_path / "m.onnx", data)


@HOSTILE
@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=12), st.integers(0, 12))
def test_a_model_with_bytes_put_in_or_left_out_is_a_model_or_refused(tmp_path, at, new, gone):
    load_or_refuse(tmp_path / "m.onnx", WHOLE[:at] + new + WHOLE[at + gone :])
