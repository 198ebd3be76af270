"""Old operator sets: raised by onnx's converter, proven, then pruned and quantized."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

import onnxopt
from onnxopt import conversion
from onnxopt.conversion import converted
from onnxopt.errors import OnnxOptError
from tests.quantizing.repair.nets import normal

SHIPPED = Path(onnx.__file__).parent / "backend" / "test" / "data"
OLD = [
    *("pytorch-converted/test_Conv2d_groups", "pytorch-converted/test_Softmax"),
    *("pytorch-converted/test_ZeroPad2d", "pytorch-operator/test_operator_clip"),
    *("pytorch-converted/test_PReLU_2d", "pytorch-converted/test_Linear"),
    *("pytorch-operator/test_operator_add_broadcast", "simple/test_expand_shape_model1"),
]


def old(ir_version=3, opset=9):
    """Return a net of 2018: weights are inputs, Clip has attributes, Pad and Slice, too."""
    text = f"""<ir_version: {ir_version}, opset_import: ["": {opset}]>
        g (float[1,3,8,8] x, float[16,3,3,3] w1, float[16,16,3,3] w2, float[16,4] w3)
            => (float[1,4] y) {{
        p = Pad <pads = [0,0,1,1,0,0,1,1]> (x)
        a = Conv (p, w1)
        b = Clip <min = 0.0, max = 6.0> (a)
        c = Conv (b, w2)
        d = Relu(c)
        e = GlobalAveragePool(d)
        f = Flatten(e)
        h = Slice <starts = [0], ends = [16], axes = [1]> (f)
        y = MatMul(h, w3)
    }}"""
    model = parser.parse_model(text)
    for number, (name, shape) in enumerate(
        {"w1": (16, 3, 3, 3), "w2": (16, 16, 3, 3), "w3": (16, 4)}.items()
    ):
        array = normal(*shape, seed=number) / np.sqrt(np.prod(shape[1:]), dtype=np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def saved(model, folder):
    path = folder / "old model.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("name", OLD)
def test_shipped_models_are_raised(name, tmp_path):
    source = SHIPPED / name / "model.onnx"
    path = converted(source, 13, tmp_path)
    result, before = onnx.load(path), onnx.load(source)
    onnx.checker.check_model(result, full_check=True)
    assert result.opset_import[0].version == 13
    weights = {each.name for each in before.graph.initializer}
    assert [each.name for each in result.graph.input] == [
        each.name for each in before.graph.input if each.name not in weights
    ]
    assert not (tmp_path / "old.onnx").exists()


def test_an_old_net_loses_channels_and_becomes_int8(tmp_path):
    source = saved(old(), tmp_path)
    feeds = [{"x": normal(1, 3, 8, 8, seed=number)} for number in range(40)]
    pruned = onnxopt.prune(
        source, tmp_path / "p.onnx", sparsity=0.25, structure="channel", calibration=feeds,
        measure=False, anyway=True,
    )  # fmt: skip
    quantized = onnxopt.quantize(
        source, feeds, tmp_path / "q.onnx", measure=False, anyway=True, min_sqnr=10.0
    )
    for report in (pruned, quantized):
        session = onnxruntime.InferenceSession(report.output.path)
        assert [each.name for each in session.get_inputs()] == ["x"]
        assert session.run(None, feeds[0])[0].shape == (1, 4)
    assert pruned.output.parameters < 0.85 * pruned.input.parameters
    kept = {(part.before, part.after) for part in pruned.parts}
    assert any(before == 16 and after < 16 for before, after in kept)
    assert quantized.output.file_bytes < 0.75 * quantized.input.file_bytes
    assert quantized.verification.outputs[0].sqnr_db > 10


def test_what_onnxruntime_cannot_run_is_held_against_what_is_proven_equal(tmp_path):
    """Its kernels begin at operator set 7; onnx's reference implementation knows older ones."""
    text = """<ir_version: 3, opset_import: ["": 6]>
        g (float[2,8] x, float[8,16] w, float[16,4] v) => (float[2,4] y)
        { a = MatMul(x, w) b = Relu(a) c = MatMul(b, v) z = Sum(c, c) y = Add(z, c) }"""
    model = parser.parse_model(text)
    for name, shape in {"w": (8, 16), "v": (16, 4)}.items():
        array = normal(*shape, seed=len(name))
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    source = saved(model, tmp_path)
    with pytest.raises(Exception, match=r"Add\(6\)|NOT_IMPLEMENTED"):
        onnxruntime.InferenceSession(source)
    feeds = [{"x": normal(2, 8, seed=number)} for number in range(40)]
    report = onnxopt.prune(
        source, tmp_path / "p.onnx", sparsity=0.5, structure="channel", calibration=feeds,
        measure=False,
    )  # fmt: skip
    assert report.status == "pruned"
    part = report.parts[0]
    assert (part.before, part.after) == (16, 8)


def test_what_the_converter_breaks_is_not_used(tmp_path, monkeypatch):
    source = saved(old(), tmp_path)
    broken = """
import sys, onnx, onnx.version_converter
model = onnx.version_converter.convert_version(onnx.load(sys.argv[1]), int(sys.argv[3]))
for node in model.graph.node:
    if node.op_type == "Relu":
        node.op_type = "Softplus"
onnx.save(model, sys.argv[2])
"""
    monkeypatch.setattr(conversion, "_CONVERT", broken)
    with pytest.raises(OnnxOptError, match="not the same: output 'y' differs"):
        converted(source, 13, tmp_path)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import os; os.abort()", "exit code -6"),
        ("raise RuntimeError('no adapter for Foo')", "no adapter for Foo"),
    ],
)
def test_a_converter_that_fails_is_said(tmp_path, monkeypatch, script, said):
    source = saved(old(), tmp_path)
    monkeypatch.setattr(conversion, "_CONVERT", script)
    with pytest.raises(OnnxOptError, match=said):
        onnxopt.prune(source, sparsity=0.3, random_data=True)


def test_weights_that_callers_may_override_stay_inputs(tmp_path):
    path = converted(saved(old(ir_version=4), tmp_path), 13, tmp_path)
    assert [each.name for each in onnx.load(path).graph.input] == ["x", "w1", "w2", "w3"]


def test_a_large_model_is_not_converted(tmp_path, monkeypatch):
    monkeypatch.setattr(conversion, "_LARGEST", 10)
    with pytest.raises(OnnxOptError, match="more than a gigabyte"):
        converted(saved(old(), tmp_path), 13, tmp_path)
