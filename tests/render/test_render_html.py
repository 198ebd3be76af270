import dataclasses
import importlib
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Sequence
from html.parser import HTMLParser

import click
import matplotlib as mpl
import pytest

from onnxopt.cli.benchmark import command as benchmark
from onnxopt.errors import OnnxOptError
from onnxopt.render import html
from onnxopt.render.command import command
from onnxopt.report import Setting

MOST_BYTES = 1_500_000


class Read(HTMLParser):
    """What a browser would see: tags with their attributes, and the text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.words, self.styles = [], [], []
        self.feed(page)
        self.close()
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        (self.styles if self.tags[-1:] and self.tags[-1][0] == "style" else self.words).append(data)


@pytest.fixture(scope="module")
def page(swept):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return html.benchmark(swept)


@pytest.fixture(scope="module")
def seen(page):
    return Read(page)


def plots(page):
    return re.findall(r"<figcaption>\s*<b>(.*?)</b>", page)


def test_page_needs_nothing_else(page, seen):
    tags = {tag for tag, _ in seen.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "image", "base", "form"}
    for tag, attributes in seen.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name != "src"
            if name == "href":
                assert value.startswith("#")
    assert "://" not in page
    assert set(re.findall(r"url\((.)", page)) <= {"#"}
    assert "@import" not in page
    policy = [a["content"] for t, a in seen.tags if t == "meta" and "http-equiv" in a]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_names_cannot_become_markup(page, seen):
    assert "<img src=x onerror=alert(1)>$x_{1$&.onnx against main/model.onnx" in seen.text
    assert "it crashed <its> process" in seen.text
    assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_control_codes_are_told_not_sent(benchmarked):
    odd = "\x1b[2J\u202egnp.\udc80</style><b>.onnx"
    row = dataclasses.replace(benchmarked.results[0], model=odd)
    made = html.benchmark(dataclasses.replace(benchmarked, results=(row,), differences=()))
    assert not {"\x1b", "\u202e", "\udc80"} & set(made)
    assert r"\x1b[2J\u202egnp.\udc80" in made
    assert "</style><b>" not in made


def test_identifiers_are_unique_and_found(page, seen):
    names = [attributes["id"] for _, attributes in seen.tags if "id" in attributes]
    assert len(names) == len(set(names))
    wanted = {attributes["href"][1:] for _, attributes in seen.tags if "href" in attributes}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", page))
    for _, attributes in seen.tags:
        wanted |= set(attributes.get("aria-labelledby", "").split())
    assert wanted <= set(names)


def test_reader_gets_first_what_was_asked_first(seen):
    places = [
        seen.text.index(text)
        for text in (
            "onnxopt benchmark 4 models",
            "1.52× faster",
            "95 % interval 1.47–1.58, 64 sessions in 8 processes",
            "1.14× slower",
            "Against old/base.json",
            "The intervals hold for all 4 comparisons together.",
            "Control: a model against itself",
            "Could not be measured",
            "What to doubt",
            "Best settings",
            "Results model median ms against main/model.onnx p90 ms",
            "Latency by batch",
            "Sessions and processes",
            "Where the time goes",
            "Environment",
            "How to read this",
            "Measure it again",
        )
    ]
    assert places == sorted(places)


def test_every_row_is_there_with_cautions_and_reasons(page, swept, seen):
    body = page.partition("Results</h2>")[2].partition("</table>")[0]
    assert len(re.findall(r'<th class="name" scope="row">', body)) == len(swept.results)
    assert "failed: it crashed &lt;its&gt; process (segmentation fault)" in body
    assert body.count("⚠ the hypervisor gave 7 % to others; use a quieter machine") == 2
    assert "load 3.1 on 4 cores; stop the others" in seen.text
    text = " ".join(Read(body).text.split())
    assert "cpu (asked for cuda), batch 1, 4 threads all 94 nodes on CPUExecutionProvider;" in text
    assert "cuda, batch 1, 4 threads 90 on CUDAExecutionProvider, 4 on CPU" in text
    assert "8.00 7.84–8.16" in text


def test_plots_are_those_that_there_are_data_for(page, benchmarked):
    assert {
        "Latency by batch",
        "Latency by setting",
        "Throughput and latency as the batch grows",
        "Sessions and processes",
        "Percentiles",
        "How far from the limit",
    } <= set(plots(page))
    assert any(name.startswith("Throughput and latency as callers") for name in plots(page))
    alone = dataclasses.replace(benchmarked, results=benchmarked.results[:2])
    assert plots(html.benchmark(alone)) == ["Sessions and processes", "Percentiles"]
    assert "Where the time goes" not in html.benchmark(alone)
    nothing = dataclasses.replace(benchmarked, results=benchmarked.results[2:], differences=())
    made = html.benchmark(nothing)
    assert plots(made) == []
    assert "failed: no CUDA device" in made


def test_drawings_take_colours_and_fonts_from_the_page(page):
    drawings = "".join(re.findall(r"<svg class=\"plot\".*?</svg>", page, re.DOTALL))
    assert "var(--s0)" in drawings
    assert "var(--quiet)" in drawings
    assert "#0a0" not in drawings
    assert "font-family" not in drawings
    assert "DejaVu" not in drawings
    assert set(re.findall(r"(?:fill|stroke): (#\w+)", drawings)) == set()
    assert "prefers-color-scheme: dark" in page


def test_drawings_fit_their_place_and_say_what_they_show(seen):
    drawn = [attributes for tag, attributes in seen.tags if attributes.get("class") == "plot"]
    assert drawn
    for attributes in drawn:
        assert attributes["role"] == "img"
        assert "viewbox" in attributes
        assert not {"width", "height"} & set(attributes)
    assert "pr/model.onnx on cpu, batch 1, 4 threads: 5.20 ms" in seen.text


def test_command_line_is_the_one_that_was_given(page, seen):
    command = seen.text.partition("Measure it again")[2]
    assert command.split()[:4] == ["onnxopt", "benchmark", "main/model.onnx", "pr/model.onnx"]
    assert "'<img src=x onerror=alert(1)>$x_{1$&.onnx'" in command
    for part in (
        "--provider cpu \\ --provider cuda", "--provider-option cuda.use_tf32=0",
        "--batch 1,4,16", "--callers 1,2,8", "--rate 40", "--io copied,bound", "--fix h=224",
        "--precision 2%", "--max-time 60s", "--aa", "--profile", "--against old/base.json",
    ):  # fmt: skip
        assert part in command
    assert "--strict" not in command


def test_interrupted_run_says_so(benchmarked):
    begun = html.benchmark(dataclasses.replace(benchmarked, complete=False))
    assert "Not finished." in begun
    assert "Not finished." not in html.benchmark(benchmarked)


class Once(Sequence):
    """Processes that are read from disk: iterating twice would read all of it twice."""

    def __init__(self, processes, sessions):
        self.processes, self.sessions, self.iterated = processes, sessions, 0

    def __len__(self):
        return self.processes

    def __getitem__(self, index):
        raise AssertionError("iterate")

    def __iter__(self):
        self.iterated += 1
        for p in range(self.processes):
            yield {
                "sessions": [
                    {"times_ns": [8_000_000 + 1000 * ((p * 37 + s * 101) % 977)] * 3}
                    for s in range(self.sessions)
                ]
            }


@pytest.mark.parametrize(("processes", "sessions"), [(20, 250), (500, 10)])
def test_thousands_of_sessions_are_summed_up(benchmarked, processes, sessions):
    samples = [Once(processes, sessions) for _ in range(2)]
    rows = tuple(
        dataclasses.replace(each, processes=processes, error=None)
        for each, processes in zip(benchmarked.results[:2], samples, strict=True)
    )
    made = html.benchmark(dataclasses.replace(benchmarked, results=rows))
    assert len(made) < 150_000
    assert [each.iterated for each in samples] == [1, 1]
    assert "A dot is one fresh session" not in made


def test_page_of_many_rows_stays_small(page, swept):
    assert len(swept.results) > 24
    assert len(page.encode()) < MOST_BYTES


def test_same_report_gives_the_same_page_and_leaves_no_trace(benchmarked, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with mpl.rc_context({"svg.fonttype": "path", "axes.facecolor": "pink", "font.size": 30}):
        before = mpl.rcParams.copy()
        one = html.benchmark(benchmarked)
        assert mpl.rcParams.copy() == before
    assert html.benchmark(benchmarked) == one


def test_throughput_is_shown_where_callers_compete(benchmarked):
    setting = Setting(threads=2, callers=4)
    row = dataclasses.replace(
        benchmarked.results[0], callers=setting.callers,
        processes=({"sessions": [{"times_ns": [4_000_000] * 8, "wall_ns": 8_000_000}]},) * 3,
    )  # fmt: skip
    made = html.benchmark(dataclasses.replace(benchmarked, results=(row,), differences=()))
    assert "samples per second" in made


@pytest.mark.parametrize(("absent", "told"), [(("jinja2",), "jinja2"),
    (("jinja2", "matplotlib.backends.backend_svg"), "jinja2 matplotlib")])  # fmt: skip
def test_what_is_missing_is_said_with_the_command(absent, told, monkeypatch):
    real = importlib.import_module

    def lacking(name):
        if name in absent:
            raise ModuleNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib, "import_module", lacking)
    with pytest.raises(OnnxOptError, match="--html needs jinja2") as raised:
        html.check_available()
    assert raised.value.hint == f"run: pip install {told}"


def test_asking_for_the_renderer_loads_neither_library():
    code = "import sys, onnxopt.render.html; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"matplotlib", "jinja2", "numpy"} & set(ran.stdout.split())


def test_every_option_of_the_command_line_is_one(swept):
    plan = swept.plan | {"strict": True, "data": "feeds.npz", "max_time": 1.5}
    words = " ".join(command(dataclasses.replace(swept, plan=plan)))
    parsed = benchmark.make_parser(click.Context(benchmark)).parse_args(shlex.split(words)[2:])[0]
    assert parsed["models"][:2] == ("main/model.onnx", "pr/model.onnx")
    assert parsed["max_time"] == "1.5s"
    assert parsed["against"] == "old/base.json"
