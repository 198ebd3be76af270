"""`prune` from end to end, on small networks: what goes, what is refitted, what is refused."""

import collections
import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

import onnxopt
from onnxopt import preparing, prune_task
from onnxopt.cli.main import run
from onnxopt.errors import OnnxOptError
from onnxopt.graph import io
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.signature import signature_of
from onnxopt.pruning import making, refitting
from onnxopt.pruning.channels import Channels
from onnxopt.render import pruned
from onnxopt.report import Difference
from tests.quantizing.repair.nets import net, normal
from tests.quantizing.small import pictures


def feeds(count=24, shape=(1, 3, 12, 12)):
    return [{"x": normal(*shape, seed=number)} for number in range(count)]


def wide():
    """Return a net with a residual sum between wide layers."""
    text = """(float[N,3,12,12] x) => (float[N,10] y) {
        a = Conv <strides=[2,2], pads=[1,1,1,1]> (x, w1, b1)
        ar = Relu(a)
        e = Conv (ar, w2)
        er = Relu(e)
        p = Conv (er, w3)
        s = Add(p, ar)
        g = GlobalAveragePool(s)
        f = Flatten(g)
        y = Gemm <transB=1> (f, w4, b4)
    }"""
    return net(
        text,
        w1=normal(16, 3, 3, 3) * 0.4, b1=normal(16) * 0.1,
        w2=normal(32, 16, 1, 1) * 0.3, w3=normal(16, 32, 1, 1) * 0.2,
        w4=normal(10, 16), b4=normal(10),
    )  # fmt: skip


@pytest.fixture
def model(tmp_path):
    onnx.save(wide(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def speed(monkeypatch):
    def set_(ratio):
        found = Difference(
            baseline="a", candidate="b", provider="cpu", ratio=ratio, low=ratio * 0.99,
            high=ratio * 1.01, verdict="faster" if ratio > 1 else "slower",
        )  # fmt: skip
        monkeypatch.setattr(prune_task.Pruning, "ab", lambda *_: found)

    return set_


def results(path, samples):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, feed)[0] for feed in samples])


def noise(one, two, samples):
    wanted, found = results(one, samples), results(two, samples)
    return np.square(wanted - found).sum() / np.square(wanted).sum()


def signature(path):
    graph = onnx.load(path).graph
    return [(value.name, value.type.SerializeToString()) for value in (*graph.input, *graph.output)]


def parameters(path):
    return sum(np.prod(each.dims) for each in onnx.load(path).graph.initializer)


def test_channels_go_and_what_is_left_makes_up_for_them(model, tmp_path):
    out, plain = tmp_path / "out.onnx", tmp_path / "plain.onnx"
    report = onnxopt.prune(
        model, out, sparsity=0.4, calibration=feeds(40), measure=False, multiple=1
    )
    assert report
    assert (report.status, report.written) == ("pruned", True)
    onnx.checker.check_model(onnx.load(out), full_check=True)
    assert signature(out) == signature(model)
    assert parameters(out) < parameters(model)
    assert report.output.macs < report.input.macs
    assert report.output.sha256 == hashlib.sha256(out.read_bytes()).hexdigest()
    onnxopt.prune(
        model, plain, sparsity=0.4, importance="l2", refit=False, calibration=feeds(40),
        measure=False, multiple=1, scope="layer",
    )  # fmt: skip
    unseen = feeds(60)[40:]
    assert noise(model, out, unseen) < noise(model, plain, unseen)
    assert sum(part.after for part in report.parts) < sum(part.before for part in report.parts)
    assert [point.chosen for point in report.front].count(True) == 1


def test_work_comes_down_to_what_was_asked_for(model, tmp_path):
    report = onnxopt.prune(
        model, tmp_path / "o.onnx", target_macs=0.6, calibration=feeds(), measure=False, multiple=1
    )
    assert report.output.macs <= 0.6 * report.input.macs
    assert report.output.macs > 0.4 * report.input.macs


def test_without_samples_magnitude_decides(model, tmp_path):
    report = onnxopt.prune(
        model, tmp_path / "o.onnx", sparsity=0.3, importance="l2", refit=False, measure=False,
        multiple=1,
    )  # fmt: skip
    assert report
    assert report.calibration is None
    assert report.verification is None


def test_sizes_that_the_model_runs_with_prove_what_was_cut():
    """silero_vad: its LSTM takes a state of one size alone."""
    path = Path(__file__).parents[1] / "models" / "silero_vad.onnx"
    report = onnxopt.prune(path, sparsity=0.3, refit=False, measure=False)
    assert report.status == "pruned"
    assert "multiply-accumulates" not in pruned.size(report)
    assert not signature_of(io.load(path)).differences(signature_of(report.model))


def test_the_same_samples_make_the_same_model(model, tmp_path):
    for name in ("a.onnx", "b.onnx"):
        onnxopt.prune(
            model, tmp_path / name, sparsity=0.4, calibration=feeds(), measure=False, multiple=1
        )
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("solver", ["momentum", "adam"])
def test_gradient_steps_come_to_the_closed_form(model, tmp_path, solver):
    options = {"sparsity": 0.4, "calibration": feeds(), "measure": False, "multiple": 1}
    onnxopt.prune(model, tmp_path / "exact.onnx", **options)
    onnxopt.prune(model, tmp_path / "steps.onnx", solver=solver, **options)
    assert noise(tmp_path / "exact.onnx", tmp_path / "steps.onnx", feeds()) < 0.01


def test_a_last_pass_against_the_model_that_was_given_does_no_harm(model, tmp_path):
    options = {"structure": "block", "target_macs": 0.9, "calibration": feeds(), "measure": False}
    onnxopt.prune(model, tmp_path / "plain.onnx", **options)
    onnxopt.prune(model, tmp_path / "taught.onnx", teach=True, **options)
    plain, taught = (noise(model, tmp_path / n, feeds()) for n in ("plain.onnx", "taught.onnx"))
    assert taught <= plain * 1.01


def test_what_a_structure_cannot_do_is_said(model):
    for options in ({"teach": True}, {"solver": "adam"}):
        with pytest.raises(OnnxOptError, match="structure element"):
            onnxopt.prune(model, structure="element", sparsity=0.5, calibration=feeds(), **options)


def test_masks_are_kept_edited_and_carried_out(model, tmp_path):
    masks, out = tmp_path / "masks.npz", tmp_path / "out.onnx"
    options = {"calibration": feeds(), "measure": False, "multiple": 1}
    report = onnxopt.prune(model, sparsity=0.4, mask_out=masks, **options)
    assert (report.status, report.written, report.masks) == ("masked", False, str(masks))
    with np.load(masks, allow_pickle=False) as held:
        kept = dict(held)
    names = [name for name in kept if kept[name].dtype == bool]
    assert sum(kept[name].sum() for name in names) == sum(part.after for part in report.parts)
    edited = names[0]
    kept[edited][:] = True
    kept[edited][:3] = False
    np.savez(masks, **kept)
    report = onnxopt.prune(model, out, mask=masks, **options)
    part = next(part for part in report.parts if part.name == edited)
    assert part.after == part.before - 3


def test_masks_of_another_model_or_of_nothing_are_refused(model, tmp_path):
    masks = tmp_path / "masks.npz"
    options = {"calibration": feeds(), "measure": False, "multiple": 1}
    onnxopt.prune(model, sparsity=0.4, mask_out=masks, **options)
    other = wide()
    other.graph.initializer[1].CopyFrom(
        numpy_helper.from_array(normal(16, seed=9), other.graph.initializer[1].name)
    )
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(OnnxOptError, match="another model"):
        onnxopt.prune(tmp_path / "other.onnx", mask=masks, **options)
    np.savez(masks, nothing=np.ones(3, bool))
    with pytest.raises(OnnxOptError, match="nothing called 'nothing'"):
        onnxopt.prune(model, mask=masks, **options)
    masks.write_bytes(b"PK")
    with pytest.raises(OnnxOptError, match="holds no masks"):
        onnxopt.prune(model, mask=masks, **options)


@pytest.mark.parametrize("importance", ["l1", "wanda", "auto", "random"])
def test_single_weights_become_zero(model, tmp_path, importance):
    out = tmp_path / "o.onnx"
    report = onnxopt.prune(
        model, out, structure="element", sparsity=0.6, importance=importance,
        calibration=feeds(), scope="layer",
    )  # fmt: skip
    assert report
    assert report.difference is None
    zeros = total = 0
    for each in onnx.load(out).graph.initializer:
        if len(each.dims) > 1:
            array = numpy_helper.to_array(each)
            zeros, total = zeros + (array == 0).sum(), total + array.size
    assert zeros / total == pytest.approx(0.6, abs=0.05)
    assert report.sparsity == pytest.approx(0.6, abs=0.05)


def test_layers_are_refitted_by_the_ridges_that_their_orders_were_chosen_by(model, monkeypatch):
    """What errs least behind layers that err pulls too hard; by itself each finds its own."""
    ways = []
    honest = refitting.refit

    def seen(*arguments, **named):
        ways.append((arguments[4], honest(*arguments, **named)))
        return ways[-1][1]

    monkeypatch.setattr(refitting, "refit", seen)
    onnxopt.prune(model, sparsity=0.4, structure="channel", calibration=feeds(), measure=False)
    onnxopt.prune(model, sparsity=0.4, structure="channel", calibration=feeds(), measure=False,
                  ridge=0.5)  # fmt: skip
    (free, found), (fixed, told) = ways
    assert found.ridges
    assert all(found.ridges[name] == free.ridges[name] for name in found.ridges)
    assert set(told.ridges.values()) == {0.5}
    assert fixed.of("anything") == 0.5
    assert refitting.Way().of("anything") is None


def test_the_mean_of_two_refits_has_less_of_what_each_of_them_errs(tmp_path):
    rng = np.random.default_rng(0)
    true = normal(16, 3, 3, 3)

    def noisy(path):
        text = "(float[1,3,8,8] x) => (float[1,16,6,6] y) { y = Conv (x, w) }"
        erring = true + 0.1 * rng.standard_normal(true.shape).astype(np.float32)
        onnx.save(net(text, w=erring), path)
        model = io.load(path)
        model.graph.node(0).name = "conv"
        return model

    one, other = noisy(tmp_path / "a.onnx"), noisy(tmp_path / "b.onnx")

    def error(model):
        array = numpy_helper.to_array(io.to_proto(model).graph.initializer[0])
        assert array.dtype == np.float32
        return np.square(array - true).mean()

    before = error(one)
    assert error(refitting.averaged(one, other)) < 0.7 * min(before, error(other))
    assert error(one) == before


def test_a_model_that_cannot_be_raised_is_told_what_for(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise OnnxOptError("onnx's converter fails: no adapter")

    monkeypatch.setattr(preparing, "converted", fails)
    text = """<ir_version: 4, opset_import: ["": 9]> g (float[N,8] x) => (float[N,4] y)
        <float[8,4] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3,4,5}>
        { y = MatMul(x, w) }"""
    onnx.save(parser.parse_model(text), tmp_path / "old.onnx")
    with pytest.raises(OnnxOptError) as told:
        onnxopt.prune(tmp_path / "old.onnx", sparsity=0.5, random_data=True)
    assert told.value.message == (
        "pruning needs operator set 13: operator set 9 is older than 11,"
        " and onnx's converter fails: no adapter"
    )
    assert "export the model again" in told.value.hint


def test_zeros_are_spread_by_what_they_cost_or_alike_whichever_errs_less(model):
    options = {"structure": "element", "sparsity": 0.6, "calibration": feeds()}
    spread, alike = (onnxopt.prune(model, scope=scope, **options) for scope in ("global", "layer"))
    assert spread.sparsity == pytest.approx(0.6, abs=0.02)
    first, second = (each.verification.outputs[0].sqnr_db for each in (spread, alike))
    assert first >= second - 0.01


def test_two_of_four_stay(model, tmp_path):
    out = tmp_path / "o.onnx"
    assert onnxopt.prune(model, out, structure="2:4", calibration=feeds())
    for each in onnx.load(out).graph.initializer:
        array = numpy_helper.to_array(each)
        if array.ndim == 4 and array.shape[1] % 4 == 0:
            fours = (array != 0).transpose(0, 2, 3, 1).reshape(-1, 4)
            assert fours.sum(axis=1).max() <= 2


def test_a_refit_of_what_stays_is_nearer_than_zeros_alone(model, tmp_path):
    for name, refit in (("refit.onnx", True), ("zeros.onnx", False)):
        onnxopt.prune(
            model, tmp_path / name, structure="2:4", calibration=feeds(40), refit=refit,
            importance="auto" if refit else "l2",
        )  # fmt: skip
    unseen = feeds(60)[40:]
    with_, without = (noise(model, tmp_path / n, unseen) for n in ("refit.onnx", "zeros.onnx"))
    assert with_ < without / 2


def test_blocks_go_as_measured(model, tmp_path):
    out = tmp_path / "o.onnx"
    report = onnxopt.prune(
        model, out, structure="block", target_macs=0.9, calibration=feeds(), measure=False
    )
    assert report
    assert report.output.macs < 0.9 * report.input.macs
    assert collections.Counter(part.unit for part in report.parts) == {"blocks": 1}
    assert signature(out) == signature(model)


def test_an_error_that_cannot_be_held_is_refused(model, tmp_path):
    out = tmp_path / "o.onnx"
    options = {"sparsity": 0.5, "calibration": feeds(), "measure": False, "multiple": 1}
    report = onnxopt.prune(model, out, min_sqnr=100, **options)
    assert not report
    assert not out.exists()
    assert "100 dB" in report.reason
    assert onnxopt.prune(model, out, min_sqnr=100, anyway=True, **options).written
    assert out.exists()


def test_what_is_not_faster_is_refused(model, tmp_path, speed):
    speed(0.9)
    out = tmp_path / "o.onnx"
    options = {"sparsity": 0.5, "calibration": feeds(), "multiple": 1}
    assert not onnxopt.prune(model, out, **options)
    assert not out.exists()
    assert onnxopt.prune(model, out, max_slowdown=0.2, **options)


def test_a_metric_that_falls_too_far_is_refused(model, tmp_path):
    calls = []

    def falling(predict):
        calls.append(predict(feeds(1)[0]))
        return 1.0 if len(calls) == 1 else 0.5

    out = tmp_path / "o.onnx"
    report = onnxopt.prune(
        model, out, sparsity=0.5, calibration=feeds(), measure=False, multiple=1, metric=falling,
        max_drop=0.1,
    )  # fmt: skip
    assert not report
    assert not out.exists()


def test_a_quantized_model_is_refused(tmp_path):
    onnx.save(io.to_proto(pictures()), tmp_path / "cnn.onnx")
    int8 = tmp_path / "int8.onnx"
    onnxopt.quantize(tmp_path / "cnn.onnx", feeds(), int8, measure=False, without=["rounding"])
    with pytest.raises(OnnxOptError, match="quantized already"):
        onnxopt.prune(int8, sparsity=0.5, calibration=feeds())


def test_a_model_without_layers_is_refused(tmp_path, capsys):
    text = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[1,4] x) => (float[1,4] y) { y = Sin(x) }"""
    onnx.save(parser.parse_model(text), tmp_path / "m.onnx")
    for structure in ("channel", "element"):
        options = ["--structure", structure, "--sparsity", "0.5", "--no-refit"]
        options += ["--importance", "l2", "-o", str(tmp_path / "o.onnx")]
        status = run(["prune", str(tmp_path / "m.onnx"), *options])
        err = capsys.readouterr().err
        assert status == 2
        assert err.startswith("error: ")
    assert not (tmp_path / "o.onnx").exists()


def test_of_two_refits_the_one_that_errs_less_is_taken(model, monkeypatch):
    asked = {"sparsity": 0.3, "calibration": feeds(64), "measure": False}
    wanted = onnxopt.prune(model, **asked).quality[0].sqnr_p5_db

    def spoiled(way, keep):
        found = front_to_back(way, keep)
        for value in found.graph.initializers.values():
            array = value.const_value.numpy()
            if array.dtype == np.float32:
                value.const_value = ir.tensor(array * 1.5)
        return found

    front_to_back = Channels._front_to_back
    monkeypatch.setattr(Channels, "_front_to_back", spoiled)
    assert onnxopt.prune(model, **asked).quality[0].sqnr_p5_db > wanted - 3


def test_a_last_refit_that_errs_more_is_undone(model, monkeypatch):
    asked = {"sparsity": 0.3, "calibration": feeds(64), "measure": False}
    wanted = onnxopt.prune(model, **asked).quality[0].sqnr_p5_db

    def spoil(teacher, student, *_, **__):
        for value in student.graph.initializers.values():
            array = value.const_value.numpy()
            if array.dtype == np.float32:
                value.const_value = ir.tensor(array * 1.5)

    monkeypatch.setattr(making, "teach", spoil)
    assert onnxopt.prune(model, teach=True, **asked).quality[0].sqnr_p5_db == pytest.approx(wanted)


def test_layers_learn_what_the_model_makes(model):
    asked = {"sparsity": 0.5, "calibration": feeds(64), "measure": False}
    before = onnxopt.prune(model, **asked)
    after = onnxopt.prune(model, learn=4, **asked)
    assert before.learned is None
    assert after.learned.kept > 0
    assert len(after.learned.passes) == 4
    assert after.quality[0].sqnr_p5_db > before.quality[0].sqnr_p5_db
    assert "learned in" in pruned.made_for(after)


def test_learning_keeps_the_pattern_of_zeros(model, tmp_path):
    out = tmp_path / "o.onnx"
    asked = {"structure": "2:4", "calibration": feeds(48), "measure": False}
    assert onnxopt.prune(model, out, learn=12, **asked).learned.kept > 0
    for each in onnx.load(out).graph.initializer:
        array = numpy_helper.to_array(each)
        if array.ndim == 4 and array.shape[1] % 4 == 0:
            fours = (array != 0).transpose(0, 2, 3, 1).reshape(-1, 4)
            assert fours.sum(axis=1).max() <= 2
