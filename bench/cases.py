"""The cases that onnx ships for testing backends: models, inputs, and the outputs they give."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
NODE = "node"
FOLDERS = ("simple", "pytorch-converted", "pytorch-operator")
LIGHT = "light"
KINDS = (NODE, *FOLDERS, LIGHT)

_RTOL = 1e-3
_ATOL = 1e-5

DataSet = tuple[list[Any], list[Any]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model with sets of inputs and the outputs that it has to give for them."""

    name: str
    model: onnx.ModelProto
    data_sets: list[DataSet]
    rtol: float = _RTOL


def names(kind: str) -> list[str]:
    """Return the names of all cases of a kind."""
    if kind == NODE:
        return sorted(_node_cases())
    if kind == LIGHT:
        return sorted(path.stem for path in (DATA / LIGHT).glob("*.onnx"))
    return sorted(path.parent.name for path in (DATA / kind).glob("*/model.onnx"))


def load(kind: str, name: str) -> Case:
    """Return one case."""
    if kind == NODE:
        found = _node_cases()[name]
        sets = [([_plain(v) for v in given], [_plain(v) for v in wanted])
                for given, wanted in found.data_sets]  # fmt: skip
        return Case(name=name, model=found.model, data_sets=sets, rtol=found.rtol)
    if kind == LIGHT:
        return _light(name)
    folder = DATA / kind / name
    model = onnx.load(folder / "model.onnx")
    sets = [
        (list(_values(data, "input", model.graph.input)),
         list(_values(data, "output", model.graph.output)))
        for data in sorted(folder.glob("test_data_set_*"))
    ]  # fmt: skip
    return Case(name=name, model=model, data_sets=sets)


@functools.cache
def _node_cases() -> dict[str, Any]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return {case.name: case for case in collect_testcases(None)}


def _plain(value: Any) -> Any:
    """Return an array for what the cases hold as a tensor or as a number of NumPy's."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def _values(folder: Path, side: str, declared: Any) -> Iterator[Any]:
    """Read input_0.pb, input_1.pb …, each of the type that the model declares."""
    for index, value in enumerate(declared):
        path = folder / f"{side}_{index}.pb"
        if not path.exists():
            return
        content = path.read_bytes()
        if value.type.HasField("sequence_type"):
            yield numpy_helper.to_list(onnx.SequenceProto.FromString(content))
        elif value.type.HasField("optional_type"):
            yield numpy_helper.to_optional(onnx.OptionalProto.FromString(content))
        else:
            yield numpy_helper.to_array(onnx.TensorProto.FromString(content))


def _light(name: str) -> Case:
    """Load a model whose weights are left out; its one real input rises from 0 to 1, as onnx's."""
    model = onnx.load(DATA / LIGHT / f"{name}.onnx")
    defaults = {tensor.name for tensor in model.graph.initializer}
    inputs = []
    for value in model.graph.input:
        if value.name not in defaults:
            shape = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
            count = int(np.prod(shape))
            inputs.append((np.arange(count).reshape(shape) / count).astype(np.float32))
    path = DATA / LIGHT / f"{name}_output_0.pb"
    return Case(name=name, model=model, data_sets=[(inputs, [_plain(onnx.load_tensor(path))])])


def feed(case: Case, inputs: list[Any]) -> dict[str, Any]:
    """Return inputs by name; those that have a default are left to it where there are fewer."""
    declared = [value.name for value in case.model.graph.input]
    if len(inputs) < len(declared):
        defaults = {tensor.name for tensor in case.model.graph.initializer}
        declared = [name for name in declared if name not in defaults]
    return dict(zip(declared, inputs, strict=False))


def agree(want: Any, got: Any, rtol: float) -> bool:
    """Tell whether an output is what was wanted; sequences element by element."""
    if isinstance(want, (list, tuple)):
        same_length = isinstance(got, (list, tuple)) and len(want) == len(got)
        return same_length and all(agree(a, b, rtol) for a, b in zip(want, got, strict=True))
    if want is None or got is None:
        return want is got
    want, got = np.asarray(want), np.asarray(got)
    if want.shape != got.shape:
        return False
    if want.dtype.kind == "V" or got.dtype.kind == "V":  # bfloat16, float8 and the like
        want, got = want.astype(np.float32), got.astype(np.float32)
    if want.dtype.kind not in "fc":
        return bool(np.array_equal(want.astype(str), got.astype(str)))
    return bool(np.allclose(got, want, rtol=rtol, atol=_ATOL, equal_nan=True))
