"""The ordered table of rewrite rules: one line each, as `file.function`.

Rules that share a root operator are tried in this order. A new rule is a file in this folder, a
line here and a test: docs/add-a-rule.md goes through it.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxopt.rewrite.rule import Rule

TABLE = (
    # what stands for nothing: identities, pairs that cancel, chains of one kind
    # normalisation and activation, from the forms that exporters write
    "gelu.fuse_erf_gelu",
    # constants into linear operators
    "batchnorm.fold_batchnorm_into_conv",
)


@functools.cache
def load() -> tuple[Rule, ...]:
    """Import every rule of the table, in its order."""
    found = []
    for line in TABLE:
        module, name = line.rsplit(".", 1)
        found.append(getattr(importlib.import_module(f"onnxopt.rules.{module}"), name))
    return tuple(found)


def names() -> tuple[str, ...]:
    """Return the names of all rules without importing any."""
    return tuple(line.rsplit(".", 1)[1] for line in TABLE)
