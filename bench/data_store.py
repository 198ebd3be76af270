"""Keeps samples as folders of `.npz`, one feed each, with what is true of them in `truth.json`.

A task's data lie in `bench/.work/quantization/data/TASK/SPLIT/`: `calibration/` and one or more
folders to judge by. Any of them can be given to `onnxopt quantize --calibration`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).resolve().parent / ".work" / "quantization" / "data"
CALIBRATION = "calibration"
Feed = dict[str, np.ndarray]


def folder_of(task: str, split: str, part: str) -> Path:
    """Return where a part (`calibration` or a part to judge by) of a split lies."""
    return DATA / task / split / part


def splits(task: str) -> list[str]:
    """Return the names of a task's splits that were made."""
    return sorted(
        path.parent.parent.name for path in (DATA / task).glob("*/calibration/truth.json")
    )


def parts(task: str, split: str) -> list[str]:
    """Return the names of the folders to judge by, without that to calibrate with."""
    found = sorted(path.parent.name for path in (DATA / task / split).glob("*/truth.json"))
    return [name for name in found if name != CALIBRATION]


def write(
    task: str, split: str, part: str, samples: Iterable[tuple[Mapping[str, np.ndarray], Any]]
) -> int:
    """Write feeds with their truths; return how many. What was there before is removed."""
    folder = folder_of(task, split, part)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    truths = []
    for index, (feed, truth) in enumerate(samples):
        np.savez_compressed(folder / f"{index:05}.npz", **feed)  # type: ignore[arg-type]
        truths.append(truth)
    # Written last: a folder that has it is whole.
    text = json.dumps(truths, ensure_ascii=False)
    (folder / "truth.json").write_text(text, encoding="utf-8")
    return len(truths)


def feeds(folder: Path, most: int | None = None) -> Iterator[Feed]:
    """Yield the feeds of a folder, in order, one at a time."""
    for path in sorted(folder.glob("*.npz"))[:most]:
        with np.load(path) as archive:
            yield {name: archive[name] for name in archive.files}


def truths(folder: Path) -> list[Any]:
    """Return what is true of each feed of a folder; None where only fp32 can be asked."""
    found: list[Any] = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    return found
