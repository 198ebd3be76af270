"""Reads the samples that a user gives, and says which input they do not fit.

A path is an `.npz` (arrays by input name, first axis = samples), a folder of `.npz` (one feed
each, shapes may differ), a folder of ONNX `test_data_set_*`, or `file.py:function` that yields
dicts of arrays.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxopt.errors import DataError
from onnxopt.text import near_matches

if TYPE_CHECKING:
    import numpy as np

    from onnxopt.runtime.feeding.inputs import Input

_FORMS = "give an .npz, a folder of .npz, a folder of ONNX test_data_set_*, or file.py:function"


def load_data(path: Path | str, inputs: Sequence[Input]) -> Iterator[dict[str, Any]]:
    """Yield feeds (input name to array) that fit `inputs`, one at a time.

    An `.npz` gives feeds with a batch of one, cut from the first axis. Nothing is unpickled.
    Raises `DataError` that names file and input, what was expected and what came.
    """
    feeds = _read(Path(path), str(path), inputs)
    empty = True
    for where, feed in feeds:
        empty = False
        yield check_feed(feed, inputs, where)
    if empty:
        raise DataError(f"{path} holds no samples", _FORMS)


def check_kind(path: Path | str) -> None:
    """Raise `DataError` for what can be no samples of any model."""
    script = _script(str(path))
    file = Path(path) if script is None else script[0]
    if not file.exists():
        raise DataError(f"{file} does not exist", _FORMS)
    if script is None and not file.is_dir() and file.suffix != ".npz":
        raise DataError(f"{file} is no kind of samples that can be read", _FORMS)


def _script(text: str) -> tuple[Path, str] | None:
    """Take `file.py:function` apart."""
    found = re.fullmatch(r"(.+\.py):(\w+)", text)
    return None if found is None else (Path(found[1]), found[2])


def _read(path: Path, text: str, inputs: Sequence[Input]) -> Iterator[tuple[str, dict[str, Any]]]:
    check_kind(text)
    script = _script(text)
    if script is not None:
        return _from_function(*script)
    return _from_folder(path, inputs) if path.is_dir() else _from_npz(path, inputs)


def _from_npz(path: Path, inputs: Sequence[Input]) -> Iterator[tuple[str, dict[str, Any]]]:
    arrays = _load_npz(path)
    by_name = {spec.name: spec for spec in inputs}
    counts = {name: _samples(array, by_name.get(name)) for name, array in arrays.items()}
    numbers = {count for count in counts.values() if count is not None}
    if len(numbers) > 1:
        told = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise DataError(
            f"the arrays of {path} hold different numbers of samples ({told})",
            "the first axis of each array counts the samples",
        )
    for index in range(numbers.pop() if numbers else 1):
        feed = {
            name: array if counts[name] is None else _cut(array, index, by_name.get(name))
            for name, array in arrays.items()
        }
        yield f"{path}, sample {index}", feed


def _samples(array: np.ndarray, spec: Input | None) -> int | None:
    """Return how many samples an array holds; None for a scalar that all of them share."""
    if array.ndim == 0:
        return None
    if not array.shape[0]:
        return 0
    batch = _batch(array, spec)
    return int(array.shape[0]) // batch if array.shape[0] >= batch else 1


def _batch(array: np.ndarray, spec: Input | None) -> int:
    fixed = spec is not None and spec.dims is not None and len(spec.dims) == array.ndim
    first = spec.dims[0] if fixed and spec is not None and spec.dims else 1
    return first if isinstance(first, int) else 1


def _cut(array: np.ndarray, index: int, spec: Input | None) -> np.ndarray:
    """Take one sample: a slice where the first axis is the batch, an element where it is not."""
    import numpy as np

    if spec is not None and spec.dims is not None and array.ndim == len(spec.dims) + 1:
        return np.asarray(array[index])
    batch = _batch(array, spec)
    return array[index * batch : (index + 1) * batch]


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        pickled = "pickle" in str(error)
        reason = "it holds Python objects, which are not read" if pickled else str(error)
        raise DataError(
            f"cannot read {path}: {reason}", "write it with numpy.savez(path, input_name=array)"
        ) from error


def _from_folder(path: Path, inputs: Sequence[Input]) -> Iterator[tuple[str, dict[str, Any]]]:
    archives = sorted(path.glob("*.npz"))
    if archives:
        return ((str(archive), dict(_load_npz(archive))) for archive in archives)
    sets = sorted(path.glob("test_data_set_*"), key=_number) or [path]
    sets = [folder for folder in sets if any(folder.glob("input_*.pb"))]
    if not sets:
        raise DataError(f"{path} holds neither .npz nor test_data_set_* folders", _FORMS)
    return ((str(folder), _load_test_set(folder, inputs)) for folder in sets)


def _number(path: Path) -> int:
    return int(re.sub(r"\D", "", path.stem) or 0)


def _load_test_set(folder: Path, inputs: Sequence[Input]) -> dict[str, Any]:
    """Read `input_0.pb`, … by the name in each, or by position where a name is of no input."""
    files = sorted(folder.glob("input_*.pb"), key=_number)
    if len(files) > len(inputs):
        raise DataError(
            f"{folder} holds {len(files)} inputs, the model has {len(inputs)}",
            "give the test data that belong to this model",
        )
    names = {spec.name for spec in inputs}
    feed = {}
    for spec, file in zip(inputs, files, strict=False):
        name, value = _load_pb(file, spec.kind)
        feed[name if name in names else spec.name] = value
    return feed


def _load_pb(path: Path, kind: str) -> tuple[str, Any]:
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    kinds: dict[str, tuple[Any, Any]] = {
        "tensor": (onnx.TensorProto, numpy_helper.to_array),
        "sequence": (onnx.SequenceProto, numpy_helper.to_list),
        "optional": (onnx.OptionalProto, numpy_helper.to_optional),
    }
    message, read = kinds[kind]
    proto = message()
    try:
        proto.ParseFromString(path.read_bytes())
        return str(proto.name), read(proto)
    except (DecodeError, ValueError, TypeError, OSError) as error:
        raise DataError(f"cannot read {path}: {error}", "it must hold one ONNX tensor") from error


def _from_function(path: Path, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise DataError(f"{path} does not exist", _FORMS)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        function = getattr(module, name, None)
        samples = enumerate(function() if function else ())
        while function and (sample := next(samples, None)) is not None:
            index, feed = sample
            yield f"{path}:{name}, sample {index}", _as_dict(feed, f"{path}:{name}")
    except DataError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's code does wrong
        raise DataError(
            f"{path}:{name} failed: {type(error).__name__}: {error}", "run it by itself first"
        ) from error
    if function is None:
        functions = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise DataError(f"{path} has no function {name!r}", near_matches(name, functions))


def _as_dict(feed: Any, where: str) -> dict[str, Any]:
    if isinstance(feed, Mapping):
        return dict(feed)
    raise DataError(f"{where} yielded {type(feed).__name__}", "yield dicts of arrays by input")


def check_feed(feed: Mapping[str, Any], inputs: Sequence[Input], where: str) -> dict[str, Any]:
    """Return `feed` with exact dtypes, or raise `DataError` that names the input that misfits."""
    known = [spec.name for spec in inputs]
    for name in feed:
        if name not in known:
            raise DataError(f"{where}: the model has no input {name!r}", near_matches(name, known))
    checked: dict[str, Any] = {}
    for spec in inputs:
        if spec.name not in feed:
            if spec.required:
                raise DataError(
                    f"{where}: input {spec.name!r} is missing", f"add {spec.describe()}"
                )
            continue
        value = feed[spec.name]
        if spec.kind != "tensor":
            checked[spec.name] = value
            continue
        array = _convert(value, spec, where)
        _check_shape(array, spec, where)
        checked[spec.name] = array
    return checked


def _convert(value: Any, spec: Input, where: str) -> np.ndarray:
    """Take an array as it is or widened without loss; plain Python numbers as what is wanted."""
    import numpy as np

    if spec.dtype is None:
        array = np.asarray(value)
        if array.dtype.kind not in "UOS":
            raise _misfit(spec, where, f"{array.dtype}")
        return array.astype(object)
    if not isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value, spec.dtype)
    array = np.asarray(value)
    if array.dtype == spec.dtype:
        return array
    if not _widens(array.dtype, spec.dtype):
        raise _misfit(spec, where, f"{array.dtype}{list(array.shape)}")
    return array.astype(spec.dtype)


def _widens(have: np.dtype, want: np.dtype) -> bool:
    import numpy as np

    return have.kind == want.kind and have.kind in "iuf" and np.can_cast(have, want, "safe")


def _check_shape(array: np.ndarray, spec: Input, where: str) -> None:
    if spec.dims is None:
        return
    fits = array.ndim == len(spec.dims) and all(
        isinstance(dim, str) or size == dim
        for size, dim in zip(array.shape, spec.dims, strict=True)
    )
    if not fits:
        raise _misfit(spec, where, f"{array.dtype}{list(array.shape)}")


def _misfit(spec: Input, where: str, came: str) -> DataError:
    return DataError(
        f"{where}: input {spec.name!r} wants {spec.describe()}, came {came}",
        "convert the samples: array.astype(...), array.reshape(...)",
    )
