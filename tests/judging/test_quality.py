"""What is said of an int8 model's outputs."""

import numpy as np
import pytest

from onnxopt.graph import io
from onnxopt.judging.quality import Judge, decibel
from onnxopt.quantizing.insert.qdq import insert
from onnxopt.runtime.sessions.session import run
from tests.quantizing.repair.nets import net, normal
from tests.quantizing.small import outputs, pictures, samples, solved, sqnr


@pytest.fixture(scope="module")
def judged():
    model = pictures()
    feeds = samples(model, 8)
    return model, feeds, Judge(io.to_proto(model).SerializeToString(), feeds)


def test_the_same_model_is_perfect(judged):
    model, _, judge = judged
    quality = judge.judge(io.to_proto(model).SerializeToString())
    assert quality.noise == 0
    assert quality.sqnr_db == np.inf
    assert quality.outputs[0].agreement == 1


def test_noise_is_that_of_all_samples_together(judged):
    model, feeds, judge = judged
    made = model.clone()
    insert(made, solved(model))
    quality = judge.judge(io.to_proto(made).SerializeToString())
    assert quality.sqnr_db == pytest.approx(sqnr(outputs(model, feeds), outputs(made, feeds)), 0.01)
    assert len(quality.samples) == 8
    told = quality.outputs[0]
    assert told.sqnr_p5_db <= decibel(float(np.median(quality.samples)))
    assert told.worst_sample == int(quality.samples.argmax())
    assert quality.comparison.outputs[0].sqnr_db == pytest.approx(quality.sqnr_db)


def test_noise_is_not_asked_for_further_than_it_matters(judged):
    model, _, judge = judged
    made = model.clone()
    insert(made, solved(model))
    made = io.to_proto(made).SerializeToString()
    whole = judge.judge(made).noise
    assert judge.noise(made) == judge.noise(made, whole) == pytest.approx(whole)
    assert judge.noise(made, 0.0) > 0
    assert judge.noise(made, whole / 2) > whole / 2


def test_what_is_far_off_is_known_by_a_few_samples(monkeypatch):
    text, weight = "(float[N,6] x) => (float[N,3] y) { y = MatMul(x, w) }", normal(6, 3)
    model = net(text, w=weight).SerializeToString()
    made = net(text, w=weight + 0.1 * normal(6, 3, seed=1)).SerializeToString()
    judge = Judge(model, [{"x": normal(8, 6, seed=number)} for number in range(64)])
    whole, runs = judge.judge(made).noise, []

    def counted(*given):
        runs.append(1)
        return run(*given)

    monkeypatch.setattr("onnxopt.judging.quality.run", counted)
    assert judge.noise(made, 0.5 * whole) == pytest.approx(whole, rel=0.4)
    assert len(runs) < 24
    runs.clear()
    assert judge.noise(made, 1.001 * whole) == pytest.approx(whole)
    assert len(runs) == 64


def test_numbers_that_are_none_are_infinitely_bad(judged):
    _, feeds, judge = judged
    bad = [[np.full((1, 5), np.nan, np.float32)] for _ in feeds]
    assert judge.compare(bad).noise == np.inf


def test_agreement_counts_classes_and_those_that_float_is_sure_of():
    judge = Judge.__new__(Judge)
    judge.feeds, judge.names, judge.judged = [{}, {}], ("y",), [0]
    sure, unsure = np.array([[9.0, 0, 0]]), np.array([[1.0, 0.9, 0]])
    judge.wanted = [[sure], [unsure]]
    found = judge.compare([[sure + 0.1], [unsure[:, ::-1]]]).outputs[0]
    assert (found.agreement, found.sure, found.sure_agreement) == (0.5, 1, 1.0)
