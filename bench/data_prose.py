"""Takes English prose out of the docstrings and documents of Python packages.

Calibration reads other packages than judgement does, so that no sentence is in both.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import data_sources

KNOWN, UNKNOWN = ("scikit-learn", "django"), ("scipy", "matplotlib", "scikit-image")
_SHORTEST = 12
_MARKUP = re.compile(r":[a-z:]+:`~?\.?([^`<]*)[^`]*`|`+([^`]*)`+|\*\*?([^*\n]+)\*\*?")


@cache
def paragraphs(sources: tuple[str, ...], most: int = 4000) -> tuple[str, ...]:
    """Return distinct paragraphs of at least a dozen words, evenly from all the sources."""
    found: list[str] = []
    for source in sources:
        of_source = dict.fromkeys(_paragraphs(source))
        found += list(of_source)[: most // len(sources)]
    return tuple(found)


def _paragraphs(source: str) -> Iterator[str]:
    for member in data_sources.members(source, ".py"):
        if "/tests/" in member or "/vendor/" in member:
            continue
        try:
            tree = ast.parse(data_sources.read(source, member))
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                yield from _prose(ast.get_docstring(node) or "")


def _prose(docstring: str) -> Iterator[str]:
    for block in docstring.split("\n\n"):
        text = " ".join(_MARKUP.sub(lambda m: m[1] or m[2] or m[3] or "", block).split())
        words = text.split()
        letters = sum(character.isalpha() or character == " " for character in text)
        plain = text.isascii() and ">>>" not in text and "---" not in text and ".. " not in text
        if len(words) >= _SHORTEST and plain and letters > 0.9 * len(text):
            yield text
