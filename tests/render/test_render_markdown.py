import dataclasses
import itertools
import re

from onnxopt.render import markdown
from onnxopt.report import Caution


def tables(text):
    """Split into tables, each a list of rows of cells."""
    found, rows = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append(re.split(r"(?<!\\)\|", line)[1:-1])
        elif rows:
            found.append(rows)
            rows = []
    return found


def test_every_table_is_whole(optimized, compared, inspected, benchmarked, swept):
    for text in (
        markdown.optimize(optimized),
        markdown.compare(compared),
        markdown.inspect(inspected),
        markdown.benchmark(benchmarked),
        markdown.benchmark(swept),
    ):
        assert tables(text)
        for rows in tables(text):
            assert len({len(row) for row in rows}) == 1
        assert text.endswith("\n")


def test_optimize_leads_with_the_verdicts(optimized, failed):
    text = markdown.optimize(optimized)
    assert text.startswith(
        "### ✅ `efficientnet_lite0.onnx` optimized for cpu\n\n- verified: 1 output"
    )
    assert "| nodes | 214 | 94 | -120 |" in text
    text = markdown.optimize(failed)
    assert text.startswith("### ❌")
    assert "OUTPUTS DIFFER" in text
    assert "nothing written" in text


def test_optimize_tells_every_comparison_of_speed(optimized):
    text = markdown.optimize(optimized)
    assert "| result | result without norms | no difference (0.99–1.01) | kept |" in text
    assert "| result | result without activations | 1.25× slower (1.20–1.30) | left out |" in text


def test_names_do_not_become_markup(inspected):
    odd = dataclasses.replace(inspected.profile, path="a`b|c.onnx")
    nodes = (dataclasses.replace(inspected.nodes[0], op="a|b_c<img>"),)
    text = markdown.inspect(dataclasses.replace(inspected, profile=odd, nodes=nodes))
    assert r"a\|b\_c\<img\>" in text
    assert "`aˋb|c.onnx`" in text


def test_benchmark_begins_with_the_differences(swept):
    text = markdown.benchmark(swept)
    assert text.startswith(
        "- 🟢 pr/model.onnx against main/model.onnx on cpu, batch 1, 4 threads: 1.52× faster, "
    )
    for earlier, later in itertools.pairwise(
        (
            "1.14× slower",
            "against itself",
            "Against old/base.json:",
            "for all 4 comparisons",
            "❌ broken.onnx",
            "warning: load 3.1 on 4 cores; stop the others",
            "| model | setting |",
            "lowest latency",
        )
    ):
        assert text.index(earlier) < text.index(later)


def test_benchmark_calls_a_row_by_what_executed_it(swept):
    text = markdown.benchmark(swept)
    rows = [line for line in text.splitlines() if "no kernel on cuda" in line]
    assert len(rows) == 1
    assert "| cpu (asked for cuda), batch 1, 4 threads | 1.50 | 1.47–1.53 |" in rows[0]
    assert r"\<img" in text
    assert "<img" not in text.replace(r"\<", "")


def test_benchmark_tells_what_failed(benchmarked):
    text = markdown.benchmark(benchmarked)
    assert "| broken.onnx | cuda, 4 threads | failed |" in text
    assert "- ❌ broken.onnx on cuda, 4 threads: no CUDA device" in text
    more = [dataclasses.replace(benchmarked.results[2], batch=size) for size in range(5)]
    text = markdown.benchmark(dataclasses.replace(benchmarked, results=tuple(more)))
    assert "- ❌ broken.onnx on cuda, batch 0, 4 threads and 4 other rows: no CUDA" in text


def test_benchmark_folds_many_warnings_away_but_those_about_the_whole(swept):
    many = tuple(Caution(kind="unsteady", message=f"differ by {n} %") for n in range(9))
    row = dataclasses.replace(swept.results[0], warnings=many)
    text = markdown.benchmark(dataclasses.replace(swept, results=(row,)))
    assert "<details><summary>9 warnings about rows</summary>" in text
    assert text.index("load 3.1 on 4 cores") < text.index("9 warnings") < text.index("differ by 8")
    assert "<summary>Where the time goes: main/model.onnx on cpu, batch 1" in text
