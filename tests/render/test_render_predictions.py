import dataclasses

import pytest

from onnxopt.render import markdown, predictions
from onnxopt.render.terminal import inspect
from onnxopt.report import Cost
from tests.render.test_render_terminal import screen

CONV = Cost(count=12, macs=227_000_000, bytes=4_100_000, intensity=110.7, ms=5.7, share=0.93)
GELU = Cost(count=1, macs=0, bytes=800_000, intensity=0.0, ms=0.3, share=0.05)
ODD = Cost(count=1, macs=None, bytes=None, intensity=None, ms=0.003, share=0.0004)


@pytest.fixture
def costly(inspected):
    """Give the first node most of the cost, and the others less and less."""
    nodes = tuple(
        dataclasses.replace(node, cost=dataclasses.replace(CONV, count=1, ms=5.0 / (index + 1)))
        for index, node in enumerate(inspected.nodes)
    )
    return dataclasses.replace(
        inspected,
        nodes=nodes,
        costs={"Conv": CONV, "com.microsoft::Gelu": GELU, "Odd": ODD},
        sizes={"batch": 4, "height": 224},
        assumed=("height",),
    )


def test_costs_say_with_which_sizes_they_were_predicted(costly):
    said = predictions.headline(costly)
    assert said.startswith(
        "from shapes alone, with batch=4, height=224 (assumed); --fix sets sizes"
    )
    given = dataclasses.replace(costly, assumed=())
    assert "--fix" not in predictions.headline(given)
    assert ", with" not in predictions.headline(dataclasses.replace(given, sizes={}))


def test_a_terminal_shows_the_costliest_first_in_80_columns(costly):
    text = screen(inspect.report(costly))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "93.0 % 227 M 4.1 MB 110.7 12 Conv" in lines
    assert "5.0 % 800 KB 1 com.microsoft::Gelu" in lines
    assert "< 0.1 % 1 Odd" in lines
    assert "Most costly" not in text
    assert text.index("blocks.0/") < text.index("blocks.1/")
    assert max(map(len, text.splitlines())) <= 80


def test_every_node_is_listed_when_asked_for(costly):
    text = screen(inspect.report(costly, nodes=True))
    for node in costly.nodes[:-1]:
        assert sum(line.endswith(" " + node.name) for line in text.splitlines()) == 1
    assert "\x1b[2J" not in text


def test_markdown_has_operators_and_nodes(costly):
    text = markdown.inspect(costly)
    assert "| Conv | 12 | 93.0 % | 227 M | 4.1 MB | 110.7 |" in text
    assert "<summary>Costliest nodes</summary>" in text
    assert "from shapes alone" in text


def test_without_costs_nothing_is_said_of_them(inspected):
    assert "shapes alone" not in screen(inspect.report(inspected))
    assert "shapes alone" not in markdown.inspect(inspected)
