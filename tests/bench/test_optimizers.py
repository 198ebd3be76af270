"""Models and tools are chosen by name, and results keep their order."""

import pytest
from click.testing import CliRunner
from optimizers import chosen_models, in_order, main
from process import Run
from record import timing


def test_models_of_the_repository_are_always_here():
    names = [entry["name"] for entry in chosen_models("magika, silero_vad")]
    assert names == ["magika", "silero_vad"]


@pytest.mark.parametrize(("option", "what"), [("--models", "model"), ("--tools", "tool")])
def test_unknown_name_is_a_usage_error(option, what):
    result = CliRunner().invoke(main, [option, "nonsense"])
    assert result.exit_code == 2
    assert f"no {what} is called 'nonsense'" in result.output


def test_results_are_ordered_as_tools_and_models_are():
    tools = {"onnxsim": {}, "onnxopt portable": {}}
    found = in_order({"tools": tools, "models": {"magika": {}, "pp_ocrv4_rec": {}}})
    assert list(found["tools"]) == ["onnxopt portable", "onnxsim"]
    assert list(found["models"]) == ["pp_ocrv4_rec", "magika"]


def test_one_failed_run_is_a_failure():
    good = Run(seconds=1.0, cpu_seconds=0.5, peak_rss_bytes=10, error=None)
    bad = Run(seconds=3.0, cpu_seconds=0.5, peak_rss_bytes=20, error="broke")
    found = timing([good, bad, good])
    assert found["error"] == "broke"
    assert (found["median_seconds"], found["min_seconds"]) == (1.0, 1.0)
    assert found["peak_rss_bytes"] == 20
