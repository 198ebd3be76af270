"""Turns a matplotlib figure into SVG that belongs into a page: its colours, fonts and width.

Colours are drawn as signs that no palette holds (`TEXT`, `GRID`, `series_colour(0)`) and replaced
by variables of the page's style sheet, so that one drawing serves light and dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEXT, GRID, PAPER = "#0a0b01", "#0a0b02", "#0a0b03"
COLOURS = 8
_VARIABLES = {TEXT: "--quiet", GRID: "--line", PAPER: "--card"} | {
    f"#0a0c{index:02x}": f"--s{index}" for index in range(COLOURS)
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "text.color": TEXT,
    "font.size": 10,
    "axes.labelsize": 10,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": GRID,
    "axes.linewidth": 1,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.unicode_minus": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    "path.simplify": False,
}


def series_colour(index: int) -> str:
    """Return the sign of the colour of a series; they begin again after eight."""
    return f"#0a0c{index % COLOURS:02x}"


@contextmanager
def drawing(name: str) -> Iterator[None]:
    """Draw as the page wants it, whatever the user's own matplotlibrc says.

    `name` makes the identifiers in the SVG its own, and the same in every run.
    """
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE | {"svg.hashsalt": name})
        yield


def inline(figure: Figure, *, name: str, title: str, description: str) -> str:
    """Return the `<svg>` element of a figure drawn within `drawing(name)`, as wide as its place."""
    out = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    root = ET.fromstring(out.getvalue())  # noqa: S314 - matplotlib wrote it, this very moment
    _tidy(root, name)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    label = {"role": "img", "aria-labelledby": f"{name}-title {name}-desc"}
    root.attrib = {"class": "plot", **label, **root.attrib}
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        told = ET.Element(tag, {"id": f"{name}-{tag}"})
        told.text = text
        root.insert(place, told)
    return ET.tostring(root, encoding="unicode")


def _tidy(root: ET.Element, name: str) -> None:
    """Drop what a page must not have or does not need, and make identifiers the figure's own."""
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in {"metadata", "style"}:
                parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        given, element.attrib = element.attrib, {}
        for key, value in given.items():
            _carry(element, _local(key), value, name)


def _carry(element: ET.Element, key: str, value: str, name: str) -> None:
    if key == "id":
        # Groups are numbered alike in every figure, and nobody refers to them.
        if element.tag != "g":
            element.set("id", f"{name}-{value}")
    elif key == "href":
        element.set("href", value.replace("#", f"#{name}-"))
    elif key == "clip-path":
        element.set(key, value.replace("url(#", f"url(#{name}-"))
    elif key == "style":
        element.set("style", "; ".join(_declarations(value)))
    else:
        element.set(key, re.sub(r"(\.\d\d)\d+", r"\1", value) if key != "viewBox" else value)


def _declarations(style: str) -> Iterator[str]:
    """Write colours as variables, and leave the choice of a font to the page."""
    for declaration in filter(None, (part.strip() for part in style.split(";"))):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key == "font":
            size = re.search(r"([\d.]+)px", value)
            yield f"font-size: {size[1] if size else 10}px"
        elif key != "font-family":
            variable = _VARIABLES.get(value.lower())
            yield f"{key}: var({variable})" if variable else f"{key}: {value}"


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
