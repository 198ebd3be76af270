"""What a benchmark is asked to do: all combinations, each once, nothing that cannot be meant."""

import json
import math

import pytest

from onnxopt.benchmarking.plan import Plan
from onnxopt.errors import OnnxOptError
from onnxopt.report import Setting
from onnxopt.runtime.machine.isa import usable_cores


def test_every_combination_is_a_setting_in_the_order_that_was_asked_for():
    plan = Plan.of(batches=[1, 4], threads=[2, 1], callers=(1, 3), io=["copied", "bound"])
    found = plan.settings()
    assert len(found) == 2 * 2 * 2 * 2
    assert found[0] == Setting(batch=1, threads=2)
    assert [each.batch for each in found] == [1] * 8 + [4] * 8
    assert len(set(found)) == len(found)


def test_what_is_asked_for_twice_is_measured_once():
    assert len(Plan.of(batches=(1, 1), threads=(None, usable_cores())).settings()) == 1


def test_threads_default_to_the_cores_that_may_be_used():
    assert [each.threads for each in Plan().settings()] == [usable_cores()]


def test_providers_may_be_called_as_onnxruntime_calls_them():
    plan = Plan.of(
        providers=["CUDAExecutionProvider"],
        provider_options={"CUDAExecutionProvider": {"use_tf32": "0"}},
    )
    assert plan.providers == ("cuda",)
    assert plan.provider_options == {"cuda": {"use_tf32": "0"}}


def test_a_plan_is_plain_json():
    plan = Plan.of(batches=[None, 2], rates=[None, 5.0], data="x.npz", fix={"n": 3})
    assert json.loads(json.dumps(plan.to_dict())) == plan.to_dict()
    assert plan.to_dict()["batches"] == [None, 2]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"batches": (0,)}, "a batch of 0"),
        ({"threads": (-1,)}, "-1 threads"),
        ({"callers": (0,)}, "0 callers"),
        ({"rates": (0.0,)}, "0 requests a second"),
        ({"rates": (math.nan,)}, "nan requests"),
        ({"rates": (math.inf,)}, "inf requests"),
        ({"io": ("by post",)}, "'by post'"),
        ({"precision": 0.0}, "precision of 0%"),
        ({"precision": 1.0}, "precision of 100%"),
        ({"precision": math.nan}, "precision"),
        ({"max_time": -1.0}, "a time"),
        ({"max_time": math.inf}, "a time"),
        ({"max_time": math.nan}, "a time"),
        ({"timeout": 0.0}, "a time"),
        ({"timeout": math.inf}, "a time"),
        ({"providers": ()}, "no providers"),
        ({"batches": ()}, "no batches"),
        ({"callers": ()}, "no callers"),
        ({"batches": tuple(range(1, 40)), "threads": tuple(range(1, 40))}, "1521 settings"),
        ({"provider_options": {"cuda": {"use_tf32": "0"}}}, "options are given for cuda"),
        ({"providers": ("cuda",), "provider_options": {"cuda": {"use_tf31": "0"}}}, "use_tf31"),
        (
            {
                "providers": ("cuda",),
                "provider_options": {"cuda": {"enable_cuda_graph": "1"}},
                "io": ("bound",),
                "callers": (2,),
            },
            "has one caller",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_hint(options, told):
    with pytest.raises(OnnxOptError, match=told) as caught:
        Plan.of(**options)
    assert caught.value.hint
