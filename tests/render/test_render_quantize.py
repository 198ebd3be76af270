import dataclasses
import json
import re
import warnings

import pytest

from onnxopt.render import html, markdown
from onnxopt.render import judged as texts
from onnxopt.report import Calibration, Caution, Gate, OutputQuality
from tests.render.screens import flat, screen


@pytest.fixture(scope="module")
def page(quantized):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return html.quantize(quantized)


def test_a_report_is_true_unless_a_gate_failed_or_it_was_refused(quantized, refused, untouched):
    assert quantized
    assert untouched
    assert not refused
    gate = Gate(name="min_sqnr", limit=30.0, value=22.4, passed=False, text="too little")
    assert not dataclasses.replace(quantized, gates=(gate,))


def test_json_has_the_keys_that_were_promised(quantized):
    made = json.loads(json.dumps(quantized.to_dict(), allow_nan=False))
    assert next(iter(made.items())) == ("schema", "onnxopt.quantize/1")
    promised = "input output target steps verification tensors seconds peak_rss_bytes regions front"
    assert set(promised.split()) <= set(made)
    assert made["tensors"][0]["scale"][0] == quantized.tensors[0].scale[0]
    assert [point["chosen"] for point in made["front"]].count(True) == 1
    assert "model" not in made


def test_terminal_ends_with_the_verdicts(quantized):
    text = screen(quantized)
    told = flat(text)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "int8 for cpu, avx2 (given), qdq" in told
    assert "calibrated on 100 samples of crops/, 32 held out to tell the error" in told
    assert "47 of 57 regions in int8" in told
    assert "/blocks/blocks.1/conv_depthwise/Conv: loses 13.7 dB of the output" in told
    assert "channel 12, rolled back: helps the samples it was made from only" in told
    assert "→ choice 7 47 of 57 22.4 dB 0.7488 1.41× faster (1.38–1.44)" in told
    assert "choice 6 41 of 57 25.0 dB 0.7492 1.36× predicted" in told
    assert "2,117 of 1,204,318 pairs could overflow, all mended (409 of 8,816 channels" in told
    assert "148 of 150 Q/DQ pairs are part of int8 kernels" in told
    assert "FAULT: fc.weight at fc_w_dq: dequantized at every run" in told
    assert "/blocks.3/gate is 0 in all samples; give samples of more kinds" in told
    assert "95 of 100 above 16.8 dB; logits: 93.8 % the same class, 100 % of 21" in told
    assert "eval.py:top1: 0.7512 → 0.7488, may drop 0.005" in told
    *_, speed, wrote, _ = text.splitlines()
    assert speed.startswith("speed on cpu: 1.41× faster")
    assert wrote == "wrote models/efficientnet_lite0.int8.onnx (4.9 MB, -73.6 %)"


def test_verbose_shows_every_region_tensor_and_pair(quantized):
    quiet, told = screen(quantized), screen(quantized, verbose=True)
    for name in (quantized.regions[20].name, quantized.tensors[40].name):
        assert f"  {name}" in told
    assert "/head/pool: the border to float" in told
    assert "/head/pool" not in quiet
    assert "0.0004–0.031 × 96" in told


def test_a_refusal_says_why_and_that_nothing_was_written(refused):
    told = flat(screen(refused))
    why = "no int8 model is both right and faster: the fastest is 1.08× slower"
    assert told.count(why) == 1
    assert f"NOT QUANTIZED: {why}; nothing written" in told
    assert "failed: SQNR 22.4 dB is below 30 dB" in told
    assert texts.failure(refused) == f"{why}; SQNR 22.4 dB is below 30 dB"
    anyway = dataclasses.replace(refused, written=True)
    assert "written anyway to models/efficientnet_lite0.int8.onnx" in flat(screen(anyway))
    assert markdown.quantize(refused).startswith("### ❌")
    assert "not quantized" in html.quantize(refused)


def test_a_model_that_was_quantized_already_says_so_and_no_more(untouched):
    told = flat(screen(untouched))
    assert "left untouched: it has 62 QuantizeLinear nodes already, nothing written" in told
    for word in ("Regions", "speed", "accuracy", "Kernels"):
        assert word not in told
    assert markdown.quantize(untouched).startswith("### ⚪")
    assert "left untouched" in html.quantize(untouched)


def test_random_data_is_said_everywhere_for_ever(quantized):
    data = Calibration(source="random", samples=10, held_out=4, method="minmax")
    report = dataclasses.replace(quantized, calibration=data)
    for text in (screen(report), markdown.quantize(report), html.quantize(report)):
        assert "CALIBRATED WITH RANDOM DATA (10 samples)" in flat(text)
    assert report.to_dict()["calibration"]["source"] == "random"


@pytest.mark.parametrize(
    ("rounding", "words"),
    [("gptq", "weights rounded by gptq"), ("nearest", "weights rounded to the nearest")],
)
def test_how_weights_were_rounded_is_said_with_the_data(quantized, rounding, words):
    report = dataclasses.replace(quantized, rounding=rounding)
    for text in (screen(report), markdown.quantize(report), html.quantize(report)):
        assert words in flat(text)
        assert "weights rounded" not in flat(screen(quantized))
    assert report.to_dict()["rounding"] == rounding


def test_markdown_tells_the_same(quantized):
    text = markdown.quantize(quantized)
    head, *_ = text.splitlines()
    assert head == "### ✅ `efficientnet_lite0.onnx` in int8 for cpu, avx2 (given), qdq"
    assert "| → choice 7 | 47 of 57 | 22.4 dB | 0.7488 | 1.41× faster (1.38–1.44) |" in text
    assert "- ❌ FAULT: fc.weight" in text
    assert "/blocks/blocks.1/conv\\_depthwise/Conv | Conv | 0.0366 | 0.0390 | 13.3 dB" in text
    assert text.count("<details>") == text.count("</details>") == 4


def test_page_draws_front_errors_times_and_tensors(page):
    titles = re.findall(r"<figcaption>\s*<b>(.*?)</b>", page)
    assert titles == [
        "Error against time", "What each region alone does to the outputs", "Time of each region",
        "What rounding does to each tensor",
    ]  # fmt: skip
    assert page.startswith("<!DOCTYPE html>")
    assert '<tr class="chosen">' in page
    for told in ("1.41× faster", "18.6 MB → 4.9 MB", "choice 7: 22.4 dB, 1.41× faster"):
        assert told in page
    assert "1: /blocks/blocks.1/conv_depthwise/Conv" in page


def test_page_needs_nothing_else_and_names_cannot_escape(quantized):
    evil = "<img src=x onerror=alert(1)>$x_{1$&\x1b[2J"
    report = dataclasses.replace(
        quantized,
        regions=tuple(dataclasses.replace(each, name=evil) for each in quantized.regions),
        tensors=tuple(dataclasses.replace(each, name=evil) for each in quantized.tensors),
        front=tuple(dataclasses.replace(each, name=evil) for each in quantized.front),
        warnings=(Caution(kind="constant", message=evil),),
    )
    page = html.quantize(report)
    assert "<img" not in page
    assert "\x1b" not in page
    assert "\x1b" not in screen(report, verbose=True)
    assert "<script" not in page
    assert "://" not in page
    assert len(page) < 1_500_000


def test_what_is_not_known_leaves_no_gap(quantized, refused):
    """No times, no errors, no front, no audit: `--no-measure` on a target that cannot run here."""
    bare = dataclasses.replace(
        quantized,
        regions=tuple(
            dataclasses.replace(each, int8_ms=None, float_ms=None, sqnr_db=None)
            for each in quantized.regions
        ),
        tensors=tuple(dataclasses.replace(each, sqnr_db=None) for each in quantized.tensors),
        front=(), audit=None, saturation=None, repairs=(), difference=None, verification=None,
        quality=(), score=None, measurements=(), calibration=None,
    )  # fmt: skip
    assert "speed: not measured" in screen(bare)
    assert "accuracy: not verified" in screen(bare)
    assert "None" not in screen(bare, verbose=True) + markdown.quantize(bare)
    assert "<figure" not in html.quantize(bare)
    predicted = dataclasses.replace(refused, difference=None, status="quantized")
    assert "speed: not measured" in screen(predicted)
    nan = dataclasses.replace(quantized.front[0], sqnr_db=float("nan"))
    assert "  ?  " in screen(dataclasses.replace(quantized, front=(nan,)))
    exact = dataclasses.replace(quantized.front[0], sqnr_db=float("inf"))
    assert "exact" in screen(dataclasses.replace(quantized, front=(exact,)))
    assert "<figure" in html.quantize(dataclasses.replace(quantized, front=(exact,)))


def test_agreement_is_whole_only_where_all_agree(quantized):
    quality = OutputQuality(name="logits", samples=4000, sqnr_p5_db=16.8, agreement=0.99975)
    report = dataclasses.replace(quantized, quality=(quality,))
    assert "logits: 99.9 % the same class" in texts.accuracy(report)


def test_thousands_of_tensors_stay_a_page(quantized):
    many = quantized.tensors * 40
    page = html.quantize(dataclasses.replace(quantized, tensors=many))
    assert f"and {len(many) - 300:} more, in the JSON report" in page
    assert len(page) < 2_500_000
