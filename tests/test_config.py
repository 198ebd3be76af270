"""Options are read, and refused, before any work starts."""

import pytest

from onnxopt.config import parse_provider_options
from onnxopt.errors import OnnxOptError


def test_provider_options_are_sorted_by_provider():
    texts = ("tensorrt.trt_fp16_enable=1", "cuda.use_tf32=0", "tensorrt.trt_tactic_sources=-A,+B=C")
    assert parse_provider_options(texts) == {
        "tensorrt": {"trt_fp16_enable": "1", "trt_tactic_sources": "-A,+B=C"},
        "cuda": {"use_tf32": "0"},
    }
    assert parse_provider_options(()) == {}


def test_a_value_may_be_empty_or_hold_dots():
    assert parse_provider_options(["tensorrt.trt_op_types_to_exclude="]) == {
        "tensorrt": {"trt_op_types_to_exclude": ""}
    }
    assert parse_provider_options(["openvino.cache_dir=/a.b/c"]) == {
        "openvino": {"cache_dir": "/a.b/c"}
    }


@pytest.mark.parametrize(
    "text", ["", "use_tf32=1", "cuda.use_tf32", ".use_tf32=1", "cuda.=1", "=1", "a=b.c=d"]
)
def test_what_is_no_provider_option_is_refused(text):
    with pytest.raises(OnnxOptError) as caught:
        parse_provider_options([text])
    assert "PROVIDER.KEY=VALUE" in caught.value.message
    assert "tensorrt.trt_fp16_enable=1" in caught.value.hint


def test_two_values_for_one_option_are_refused():
    assert parse_provider_options(["cuda.use_tf32=1"] * 2) == {"cuda": {"use_tf32": "1"}}
    with pytest.raises(OnnxOptError, match="two values"):
        parse_provider_options(["cuda.use_tf32=1", "cuda.use_tf32=0"])
