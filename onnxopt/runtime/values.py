"""Draws values for an input that suit its name, its type and what the graph does with it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxopt.runtime.pictures import draw_pictures

if TYPE_CHECKING:
    from onnxopt.runtime.inputs import Input
    from onnxopt.runtime.roles import Role

_WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "", "0", "Ünïcode")
# Upper bounds for integers of which the graph tells nothing; the first that runs is kept.
_BOUNDS = (32, 2, 8, 1)


def draw(
    spec: Input,
    shape: tuple[int, ...],
    role: Role,
    rng: np.random.Generator,
    *,
    variant: int = 0,
    attempt: int = 0,
) -> Any:
    """Return an array (for a sequence, a list of two) of `shape` for the input `spec`.

    `variant` differs from feed to feed and changes the flavour: another constant of those that
    the graph compares with, another distribution. `attempt` counts the tries to find inputs with
    which the model runs, and changes what is guessed.
    """
    if spec.kind == "sequence":
        return [_tensor(spec, shape, role, rng, variant, attempt) for _ in range(2)]
    return _tensor(spec, shape, role, rng, variant, attempt)


def _tensor(
    spec: Input,
    shape: tuple[int, ...],
    role: Role,
    rng: np.random.Generator,
    variant: int,
    attempt: int,
) -> np.ndarray:
    if spec.dtype is None:
        return rng.choice(np.array(_WORDS, object), size=shape)
    name = spec.name.lower()
    if spec.dtype.kind == "b":
        values = _mask(shape, rng) if "mask" in name else rng.random(shape) < 0.5
        return np.asarray(values if shape else variant % 2 == 0, bool)
    if role.equals and int(np.prod(shape)) == 1:
        return np.full(shape, _near(role.equals, variant), spec.dtype)
    if spec.dtype.kind in "iu" or _is_narrow_int(spec.dtype):
        return _integers(spec, name, shape, role, rng, variant, attempt)
    return _floats(spec, name, shape, role, rng, variant)


def _near(constants: tuple[int | float, ...], variant: int) -> int | float:
    """Pick a constant that the graph tests for, and after the last of them something else."""
    turn = variant % (len(constants) + 1)
    return constants[turn] if turn < len(constants) else type(constants[0])(constants[0] // 2)


def _is_narrow_int(dtype: np.dtype) -> bool:
    return "int" in dtype.name


def _integers(
    spec: Input,
    name: str,
    shape: tuple[int, ...],
    role: Role,
    rng: np.random.Generator,
    variant: int,
    attempt: int,
) -> np.ndarray:
    dtype = spec.dtype
    assert dtype is not None
    if role.below is not None and "mask" not in name:
        return _indices(name, shape, role.below, rng).astype(dtype)
    if "mask" in name or role.mask:
        return _mask(shape, rng).astype(dtype)
    if re.search(r"(^|_)(sr|sample_?rate|sampling_?rate)$", name):
        return np.full(shape, (16000, 8000)[variant % 2], dtype)
    if "position" in name and shape:
        return np.broadcast_to(np.arange(shape[-1]), shape).astype(dtype)
    if dtype.name == "uint8" and len(shape) >= 3:
        pictures = None if variant % 2 else _pictures(spec, shape, rng)
        values = rng.integers(0, 256, shape) if pictures is None else 255 * pictures
        return np.asarray(values).astype(dtype)
    if role.count:
        return np.full(shape, (2, 1, 4, 3)[attempt % 4], dtype)
    return rng.integers(0, _BOUNDS[attempt % len(_BOUNDS)], shape).astype(dtype)


def _indices(name: str, shape: tuple[int, ...], below: int, rng: np.random.Generator) -> np.ndarray:
    if "position" in name and shape:
        return np.broadcast_to(np.arange(shape[-1]) % below, shape)
    if below == 2 and len(shape) == 2:  # segments: a first sentence, then a second
        starts = rng.integers(1, max(shape[1], 1) + 1, (shape[0], 1))
        return np.arange(shape[1])[None, :] >= starts
    return rng.integers(0, below, shape)


def _mask(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return ones with a tail of zeros in every row but the first; never a row without a one."""
    if not shape or shape[-1] == 0:
        return np.ones(shape, bool)
    lengths = rng.integers((shape[-1] + 1) // 2, shape[-1] + 1, shape[:-1])
    if lengths.ndim and lengths.size > 1:
        lengths.reshape(-1)[0] = shape[-1]
    return np.arange(shape[-1]) < lengths[..., None]


def _floats(
    spec: Input,
    name: str,
    shape: tuple[int, ...],
    role: Role,
    rng: np.random.Generator,
    variant: int,
) -> np.ndarray:
    """Draw by turns: a picture as after normalization, normal noise, a picture in [0, 1].

    What is no picture is drawn from [0, 1) and from the normal distribution.
    """
    dtype = spec.dtype
    assert dtype is not None
    if role.mask or ("mask" in name and "mask_embed" not in name):
        return _mask(shape, rng).astype(dtype)
    if re.search(r"scale|thresh|temperature|ratio", name):
        return np.full(shape, 0.5 if "thresh" in name else 1.0).astype(dtype)
    if variant % 3 == 1:
        return np.asarray(rng.standard_normal(shape)).astype(dtype)
    pictures = _pictures(spec, shape, rng)
    if pictures is None:
        return np.asarray(rng.random(shape)).astype(dtype)
    return (pictures if variant % 3 == 2 else 4 * pictures - 2).astype(dtype)


def _pictures(spec: Input, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray | None:
    """Return pictures in [0, 1] where the shape is one of pictures, channels first or last."""
    if len(shape) != 4 or "past" in spec.name:
        return None
    if shape[1] in {1, 3, 4} and min(shape[2:]) >= 8:
        return draw_pictures(shape[0], shape[2], shape[3], shape[1], rng)
    if shape[3] in {1, 3, 4} and min(shape[1:3]) >= 8:
        pictures = draw_pictures(shape[0], shape[1], shape[2], shape[3], rng)
        return pictures.transpose(0, 2, 3, 1)
    return None
