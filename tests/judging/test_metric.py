import numpy as np
import pytest

from onnxopt.errors import DataError, OnnxOptError
from onnxopt.judging.metric import load_metric, score

MODULE = """
import numpy as np

def top1(predict):
    outputs = predict({"x": np.ones(2)})
    return np.float32(outputs["y"].sum())

def text(predict):
    return "good"

def nothing(predict):
    pass

def lost(predict):
    return float("nan")

def broken(predict):
    return {}["labels"]

def leaves(predict):
    raise SystemExit(3)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "eval.py"
    path.write_text(MODULE)
    return path


def double(feed):
    return {"y": 2 * feed["x"]}


def test_a_metric_is_asked_about_what_a_model_predicts(file):
    name, metric = load_metric(f"{file}:top1")
    assert (name, score(name, metric, double)) == (f"{file}:top1", 4.0)
    name, metric = load_metric(lambda predict: predict({"x": np.ones(3)})["y"].max())
    assert score(name, metric, double) == 2.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text", "returned str"),
        ("nothing", "returned NoneType"),
        ("lost", "returned nan"),
        ("broken", "failed: KeyError: 'labels' (line 18 of eval.py)"),
        ("leaves", "failed: SystemExit: 3"),
    ],
)
def test_a_metric_that_gives_no_number_is_named(file, name, message):
    with pytest.raises(OnnxOptError) as raised:
        score(*load_metric(f"{file}:{name}"), double)
    assert message in raised.value.message
    assert str(file) in raised.value.message


def test_a_feed_that_does_not_fit_is_told_in_its_own_words(file):
    def predict(feed):
        raise DataError("the model has no input 'x'")

    with pytest.raises(DataError, match="has no input 'x'"):
        score(*load_metric(f"{file}:top1"), predict)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{file}:top", "has no function 'top'"),
        ("{file}", "is not file.py:function"),
        ("{file}x.py:f", "there is no file"),
        ("{broken}:f", "failed: ZeroDivisionError"),
    ],
)
def test_a_metric_that_is_not_there_is_named(file, tmp_path, given, message):
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0\n")
    with pytest.raises(OnnxOptError) as raised:
        load_metric(given.format(file=file, broken=broken))
    assert message in raised.value.message
