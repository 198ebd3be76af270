"""Making inputs in a process of its own, whatever a model does to it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxopt.benchmarking import measure
from onnxopt.benchmarking.child import feeding
from onnxopt.benchmarking.child.feedfile import load_feed
from onnxopt.benchmarking.child.feeding import feeds_for
from onnxopt.benchmarking.plan import Plan


@pytest.fixture
def feeds(tmp_path):
    """Make the feeds of a model, of batch sizes."""

    def make(path, *batches, first=None, number=0, timeout=60, **more):
        options = {"data": None, "fix": {}, "seed": 0, **more}
        return feeds_for(
            str(path),
            batches,
            tmp_path,
            number=number,
            first=first or {},
            timeout=timeout,
            **options,
        )

    return make


def test_each_batch_has_a_file(save, feeds):
    found = feeds(save("a.onnx"), None, 3)
    assert found[None].described == {"x": "float32[1,8]"}
    assert found[3].described == {"x": "float32[3,8]"}
    assert load_feed(found[3].file)["x"].shape == (3, 8)
    assert not found[3].shared
    assert not found[3].error


def test_the_first_models_feed_is_shared_where_it_fits(save, feeds):
    first = feeds(save("a.onnx"), 2)
    same = feeds(save("b.onnx", hidden=17), 2, first=first, number=1)
    other = feeds(save("c.onnx", input_name="z"), 2, first=first, number=2)
    assert (same[2].file, same[2].shared) == (first[2].file, True)
    assert (other[2].shared, other[2].described) == (False, {"z": "float32[2,8]"})
    assert other[2].file != first[2].file


def test_a_file_that_went_away_is_the_error_of_every_batch(tmp_path, feeds):
    found = feeds(tmp_path / "gone.onnx", None, 4)
    assert set(found) == {None, 4}
    assert all("gone.onnx" in each.error for each in found.values())


@pytest.fixture
def feeder(monkeypatch, tmp_path):
    """Let a program of three lines make the feeds: `plan` is told, `tell` is there."""

    def install(code):
        (tmp_path / "feeder.py").write_text(
            "from onnxopt.benchmarking.child.events import receive, tell\nplan = receive()\n" + code
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setattr(feeding, "FEEDER", "feeder")

    return install


FED = "tell(event='fed', batch=None, file='f', feed={'x': 'int8[1]'}, shared=False)\n"


def test_a_crash_keeps_the_feeds_that_were_made(feeder, feeds):
    feeder(FED + "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    found = feeds("m.onnx", None, 2, 4)
    assert found[None].file == "f"
    assert all("SIGSEGV" in found[batch].error for batch in (2, 4))


def test_a_model_that_hangs_is_stopped_and_keeps_the_feeds_that_were_made(feeder, feeds):
    feeder(FED + "import time; time.sleep(60)")
    found = feeds("m.onnx", None, 2, timeout=2)
    assert found[None].file == "f"
    assert "gave no answer for 2 s" in found[2].error


def test_a_crash_is_a_row_with_the_error_and_the_rest_goes_on(feeder, save, quick, monkeypatch):
    """The second model's feed crashes the process that makes it."""
    from onnxopt.benchmarking import table

    monkeypatch.setattr(table, "feeds_for", feeds_for)
    feeder(
        f"if 'bad' in plan['path']: [][0]\n{FED}tell(event='end')",
    )
    paths = [str(save(f"{name}.onnx", hidden)) for name, hidden in (("a", 8), ("bad", 9))]
    report = measure.benchmark(paths, Plan.of(threads=(1,), max_time=0))
    good, bad = report.results
    assert good.error is None
    assert good.feeds == {"x": "int8[1]"}
    assert "IndexError" in bad.error
    assert not bad.processes
    assert not report


@pytest.fixture
def picky(tmp_path):
    """Give a model whose rows of `table` can only be picked by sizes that nobody guesses."""
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["values", "shape"], ["y"], name="refuses")],
        "graph",
        [
            helper.make_tensor_value_info("values", TensorProto.FLOAT, [7919]),
            helper.make_tensor_value_info("shape", TensorProto.INT64, [3]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 3)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "picky.onnx"
    onnx.save(model, path)
    return path


def test_an_input_that_cannot_be_guessed_names_itself_and_what_refused(picky, feeds):
    (found,) = feeds(picky, None).values()
    assert "refuses" in found.error
    assert "shape" in found.error
    assert "--data" in found.error


def test_data_feeds_what_cannot_be_guessed(picky, feeds, tmp_path):
    values, shape = np.ones((1, 7919), np.float32), np.array([[1, 1, 7919]])
    np.savez(tmp_path / "data.npz", values=values[0][None], shape=shape)
    (found,) = feeds(picky, None, data=str(tmp_path / "data.npz")).values()
    assert not found.error
    assert load_feed(found.file)["shape"].tolist() == [1, 1, 7919]
