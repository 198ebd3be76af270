"""What tests of several folders share."""

import pytest

from onnxopt import rules


@pytest.fixture
def with_rules(monkeypatch):
    """Add rules to the table."""

    def add(*more):
        every = (*rules.load(), *more)
        monkeypatch.setattr(rules, "load", lambda: every)
        monkeypatch.setattr(rules, "names", lambda: tuple(rule.name for rule in every))

    return add
