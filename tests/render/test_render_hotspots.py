import dataclasses
import math

import pytest

from onnxopt.render import spots
from onnxopt.render.markdown.hotspots import hotspots as markdown
from onnxopt.render.terminal.hotspots import hotspots as terminal
from onnxopt.report import Ceiling, Hotspot, Hotspots, Setting
from tests.render.test_render_terminal import screen

CONV = Hotspot(
    name="/model/blocks.3/depthwise_separable/conv_pw/Conv", op="Conv",
    provider="CPUExecutionProvider", count=1, ms=6.0561, share=0.6911, macs=332_922_880,
    bytes=4_186_112, gflops=109.95, gbs=0.69, of_ceiling=1.022, bound="compute", shapes="1×256",
)  # fmt: skip
ADD = dataclasses.replace(
    CONV, name="[bold]Add[/bold]\x1b[2J|_x", op="Add", ms=0.0123, share=0.0014, macs=0, gflops=None,
    gbs=123.4, of_ceiling=0.081, bound="memory",
)  # fmt: skip
ENGINE = dataclasses.replace(
    CONV, name="TRTKernel_graph_0", op="TRTKernel_graph_0", provider="TensorrtExecutionProvider",
    macs=None, bytes=None, gflops=None, gbs=None, of_ceiling=None, bound=None,
)  # fmt: skip


@pytest.fixture
def found():
    return Hotspots(
        model="m.onnx",
        setting=Setting(),
        runs=106,
        total_ms=9.3132,
        kernels_ms=8.7593,
        nodes=(CONV, ENGINE, *[ADD] * 12),
        operators=(CONV, ENGINE, dataclasses.replace(ADD, name="Add", count=12)),
        ceiling=Ceiling(provider="cpu", threads=1, gflops=107.5, gbs=30.7, cached_gbs=91.2),
    )


def lines(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_a_terminal_shows_operators_then_nodes_and_the_limit(found):
    text = screen(terminal(found))
    assert "14 nodes take 8.759 ms of a run of 9.313 ms" in text
    assert "6.056 69 % ███▌ 110 0.7 102 % compute Conv" in lines(text)
    assert "0.012 0.1 % 123 8.1 % memory Add ×12" in lines(text)
    assert any("compute Conv …" in line and line.endswith("w/Conv") for line in lines(text))
    assert "and 4 more: 0.049 ms, 0.6 %" in text
    assert "limit: 108 GFLOP/s of a float32 matrix product" in " ".join(lines(text))
    assert "TRTKernel_graph_0 (Tensorrt)" in " ".join(lines(text))
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b[2J" not in text


def test_markdown_folds_the_nodes_away(found):
    text = markdown(found)
    assert "| Add | 12 | 0.012 | 0.1 % |  | 123 | 8.1 % | memory |" in text
    assert text.index("| operator |") < text.index("<details>") < text.index("| node |")
    assert r"\[bold\]Add\[/bold\]" in text
    widths = {line.count("|") - line.count("\\|") for line in text.splitlines() if line[:1] == "|"}
    assert len(widths) == 1


def test_what_failed_is_said_and_nothing_else(found):
    failed = dataclasses.replace(found, error="crashed the process", nodes=(), total_ms=math.nan)
    assert screen(terminal(failed)).strip() == "no profile: crashed the process"
    assert markdown(failed) == "- no profile: crashed the process"


def test_a_ceiling_that_is_not_known_is_not_shown(found):
    for ceiling in (None, dataclasses.replace(found.ceiling, gflops=math.nan)):
        assert spots.ceiling(ceiling) == ""
        assert "limit:" not in screen(terminal(dataclasses.replace(found, ceiling=ceiling)))
    device = dataclasses.replace(found.ceiling, cached_gbs=math.nan)
    assert "caches" not in spots.ceiling(device)


def test_bars_are_drawn_in_eighths():
    assert [spots.bar(part, 2) for part in (0, 1 / 16, 0.5, 0.75, 1, 2)] == [
        "", "▏", "█", "█▌", "██", "██"
    ]  # fmt: skip


def test_long_names_keep_their_end():
    assert spots.shorten("/model/conv", 20) == "/model/conv"
    assert spots.shorten("/model/conv", 6) == "…/conv"
