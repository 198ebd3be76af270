"""docs/reports.md and the dataclasses tell the same keys."""

import dataclasses
import re
from pathlib import Path

import pytest

from onnxopt import report
from onnxopt.report.plain import is_public
from onnxopt.runtime.execution.providers import ProviderStatus
from tests.render.pruned_reports import make_pruned

PAGE = (Path(__file__).parents[2] / "docs" / "reports.md").read_text(encoding="utf-8")
DATA = [
    thing
    for thing in vars(report).values()
    if dataclasses.is_dataclass(thing) and thing.__module__.startswith(report.__name__)
]


def documented(title):
    """Return the keys in the table under a heading, in order."""
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert section is not None, f"docs/reports.md has no section {title}"
    return re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", section[1], re.MULTILINE)


@pytest.mark.parametrize("data", DATA, ids=lambda data: data.__name__)
def test_every_key_is_documented_in_order(data):
    keys = [f.name for f in dataclasses.fields(data) if is_public(f)]
    assert documented(data.__name__) == keys


def test_lists_of_providers_and_rules_are_documented():
    assert documented("providers") == [f.name for f in dataclasses.fields(ProviderStatus)]
    assert documented("rules") == ["name", "kind", "summary", "targets", "unsure", "since"]


def test_every_schema_is_named(optimized, quantized, compared, inspected, benchmarked):
    for made in (optimized, quantized, make_pruned(), compared, inspected, benchmarked):
        row = f"| `{made.to_dict()['schema']}` |"
        assert f"[{type(made).__name__}](#{type(made).__name__.lower()})" in PAGE.partition(row)[2]
