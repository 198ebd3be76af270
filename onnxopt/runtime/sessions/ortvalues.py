"""Turns arrays into onnxruntime's own values and back, for the types that numpy lacks, too."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

# Types that onnxruntime's Python layer cannot turn into arrays: TensorProto code, bits, ml_dtypes.
FOREIGN = {
    "tensor(bfloat16)": (16, 16, "bfloat16"),
    "tensor(float8e4m3fn)": (17, 8, "float8_e4m3fn"),
    "tensor(float8e4m3fnuz)": (18, 8, "float8_e4m3fnuz"),
    "tensor(float8e5m2)": (19, 8, "float8_e5m2"),
    "tensor(float8e5m2fnuz)": (20, 8, "float8_e5m2fnuz"),
    "tensor(uint4)": (21, 4, "uint4"),
    "tensor(int4)": (22, 4, "int4"),
}


def to_ort_value(value: Any, type_: str) -> Any:
    """Return an OrtValue in host memory of onnxruntime's type `type_` (`tensor(bfloat16)`).

    Raises `TypeError` where a foreign type is wanted and another came.
    """
    from onnxruntime.capi.onnxruntime_inference_collection import OrtValue

    array = np.asarray(value, order="C")
    if type_ not in FOREIGN:
        return OrtValue.ortvalue_from_numpy(array)
    code, bits, dtype = FOREIGN[type_]
    if array.dtype != _ml_dtype(dtype):
        raise TypeError(f"expected {type_}, came {array.dtype}")
    return OrtValue.ortvalue_from_numpy_with_onnx_type(
        _pack_nibbles(array) if bits == 4 else array, code
    )


def from_ort_value(value: Any) -> Any:
    """Return what an OrtValue in host memory holds: an array, or onnxruntime's own Python form."""
    if not value.is_tensor() or value.data_type() not in FOREIGN:
        return value.numpy()
    _, bits, dtype = FOREIGN[value.data_type()]
    shape = tuple(value.shape())
    count = int(np.prod(shape, dtype=np.int64))
    raw = ctypes.string_at(value.data_ptr(), (count * bits + 7) // 8) if count else b""
    if bits == 4:
        packed = np.frombuffer(raw, np.uint8)
        nibbles = np.stack([packed & 15, packed >> 4], axis=-1).reshape(-1)[:count]
        if dtype == "int4":
            nibbles = (nibbles.astype(np.int8) ^ 8) - 8
        return nibbles.astype(_ml_dtype(dtype)).reshape(shape)
    return np.frombuffer(raw, _ml_dtype(dtype)).reshape(shape).copy()


def _pack_nibbles(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Pack two 4-bit elements a byte at the front of a buffer that keeps the array's shape.

    onnxruntime takes the shape from the buffer and reads only its first half.
    """
    flat = array.astype(np.int8).reshape(-1).view(np.uint8) & 15
    even = np.concatenate([flat, np.zeros(flat.size % 2, np.uint8)])
    packed = np.zeros(max(flat.size, 1), np.uint8)
    packed[: even.size // 2] = even[0::2] | (even[1::2] << 4)
    return packed[: flat.size].reshape(array.shape)


def _ml_dtype(name: str) -> np.dtype[Any]:
    import ml_dtypes

    dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return dtype
