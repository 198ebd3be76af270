"""The wheels that bring onnxruntime, over each other or with their files gone."""

import importlib.metadata
from pathlib import Path

import pytest

from onnxopt.runtime.execution import wheels


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Make a folder of installed packages and return what installs one."""
    real = importlib.metadata.distributions
    monkeypatch.setattr(importlib.metadata, "distributions", lambda **_: real(path=[str(tmp_path)]))

    def install(name, version, files=()):
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
        return tmp_path

    return install


def test_one_wheel_is_well(site):
    site("onnxruntime", "1.32.0", ["onnxruntime/__init__.py"])
    assert wheels.installed_wheels() == {"onnxruntime": "1.32.0"}
    assert wheels.problems() == []


def test_wheels_of_other_things_are_no_onnxruntime(site):
    for name in ("onnxruntime-genai", "onnxruntime-extensions", "onnxruntime-tools", "onnx"):
        site(name, "1.0")
    assert wheels.installed_wheels() == {}
    assert wheels.problems() == []


def test_two_wheels_over_each_other_are_noticed(site):
    site("onnxruntime", "1.32.0")
    site("onnxruntime_gpu", "1.31.1")
    (problem,) = wheels.problems()
    assert problem.reason.startswith("onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1 are installed")
    assert problem.fix == (
        "run: pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
    )


def test_a_wheel_in_a_folder_behind_is_hidden_and_not_over_another(tmp_path, monkeypatch):
    real = importlib.metadata.distributions
    folders = [str(tmp_path / "first"), str(tmp_path / "second")]
    for folder, name in zip(folders, ("onnxruntime-gpu", "onnxruntime"), strict=True):
        info = Path(folder) / f"{name}-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    monkeypatch.setattr(importlib.metadata, "distributions", lambda **_: real(path=folders))
    assert wheels.installed_wheels() == {"onnxruntime-gpu": "1"}
    assert wheels.problems() == []


def test_files_that_went_with_another_wheel_are_noticed(site):
    files = ["onnxruntime/__init__.py", "onnxruntime/capi/a.so", "onnxruntime/__init__.pyc"]
    folder = site("onnxruntime-gpu", "1.31.1", files)
    (folder / "onnxruntime/__init__.pyc").unlink()
    assert wheels.problems() == []
    (folder / "onnxruntime/__init__.py").unlink()
    (folder / "onnxruntime/capi/a.so").unlink()
    (problem,) = wheels.problems()
    assert problem.reason.startswith("2 files of onnxruntime-gpu 1.31.1 are gone")
    assert problem.fix == ("run: pip install --force-reinstall --no-deps onnxruntime-gpu==1.31.1")
