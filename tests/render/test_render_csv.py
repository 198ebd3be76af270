import csv
import dataclasses
import io
import re
from pathlib import Path

import pytest

from onnxopt.render import csv as as_csv

PAGE = (Path(__file__).parents[2] / "docs" / "reports.md").read_text(encoding="utf-8")


def read(report):
    return list(csv.DictReader(io.StringIO(as_csv.benchmark(report))))


@pytest.mark.parametrize(
    ("title", "columns"),
    [
        ("CSV", as_csv.COLUMNS),
        ("CSV of quantize", as_csv.REGION_COLUMNS),
        ("CSV of prune", as_csv.PART_COLUMNS),
    ],
)
def test_every_column_is_documented_in_order(title, columns):
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    told = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", section, re.MULTILINE)
    assert [name for cell in told for name in re.findall(r"\w+", cell)] == list(columns)


def test_a_line_for_each_region(quantized):
    lines = list(csv.DictReader(io.StringIO(as_csv.quantize(quantized))))
    assert [line["name"] for line in lines] == [region.name for region in quantized.regions]
    region, line = quantized.regions[0], lines[0]
    assert float(line["int8_ms"]) == region.int8_ms
    assert line["overflowing"] == str(region.pair_sums.overflowing)
    assert line["nodes"] == " ".join(region.nodes)
    assert lines[-1]["float_ms"] == lines[-1]["pairs"] == ""


def test_a_line_for_each_row_with_what_was_concluded(swept):
    lines = read(swept)
    assert len(lines) == len(swept.results)
    (row,) = [
        line
        for line in lines
        if (line["model"], line["provider"], line["batch"]) == ("pr/model.onnx", "cpu", "1")
        and line["callers"] == "1"
    ]
    assert float(row["median_ms"]) == 5.2
    assert float(row["median_ms_low"]) < 5.2 < float(row["median_ms_high"])
    assert (row["verdict"], row["ratio"]) == ("faster", "1.52")
    assert row["baseline"] == "main/model.onnx"
    assert row["p999_ms"] == row["rate"] == row["error"] == ""
    assert "the hypervisor gave 7 %" in row["warnings"]


def test_what_failed_has_a_reason_and_no_numbers(swept):
    (row,) = [line for line in read(swept) if line["error"]]
    assert row["error"] == "it crashed <its> process (segmentation fault)"
    assert row["median_ms"] == row["median_ms_low"] == row["peak_rss_bytes"] == ""


def test_provider_that_executed_stands_beside_the_one_asked_for(swept):
    (row,) = [line for line in read(swept) if line["fallback"]]
    assert (row["provider"], row["executed"]) == ("cuda", "cpu")


def test_columns_stay_where_nothing_is_known(benchmarked):
    empty = dataclasses.replace(benchmarked, results=(), differences=())
    assert as_csv.benchmark(empty) == ",".join(as_csv.COLUMNS) + "\n"


def test_a_name_cannot_end_its_line(benchmarked):
    odd = dataclasses.replace(benchmarked.results[0], model='a,"b"\n\x1b.onnx')
    text = as_csv.benchmark(dataclasses.replace(benchmarked, results=(odd,)))
    assert len(text.splitlines()) == 2
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["model"] == 'a,"b"\\n\\x1b.onnx'
