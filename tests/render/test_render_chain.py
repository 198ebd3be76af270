"""What `optimize` tells where it went on to prune and to quantize."""

import dataclasses
import re

import pytest

from onnxopt.render import html, markdown, rows
from onnxopt.render.terminal import optimize
from tests.render.int8_reports import make_quantized, make_refused, make_untouched
from tests.render.pruned_reports import make_pruned
from tests.render.screens import flat, shown


@pytest.fixture
def chained(optimized):
    pruned = dataclasses.replace(make_pruned(), written=False)
    return dataclasses.replace(optimized, pruned=pruned, quantized=make_quantized())


def screen(report, **options):
    return shown(optimize.report(report, **options))


def test_parts_stand_below_each_other_on_80_columns(chained):
    text = screen(chained)
    assert max(map(len, text.splitlines())) <= 80
    places = [
        text.index(told)
        for told in (
            "optimized for target cpu, then pruned, then made int8", "Operators", "verified: 1",
            "\nPruning\n", "What went: channels", "pruned, not written by itself", "\nInt8\n",
            "Regions:", "wrote models/efficientnet_lite0.int8.onnx", "all together took",
        )
    ]  # fmt: skip
    assert places == sorted(places)
    assert text.count("efficientnet_lite0.onnx  ") == 1
    assert "NOTHING WRITTEN" not in text


def test_what_failed_is_said(chained):
    refused = dataclasses.replace(chained, quantized=make_refused(), written=False)
    assert not refused
    assert "then pruned, then NOT made int8" in screen(refused)
    assert make_refused().reason in flat(screen(refused))
    assert make_refused().reason in rows.optimize_failure(refused)
    assert markdown.optimize(refused).startswith("### ❌")
    untouched = dataclasses.replace(chained, pruned=None, quantized=make_untouched())
    assert "optimized for target cpu, quantized already" in screen(untouched)


def test_markdown_holds_every_part(chained):
    text = markdown.optimize(chained)
    heads = re.findall(r"^### (.*)$", text, re.MULTILINE)
    assert len(heads) == 3
    assert "then pruned, then made int8" in heads[0]
    assert "pruned: channels for cpu" in heads[1]
    assert "in int8 for cpu" in heads[2]
    assert text.count("<details>") == text.count("</details>")


def test_page_holds_every_part_once(chained):
    page = html.optimize(chained)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(ids)
    for once in ("<!DOCTYPE html>", "<main>", "</main>", "</html>", "<style>\n:root"):
        assert page.count(once) == 1
    assert page.count("<section>") == page.count("</section>") == 2
    assert re.findall(r'<h1 class="part">(.*?)</h1>', page) == ["Pruning", "Int8"]
    for title in ("Error against work", "What each region alone does to the outputs"):
        assert title in page
    assert "://" not in page


def test_page_of_what_is_exact_alone(optimized, failed):
    page = html.optimize(optimized)
    for told in ("verified", "wrote models/efficientnet_lite0.opt.onnx", "Operators", "fold"):
        assert told in page
    assert "<section>" not in page
    assert "OUTPUTS DIFFER" in html.optimize(failed)
    assert "nothing written" in html.optimize(failed)
    unmeasured = dataclasses.replace(optimized, difference=None, measurements=(), steps=())
    assert "not measured, because nothing was changed" in html.optimize(unmeasured)


def test_names_cannot_become_markup(optimized):
    evil = "<img src=x onerror=alert(1)>$x_{1$&\x1b[2J"
    output = dataclasses.replace(optimized.verification.outputs[0], name=evil, reason=evil)
    odd = dataclasses.replace(
        optimized,
        verification=dataclasses.replace(optimized.verification, outputs=(output,)),
        dropped={evil: evil},
        warnings=(evil,),
        output=dataclasses.replace(optimized.output, ops={evil: 3}, path=evil),
    )
    page = html.optimize(odd)
    assert "<img" not in page
    assert "\x1b" not in page
