"""Chooses sizes for free dimensions: what a dimension seems to be, and which sizes are worth a try.

Nothing in a model says that its 'x:2' must be a multiple of 32. So each free dimension gets a kind
from its name, its place and its type, each kind has sizes in order of plausibility, and the caller
runs the model with one choice after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from onnxopt.runtime.feeding.inputs import Input, size_of, symbols

if TYPE_CHECKING:
    import numpy as np

Purpose = Literal["verify", "measure"]

# Height and width differ wherever they can: a swap of the two must not go unseen.
_IMAGES = {
    "verify": [
        (64, 96), (48, 192), (32, 32), (224, 224), (320, 320), (64, 64), (32, 320), (256, 256),
        (640, 640), (28, 28), (299, 299), (128, 128), (512, 512), (16, 16), (112, 112), (600, 800),
    ],
    "measure": [
        (224, 224), (48, 320), (320, 320), (640, 640), (32, 320), (256, 256), (64, 64), (32, 32),
        (28, 28), (299, 299), (128, 128), (512, 512), (16, 16), (112, 112), (600, 800), (64, 96),
    ],
}  # fmt: skip
_SIZES: dict[str, dict[str, list[int]]] = {
    "verify": {
        "batch": [1],
        "channels": [3, 1, 4],
        "depth": [8, 16, 32, 4],
        "sequence": [16, 9, 24, 32, 64, 128, 8, 77, 100, 7, 1, 512, 3000],
        "past": [5, 0, 8, 1],
        "signal": [512, 256, 16, 576, 288, 16000, 64, 128, 160, 400, 8, 4, 1, 1024],
        "other": [4, 1, 2, 8, 16, 3, 6, 10],
    },
    "measure": {
        "batch": [1],
        "channels": [3, 1, 4],
        "depth": [16, 8, 32, 4],
        "sequence": [128, 64, 32, 16, 24, 9, 8, 77, 100, 7, 1, 512, 3000],
        "past": [64, 0, 8, 1],
        "signal": [512, 256, 16000, 576, 288, 16, 64, 128, 160, 400, 8, 4, 1, 1024],
        "other": [4, 1, 2, 8, 16, 3, 6, 10],
    },
}
# Where the model gives no rank at all: ranks and sizes to try, as dimension kinds.
_RANKLESS = [
    ("batch", "signal"), ("batch", "channels", "height", "width"), ("batch", "sequence", "signal"),
    ("signal",), (),
]  # fmt: skip
TRIES = 26


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Concrete shapes for one feed: input name to dimensions, and dimension name to size.

    `length` is the longest sequence in it, `picture` the height and width of its pictures; None
    where there is no such thing.
    """

    shapes: Mapping[str, tuple[int, ...]]
    sizes: Mapping[str, int]
    length: int | None = None
    picture: tuple[int, int] | None = None


def kinds_of(inputs: Sequence[Input]) -> dict[str, str]:
    """Say what every free dimension seems to be: symbol to kind (`batch`, `height`, `sequence`)."""
    kinds: dict[str, str] = {}
    for spec in inputs:
        for axis, dim in enumerate(spec.dims or ()):
            for symbol in symbols(dim):
                kinds.setdefault(symbol, _kind(spec, axis, symbol))
    return kinds


_WORDS = (
    ("past", ("past", "cache")),
    ("batch", ("batch",)),
    ("height", ("height",)),
    ("width", ("width",)),
    ("channels", ("channel",)),
    ("sequence", ("seq", "token", "time", "frame", "len", "text")),
)


def _kind(spec: Input, axis: int, symbol: str) -> str:
    name = symbol.lower() if ":" not in symbol else ""
    for kind, words in _WORDS:
        if any(word in name for word in words):
            return kind
    dims = spec.dims or ()
    if axis == 0 and (len(dims) > 1 or symbol in {"N", "B", "n", "b"}):
        return "batch"
    return _kind_by_place(axis, dims, spec.dtype)


def _kind_by_place(axis: int, dims: tuple[int | str, ...], dtype: np.dtype | None) -> str:
    rank = len(dims)
    if rank in {4, 5}:
        channels_last = isinstance(dims[-1], int) and dims[-1] in {1, 3, 4} and dims[1] != dims[-1]
        spatial = range(1, rank - 1) if channels_last else range(2, rank)
        names = ("height", "width") if rank == 4 else ("depth", "height", "width")
        return names[axis - spatial[0]] if axis in spatial else "channels"
    if rank == 3:
        state = isinstance(dims[0], int) and isinstance(dims[2], int)
        return "batch" if axis == 1 and state else "sequence"  # [layers, batch, hidden]
    if rank <= 2 and dtype is not None and dtype.kind == "f":
        return "signal"
    return "sequence" if rank == 2 else "other"


def candidates(
    inputs: Sequence[Input], fix: Mapping[str, int], purpose: Purpose = "verify"
) -> Iterator[Sizes]:
    """Yield at most `TRIES` choices of sizes, the most plausible first.

    `fix` holds sizes that the user set, by dimension name or `input:axis`.
    """
    kinds = kinds_of(inputs)
    fixed = resolve_fix(inputs, fix)
    rankless = [spec for spec in inputs if spec.dims is None]
    free = [symbol for symbol in kinds if symbol not in fixed]
    seen: set[tuple[object, ...]] = set()
    for attempt in range(TRIES):
        sizes = {symbol: _size(kinds[symbol], attempt, purpose) for symbol in free}
        sizes = {**sizes, **fixed}
        shapes = {
            spec.name: tuple(size_of(dim, sizes) for dim in spec.dims)
            for spec in inputs
            if spec.dims is not None
        }
        for spec in rankless:
            ranks = _RANKLESS[attempt % len(_RANKLESS)]
            shapes[spec.name] = tuple(_size(k, attempt // len(_RANKLESS), purpose) for k in ranks)
        key = tuple(sorted(shapes.items()))
        if key not in seen:
            seen.add(key)
            yield _describe(shapes, sizes, kinds)


def _describe(
    shapes: Mapping[str, tuple[int, ...]], sizes: Mapping[str, int], kinds: Mapping[str, str]
) -> Sizes:
    lengths = [size for symbol, size in sizes.items() if kinds.get(symbol) == "sequence"]
    pictures = [shape for shape in shapes.values() if len(shape) == 4]
    last = bool(pictures) and pictures[0][3] in {1, 3, 4} and pictures[0][1] not in {1, 3, 4}
    picture = (pictures[0][1:3] if last else pictures[0][2:4]) if pictures else None
    return Sizes(
        shapes=shapes,
        sizes=sizes,
        length=max(lengths, default=None),
        picture=(picture[0], picture[1]) if picture else None,
    )


def _size(kind: str, attempt: int, purpose: Purpose) -> int:
    if kind in {"height", "width"}:
        pairs = _IMAGES[purpose]
        return pairs[attempt % len(pairs)][kind == "width"]
    sizes = _SIZES[purpose][kind]
    return sizes[attempt % len(sizes)]


def resolve_fix(inputs: Sequence[Input], fix: Mapping[str, int]) -> dict[str, int]:
    """Turn `input:axis` into the name that the dimension has; dimension names pass."""
    fixed = dict(fix)
    for spec in inputs:
        for axis, dim in enumerate(spec.dims or ()):
            size = fix.get(f"{spec.name}:{axis}")
            if size is not None and isinstance(dim, str):
                fixed[dim] = size
    return fixed


def with_batch(choice: Sizes, inputs: Sequence[Input], fix: Mapping[str, int], batch: int) -> Sizes:
    """Return `choice` with every free batch dimension set to `batch`."""
    fixed = resolve_fix(inputs, fix)
    kinds = kinds_of(inputs)
    sizes = {
        symbol: batch if kinds.get(symbol) == "batch" and symbol not in fixed else size
        for symbol, size in choice.sizes.items()
    }
    shapes = {
        spec.name: choice.shapes[spec.name]
        if spec.dims is None
        else tuple(size_of(dim, sizes) for dim in spec.dims)
        for spec in inputs
    }
    return _describe(shapes, sizes, kinds)
