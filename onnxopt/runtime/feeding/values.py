"""Draws values for an input that suit its name, its type and what the graph does with it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxopt.runtime.feeding.pictures import draw_pictures

if TYPE_CHECKING:
    from onnxopt.runtime.feeding.inputs import Input
    from onnxopt.runtime.feeding.roles import Role
    from onnxopt.runtime.feeding.sizes import Sizes

_WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "", "0", "Ünïcode")
# Upper bounds for integers of which the graph tells nothing; the first that runs is kept.
_BOUNDS = (32, 2, 8, 1)
_PICTURE_SIZE = re.compile(r"(im|image|img|orig|target).*(shape|size)")


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What else decides a value: the whole feed, and how often it was tried.

    `variant` differs from feed to feed and changes the flavour: another constant of those that
    the graph compares with, another distribution. `attempt` counts the tries to find inputs with
    which the model runs, and changes what is guessed.
    """

    sizes: Sizes
    variant: int = 0
    attempt: int = 0


def draw(spec: Input, role: Role, turn: Turn, rng: np.random.Generator) -> Any:
    """Return an array (for a sequence, a list of two) for the input `spec`."""
    shape = turn.sizes.shapes[spec.name]
    if spec.kind == "sequence":
        return [_tensor(spec, shape, role, turn, rng) for _ in range(2)]
    return _tensor(spec, shape, role, turn, rng)


def _tensor(
    spec: Input, shape: tuple[int, ...], role: Role, turn: Turn, rng: np.random.Generator
) -> np.ndarray:
    if spec.dtype is None:
        return rng.choice(np.array(_WORDS, object), size=shape)
    name, dtype = spec.name.lower(), spec.dtype
    if dtype.kind == "b":
        values = _mask(shape, rng) if "mask" in name else rng.random(shape) < 0.5
        return np.asarray(values if shape else turn.variant % 2 == 0, bool)
    if role.equals and int(np.prod(shape)) == 1:
        return np.full(shape, _near(role.equals, turn.variant), dtype)
    if _PICTURE_SIZE.search(name) and shape and shape[-1] == 2 and turn.sizes.picture:
        return np.broadcast_to(np.array(turn.sizes.picture), shape).astype(dtype)
    if "int" in dtype.name:
        return _integers(spec, name, shape, role, turn, rng).astype(dtype)
    return _floats(spec, name, shape, role, turn, rng).astype(dtype)


def _near(constants: tuple[int | float, ...], variant: int) -> int | float:
    """Pick a constant that the graph tests for, and after the last of them something else."""
    turn = variant % (len(constants) + 1)
    return constants[turn] if turn < len(constants) else type(constants[0])(constants[0] // 2)


def _integers(
    spec: Input,
    name: str,
    shape: tuple[int, ...],
    role: Role,
    turn: Turn,
    rng: np.random.Generator,
) -> np.ndarray:
    if role.below is not None and "mask" not in name:
        return _indices(name, shape, role.below, rng)
    if "mask" in name or role.mask:
        return _mask(shape, rng)
    if re.search(r"(^|_)(sr|sample_?rate|sampling_?rate)$", name):
        return np.full(shape, (16000, 8000)[turn.variant % 2])
    if turn.sizes.length and len(shape) < 2 and (role.lengths or "len" in name):
        return np.full(shape, turn.sizes.length)
    if "position" in name and shape:
        return np.broadcast_to(np.arange(shape[-1]), shape)
    if spec.dtype == np.uint8 and len(shape) >= 3:
        pictures = None if turn.variant % 2 else _pictures(spec, shape, rng)
        return rng.integers(0, 256, shape) if pictures is None else 255 * pictures
    if role.count:
        return np.full(shape, (2, 1, 4, 3)[turn.attempt % 4])
    return rng.integers(0, _BOUNDS[turn.attempt % len(_BOUNDS)], shape)


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
    turn: Turn,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw by turns: a picture as after normalization, normal noise, a picture in [0, 1].

    What is no picture is drawn from [0, 1) and from the normal distribution.
    """
    if role.mask or ("mask" in name and "mask_embed" not in name):
        return _mask(shape, rng)
    if re.search(r"scale|thresh|temperature|ratio|speed", name):
        return np.full(shape, 0.5 if "thresh" in name else 1.0)
    if turn.variant % 3 == 1:
        return np.asarray(rng.standard_normal(shape))
    pictures = _pictures(spec, shape, rng)
    if pictures is None:
        return np.asarray(rng.random(shape))
    return pictures if turn.variant % 3 == 2 else 4 * pictures - 2


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
