"""What calibration found out about a model, and the file that keeps it for another target.

The file is an `.npz` without pickled objects: a JSON header, and for each field of the observers'
states the numbers of all tensors in a row, with whose they are and how many each has.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onnxopt.arrays import Array
from onnxopt.errors import DataError, OutputError
from onnxopt.graph.storage.replace import draft, publish
from onnxopt.quantizing.calibration.observers import Observer
from onnxopt.text import plural

SCHEMA = "onnxopt.statistics/1"
_AGAIN = "take the statistics again, with --calibration"


@dataclass(kw_only=True)
class Statistics:
    """Observers by tensor, after `samples` samples of the model with this SHA-256."""

    model: str
    samples: int = 0
    observers: dict[str, Observer] = field(default_factory=dict)

    def merge(self, other: Statistics) -> None:
        """Add what was found on other samples of the same model; `other` stays as it is."""
        self.check_model(other.model)
        for name, observer in other.observers.items():
            if name in self.observers:
                self.observers[name].merge(observer)
            else:
                self.observers[name] = Observer.from_state(observer.state())
        self.samples += other.samples

    def check_model(self, model: str) -> None:
        """Raise `DataError` if the statistics are of another model than that of a SHA-256."""
        if model != self.model:
            raise DataError(f"these statistics are of another model ({self.model[:12]}…)", _AGAIN)

    def check_finite(self) -> None:
        """Raise `DataError` that names the first tensor and sample with NaN or infinity."""
        bad = [name for name, seen in self.observers.items() if seen.nans + seen.infinities]
        if not bad:
            return
        seen = self.observers[bad[0]]
        what = " and ".join(["NaN"] * bool(seen.nans) + ["infinity"] * bool(seen.infinities))
        where = "" if seen.bad_sample is None else f" in sample {seen.bad_sample}"
        more = f" (and {plural(len(bad) - 1, 'other tensor')})" if bad[1:] else ""
        raise DataError(
            f"the activation {bad[0]!r} holds {what}{where}{more}",
            "look at what that sample holds, or leave it out",
        )

    def constant(self) -> list[str]:
        """List the tensors that were the same number everywhere in all samples."""
        return [name for name, seen in self.observers.items() if seen.constant]

    def unseen(self, names: Iterable[str]) -> list[str]:
        """List those of the tensors of which there is no number: never run, or not asked for."""
        return [name for name in names if not (seen := self.observers.get(name)) or not seen.count]

    def save(self, path: Path) -> None:
        """Write everything into an `.npz`; raises `OutputError` where that cannot be."""
        header = {
            "schema": SCHEMA,
            "model": self.model,
            "samples": self.samples,
            "tensors": list(self.observers),
        }
        columns = _columns([seen.state() for seen in self.observers.values()])
        text = np.frombuffer(json.dumps(header).encode(), np.uint8)
        try:
            with draft(path, owner=path) as file:
                np.savez_compressed(file.file, header=text, **columns)
                publish([file])
        except OSError as error:
            raise OutputError(
                f"cannot write {path}: {error.strerror}", "choose another place for the statistics"
            ) from error

    @classmethod
    def load(cls, path: Path) -> Statistics:
        """Read what `save` wrote; raises `DataError` for any other file."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                header = json.loads(archive["header"].tobytes())
                schema = header["schema"]
                if schema == SCHEMA:
                    states = _rows({name: archive[name] for name in archive.files}, header)
                    observers = {name: Observer.from_state(s) for name, s in states.items()}
                    return cls(
                        model=str(header["model"]),
                        samples=int(header["samples"]),
                        observers=observers,
                    )
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}", _AGAIN) from error
        except _WRONG as error:
            raise DataError(f"{path} holds no statistics of onnxopt", _AGAIN) from error
        raise DataError(f"{path} holds {schema}, this is {SCHEMA}", _AGAIN)


_WRONG = (
    ValueError,  # pickled objects, other arrays, no JSON
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
)


def _columns(states: list[dict[str, Array]]) -> dict[str, Any]:
    """Put the states of all observers side by side: thousands of small arrays are slow to read.

    A size of -1 is that of a single number.
    """
    found: dict[str, list[tuple[int, Array]]] = defaultdict(list)
    for index, state in enumerate(states):
        for name, array in state.items():
            found[name].append((index, array))
    columns = {}
    for name, entries in found.items():
        columns[name] = np.concatenate([array.reshape(-1) for _, array in entries])
        columns[f"{name}.tensor"] = np.array([index for index, _ in entries])
        sizes = [array.size if array.ndim else -1 for _, array in entries]
        columns[f"{name}.size"] = np.array(sizes)
    return columns


def _rows(columns: Mapping[str, Array], header: Mapping[str, Any]) -> dict[str, dict[str, Array]]:
    """Undo `_columns`: states by tensor."""
    names = header["tensors"]
    states: dict[str, dict[str, Array]] = {name: {} for name in names}
    for name, column in columns.items():
        if name == "header" or "." in name:
            continue
        sizes = columns[f"{name}.size"]
        ends = np.cumsum(np.abs(sizes))
        for index, size, end in zip(columns[f"{name}.tensor"], sizes, ends, strict=True):
            part = column[end - abs(size) : end]
            states[names[index]][name] = part[0] if size < 0 else part
    return states
