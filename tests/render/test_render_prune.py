import csv
import dataclasses
import io
import json
import re
import warnings

import pytest

from onnxopt.render import csv as as_csv
from onnxopt.render import html, judged, markdown, pruned
from onnxopt.render.html.pruned import view
from onnxopt.report import Calibration, Caution, FrozenPart, PrunedPart
from tests.render.pruned_reports import make_masked, make_pruned, make_unprunable, make_zeroed
from tests.render.screens import flat, screen


@pytest.fixture(scope="module")
def report():
    return make_pruned()


@pytest.fixture(scope="module")
def page(report):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return html.prune(report)


def test_a_report_is_true_unless_a_gate_failed_or_it_was_refused(report):
    assert report
    assert make_masked()
    assert not make_unprunable()


def test_json_has_the_keys_that_were_promised(report):
    made = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert next(iter(made.items())) == ("schema", "onnxopt.prune/1")
    promised = "input output target steps verification sparsity seconds peak_rss_bytes front"
    assert set(promised.split()) <= set(made)
    assert made["parts"][1]["before"] == report.parts[1].before
    assert [point["chosen"] for point in made["front"]].count(True) == 1
    assert "model" not in made


def test_terminal_ends_with_the_verdicts(report):
    text = screen(report)
    told = flat(text)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "channels for cpu, by obs, refitted (exact, ridge 0.01)" in told
    assert "calibrated on 100 samples of crops/, 32 held out to tell the error" in told
    assert "What went: channels 4,896 → 3,152 in 14 of 16 layers" in told
    assert "/blocks/blocks.3/conv_pw/Conv_output_0 192 → 128 █████░░░ 19.4 dB -33.3 %" in told
    assert "stayed whole" in told
    assert "/blocks/blocks.15/conv_pw/Conv_output_0: protected" in told
    assert "/blocks/blocks.0/Add_output_0, at /blocks/blocks.0/Add, and 3 more" in told
    assert "channels, obs 11.4 dB 70.0 % taken: the least error for a millisecond" in told
    assert "→ 0.72× MACs 72.0 % 64.0 % 11.4 dB 0.7352 1.33× faster (1.30–1.36)" in told
    assert "0.65× MACs 65.0 % 55.0 % 9.0 dB 1.45× predicted" in told
    assert "MACs 386 M 270 M -30.0 %" in told
    assert "warning: 100 samples are few" in told
    assert "eval.py:top1: 0.7512 → 0.7352, may drop 0.02" in told
    assert "size: 33.9 % of the weights are gone, 70.0 % of the multiply-accumulates" in told
    *_, speed, wrote, _ = text.splitlines()
    assert speed.startswith("speed on cpu: 1.25× faster")
    assert wrote == "wrote models/efficientnet_lite0.pruned.onnx (12.3 MB, -33.8 %)"


def test_verbose_shows_every_layer_and_all_that_cannot_go(report):
    quiet, told = screen(report), screen(report, verbose=True)
    line = "/blocks/blocks.3/Add_output_0, at /blocks/blocks.3/Add"
    assert line in flat(told)
    assert line not in flat(quiet)
    assert "192 → 128   67 %  19.4 dB  -33.3 %" in told
    assert "Conv_output_0: a multiple of 16" in told


def test_many_layers_show_those_by_which_most_is_saved(report):
    many = tuple(
        dataclasses.replace(
            part, name=f"{part.name}/{copy}", macs_before=copy * 10**6, macs_after=0
        )
        for copy in range(4)
        for part in report.parts
    )
    told = flat(screen(dataclasses.replace(report, parts=many), width=120))
    assert "and 40 more (-v shows them)" in told
    assert "blocks.3/conv_pw/Conv_output_0/3 192" in told
    assert "blocks.3/conv_pw/Conv_output_0/2 192" not in told


@pytest.mark.parametrize(("structure", "word"), [("element", "no speed"), ("2:4", "sparse tensor")])
def test_zeros_are_said_to_gain_nothing_here(structure, word):
    report = dataclasses.replace(make_zeroed(), structure=structure)
    for text in (screen(report), markdown.prune(report), view(report)["gains"]):
        assert word in flat(text)
    assert "50.0 % of the weights are zero" in screen(report)
    assert "147,456 → 73,728" in screen(report)
    assert "no difference (1.00×)" in screen(report)
    assert not pruned.gains(make_pruned())


def test_masks_leave_the_model_as_it_is():
    report = make_masked()
    told = flat(screen(report))
    assert "wrote masks to masks.npz; the model is left as it is" in told
    assert "What would go: channels 4,896 → 3,152" in told
    for word in ("speed on", "accuracy", "Size"):
        assert word not in told
    assert markdown.prune(report).startswith("### ⚪")
    assert view(report)["heads"][0]["head"] == "masks only"


def test_a_refusal_says_why_and_that_nothing_was_written():
    report = make_unprunable()
    told = flat(screen(report))
    why = "SQNR on held-out samples: 11.4 dB of 20 dB"
    assert told.count(why) == 1
    assert f"NOT PRUNED: {why}; nothing written" in told
    assert "failed: eval.py:top1 drops by 0.016" in told
    assert "33.9 % of the weights would be gone" in told
    assert judged.failure(report) == f"{why}; eval.py:top1 drops by 0.016, and may by 0.01"
    anyway = dataclasses.replace(report, written=True)
    assert "written anyway to models/efficientnet_lite0.onnx" in flat(screen(anyway))
    assert markdown.prune(report).startswith("### ❌")
    assert view(report)["heads"][0]["head"] == "not pruned"


def test_random_data_is_said_everywhere_for_ever(report):
    data = Calibration(source="random", samples=10, held_out=4, method="")
    made_up = dataclasses.replace(report, calibration=data)
    for text in (screen(made_up), markdown.prune(made_up), view(made_up)["random"]):
        assert "CALIBRATED WITH RANDOM DATA (10 samples)" in flat(text)


def test_markdown_tells_the_same(report):
    text = markdown.prune(report)
    head, *_ = text.splitlines()
    assert head.startswith("### ✅ `efficientnet_lite0.onnx` pruned: channels for cpu, by obs")
    assert "| → 0.72× MACs | 72.0 % | 64.0 % | 11.4 dB | 0.7352 | 1.33× faster" in text
    assert "| 192 → 128 | 67 % | 19.4 dB | -33.3 % | 0.225 → 0.158 | a multiple of 16 |" in text
    assert text.count("<details>") == text.count("</details>") == 4


def test_page_draws_fronts_widths_errors_and_times(page):
    titles = re.findall(r"<figcaption>\s*<b>(.*?)</b>", page)
    assert titles == [
        "Error against work", "Error against time", "What is left of each layer",
        "What each layer lost", "Time of each layer",
    ]  # fmt: skip
    assert page.startswith("<!DOCTYPE html>")
    assert page.count('<tr class="chosen">') == 2
    for told in ("1.25× faster", "18.6 MB → 12.3 MB", "0.72× MACs: 11.4 dB, 1.33× faster"):
        assert told in page
    assert "0.72× MACs: 11.4 dB, 72.0 % of the MACs, chosen" in page
    assert '<i style="width:66.7%">' in page


def test_page_needs_nothing_else_and_names_cannot_escape(report):
    evil = "<img src=x onerror=alert(1)>$x_{1$&\x1b[2J"
    odd = dataclasses.replace(
        report,
        parts=tuple(dataclasses.replace(part, name=evil, reason=evil) for part in report.parts),
        frozen=(FrozenPart(tensor=evil, node=evil, reason=evil),),
        front=tuple(dataclasses.replace(point, name=evil) for point in report.front),
        attempts=tuple(dataclasses.replace(each, name=evil) for each in report.attempts),
        warnings=(Caution(kind="few samples", message=evil),),
    )
    page = html.prune(odd)
    assert "<img" not in page
    assert "\x1b" not in page + screen(odd, verbose=True) + markdown.prune(odd)
    assert "<script" not in page
    assert "://" not in page


def test_what_is_not_known_leaves_no_gap(report):
    """No samples: magnitude, nothing refitted, nothing measured."""
    bare = dataclasses.replace(
        report,
        parts=tuple(
            dataclasses.replace(part, lost_db=None, macs_before=None, macs_after=None,
                                ms_before=None, ms_after=None, reason="")
            for part in report.parts
        ),
        calibration=None, solver="", ridge=None, importance="l2", frozen=(), front=(),
        attempts=(), difference=None, verification=None, quality=(), score=None, warnings=(),
    )  # fmt: skip
    told = screen(bare)
    assert "channels for cpu, by l2, not refitted" in told
    assert "speed: not measured" in told
    assert "accuracy: not verified" in told
    assert "None" not in screen(bare, verbose=True) + markdown.prune(bare)
    assert re.findall(r"<figcaption>\s*<b>(.*?)</b>", html.prune(bare)) == [
        "What is left of each layer"
    ]
    predicted = dataclasses.replace(report, difference=None)
    assert "speed: not measured; 1.33× by the measured times of layers" in screen(predicted)
    nothing = dataclasses.replace(bare, parts=())
    assert "What went" not in screen(nothing) + markdown.prune(nothing) + html.prune(nothing)


def test_blocks_and_channels_can_stand_in_one_report(report):
    block = PrunedPart(
        name="/encoder/layer.3", nodes=("/encoder/layer.3/MatMul",), unit="blocks", before=1,
        after=0, macs_before=7_000_000, macs_after=590_000,
    )  # fmt: skip
    mixed = dataclasses.replace(report, parts=(*report.parts, block))
    told = flat(screen(mixed))
    assert "channels 4,896 → 3,152 in 14 of 16 layers; blocks 1 → 0" in told
    assert "/encoder/layer.3 1 → 0 blocks ░░░░░░░░" in told
    titles = [plot.title for plot in view(mixed)["part_plots"]]
    assert titles[:2] == ["What is left of each layer", "What is left of each block"]


def test_a_line_of_csv_for_each_part(report):
    lines = list(csv.DictReader(io.StringIO(as_csv.prune(report))))
    assert [line["name"] for line in lines] == [part.name for part in report.parts]
    assert (lines[3]["before"], lines[3]["after"]) == ("192", "128")
    assert lines[0]["lost_db"] == ""
    assert lines[1]["nodes"] == " ".join(report.parts[1].nodes)
