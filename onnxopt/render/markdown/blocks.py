"""The few shapes that every Markdown report is made of, and how names are kept from markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from onnxopt.render.words import printable


def warnings(texts: Iterable[str]) -> str:
    """Write warnings, one to a bullet."""
    return bullets(f"warning: {text}" for text in texts)


def folded(title: str, body: str) -> str:
    """Hide what is not always wanted behind its title."""
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def table(
    header: Sequence[str], body: Iterable[Sequence[str]], *, left: int, last: bool = False
) -> str:
    """Align the first `left` columns left, and the `last` where it is text; the others right."""
    rules = ["---" if index < left else "---:" for index in range(len(header))]
    if last:
        rules[-1] = "---"
    lines = [header, rules, *([escape(cell) for cell in cells] for cells in body)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def bullets(texts: Iterable[str]) -> str:
    """Write a list of plain texts."""
    return "\n".join(f"- {escape(text)}" for text in texts)


def code(text: str) -> str:
    """Write a name in the type of code; it cannot end that."""
    return f"`{printable(text).replace('`', 'ˋ')}`"


def escape(text: str) -> str:
    """Keep names with underscores, pipes or tags from becoming markup."""
    return "".join(f"\\{c}" if c in "\\|`*_<>[]" else c for c in printable(text))


def join(parts: Iterable[str]) -> str:
    """Put paragraphs one below the other, empty ones left out."""
    return "\n\n".join(part for part in parts if part) + "\n"
