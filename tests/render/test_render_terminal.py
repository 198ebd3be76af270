import dataclasses
import io

from rich.console import Console

from onnxopt.cli.output import console
from onnxopt.render.terminal import benchmark, compare, inspect, optimize
from onnxopt.render.terminal.blocks import LongTable


def screen(renderable, *, width=80, colour=False):
    out = io.StringIO()
    Console(
        file=out, width=width, force_terminal=colour, color_system="standard" if colour else None,
        markup=False, highlight=False, emoji=False,
    ).print(renderable, crop=False)  # fmt: skip
    return out.getvalue()


def test_optimize_shows_what_changed_and_ends_with_the_verdicts(optimized):
    text = screen(optimize.report(optimized))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "BatchNormalization 49 0 -49" in lines
    assert "nodes 214 94 -120" in lines
    assert "file 18.6 MB 18.5 MB -0.4 %" in lines
    assert any(line.startswith("unchanged: Conv 49, Clip 33") for line in lines)
    assert "fold 214 → 144 71 ms fold_constants 70" in lines
    assert not any(line.startswith("inline") for line in lines)
    assert "rolled back: slower by 3 %" in text
    assert "left out fuse_erf_gelu: output logits differs" in text
    assert "warning: weight /head/fc.weight holds 2 NaN" in text
    assert "verified: 1 output the same on 4 feeds" in text
    assert "1.12× faster" in " ".join(text.split())
    assert "wrote models/efficientnet_lite0.opt.onnx (18.5 MB, 120 nodes fewer)" in text
    assert text.index("verified:") > text.index("Operators")


def test_optimize_says_what_groups_bring_and_cost(optimized):
    lines = screen(optimize.report(optimized)).splitlines()
    assert "  activations: 1.25× slower (1.20–1.30) with it, left out" in lines
    assert "  attention: 1.12× faster (1.09–1.15) with it" in lines
    assert "  no difference by itself: norms" in lines


def test_original_that_is_handed_back_is_said(optimized):
    (whole, slower, *_) = optimized.measurements
    whole = dataclasses.replace(whole, difference=slower.difference, decision="left out")
    report = dataclasses.replace(optimized, difference=None, measurements=(whole,))
    text = "speed: the original is handed back, the result was 1.25× slower (1.20–1.30)"
    assert text in screen(optimize.report(report)).splitlines()
    report = dataclasses.replace(optimized, difference=None, measurements=(), steps=())
    assert "not measured, because nothing was changed" in screen(optimize.report(report))


def test_optimize_shows_refusals_and_idle_steps_when_asked(optimized):
    quiet, verbose = (screen(optimize.report(optimized, verbose=v)) for v in (False, True))
    assert "scale can be overridden by the caller (3 times)" not in quiet
    assert "scale can be overridden by the caller (3 times)" in " ".join(verbose.split())
    assert "inline" in verbose


def test_optimize_says_loudly_what_failed(failed):
    text = screen(optimize.report(failed))
    assert "OUTPUTS DIFFER: 1 of 2 outputs" in text
    assert "NOTHING WRITTEN" in text
    assert "wrong at [0, 412]" in text
    assert "not measured" in text


def test_optimize_says_what_was_not_proven(optimized):
    unproven = dataclasses.replace(optimized, verification=None)
    assert "not verified" in screen(optimize.report(unproven))
    unknown = dataclasses.replace(
        optimized.verification, verified=False, outputs=(), reason="my.ops::Sort has no kernel"
    )
    text = screen(optimize.report(dataclasses.replace(optimized, verification=unknown)))
    assert "NOT VERIFIED: my.ops::Sort has no kernel" in text


def test_nothing_to_do_and_nothing_written_are_said(optimized):
    unwritten = dataclasses.replace(optimized.output, file_bytes=0, path=None)
    report = dataclasses.replace(optimized, steps=(), output=unwritten, written=False)
    lines = [" ".join(line.split()) for line in screen(optimize.report(report)).splitlines()]
    assert "nothing found that could be done better" in lines
    assert "file 18.6 MB none" in lines
    assert "NOTHING WRITTEN" in lines


def test_what_was_left_out_and_why_is_told_once(optimized):
    reason = optimized.dropped["fuse_erf_gelu"]
    back = dataclasses.replace(
        optimized.steps[3], name="fuse_erf_gelu", done={}, reason=reason, status="rolled back"
    )
    unknown = dataclasses.replace(
        optimized.verification, verified=False, outputs=(), reason="NOT VERIFIED: no kernel"
    )
    report = dataclasses.replace(
        optimized, steps=(back,), verification=unknown, warnings=("NOT VERIFIED: no kernel",)
    )
    text = " ".join(screen(optimize.report(report)).split())
    assert text.count(reason) == 1
    assert text.count("NOT VERIFIED") == text.count("no kernel") == 1


def test_many_outputs_are_cut_with_the_failing_ones_first(optimized):
    one = optimized.verification.outputs[0]
    outputs = tuple(dataclasses.replace(one, name=f"o{i}", passed=i != 30) for i in range(40))
    many = dataclasses.replace(optimized.verification, outputs=outputs, passed=False)
    report = dataclasses.replace(optimized, verification=many)
    short, long = (screen(optimize.report(report, verbose=v)) for v in (False, True))
    assert "o30" in short
    assert "o39" not in short
    assert "and 32 more" in short
    assert "o39" in long


def test_compare_names_both_files(compared):
    text = screen(compare.report(compared))
    assert "reference  models/efficientnet_lite0.onnx" in text
    assert "candidate  models/efficientnet_lite0.opt.onnx" in text
    assert "131.7 dB" in text


def test_equal_outputs_are_called_exact(compared):
    equal = dataclasses.replace(compared.verification.outputs[0], max_abs=0.0, sqnr_db=float("inf"))
    same = dataclasses.replace(compared.verification, outputs=(equal,))
    assert "exact" in screen(compare.report(dataclasses.replace(compared, verification=same)))


def test_inspect_shows_signature_costs_and_placement(inspected):
    text = screen(inspect.report(inspected))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "input images float32 [batch, 3, 224, 224]" in lines
    assert "free dims batch" in lines
    assert "Conv 12 120 k 227 M 99.4 %" in lines
    assert "total 214 4.7 M 386 M" in lines
    assert "Most costly nodes" in lines
    assert text.index("batch×48×112×112") < text.index("batch×32×112×112")
    assert "cuda 202 on CUDAExecutionProvider, 12 on CPUExecutionProvider" in lines
    assert "tensorrt TensorrtExecutionProvider is not in this build of onnxruntime" in lines


def test_inspect_lists_every_node_on_one_line_each(inspected):
    text = screen(inspect.report(inspected, nodes=True))
    for node in inspected.nodes[:-1]:
        assert sum(line.endswith(" " + node.name) for line in text.splitlines()) == 1
    assert "Most costly" not in text


def test_an_unknown_placement_is_called_unknown(inspected):
    report = dataclasses.replace(inspected, placement={"cpu": {}})
    assert "cpu  not known" in screen(inspect.report(report))


def test_models_that_cannot_be_compared_are_not_the_same(compared):
    stopped = dataclasses.replace(
        compared.verification, passed=False, outputs=(), reason="input ids is missing"
    )
    report = dataclasses.replace(compared, verification=stopped)
    assert "NOT THE SAME: input ids is missing" in screen(compare.report(report))


def test_benchmark_groups_by_setting_and_says_where_it_ran(benchmarked):
    text = screen(benchmark.report(benchmarked))
    assert "cpu, 4 threads, in ms" in text
    assert "efficientnet_lite0.onnx: all 94 nodes on CPUExecutionProvider; load 41.3 ms" in text
    assert "cuda, 4 threads, failed\n  broken.onnx: no CUDA device" in text
    flat = " ".join(text.split())
    assert "warning: efficientnet_lite0.opt.onnx on cpu, 4 threads: the clock frequency" in flat
    assert "1.12× faster" in flat
    assert "AMD EPYC 9354P" in text


def test_benchmark_calls_a_row_by_what_executed_it(swept):
    text = screen(benchmark.report(swept))
    parts = {part.split(", in ms")[0]: part for part in text.split("\n\n")}
    fell = parts["cpu (asked for cuda), batch 1, 4 threads"]
    assert "<img src=x onerror=alert(1)>$x_{1$&.onnx" in fell
    assert "Conv and 3 more have no kernel on cuda" in " ".join(fell.split())
    assert "onerror" not in parts["cuda, batch 1, 4 threads"]
    unknown = dataclasses.replace(swept.results[3], executed="", placement={})
    only = dataclasses.replace(swept, results=(unknown,), best=(), differences=(), against=())
    assert "cuda (not confirmed), batch 1, 4 threads" in screen(benchmark.report(only))


def test_benchmark_ends_with_cautions_and_verdicts(swept):
    lines = screen(benchmark.report(swept), width=400).splitlines()
    text = "\n".join(line.rstrip() for line in lines)
    assert "(tied with cuda, batch 16, 4 threads)" in text
    assert "warning: load 3.1 on 4 cores; stop the others" in text
    both = "main/model.onnx on cpu, batch 1, 4 threads; pr/model.onnx on cpu, batch 1, 4 threads"
    assert f"warning: {both}: the hypervisor gave 7 % to others; use a quieter machine" in text
    assert "against old/base.json:\npr/model.onnx against main/model.onnx on cpu" in text
    assert text.index("main/model.onnx against itself") < text.index(": 1.52× faster")
    assert "broken.onnx: it crashed <its> process (segmentation fault)" in text
    assert "cpu, batch 1, 1 thread, 8 callers, in ms" in text
    assert "cpu, batch 1, 4 threads, 40 requests/s, without copies, in ms" in text
    assert "--resume" not in text
    begun = dataclasses.replace(swept, complete=False)
    assert "not finished: --resume goes on" in screen(benchmark.report(begun))


def test_reports_fit_80_columns(optimized, failed, compared, inspected, benchmarked, swept):
    for renderable in (
        optimize.report(optimized, verbose=True),
        optimize.report(failed),
        compare.report(compared),
        inspect.report(inspected),
        benchmark.report(benchmarked, verbose=True),
        benchmark.report(swept),
        benchmark.report(swept, verbose=True),
    ):
        assert max(map(len, screen(renderable).splitlines())) <= 80


def test_names_are_neither_markup_nor_control_codes(inspected):
    text = screen(inspect.report(inspected, nodes=True), colour=True)
    assert r"[bold]gelu[/bold]\x1b[2J" in text
    assert "\x1b[2J" not in text


def test_colours_only_on_a_terminal(optimized, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert "\x1b[" in screen(optimize.report(optimized), colour=True)
    console().print(optimize.report(optimized), crop=False)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "20 sessions in 5 processes\n" in out, "a line was broken for a pipe"


def test_long_table_aligns_columns():
    text = screen(LongTable(("n", "name"), [("1", "a"), ("100", "b")], numbers=1))
    assert text == "    n  name\n    1  a\n  100  b\n"
