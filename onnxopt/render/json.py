"""A report as JSON text."""

from __future__ import annotations

import json
from typing import Any


def text(data: dict[str, Any]) -> str:
    """Write what a report's `to_dict()` returns, indented, with a newline at the end."""
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
