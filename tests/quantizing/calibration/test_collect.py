import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from onnxopt.errors import DataError, ModelError, OnnxOptError
from onnxopt.graph import facts, io
from onnxopt.graph._onnx_ir import ir
from onnxopt.passes import shapes
from onnxopt.quantizing.calibration import collect as collecting
from onnxopt.quantizing.calibration import grouping
from onnxopt.quantizing.calibration.collect import collect, thinned
from onnxopt.quantizing.calibration.expose import Wanted, find
from tests.passes.graphs import info, model_of, node
from tests.passes.nested import CONDITION, EITHER, branch, graph, model
from tests.quantizing.calibration.exposing import INNER, convolutional, loaded, naive

GIGABYTE = 1 << 30
RANGE, HISTOGRAM = Wanted(), Wanted(histogram=True)


def samples(*sizes, seed=0):
    """Make images of different sizes."""
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal((1, 3, h, w)).astype(np.float32)} for h, w in sizes]


RAGGED = samples((20, 31), (8, 8), (40, 44), (9, 30), (21, 32), (44, 40), (5, 6))


def take(proto, wanted, feeds, max_memory=GIGABYTE, **options):
    return collect(loaded(proto), wanted, lambda: feeds, max_memory=max_memory, **options)


def expected(proto, feeds, names=INNER):
    """Return the arrays of all samples by tensor, seen by running the model naively."""
    runs = [naive(proto, names, feed) for feed in feeds]
    return {name: [found[name] for found in runs] for name in names}


@pytest.mark.parametrize("dims", [["n", 3, "h", "w"], [1, 3, 48, 48]])
def test_ranges_are_exactly_those_of_the_naive_way(dims):
    feeds = RAGGED if dims[0] == "n" else samples((48, 48), (48, 48))
    proto = convolutional(dims=dims)
    found = take(proto, dict.fromkeys(INNER, RANGE), feeds, identity="ab")
    assert (found.model, found.samples) == ("ab", len(feeds))
    assert list(found.observers) == list(INNER)
    for name, arrays in expected(proto, feeds).items():
        seen = found.observers[name]
        assert (seen.low, seen.high) == (min(a.min() for a in arrays), max(a.max() for a in arrays))
        assert seen.count == sum(a.size for a in arrays)
        assert seen.histogram is None


def assert_seen_fully(found, proto, feeds):
    for name, arrays in expected(proto, feeds).items():
        seen = found.observers[name]
        numbers = np.concatenate([array.reshape(-1) for array in arrays])
        assert (seen.low, seen.high, seen.count) == (numbers.min(), numbers.max(), numbers.size)
        assert seen.zeros == np.count_nonzero(numbers == 0)
        assert seen.histogram.counts.sum() + seen.zeros == numbers.size


def test_histograms_count_every_number():
    found = take(convolutional(), dict.fromkeys(INNER, HISTOGRAM), RAGGED)
    assert_seen_fully(found, convolutional(), RAGGED)


def test_channels_are_seen_along_their_axis():
    found = take(convolutional(), {"a": Wanted(axis=1), "f": Wanted(axis=-1)}, RAGGED)
    arrays = expected(convolutional(), RAGGED)
    flat = np.concatenate([array[0].reshape(8, -1) for array in arrays["a"]], axis=1)
    channels = found.observers["a"].channels
    np.testing.assert_array_equal(channels.low, flat.min(axis=1))
    np.testing.assert_array_equal(channels.high, flat.max(axis=1))
    np.testing.assert_allclose(channels.mean, flat.mean(axis=1), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(
        found.observers["f"].channels.high, np.max(arrays["f"], axis=(0, 1))
    )


def test_of_large_tensors_some_numbers_are_counted_but_the_range_is_that_of_all():
    wanted = dict.fromkeys(INNER, Wanted(histogram=True, most=1000))
    found = take(convolutional(), wanted, RAGGED)
    for name, arrays in expected(convolutional(), RAGGED).items():
        seen = found.observers[name]
        assert (seen.low, seen.high) == (min(a.min() for a in arrays), max(a.max() for a in arrays))
        assert seen.histogram.counts.sum() + seen.zeros == seen.count
        assert seen.count <= sum(min(1000, array.size) for array in arrays)
        assert seen.count >= sum(min(500, array.size) for array in arrays)


def test_thinning_comes_by_all_columns():
    columns = np.tile(np.arange(384.0), (128, 1))
    few = thinned(columns, 5000, 0)
    assert 4000 < few.size <= 5000
    assert np.unique(few).size == 384
    assert not np.array_equal(few, thinned(columns, 5000, 1))
    assert thinned(np.arange(7.0), 1, 6).size == 1
    bad = np.ones((2, 200), np.float32)
    bad[1, 3] = -1
    with pytest.raises(DataError, match="'a' holds NaN in sample 0"):
        take(logarithm(), {"a": Wanted(histogram=True, most=10)}, [{"x": bad}])


def test_inputs_and_constants_are_seen_without_the_model():
    wanted = {"x": HISTOGRAM, "w1": RANGE, "a": RANGE}
    found = take(convolutional(), wanted, RAGGED).observers
    assert found["x"].count == sum(feed["x"].size for feed in RAGGED)
    assert found["w1"].count == 8 * 3 * 3 * 3
    alone = take(convolutional(), {"x": RANGE}, RAGGED)
    assert (alone.samples, alone.observers["x"].high) == (len(RAGGED), found["x"].high)


def rooms(monkeypatch, own):
    """Let this process hold a known number of bytes; count the passes over the samples."""
    monkeypatch.setattr(grouping, "rss_bytes", lambda: own)
    monkeypatch.setattr(collecting, "rss_bytes", lambda: own)
    passes = []

    def feeds():
        passes.append(1)
        return RAGGED

    return feeds, passes


@pytest.mark.parametrize(
    ("tensors", "most"), [(100, 1), (6, 1), (2, 3), (1, 5)]
)  # of 8 × 40 × 44 numbers: there are four
def test_tensors_that_do_not_fit_take_further_passes(monkeypatch, tensors, most):
    own, wanted = 10_000_000, dict.fromkeys(INNER, HISTOGRAM)
    feeds, passes = rooms(monkeypatch, own)
    room = tensors * 8 * 40 * 44 * 4 + 1000
    found = collect(loaded(convolutional()), wanted, feeds, max_memory=(own + room) * 10 // 9 + 1)
    assert_seen_fully(found, convolutional(), RAGGED)
    assert 1 <= len(passes) <= most
    assert len(passes) > 1 or tensors >= 6


def test_what_does_not_fit_by_itself_is_refused(monkeypatch):
    feeds, _ = rooms(monkeypatch, 10_000_000)
    with pytest.raises(OnnxOptError, match="'a' has") as refusal:
        collect(
            loaded(convolutional()), dict.fromkeys(INNER, HISTOGRAM), feeds, max_memory=11_130_000
        )
    assert "--max-memory" in refusal.value.hint


def test_progress_reaches_its_end_and_never_goes_back(monkeypatch):
    told = []
    feeds, passes = rooms(monkeypatch, 10_000_000)
    collect(
        loaded(convolutional()), dict.fromkeys(INNER, HISTOGRAM), feeds, max_memory=11_250_000,
        progress=lambda text, fraction: told.append((text, fraction)),
    )  # fmt: skip
    assert len(passes) > 1
    fractions = [fraction for _, fraction in told]
    assert len(fractions) == len(passes) * len(RAGGED)
    assert fractions[-1] == 1
    assert told[-1][0] == f"calibrating, {len(RAGGED)} samples"


def test_statistics_can_be_gone_on_with():
    wanted = {**dict.fromkeys("abc", HISTOGRAM), "d": RANGE, "x": HISTOGRAM}
    whole = take(convolutional(), wanted, RAGGED, identity="m")
    first = take(convolutional(), wanted, RAGGED[:3], identity="m")
    both = take(convolutional(), wanted, RAGGED[3:], identity="m", earlier=first)
    assert both is first
    assert both.samples == whole.samples
    for name, seen in whole.observers.items():
        for key, state in seen.state().items():
            np.testing.assert_allclose(both.observers[name].state()[key], state, err_msg=name)


def logarithm():
    nodes = [node("Log", ["x"], "a"), node("Relu", ["a"], "b")]
    return model_of(nodes, [info("x", ["n", 200])], [info("b", None)])


@pytest.mark.parametrize("wanted", [RANGE, HISTOGRAM])
@pytest.mark.parametrize(("number", "what"), [(-1, "NaN"), (0, "infinity")])
def test_what_is_not_finite_is_named_with_its_sample(wanted, number, what):
    feeds = [{"x": np.ones((3, 200), np.float32)} for _ in range(5)]
    feeds[3]["x"][1, 77] = number
    with pytest.raises(DataError, match=f"activation 'a' holds {what} in sample 3"):
        take(logarithm(), {"b": wanted, "a": wanted}, feeds)


def test_an_input_that_is_not_finite_is_named_before_what_it_spoils():
    feeds = samples((5, 6), (5, 6))
    feeds[1]["x"][0, 0, 0, 0] = np.inf
    with pytest.raises(DataError, match="'x' holds infinity in sample 1"):
        take(convolutional(), {"a": RANGE, "x": RANGE}, feeds)


def test_sums_that_overflow_to_both_sides_are_no_nan():
    proto = model_of([node("Neg", ["x"], "y")], [info("x", ["n", 4])], [info("y", None)])
    huge = np.full((64, 4), 3e38, np.float32)
    huge[::2] *= -1
    found = take(proto, {"y": RANGE}, [{"x": huge}]).observers["y"]
    assert (found.high, found.count, found.nans) == (np.float32(3e38), 256, 0)


def test_empty_tensors_say_nothing():
    feeds = [{"x": np.ones((n, 200), np.float32)} for n in (0, 2, 0)]
    for wanted in (RANGE, HISTOGRAM):
        found = take(logarithm(), {"a": wanted}, feeds).observers["a"]
        assert (found.count, found.low, found.high) == (400, 0, 0)


@pytest.mark.parametrize("wanted", [RANGE, HISTOGRAM])
def test_without_samples_there_is_nothing_to_say(wanted):
    with pytest.raises(DataError, match="no samples"):
        take(convolutional(), {"a": wanted}, [])


@pytest.mark.parametrize("wanted", [RANGE, HISTOGRAM])
def test_a_sample_that_is_refused_is_named(wanted):
    feeds = [{"x": np.ones((1, 200), np.float32)} for _ in range(3)]
    feeds[2] = {"x": np.ones((1, 5, 7), np.float32)}
    with pytest.raises(DataError, match="sample 2: "):
        take(logarithm(), {"a": wanted}, feeds)


def test_samples_that_can_be_read_only_once_are_noticed():
    once = iter(RAGGED)
    with pytest.raises(DataError, match=r"7 at first and|no samples"):
        collect(
            loaded(convolutional()), {"a": RANGE, "b": HISTOGRAM}, lambda: once, max_memory=GIGABYTE
        )


def test_a_name_of_nothing_is_refused():
    with pytest.raises(ModelError, match="no tensor 'z'"):
        take(convolutional(), {"z": RANGE}, RAGGED)


def test_tensors_of_both_branches_are_seen_where_they_are_taken():
    then = graph([node("Neg", ["x"], "t")], ["t"])
    other = graph([node("Exp", ["x"], "e")], ["e"])
    proto = model([branch("c", "y", then, other)], ["x", CONDITION], ["y"])
    wanted = {"t": RANGE, "e": HISTOGRAM, "y": Wanted(axis=0)}
    found = take(proto, wanted, EITHER * 2).observers
    assert [found[name].count for name in "tey"] == [6, 6, 12]
    assert (found["t"].low, found["t"].high) == (-2, 3)
    channelled = take(proto, {"t": Wanted(axis=-1), "e": Wanted(axis=0)}, EITHER).observers
    np.testing.assert_array_equal(channelled["t"].channels.high, [1, -2, 3])
    np.testing.assert_allclose(channelled["e"].channels.high, np.exp([-1, 2, -3]), rtol=1e-6)


CHILD = """
    import numpy as np, sys
    from onnxopt.quantizing.calibration.collect import collect, thinned
    from onnxopt.quantizing.calibration.expose import Wanted
    from onnxopt.runtime.machine.memory import peak_rss_bytes
    from tests.quantizing.calibration.exposing import INNER, convolutional, loaded

    def feeds(count):
        rng = np.random.default_rng(0)
        for _ in range(count):
            yield {"x": rng.standard_normal((1, 3, 96, 96)).astype(np.float32)}

    for count in (10, 10, 400):
        for wanted in (Wanted(), Wanted(histogram=True)):
            collect(loaded(convolutional()), dict.fromkeys(INNER, wanted),
                    lambda: feeds(count), max_memory=1 << 30)
        print(peak_rss_bytes())
"""


def test_memory_does_not_grow_with_the_samples():
    """Each sample makes 1.2 MB of tensors: 400 of them would be 470 MB."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD)], check=True, capture_output=True, text=True,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    _, few, many = map(int, done.stdout.split())
    assert many - few < 50_000_000


LIMITED = """
    import numpy as np
    from onnxopt.quantizing.calibration.collect import collect
    from onnxopt.quantizing.calibration.expose import Wanted
    from onnxopt.runtime.machine.memory import peak_rss_bytes
    from tests.quantizing.calibration.exposing import INNER, convolutional, loaded

    passes = []
    x = np.random.default_rng(0).standard_normal((1, 3, 800, 800)).astype(np.float32)

    def feeds():
        passes.append(1)
        return [{"x": x}] * 3

    collect(loaded(convolutional()), dict.fromkeys(INNER, Wanted()), feeds, max_memory=1 << 30)
    limit = (peak_rss_bytes() + 35_000_000) * 10 // 9
    passes.clear()
    found = collect(
        loaded(convolutional()), dict.fromkeys(INNER, Wanted(histogram=True)), feeds,
        max_memory=limit,
    )
    assert found.observers["d"].count == 3 * 8 * 800 * 800
    print(len(passes), peak_rss_bytes(), limit)
"""


def test_the_memory_allowed_is_kept():
    """Four tensors of 20 MB each, and room for one or two beside the session."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED)], check=True, capture_output=True,
        text=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    passes, peak, limit = map(int, done.stdout.split())
    assert passes > 1
    assert peak <= limit


def test_a_real_model_gives_the_same_ranges_inside_and_outside_the_graph():
    """silero_vad: an If in an If, with an LSTM in each branch."""
    read = io.load(Path(__file__).parents[3] / "models" / "silero_vad.onnx")
    shapes.infer(read)
    wanted = [
        name
        for name, value in find(read).items()
        if facts.dtype(value) == ir.DataType.FLOAT and not facts.is_constant(value)
    ]
    rng = np.random.default_rng(0)
    feeds = [
        {
            "input": rng.standard_normal((1, size)).astype(np.float32),
            "state": rng.standard_normal((2, 1, 128)).astype(np.float32),
            "sr": np.array(rate),
        }
        for size, rate in ((576, 16000), (288, 8000))
    ]
    inside, outside = (
        collect(read, dict.fromkeys(wanted, want), lambda: feeds, max_memory=GIGABYTE).observers
        for want in (RANGE, HISTOGRAM)
    )
    assert len(wanted) > 250
    for name in wanted:
        assert inside[name].count == outside[name].count
        np.testing.assert_allclose(
            (inside[name].low, inside[name].high), (outside[name].low, outside[name].high),
            rtol=1e-4, atol=1e-5, err_msg=name,
        )  # fmt: skip
