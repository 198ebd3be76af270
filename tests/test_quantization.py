"""`quantize` from end to end, on small networks: what it writes, what it refuses, what it says."""

import collections
import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

import onnxopt
from onnxopt import quantization
from onnxopt.cli.main import run
from onnxopt.config import REPAIRS, ROUNDINGS
from onnxopt.errors import OnnxOptError
from onnxopt.graph import io
from onnxopt.graph.signature import signature_of
from onnxopt.quantizing.weights.solve import Solver
from onnxopt.report import Difference
from tests.quantizing.repair.nets import net, normal
from tests.quantizing.small import pictures, prepared, tokens


def feeds(count=24, shape=(1, 3, 12, 12)):
    return [{"x": normal(*shape, seed=number)} for number in range(count)]


def operators(proto):
    return collections.Counter(node.op_type for node in proto.graph.node)


def saved(path, model):
    onnx.save(io.to_proto(model), path)
    return path


def folder_of(path, samples):
    path.mkdir()
    for number, feed in enumerate(samples):
        np.savez(path / f"{number:03}.npz", **feed)
    return path


@pytest.fixture
def cnn(tmp_path):
    return saved(tmp_path / "cnn.onnx", pictures())


@pytest.fixture
def speed(monkeypatch):
    """Let every int8 model be so much faster than the float one, instead of measuring it."""

    def difference(ratio):
        return Difference(
            baseline="a", candidate="b", provider="cpu", ratio=ratio, low=ratio * 0.99,
            high=ratio * 1.01, verdict="faster" if ratio > 1 else "slower", sessions=2, processes=2,
        )  # fmt: skip

    def set_(ratio, optimized=1.05):
        monkeypatch.setattr(
            quantization.Quantizing,
            "ab",
            lambda self, path, _: difference(optimized if path.name == "float.onnx" else ratio),
        )

    return set_


def results(path, samples):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [session.run(None, feed) for feed in samples]


def sqnr(wanted, found):
    lost = sum(np.square(a[0] - b[0]).sum() for a, b in zip(wanted, found, strict=True))
    return 10 * np.log10(sum(np.square(a[0]).sum() for a in wanted) / lost)


def test_a_net_becomes_int8_and_stays_right(cnn, tmp_path):
    out = tmp_path / "out.onnx"
    report = onnxopt.quantize(cnn, feeds(), out, measure=False)
    assert report
    assert (report.status, report.written) == ("quantized", True)
    proto = onnx.load(out)
    onnx.checker.check_model(proto, full_check=True)
    assert operators(proto)["QuantizeLinear"] >= 5
    unseen = feeds(50)[24:]
    assert sqnr(results(cnn, unseen), results(out, unseen)) > 20
    assert report.calibration.samples == 18
    assert report.calibration.held_out == 6
    assert report.output.sha256 == hashlib.sha256(out.read_bytes()).hexdigest()
    assert (report.audit.left_over, report.audit.faults) == (0, 0)
    assert [point.chosen for point in report.front].count(True) == 1


def test_what_is_written_is_what_the_report_carries(cnn, tmp_path):
    report = onnxopt.quantize(cnn, feeds(), tmp_path / "out.onnx", measure=False)
    again = io.to_proto(io.load(tmp_path / "out.onnx"))
    assert io.to_proto(report.model).graph.node == again.graph.node


def test_the_same_samples_make_the_same_model(cnn, tmp_path):
    for name in ("a.onnx", "b.onnx"):
        onnxopt.quantize(cnn, feeds(), tmp_path / name, measure=False)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_an_error_that_cannot_be_held_is_refused_with_the_front(cnn, tmp_path):
    out = tmp_path / "out.onnx"
    report = onnxopt.quantize(cnn, feeds(), out, measure=False, min_sqnr=200)
    assert not report
    assert (report.status, report.written, out.exists()) == ("refused", False, False)
    assert "200" in report.reason
    assert report.front
    report = onnxopt.quantize(cnn, feeds(), out, measure=False, min_sqnr=200, anyway=True)
    assert report.written
    assert any(not gate.passed for gate in report.gates)
    assert out.exists()


def test_int8_that_is_slower_is_refused_unless_so_much_is_allowed(cnn, tmp_path, speed):
    speed(0.9)
    out = tmp_path / "out.onnx"
    report = onnxopt.quantize(cnn, feeds(), out)
    assert not report
    assert not out.exists()
    assert "faster" in report.reason
    assert onnxopt.quantize(cnn, feeds(), out, max_slowdown=0.2)
    assert out.exists()


def test_int8_that_is_faster_says_how_much(cnn, tmp_path, speed):
    speed(1.5)
    report = onnxopt.quantize(cnn, feeds(), tmp_path / "out.onnx")
    assert report
    assert report.difference.ratio == 1.5
    assert not report.warnings
    speed(1.5, optimized=1.51)
    report = onnxopt.quantize(cnn, feeds())
    assert report
    assert "optimization alone makes the model 1.51× faster" in report.warnings[0].message
    speed(1.5, optimized=1.6)
    report = onnxopt.quantize(cnn, feeds())
    assert not report
    assert "float, which by itself is 1.60× faster" in report.reason


def test_a_quantized_model_passes_untouched(cnn, tmp_path):
    once, twice = tmp_path / "once.onnx", tmp_path / "twice.onnx"
    onnxopt.quantize(cnn, feeds(), once, measure=False)
    report = onnxopt.quantize(once, feeds(), twice)
    assert report
    assert report.status == "untouched"
    assert "quantized already" in report.reason
    assert once.read_bytes() == twice.read_bytes()


def test_operators_form_computes_the_same(cnn, tmp_path):
    qdq, qoperator = tmp_path / "qdq.onnx", tmp_path / "qoperator.onnx"
    onnxopt.quantize(cnn, feeds(), qdq, measure=False)
    onnxopt.quantize(cnn, feeds(), qoperator, measure=False, format="qoperator")
    counts = operators(onnx.load(qoperator))
    assert counts["QLinearConv"] == 3
    assert not counts["Conv"]
    unseen = feeds(30)[24:]
    for one, two in zip(results(qdq, unseen), results(qoperator, unseen), strict=True):
        np.testing.assert_allclose(one[0], two[0], atol=0.05 * np.abs(one[0]).max())


def test_statistics_are_taken_again_for_another_target(cnn, tmp_path, monkeypatch):
    file = tmp_path / "seen.json"
    onnxopt.quantize(cnn, feeds(), measure=False, save_statistics=file, without=["equalization"])
    seen = []
    collect = quantization.Maker.calibrate.__globals__["collect"]

    def counted(model, wanted, *args, **options):
        seen.extend(wanted)
        return collect(model, wanted, *args, **options)

    monkeypatch.setitem(quantization.Maker.calibrate.__globals__, "collect", counted)
    report = onnxopt.quantize(
        cnn, feeds(), target="portable", measure=False, statistics=file, without=["equalization"]
    )
    assert report
    assert not seen


def test_statistics_of_another_model_are_refused(cnn, tmp_path):
    file = tmp_path / "seen.json"
    onnxopt.quantize(cnn, feeds(), measure=False, save_statistics=file)
    other = saved(tmp_path / "other.onnx", pictures(b1=normal(8, seed=9)))
    with pytest.raises(OnnxOptError, match="another model"):
        onnxopt.quantize(other, feeds(), measure=False, statistics=file)


def test_tensorrt_form_is_symmetric_and_keeps_biases_float(cnn, tmp_path):
    out = tmp_path / "out.onnx"
    assert onnxopt.quantize(cnn, feeds(), out, target="tensorrt", measure=False)
    proto = onnx.load(out)
    constants = {each.name: numpy_helper.to_array(each) for each in proto.graph.initializer}
    pairs = [node for node in proto.graph.node if node.op_type.endswith("QuantizeLinear")]
    zero_points = [constants[node.input[2]] for node in pairs if len(node.input) > 2]
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zero_points)
    assert not any(array.dtype == np.int32 for array in constants.values())


def test_cuda_is_refused_and_says_why(cnn):
    with pytest.raises(OnnxOptError, match="CUDA provider has no int8 kernels"):
        onnxopt.quantize(cnn, feeds(), target="cuda", measure=False)


def test_a_metric_decides(cnn, tmp_path):
    def accuracy(predict):
        return float(np.mean([predict(feed)["y"].argmax() == 0 for feed in feeds(40)[24:]]))

    report = onnxopt.quantize(cnn, feeds(), measure=False, metric=accuracy, max_drop=0.5)
    assert report
    assert report.score is not None
    calls = []

    def falling(predict):
        calls.append(predict)
        return 1.0 if len(calls) == 1 else 0.2

    out = tmp_path / "out.onnx"
    report = onnxopt.quantize(cnn, feeds(), out, measure=False, metric=falling, max_drop=0.1)
    assert not report
    assert not out.exists()


def test_a_net_of_products_becomes_int8(tmp_path):
    path = saved(tmp_path / "tokens.onnx", tokens())
    report = onnxopt.quantize(path, feeds(24, (2, 6, 16)), measure=False)
    assert report
    assert report.quality[0].sqnr_p5_db > 15


def test_ragged_samples_of_a_dynamic_model(tmp_path):
    text = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[N,3,H,W] x) => (float[N,4,h,w] y) {
        a = Conv<pads=[1,1,1,1]>(x, w1) b = Relu(a) y = Conv<pads=[1,1,1,1]>(b, w2) }"""
    proto = parser.parse_model(text)
    for name, array in (("w1", normal(8, 3, 3, 3) * 0.3), ("w2", normal(4, 8, 3, 3) * 0.2)):
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(proto, tmp_path / "m.onnx")
    samples = [{"x": normal(1 + number % 2, 3, 8 + number, 20 - number)} for number in range(12)]
    report = onnxopt.quantize(tmp_path / "m.onnx", samples, tmp_path / "o.onnx", measure=False)
    assert report
    assert sqnr(results(tmp_path / "m.onnx", samples), results(tmp_path / "o.onnx", samples)) > 25


def test_what_stands_in_branches_stays_as_it_is_and_right(tmp_path):
    text = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[1,3,12,12] x, bool c) => (float[1,8,12,12] y) {
        a = Conv<pads=[1,1,1,1]>(x, w1)
        b = Relu(a)
        y = If (c) <
            then_branch = t () => (float[1,8,12,12] p) { p = Conv<pads=[1,1,1,1]>(b, w2) },
            else_branch = e () => (float[1,8,12,12] n) { n = Neg(b) }
        >
    }"""
    proto = parser.parse_model(text)
    for name, array in (("w1", normal(8, 3, 3, 3) * 0.3), ("w2", normal(8, 8, 3, 3) * 0.2)):
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(proto, tmp_path / "m.onnx")
    samples = [{**feed, "c": np.array(place % 2 == 0)} for place, feed in enumerate(feeds())]
    report = onnxopt.quantize(tmp_path / "m.onnx", samples, tmp_path / "o.onnx", measure=False)
    assert report
    assert sqnr(results(tmp_path / "m.onnx", samples), results(tmp_path / "o.onnx", samples)) > 20


def test_weights_beside_the_model_are_found_and_the_result_is_whole(tmp_path):
    inner = tmp_path / "in"
    inner.mkdir()
    onnx.save(
        io.to_proto(pictures()), inner / "m.onnx", save_as_external_data=True,
        location="m.bin", size_threshold=0,
    )  # fmt: skip
    out = tmp_path / "elsewhere" / "o.onnx"
    out.parent.mkdir()
    assert onnxopt.quantize(inner / "m.onnx", feeds(), out, measure=False)
    assert sqnr(results(inner / "m.onnx", feeds()), results(out, feeds())) > 20
    assert {path.name for path in inner.iterdir()} == {"m.onnx", "m.bin"}
    assert {path.name for path in out.parent.iterdir()} == {"o.onnx"}


def test_a_model_without_anything_to_quantize_is_refused(tmp_path):
    text = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[1,3,12,12] x) => (float[1,3,12,12] y) { y = Sin(x) }"""
    onnx.save(parser.parse_model(text), tmp_path / "m.onnx")
    report = onnxopt.quantize(tmp_path / "m.onnx", feeds(), tmp_path / "o.onnx", measure=False)
    assert not report
    assert report.reason
    assert not (tmp_path / "o.onnx").exists()


def test_only_and_skip_decide_what_may_be_int8(cnn):
    model = io.load(cnn)
    convs = [node.name for node in model.graph if node.op_type == "Conv"]
    report = onnxopt.quantize(cnn, feeds(), measure=False, skip=[convs[0]], without=["rounding"])
    became = {region.name: region.became for region in report.regions}
    assert all(region.op for region in report.regions)
    assert all("int8" not in text for name, text in became.items() if convs[0] in name)
    report = onnxopt.quantize(cnn, feeds(), measure=False, only=["Gemm"], without=["rounding"])
    assert operators(io.to_proto(report.model))["QuantizeLinear"] <= 2


@pytest.fixture
def wide(tmp_path):
    """A net whose rows are so even that neighbours would overflow 16 bits as they are."""
    even = np.sign(normal(16, 8, 3, 3)) * (1 - 0.1 * np.abs(normal(16, 8, 3, 3, seed=1)))
    text = """(float[N,3,12,12] x) => (float[N,6,12,12] y) {
        a = Conv<pads=[1,1,1,1]>(x, w1)
        b = Relu(a)
        c = Conv<pads=[1,1,1,1]>(b, w2)
        d = Relu(c)
        y = Conv(d, w3)
    }"""
    constants = {
        "w1": normal(8, 3, 3, 3) * 0.3,
        "w2": even.astype(np.float32) * 0.1,
        "w3": normal(6, 16, 1, 1, seed=2) * 0.2,
    }
    return saved(tmp_path / "wide.onnx", prepared(net(text, **constants)))


def test_rounding_is_as_was_asked_and_keeps_16_bit_sums(wide, tmp_path):
    unseen, integers, found = feeds(50)[24:], set(), {}
    for rounding in ROUNDINGS:
        out = tmp_path / f"{rounding}.onnx"
        report = onnxopt.quantize(
            wide, feeds(), out, rounding=rounding, isa="avx2", measure=False, fastest=True,
            method="minmax", without=["equalization", "smoothing", "splitting"],
        )  # fmt: skip
        assert report.rounding == rounding
        assert report.saturation.adds_in_16_bits
        assert report.saturation.total.overflowing > 0
        assert report.saturation.total.remaining == 0
        proto = onnx.load(out)
        onnx.checker.check_model(proto, full_check=True)
        arrays = map(numpy_helper.to_array, proto.graph.initializer)
        integers.add(tuple(each.tobytes() for each in arrays if each.dtype == np.int8))
        found[rounding] = sqnr(results(wide, unseen), results(out, unseen))
    assert len(integers) == len(ROUNDINGS)
    assert min(found.values()) > 25


def test_a_rounding_reaches_the_solver_and_the_repair_left_out_asks_no_samples(cnn, monkeypatch):
    seen = []
    solve = Solver.__call__

    def watched(self, layer):
        seen.append((self.method, self.use_samples))
        return solve(self, layer)

    monkeypatch.setattr(Solver, "__call__", watched)
    options = {"measure": False, "method": "minmax"}
    onnxopt.quantize(cnn, feeds(), rounding="adaround", **options)
    assert set(seen) == {("nearest", False), ("adaround", True)}
    seen.clear()
    onnxopt.quantize(cnn, feeds(), rounding="nearest", **options)
    assert set(seen) == {("nearest", False), ("nearest", True)}
    seen.clear()
    report = onnxopt.quantize(cnn, feeds(), without=["rounding"], **options)
    assert set(seen) == {("nearest", False)}
    assert report.rounding == "nearest"


def test_a_rounding_there_is_not_is_one_line_and_status_2(cnn, tmp_path, capsys):
    data, out = folder_of(tmp_path / "data", feeds(4)), tmp_path / "out.onnx"
    given = ["quantize", str(cnn), "--calibration", str(data), "-o", str(out)]
    assert run([*given, "--rounding", "up"]) == 2
    first, _ = capsys.readouterr().err.splitlines()
    assert "'up' is not one of 'descent', 'gptq', 'adaround', 'nearest'" in first
    assert run([*given, "--rounding", "adaround", "--no-repair", "all"]) == 2
    assert "nothing for adaround to do" in capsys.readouterr().err
    assert not out.exists()


def test_few_samples_and_constant_tensors_are_said(cnn):
    report = onnxopt.quantize(cnn, feeds(4), measure=False, without=["rounding"], anyway=True)
    assert "4 samples" in " ".join(caution.message for caution in report.warnings)
    still = [{"x": np.zeros((1, 3, 12, 12), np.float32)}] * 20
    report = onnxopt.quantize(cnn, still, measure=False, without=["rounding"], anyway=True)
    assert any(
        "constant" in caution.kind or "constant" in caution.message for caution in report.warnings
    )


def test_channels_without_weights_and_huge_biases_are_no_obstacle(tmp_path):
    weights, bias = normal(8, 3, 3, 3) * 0.4, normal(8) * 0.1
    weights[3] = 0
    weights[4] *= 1e-12
    bias[4] = 1e6
    path = saved(tmp_path / "m.onnx", pictures(w1=weights, b1=bias))
    report = onnxopt.quantize(path, feeds(), tmp_path / "o.onnx", measure=False)
    assert report
    assert sqnr(results(path, feeds()), results(tmp_path / "o.onnx", feeds())) > 20


def nan_late(count=24):
    samples = feeds(count)
    samples[5]["x"][0, 0, 0, 0] = np.nan
    return samples


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ([], "holds neither .npz"),
        ([{"z": np.zeros((1, 3, 12, 12), np.float32)}], "no input 'z'"),
        ([{"x": np.zeros((1, 4, 12, 12), np.float32)}], "'x'"),
        ([{"x": np.zeros((1, 3, 12, 12), np.int64)}], "'x'"),
        (nan_late(), "sample 5: input 'x' holds NaN"),
    ],
)
def test_samples_that_do_not_fit_are_said(cnn, tmp_path, capsys, samples, said):
    data, out = folder_of(tmp_path / "data", samples), tmp_path / "out.onnx"
    before = sorted(path.name for path in tmp_path.iterdir())
    status = run(["quantize", str(cnn), "--calibration", str(data), "-o", str(out), "--no-measure"])
    _, err = capsys.readouterr()
    assert said in err
    assert status == 2
    assert err.startswith("error: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_infinite_activations_name_the_tensor_and_the_sample(tmp_path, capsys):
    text = """<ir_version: 8, opset_import: ["" : 18]> g (float[1,4] x) => (float[1,4] y) {
        a = Log(x) b = MatMul(a, w) c = Relu(b) d = MatMul(c, w) y = Identity(d) }"""
    proto = parser.parse_model(text)
    proto.graph.initializer.append(numpy_helper.from_array(normal(4, 4), "w"))
    onnx.save(proto, tmp_path / "m.onnx")
    samples = [{"x": np.abs(normal(1, 4, seed=number))} for number in range(20)]
    samples[4]["x"][0, 1] = 0
    data = folder_of(tmp_path / "data", samples)
    out = tmp_path / "out.onnx"
    status = run(
        [
            "quantize",
            str(tmp_path / "m.onnx"),
            "--calibration",
            str(data),
            "-o",
            str(out),
            "--no-measure",
        ]
    )
    err = capsys.readouterr().err
    assert status == 2
    assert "'a'" in err
    assert "sample" in err
    assert not out.exists()


def test_a_metric_that_raises_is_said(cnn, tmp_path, capsys):
    data = folder_of(tmp_path / "data", feeds(8))
    (tmp_path / "m.py").write_text("def score(predict):\n    raise ValueError('no labels')\n")
    options = ["--metric", f"{tmp_path / 'm.py'}:score", "--calibration", str(data), "--no-measure"]
    status = run(["quantize", str(cnn), "-o", str(tmp_path / "out.onnx"), *options])
    err = capsys.readouterr().err
    assert status == 2
    assert "no labels" in err
    assert not (tmp_path / "out.onnx").exists()


def test_random_data_have_sizes_that_the_model_runs_with():
    path = Path(__file__).parents[1] / "models" / "silero_vad.onnx"
    report = onnxopt.quantize(
        path, None, None, random_data=True, measure=False, without=REPAIRS, anyway=True
    )
    assert report.calibration.samples + report.calibration.held_out == 32
    assert not signature_of(io.load(path)).differences(signature_of(report.model))
