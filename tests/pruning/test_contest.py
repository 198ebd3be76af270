"""Low rank is held against channels at the same cost, and has to beat them."""

import math

import numpy as np
import onnx
import pytest

import onnxopt
from onnxopt import prune_task
from onnxopt.graph import io
from onnxopt.pruning.contest import Contest, Way
from onnxopt.render import pruned
from onnxopt.report import Difference
from tests.quantizing.repair.nets import net, normal

TEXT = """(float[N,48] x) => (float[N,8] y) {
    a = MatMul(x, w1)
    r = Relu(a)
    b = MatMul(r, w2)
    s = Relu(b)
    y = MatMul(s, w3)
}"""


def feeds(count=48, size=48):
    return [{"x": normal(16, size, seed=number)} for number in range(count)]


def thin():
    """Return a net whose middle layer is of rank 8, all of its neurons being of use."""
    w2 = normal(64, 8, seed=3) @ normal(8, 64, seed=4) / 8
    return net(TEXT, w1=normal(48, 64) / 7, w2=w2, w3=normal(64, 8) / 8)


def idle():
    """Return a net half of whose neurons are hardly read, its matrices being of full rank."""
    w2, w3 = normal(64, 64, seed=3) / 8, normal(64, 8) / 8
    w2[1::2] *= 1e-3
    w3[1::2] *= 1e-3
    return net(TEXT, w1=normal(48, 64) / 7, w2=w2, w3=w3)


@pytest.fixture
def pruned_by(tmp_path):
    def run(model, **options):
        onnx.save(model, tmp_path / "m.onnx")
        asked = {"structure": "rank", "multiple": 1, "measure": False, **options}
        return onnxopt.prune(
            tmp_path / "m.onnx", tmp_path / "out.onnx", calibration=feeds(), **asked
        )

    return run


def test_what_is_no_layer_counts_too_whatever_the_length(tmp_path):
    text = """(float[N,48] x) => (float[N,64] y) {
        a = MatMul(x, w1)
        r = Relu(a)
        b = MatMul(r, w2)
        s = Relu(b)
        t = Transpose <perm=[1,0]> (s)
        p = MatMul(s, t)
        q = Softmax(p)
        y = MatMul(q, s)
    }"""
    model = net(text, w1=normal(48, 64) / 7, w2=normal(64, 64, seed=3) / 8)
    onnx.save(model, tmp_path / "m.onnx")
    report = onnxopt.prune(
        tmp_path / "m.onnx", calibration=[{"x": normal(64, 48, seed=n)} for n in range(16)],
        structure="rank", target_macs=0.8, multiple=1, measure=False, anyway=True,
    )  # fmt: skip
    assert 0.7 < report.attempts[0].macs <= 0.8


def test_a_layer_of_low_rank_is_split(pruned_by, tmp_path):
    report = pruned_by(thin(), target_macs=0.65)
    assert report
    rank, channels = report.attempts
    assert (rank.name, channels.name) == ("low rank", "channels")
    assert (rank.kept, channels.kept) == (True, False)
    assert rank.sqnr_db > channels.sqnr_db + 6
    assert channels.macs <= rank.macs <= 0.65
    assert rank.share == rank.macs
    assert rank.reason == "the least error for a multiply-accumulate saved"
    assert "times the error" in channels.reason
    assert (tmp_path / "out.onnx").exists()
    (gate,) = report.gates
    assert (gate.name, gate.passed) == ("beats_channels", True)


def test_neurons_that_nobody_reads_go_rather_than_ranks(pruned_by, tmp_path):
    report = pruned_by(idle(), target_macs=0.6)
    assert not report
    assert (report.status, report.written) == ("refused", False)
    assert not (tmp_path / "out.onnx").exists()
    rank, channels = report.attempts
    assert channels.sqnr_db > rank.sqnr_db
    assert not rank.kept
    assert channels.reason == "the least error for a multiply-accumulate saved"
    assert f"--structure channel --target-macs {rank.macs:.3g}" in report.reason
    assert report.reason in pruned.outcome(report)
    anyway = pruned_by(idle(), target_macs=0.6, anyway=True)
    assert anyway.written
    assert not anyway
    assert [each.kept for each in anyway.attempts] == [True, False]
    assert onnxopt.prune(
        tmp_path / "m.onnx", target_macs=float(f"{rank.macs:.3g}"), calibration=feeds(),
        measure=False, multiple=1,
    )  # fmt: skip


def test_where_no_channel_can_go_low_rank_stands_alone(pruned_by):
    text = "(float[N,48] x) => (float[N,64] y) { y = MatMul(x, w) }"
    low = normal(48, 4, seed=1) @ normal(4, 64, seed=2)
    report = pruned_by(net(text, w=low + 0.01 * normal(48, 64)), sparsity=0.5)
    assert report
    assert report.gates == ()
    (rank,) = report.attempts
    assert rank.kept
    assert rank.reason.startswith("nothing to hold it against: ")


def test_times_decide_where_they_are_measured(pruned_by, monkeypatch):
    ratios = iter([1.02, 1.5])
    monkeypatch.setattr(prune_task.Pruning, "ab", lambda *_: faster(next(ratios)))
    report = pruned_by(thin(), target_macs=0.65, measure=True)
    rank, channels = report.attempts
    assert rank.share == pytest.approx(1 / 1.02)
    assert channels.share == pytest.approx(1 / 1.5)
    assert channels.difference.ratio == 1.5
    assert report.difference.ratio == 1.02
    assert "millisecond" in rank.reason + channels.reason


def faster(ratio):
    return Difference(
        baseline="a", candidate="b", provider="cpu", ratio=ratio, low=ratio * 0.99,
        high=ratio * 1.01, verdict="faster" if ratio > 1 else "slower",
    )  # fmt: skip


def held(rank, channels):
    """Return a contest of (noise, ratio of times) each."""
    model = io.from_proto(thin())
    ways = [
        Way(model=model, noise=noise, macs=0.5, difference=None if time is None else faster(time))
        for noise, time in (rank, channels)
    ]
    return Contest(rank=ways[0], channels=ways[1])


@pytest.mark.parametrize(
    ("rank", "channels", "dearer"),
    [
        ((0.1, None), (0.2, None), 0.5),
        ((0.2, None), (0.1, None), 2.0),
        ((0.1, 1.25), (0.2, 2.0), 1.25),
        ((0.1, 1.25), (0.2, None), 0.5),
        ((0.1, 0.9), (0.2, 0.8), 0.5),
        ((0.1, 0.9), (0.2, 2.0), math.inf),
        ((0.1, 2.0), (0.2, 0.9), 0.0),
        ((0.0, None), (0.0, None), 1.0),
        ((0.1, None), (0.0, None), math.inf),
    ],
)
def test_error_counts_for_what_is_saved(rank, channels, dearer):
    found = held(rank, channels)
    assert found.dearer == pytest.approx(dearer)
    gate = found.gate()
    assert gate.passed == (dearer <= 1)
    reasons = [each.reason for each in found.attempts(kept=True)]
    assert [reason.startswith("the least error") for reason in reasons] == [
        gate.passed,
        not gate.passed,
    ]
    assert all(np.isfinite(each.share) for each in found.attempts(kept=True))
