"""Short texts that terminal and Markdown share: shapes, changes, what names may hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from onnxopt.text import human_count

if TYPE_CHECKING:
    from onnxopt.report import NodeInfo, Profile, TensorSpec


def printable(text: str) -> str:
    r"""Escape what could drive a terminal: a node may be called `\x1b[2J`."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def file_name(profile: Profile) -> str:
    """Return the file name of a model."""
    return PurePath(profile.path).name if profile.path else "model"


def shape_text(shape: Sequence[int | str | None] | None) -> str:
    """Write `[batch, 3, ?]`; an unknown rank is `[...]`."""
    if shape is None:
        return "[...]"
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def size_text(shape: Sequence[int | str | None] | None) -> str:
    """Write `batch×3×224`, where space is scarce; a scalar is `1`."""
    if shape is None:
        return "?"
    return "×".join("?" if size is None else str(size) for size in shape) or "1"


def tensor_text(tensor: TensorSpec) -> str:
    """Write type and shape, as `float32 [batch, 3]`."""
    return f"{tensor.type} {shape_text(tensor.shape)}"


def op_text(node: NodeInfo) -> str:
    """Write the operator with its domain, unless that is ONNX's own."""
    return node.op if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op}"


def opset_text(opset: Mapping[str, int]) -> str:
    """Write `17, com.microsoft 1`, ONNX's own first."""
    own = [str(version) for domain, version in opset.items() if domain in ("", "ai.onnx")]
    others = [f"{name} {number}" for name, number in opset.items() if name not in ("", "ai.onnx")]
    return ", ".join(own + sorted(others)) or "none"


def macs_text(macs: int | None) -> str:
    """Write multiply-accumulates; `?` where nothing could be told."""
    return "?" if macs is None else human_count(macs)


def signed(change: int) -> str:
    """Write `+3` or `-3`, and nothing for nothing."""
    return f"{change:+,}" if change else ""


def percent_change(before: float, after: float) -> str:
    """Write `-12.5 %`; nothing where it rounds to nothing."""
    if not before:
        return ""
    change = 100 * (after - before) / before
    return "" if abs(change) < 0.05 else f"{change:+.1f} %"


def share_text(part: float, whole: float) -> str:
    """Write `12.5 %` of the whole; nothing where there is no part."""
    if not part or not whole:
        return ""
    share = 100 * part / whole
    return f"{share:.1f} %" if share >= 0.05 else "< 0.1 %"


def counts_text(counts: Mapping[str, int]) -> str:
    """Write `Conv 49, Clip 33`, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count:,}" for name, count in ordered)


def small(number: float) -> str:
    """Write a difference: `2.4e-07`, `0`."""
    return "0" if number == 0 else f"{number:.1e}"


def decibel(number: float) -> str:
    """Write a ratio in dB; without any noise it is `exact`, and `?` where it is not known."""
    if math.isnan(number):
        return "?"
    return "exact" if number == math.inf else f"{number:.1f} dB"


def milliseconds(number: float) -> str:
    """Write a latency with three significant digits, without unit."""
    return f"{number:.0f}" if number >= 100 else f"{number:#.3g}"


def optional_db(db: float | None) -> str:
    """Write dB; nothing where they are not known."""
    return "" if db is None else decibel(db)


def time_text(ms: float | None) -> str:
    """Write milliseconds, without unit; nothing where they are not known."""
    return "" if ms is None else milliseconds(ms) if ms >= 0.01 else f"{ms:.4f}"


def count(how_many: int) -> str:
    """Write a count; nothing for none."""
    return f"{how_many:,}" if how_many else ""
