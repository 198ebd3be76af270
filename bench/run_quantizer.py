"""Runs one peer's recipe, in the peer's environment: `run_quantizer.py RECIPE MODEL DATA OUTPUT`.

DATA is a folder of `.npz`, one feed each. Every recipe is what the peer's documentation shows or
its options offer; the whole process is what is timed. The recipes of onnxruntime have the graph
prepared by `quant_pre_process` first, as its documentation asks, but for the one that says `raw`.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

Feed = dict[str, np.ndarray]
_PER_CHANNEL = 13
# What keeps every activation would otherwise take the machine down with it.
MOST_BYTES = 12 * 10**9


def feeds(data: str) -> Iterator[Feed]:
    """Yield the feeds of a folder, one at a time."""
    for path in sorted(Path(data).glob("*.npz")):
        with np.load(path) as archive:
            yield {name: archive[name] for name in archive.files}


def ort_static(model: str, data: str, output: str, *, raw: bool = False, **options: Any) -> None:
    """Run onnxruntime's quantize_static; options by name, types and formats as words."""
    from onnxruntime.quantization.calibrate import CalibrationMethod
    from onnxruntime.quantization.quant_utils import QuantFormat, QuantType
    from onnxruntime.quantization.quantize import quantize_static

    kinds: dict[str, Any] = {
        "quant_format": QuantFormat,
        "activation_type": QuantType,
        "weight_type": QuantType,
        "calibrate_method": CalibrationMethod,
    }
    read: dict[str, Any] = {
        name: kinds[name][word] if name in kinds else word for name, word in options.items()
    }
    with prepared(model, raw=raw) as ready:
        quantize_static(ready, output, reader(data), **read)


def reader(data: str) -> Any:
    """Return the feeds of a folder as onnxruntime's calibration reads them."""
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    left = feeds(data)

    class Reader(CalibrationDataReader):
        def get_next(self) -> Any:
            return next(left, None)

    return Reader()


def ort_dynamic(model: str, _: str, output: str, **options: Any) -> None:
    """Run onnxruntime's quantize_dynamic."""
    from onnxruntime.quantization.quantize import quantize_dynamic

    with prepared(model) as ready:
        quantize_dynamic(ready, output, **options)


class prepared:  # noqa: N801 - used like a function
    """Yield the path of a model after `quant_pre_process`, or of the model itself if `raw`.

    Below opset 13 scales per channel cannot be written: such a model is converted first.
    """

    def __init__(self, model: str, *, raw: bool = False) -> None:
        """Remember the model."""
        self.model, self.raw = model, raw
        self.folder = tempfile.TemporaryDirectory()

    def __enter__(self) -> str:
        """Prepare it."""
        if self.raw:
            return self.model
        from onnxruntime.quantization.shape_inference import quant_pre_process

        newer = self._with_scales_per_channel()
        path = str(Path(self.folder.name) / "prepared.onnx")
        try:
            quant_pre_process(newer, path)
        except Exception as error:  # noqa: BLE001 - whatever its shape inference raises
            print(f"without symbolic shape inference: {error}", file=sys.stderr)
            quant_pre_process(newer, path, skip_symbolic_shape=True)
        return path

    def _with_scales_per_channel(self) -> str:
        import onnx
        from onnx import version_converter

        model = onnx.load(self.model)
        opset = next(entry.version for entry in model.opset_import if not entry.domain)
        if opset >= _PER_CHANNEL:
            return self.model
        path = str(Path(self.folder.name) / "newer.onnx")
        onnx.save(version_converter.convert_version(model, _PER_CHANNEL), path)
        return path

    def __exit__(self, *_: object) -> None:
        """Remove it."""
        self.folder.cleanup()


def onnxsim_static(
    model: str,
    data: str,
    output: str,
    *,
    function: str = "quantize_static",
    equalize: bool = False,
    correct: bool = False,
    **options: Any,
) -> None:
    """Simplify with onnxsim, then quantize by one of its static quantizers."""
    import onnx
    import onnxsim
    from onnxsim import full_qdq

    simplified, _ = onnxsim.simplify(model)
    calibration = list(feeds(data))
    if equalize:
        simplified = onnxsim.cross_layer_equalize(simplified)
    quantize = getattr(onnxsim, function, None) or getattr(full_qdq, function)
    quantized = quantize(simplified, calibration_data=calibration, **options)
    if correct:
        quantized = onnxsim.correct_bias(simplified, quantized, calibration_data=calibration)
    onnx.save(quantized, output)


def onnxsim_dynamic(model: str, _: str, output: str) -> None:
    """Simplify with onnxsim, then quantize by its quantize_dynamic."""
    import onnx
    import onnxsim

    simplified, _ = onnxsim.simplify(model)
    onnx.save(onnxsim.quantize_dynamic(simplified), output)


def calibrate_only(model: str, data: str, _: str, *, method: str) -> None:
    """Run onnxruntime's calibration alone, of all that it would quantize by default."""
    from onnxruntime.quantization import calibrate

    with tempfile.TemporaryDirectory() as folder, prepared(model) as ready:
        calibrator = calibrate.create_calibrator(
            ready,
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=calibrate.CalibrationMethod[method],
        )

        calibrator.collect_data(reader(data))
        calibrator.compute_data()


_CHANNELS: dict[str, Any] = {
    "activation_type": "QUInt8",
    "weight_type": "QInt8",
    "per_channel": True,
}
_HEAVY = ["Conv", "MatMul", "Gemm"]
Recipe = Callable[[str, str, str], None]
RECIPES: dict[str, Recipe] = {
    "ort S8S8 raw": partial(ort_static, raw=True),
    "ort S8S8": ort_static,
    "ort S8S8 channels": partial(ort_static, per_channel=True),
    "ort U8U8": partial(ort_static, activation_type="QUInt8", weight_type="QUInt8"),
    "ort U8S8": partial(ort_static, **(_CHANNELS | {"per_channel": False})),
    "ort U8S8 channels": partial(ort_static, **_CHANNELS),
    "ort U8S8 channels reduce_range": partial(ort_static, **_CHANNELS, reduce_range=True),
    "ort U8S8 channels heavy": partial(ort_static, **_CHANNELS, op_types_to_quantize=_HEAVY),
    "ort U8S8 channels heavy reduce_range": partial(
        ort_static, **_CHANNELS, op_types_to_quantize=_HEAVY, reduce_range=True
    ),
    "ort U8S8 channels qoperator": partial(ort_static, **_CHANNELS, quant_format="QOperator"),
    "ort U8S8 channels entropy": partial(ort_static, **_CHANNELS, calibrate_method="Entropy"),
    "ort U8S8 channels percentile": partial(ort_static, **_CHANNELS, calibrate_method="Percentile"),
    "ort dynamic": ort_dynamic,
    "ort dynamic channels reduce_range": partial(ort_dynamic, per_channel=True, reduce_range=True),
    "onnxsim static": onnxsim_static,
    "onnxsim static entropy": partial(onnxsim_static, method="entropy"),
    "onnxsim static whole": partial(onnxsim_static, full_graph=True),
    "onnxsim static equalized corrected": partial(onnxsim_static, equalize=True, correct=True),
    "onnxsim full_qdq": partial(onnxsim_static, function="quantize_full_qdq"),
    "onnxsim full_qdq percentile": partial(
        onnxsim_static, function="quantize_full_qdq", method="percentile"
    ),
    "onnxsim full_qdq equalized": partial(
        onnxsim_static, function="quantize_full_qdq", equalize=True
    ),
    "onnxsim qoperator": partial(onnxsim_static, function="quantize_qoperator"),
    "onnxsim dynamic": onnxsim_dynamic,
    "calibrate MinMax": partial(calibrate_only, method="MinMax"),
    "calibrate Entropy": partial(calibrate_only, method="Entropy"),
    "calibrate Percentile": partial(calibrate_only, method="Percentile"),
}

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    RECIPES[sys.argv[1]](*sys.argv[2:])
