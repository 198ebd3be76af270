"""The committed models are whole, and the manifest and its table agree with them."""

import onnx
import pytest
from manifest import FOLDER, read_manifest, sha256, table

MODELS = read_manifest()
COMMITTED = [model for model in MODELS if model.committed]


@pytest.mark.parametrize("model", COMMITTED, ids=lambda model: model.name)
def test_committed_model_is_the_one_of_the_manifest(model):
    assert model.path.stat().st_size == model.bytes
    assert sha256(model.path) == model.sha256
    onnx.checker.check_model(str(model.path))


@pytest.mark.parametrize("model", COMMITTED, ids=lambda model: model.name)
def test_typical_input_names_inputs_of_the_model(model):
    graph = onnx.load(model.path).graph
    assert {*model.shapes, *model.values} <= {value.name for value in graph.input}


def test_every_model_in_the_folder_is_in_the_manifest():
    assert {path.name for path in FOLDER.glob("*.onnx")} == {model.file for model in COMMITTED}


def test_names_are_unique_and_say_the_file():
    assert len({model.name for model in MODELS}) == len(MODELS)
    assert all(model.path.stem == model.name for model in MODELS)


def test_models_that_are_built_check_their_weights():
    built = [model for model in MODELS if model.builder]
    assert built
    for model in built:
        assert (FOLDER / f"{model.builder}.py").exists()
        assert len(model.member_sha256) == 64


def test_table_in_the_readme_is_up_to_date():
    assert table(MODELS) in (FOLDER / "README.md").read_text(encoding="utf-8")
